"""What is planned loses no request, and what is not planned loses no GET, while 200 requests come in each second."""

import json
import os
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest
import stack_lock
from ha import SLOW_RATE, Events, Load, kill_at
from stack import run, wait_until

PLANNED = {
    "roll fe and be": lambda events: events.roll("fe", "be"),
    "scale 2 to 6": lambda events: events.scale(6),
    "scale 6 to 2": lambda events: events.scale(2),
    "reload": lambda events: events.reload(1),
    "certificate": lambda events: events.certificate(),
    "roll fe with slow requests": lambda events: events.roll_slow(),
    "broken release": lambda events: events.broken_release(),
}
# What has to be so before an event, for one that is made once more.
BEFORE = {
    "scale 2 to 6": lambda events: events.scale(2),
    "scale 6 to 2": lambda events: events.scale(6),
    "reload": lambda events: events.reload(2),
}
FAULTS = {
    "kill -9 of a be": lambda events: events.kill("be"),
    "hanging fe": lambda events: events.pause("fe"),
    "hanging be": lambda events: events.pause("be"),
    "rm -f of an fe": lambda events: events.remove("fe"),
}
# Five moments at which a run is killed, in the order in which it comes to them.
GATES = ("start", "health", "rotation", "drain", "stop")
ROUNDS = 3
# Milliseconds.
WORST = 3000


@pytest.fixture(scope="module", name="events")
def changes(stack, tmp_path_factory):
    """Return the events of this deployment, with the settings that its inventory gives."""
    names = ("fe_environment", "be_environment", "fe_replicas", "be_replicas")
    settings = {name: stack.settings[name] for name in names}
    return Events(stack, settings, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", name="windows")
def happened(request, events):
    """Make every event that a chosen test is about, one after the other, under load; return what each has cost.

    A planned change that has slowed requests down is made again: what else the machine has to do may spoil a round or two,
    the change itself would spoil all of them.
    """
    chosen = {item.callspec.params["name"] for item in request.session.items if "windows" in item.fixturenames}
    rounds = [measured(events, {**PLANNED, **FAULTS}, chosen)]
    while len(rounds) < ROUNDS and (
        again := {name for name in rounds[-1] if name in PLANNED and slowed_down(rounds[-1], name)}
    ):
        rounds.append(measured(events, PLANNED, again, BEFORE))
        events.scale(2)
    return rounds


def measured(events, possible, chosen, before=MappingProxyType({})):
    """Return what quiet and each of the chosen events cost the requests."""
    found = {}
    with Load(events.stack) as load:
        with load.event("quiet") as found["quiet"]:
            events.quiet()
        for name, event in possible.items():
            if name not in chosen:
                continue
            if name in before:
                before[name](events)
            with load.event(name) as found[name]:
                event(events)
            if name.startswith("rm"):
                events.apply()
    return found


def slowed_down(windows, name):
    return windows[name].percentile(99) > 2 * windows["quiet"].percentile(99) + 50


@pytest.mark.parametrize("name", PLANNED)
def test_planned_change_loses_nothing_and_slows_nothing_down(windows, name, capsys):
    rounds = [item for item in windows if name in item]
    for item in rounds:
        with capsys.disabled():
            print(f" [{item[name].describe()}, in quiet p99 {item['quiet'].percentile(99):.1f} ms]", end="")
        assert not item[name].failed, item[name].describe()
    assert not all(slowed_down(item, name) for item in rounds)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_loses_no_get(windows, name, capsys):
    window = windows[0][name]
    with capsys.disabled():
        print(f" [{window.describe()}]", end="")
    assert not window.failed, window.describe()
    assert window.worst < WORST


@pytest.mark.parametrize("name", ["roll fe with slow requests"])
@pytest.mark.usefixtures("windows", "name")
def test_requests_that_were_under_way_have_ended_well(events):
    assert len(events.slow) > SLOW_RATE
    assert all(request.good for request in events.slow), {request.status for request in events.slow}
    assert min(request.milliseconds for request in events.slow) > 5000


@pytest.mark.parametrize("name", ["broken release"])
@pytest.mark.usefixtures("windows", "name")
def test_broken_release_is_refused_with_its_last_lines(events):
    assert re.search(r"ends again and again( \(exit code 3\))?\. What ran before goes on serving:", events.refusal)
    assert "This release is broken." in events.refusal


@pytest.mark.parametrize("name", ["hanging fe", "hanging be"])
@pytest.mark.usefixtures("windows")
def test_hanging_replica_was_restarted_and_the_status_says_so(stack, events, name):
    tier = name.split()[-1]
    events.until_all_serve()
    status = stack.playbook("status.yml").stdout
    assert "Watchdog: runs" in status
    assert re.search(rf"{tier}-\d+ restarted: it did not answer \(L7TOUT\)", status)
    assert re.search(rf"^ *{tier} +2 +2 +2 ", status, re.MULTILINE)
    assert "All is well." in status


def test_container_that_somebody_runs_beside_the_services_is_left_alone(stack, events):
    file = str(stack.directory / "docker-compose.yml")
    identity = run("docker", "compose", "--file", file, "run", "--detach", "be", "sleep", "600").stdout.strip()
    try:
        assert "changed=0" in events.apply().stdout
        events.roll("be")
        assert json.loads(run("docker", "inspect", identity).stdout)[0]["State"]["Running"]
    finally:
        run("docker", "rm", "--force", identity)


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_request_of_a_replica_that_is_cut_off_is_answered_by_another(events, tier):
    """As where a machine is lost: nobody closes the connection, and nothing that is sent is acknowledged."""
    events.until_all_serve()
    container = events.container(tier)
    with ThreadPoolExecutor() as pool:
        # Nobody would close these connections before lb_timeouts.server, 30 s, and the answer would be 504.
        answers = [pool.submit(events.stack.request, path="/?delay=4", timeout=40) for _ in range(4)]
        wait_until(lambda: all(count >= 2 for count in events.under_way(tier).values()))
        events.cut_off(container)
        assert [answer.result().status for answer in answers] == [200] * len(answers)
    events.until_started_again(container)


def test_release_before_comes_back(stack, events):
    def releases():
        return {
            variable for c in stack.containers("fe") for variable in c["Config"]["Env"] if variable.startswith("RELEASE=")
        }

    before = releases()
    events.roll("fe")
    assert releases() == {f"RELEASE={events.release}"} != before
    stack.playbook("rollback.yml", "-e", json.dumps(events.settings))
    assert releases() == before
    events.until_all_serve(5)


def test_run_that_is_killed_is_finished_by_the_next_one(stack, events):
    with Load(stack) as load:
        for gate in GATES:
            events.new_release("fe")
            kill_at(events, gate)
            events.apply()
            events.until_all_serve(5)
            file = str(stack.directory / "docker-compose.yml")
            wanted = dict(
                line.split() for line in run("docker", "compose", "-f", file, "config", "--hash", "*").stdout.splitlines()
            )
            found = [c["Config"]["Labels"] for c in stack.containers()]
            assert all(
                wanted[labels["com.docker.compose.service"]] == labels["com.docker.compose.config-hash"] for labels in found
            )
            tiers = Counter(labels["com.docker.compose.service"] for labels in found)
            assert (tiers["fe"], tiers["be"]) == (2, 2), gate
        assert "changed=0" in events.apply().stdout
    assert not [request for request in load.requests if not request.good]


def test_second_run_says_who_holds_the_stack(stack, events):
    events.new_release("fe")
    with stack_lock.held(stack.directory, "changes containers", 0):
        refused = events.apply(check=False, stack_wait_timeout=1)
    assert refused.returncode
    assert f"Another run holds the stack: changes containers (process {os.getpid()} of" in " ".join(refused.stdout.split())
    events.apply()


def test_replica_that_hangs_again_and_again_is_restarted_no_more_than_the_limit(stack, events):
    events.apply(watchdog_restarts=2)
    target = events.container("be")["Id"]

    def told(what):
        path = stack.directory / "watchdog/events.jsonl"
        return sum(e["id"] == target and e["what"] == what for e in map(json.loads, path.read_text().splitlines()))

    begin = told("restarted")
    while not told("left alone"):
        process = json.loads(run("docker", "inspect", target).stdout)[0]["State"]["Pid"]
        os.kill(process, signal.SIGSTOP)
        known = told("restarted")
        wait_until(lambda known=known: told("restarted") > known or told("left alone"), 30)
        if not told("left alone"):
            events.until_all_serve()
    assert told("restarted") <= max(begin, 2)
    refused = stack.playbook("status.yml", check=False)
    status = refused.stdout
    assert refused.returncode
    assert re.search(rf"{events.container('be')['Name'].lstrip('/')}: (starting|unhealthy|gets no requests)\.", status)
    assert "left alone: 2 restarts within 600 s did not help (L7TOUT)" in status
    os.kill(process, signal.SIGCONT)
    events.until_all_serve()


def test_replacement_of_a_load_balancer_is_announced(stack, events):
    journal = stack.directory / "rollout.log"
    seen = len(journal.read_text())
    events.apply(lb_limits={"cpus": "2.0", "memory": "600M", "pids": 128})
    said = journal.read_text()[seen:]
    assert "fe-lb has to be replaced: the application is not reached for about two seconds" in said
    events.until_all_serve(5)
    assert stack.request().status == 200


def test_watchdog_can_be_switched_off(stack, events):
    def running():
        return bool(stack_lock.holder(stack.directory / "watchdog"))

    assert running()
    events.apply(watchdog_enabled=False)
    assert not running()
    events.apply()
    assert running()
