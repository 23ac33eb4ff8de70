"""Each edit touches what it concerns and nothing else, and a second run has nothing to do."""

import json

import pytest
import yaml
from stack import PROJECT, run
from stack_haproxy import ask, version

EDITS = yaml.safe_load((PROJECT / "tests/edits.yml").read_text())["edits"]
SERVICES = (
    "fe-lb",
    "fe",
    "be-lb",
    "be",
    "db",
    "prometheus",
    "console",
    "container-exporter",
    "docker-api",
    "mysql-exporter",
)


class State:
    """Which processes there are: containers with the time of their start, and the configuration of load balancers."""

    def __init__(self, stack) -> None:
        self.containers = {s: {c["Id"]: c["State"]["StartedAt"] for c in stack.containers(s)} for s in SERVICES}
        self.configuration = {
            service: version(ask(stack.directory / service / "run/master.sock", "@1 show info"))
            for service in ("fe-lb", "be-lb")
        }

    def changes(self, later: "State") -> dict[str, str]:
        """Return what has happened to which service."""
        found = {}
        for service in SERVICES:
            old, new = self.containers[service].items(), later.containers[service].items()
            if old == new:
                if self.configuration.get(service) != later.configuration.get(service):
                    found[service] = "reloaded"
            elif not new:
                found[service] = "removed"
            elif old < new:
                found[service] = "more"
            elif new < old:
                found[service] = "fewer"
            else:
                found[service] = "recreated" if old.isdisjoint(new) else "partly recreated"
        return found


@pytest.fixture(scope="module")
def settings():
    """Return the settings that have been changed so far."""
    return {}


def filled(value, stack):
    """Return a setting with the paths and names that only the scenario knows."""
    if isinstance(value, str):
        return value.format(brought=stack.directory / "brought", be_image=f"{stack.name}/be:1.0")
    return value


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit["name"].replace("`", ""))
def test_edit_touches_what_it_concerns(stack, settings, edit):
    if "be_image" in edit.get("settings", {}):
        run("docker", "tag", stack.containers("be")[0]["Image"], f"{stack.name}/be:1.0")
    settings.update({name: filled(value, stack) for name, value in edit.get("settings", {}).items()})
    if "append" in edit:
        with (stack.directory / "brought" / edit["append"]["file"]).open("a") as file:
            file.write(edit["append"]["line"] + "\n")
    before = State(stack)
    stack.playbook("site.yml", "-e", json.dumps(settings))
    after = State(stack)
    assert before.changes(after) == edit["touches"]
    again = stack.playbook("site.yml", "-e", json.dumps(settings)).stdout
    assert "changed=0" in again
    assert not after.changes(State(stack))


def test_all_of_it_is_in_force(stack, settings):
    answer = stack.request(path="/static/style.css", scheme="https")
    assert "/* edited */" in answer.text
    assert answer.headers["Strict-Transport-Security"] == "max-age=300"
    assert stack.address == "127.0.0.3"
    assert "GREETING=hello" in stack.containers("be")[0]["Config"]["Env"]
    assert stack.containers("be")[0]["Config"]["Image"] == f"{stack.name}/be:1.0"
    assert stack.mysql("SELECT @@max_connections").strip() == "400"
    assert len(stack.containers("fe")) == 2
    assert "Ada Lovelace" in stack.request().text
