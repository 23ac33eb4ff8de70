"""Each edit touches what it concerns and nothing else, loses no request, and a second run has nothing to do.

Edits share a run where they do not want different things of a service. That each of them was made is asked in the end.
"""

import json
import ssl
from pathlib import Path

import ha
import pytest
import yaml
from stack import PROJECT, changed, run
from stack_haproxy import ask, version

EDITS = yaml.safe_load((PROJECT / "tests/edits.yml").read_text())["edits"]
RUNS = {number: [edit for edit in EDITS if edit["run"] == number] for number in sorted({edit["run"] for edit in EDITS})}
# Requests per second, which the sample answers easily.
RATE = min(20, ha.RATE)
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
def settings(stack):
    """Hand over the settings that have been changed so far; those of the inventory hold again in the end."""
    yield {}
    stack.playbook("site.yml")
    stack.__dict__.pop("address", None)


def brought(stack):
    """Return the folder with the application and the certificate that can be edited."""
    return Path(stack.settings["fe_source"].replace("{{ stack_name }}", stack.name)).parent


def filled(value, stack):
    """Return a setting with the paths and names that only the scenario knows."""
    if isinstance(value, str):
        return value.format(brought=brought(stack), be_image=f"{stack.name}/be:1.0")
    return value


def names(edits):
    """Return how edits are called in a message."""
    return " + ".join(edit["name"].replace("`", "") for edit in edits)


def loses_nothing(edits):
    """Tell whether edits leave the one database and the one load balancer of each kind where they are."""
    return not any(edit["touches"].get(service) == "recreated" for edit in edits for service in ("db", "fe-lb", "be-lb"))


def test_edits_of_a_run_want_the_same_of_a_service():
    for edits in RUNS.values():
        wanted = {(service, what) for edit in edits for service, what in edit["touches"].items()}
        assert len(wanted) == len(dict(wanted)), names(edits)


@pytest.mark.parametrize("edits", RUNS.values(), ids=names)
def test_edits_touch_what_they_concern(stack, settings, edits):
    for edit in edits:
        if "be_image" in edit.get("settings", {}):
            run("docker", "tag", stack.containers("be")[0]["Image"], f"{stack.name}/be:1.0")
        for name, value in edit.get("settings", {}).items():
            # What the inventory says of other networks stays.
            merged = {**stack.settings[name], **value} if isinstance(value, dict) else filled(value, stack)
            settings[name] = merged
        if "append" in edit:
            with (brought(stack) / edit["append"]["file"]).open("a") as file:
                file.write(edit["append"]["line"] + "\n")
    before = State(stack)
    with ha.Load(stack, rate=RATE) as load, load.event(names(edits)) as window:
        stack.playbook("site.yml", "-e", json.dumps(settings))
    found = before.changes(State(stack))
    assert not loses_nothing(edits) or not window.failed, window.describe()
    wrong = []
    for edit in edits:
        for service, what in edit["touches"].items():
            happened = found.get(service, "left alone")
            if happened != what:
                wrong.append(f"{edit['name']}: {service} was {happened}, not {what}")
    touched = {service for edit in edits for service in edit["touches"]}
    wrong += [f"{names(edits)}: {service} was {found[service]}, not left alone" for service in found.keys() - touched]
    assert not wrong, "; ".join(wrong)


def test_second_run_has_nothing_to_do(stack, settings):
    before = State(stack)
    assert changed(stack.playbook("site.yml", "-e", json.dumps(settings)).stdout) == 0
    assert not before.changes(State(stack))


def test_all_of_it_is_in_force(stack, settings):
    # Other tests may have asked for the address before it was changed.
    stack.__dict__.pop("address", None)
    answer = stack.request(path="/static/style.css", scheme="https")
    assert "/* edited */" in answer.text
    assert answer.headers["Strict-Transport-Security"] == "max-age=300"
    assert stack.address == "127.0.0.3"
    served = ssl.get_server_certificate((stack.address, stack.port("https")), timeout=5)
    assert served.strip() in (brought(stack) / "site.pem").read_text()
    assert stack.containers("be")[0]["HostConfig"]["Memory"] == 300 * 2**20
    subnets = json.loads(run("docker", "network", "inspect", f"{stack.name}_data").stdout)[0]["IPAM"]["Config"]
    assert subnets[0]["Subnet"] == "10.213.9.0/24"
    assert "GREETING=hello" in stack.containers("be")[0]["Config"]["Env"]
    assert stack.containers("be")[0]["Config"]["Image"] == f"{stack.name}/be:1.0"
    assert stack.mysql("SELECT @@max_connections").strip() == "400"
    assert len(stack.containers("fe")) == 2
    assert stack.request().status == 200
    # Of the dumps; other tests may have changed more of it.
    assert stack.mysql("SELECT COUNT(*) FROM app.users WHERE email = 'ada@example.com'").strip() == "1"
