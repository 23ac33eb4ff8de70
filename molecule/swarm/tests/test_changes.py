"""Planned changes under load: no request fails, and a broken release is taken back."""

import json

import pytest

# An application that ends in the moment in which it is told to, whatever it is doing.
SCRIPT = """
import http.server, os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Answer).serve_forever()
"""
ABRUPT = ["python3", "-c", SCRIPT]


def quiet(window, capsys):
    """Show what an event has cost, and expect that no request failed."""
    with capsys.disabled():
        print(f" [{window.describe()}]", end="")
    assert window.requests
    assert not window.failed, window.describe()


def replicas(swarm, tier):
    """Return the tasks that run a tier."""
    return {task["id"] for task in swarm.services()[tier].tasks if task["runs"]}


def described(**settings):
    return ("-e", json.dumps(settings))


def under_load(swarm, name, *arguments):
    """Run the playbook while requests come in; return what it has cost them."""
    with swarm.load(*swarm.edges()) as load, load.event(name) as window:
        swarm.deploy(*arguments)
    return window


@pytest.mark.parametrize("count", [6, 2])
def test_scaling_loses_no_request(swarm, capsys, count):
    window = under_load(swarm, f"fe and be to {count}", *described(fe_replicas=count, be_replicas=count))
    for tier in ("fe", "be"):
        places = swarm.places(tier)
        assert len(places) == count
        assert len(set(places)) == min(count, len(swarm.machines))
    quiet(window, capsys)


RELEASE = {"RELEASE": "2"}


@pytest.mark.parametrize(
    "settings",
    [
        {"fe_environment": RELEASE, "be_environment": RELEASE},
        # Another one than that of the back ends that the test before has left.
        pytest.param({"be_environment": {"RELEASE": "3"}}, marks=pytest.mark.long),
        pytest.param({"fe_environment": RELEASE}, marks=pytest.mark.long),
        pytest.param({"fe_command": ABRUPT}, marks=pytest.mark.long),
        pytest.param({"fe_command": ABRUPT, "fe_environment": RELEASE}, marks=pytest.mark.long),
    ],
    ids=["fe and be", "be", "fe", "fe to one that knows nothing of draining", "fe that knows nothing of draining"],
)
def test_rolling_loses_no_request(swarm, capsys, settings):
    tiers = sorted({name.partition("_")[0] for name in settings})
    before = {tier: replicas(swarm, tier) for tier in tiers}
    window = under_load(swarm, f"roll {' and '.join(tiers)}", *described(**settings))
    for tier in tiers:
        after = replicas(swarm, tier)
        assert len(after) == 2
        assert not before[tier] & after
    quiet(window, capsys)


@pytest.mark.long
def test_an_edit_rolls_and_the_old_configuration_is_removed(swarm):
    def configurations():
        return {entry["ConfigName"] for entry in swarm.definition("be-lb")["TaskTemplate"]["ContainerSpec"]["Configs"]}

    before = configurations()
    swarm.deploy(*described(lb_health_interval=0.7))
    assert configurations() - before
    swarm.deploy(*described(lb_health_interval=0.8))
    assert before - configurations()
    listed = swarm.ask("config", "ls", "--format", "{{.Name}}").split()
    # The last definition is what a service would go back to.
    assert not (before - configurations()) & set(listed)
    assert swarm.get(swarm.edges()[0]).status == 200
    swarm.deploy()


def test_broken_release_is_taken_back(swarm, capsys):
    before = {tier: swarm.definition(tier)["TaskTemplate"]["ContainerSpec"] for tier in ("fe", "be")}
    broken = described(fe_command=["sh", "-c", "echo This release is broken. >&2; exit 3"])
    with swarm.load(*swarm.edges()) as load, load.event("broken release") as window:
        done = swarm.deploy(*broken, check=False)
    assert done.returncode
    text = " ".join(done.stdout.split())
    assert "fe: the new release failed and was rolled back; what ran before still runs." in text
    assert "This release is broken." in text
    after = {tier: swarm.definition(tier)["TaskTemplate"]["ContainerSpec"] for tier in ("fe", "be")}
    assert after["fe"].get("Args") == before["fe"].get("Args")
    quiet(window, capsys)


@pytest.mark.long
def test_second_run_after_all_that_changes_nothing(swarm):
    swarm.deploy()
    recap = swarm.deploy().stdout.partition("PLAY RECAP")[2]
    assert all("changed=0" in line for line in recap.splitlines() if "ok=" in line), recap
