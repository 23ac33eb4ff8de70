"""What is planned loses no request, and what is not planned loses no GET, while 200 requests come in each second.

Lost requests are counted, and the slowest one beside a fault is; how much slower the others get is measured by
`make bench-ha`. LOAD_RATE says how many requests there are per second. Any application will do, but for the tests that ask
for ``bench_application``.
"""

import json
import os
import re
import signal
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import stack_lock
import yaml
from ha import SLOW_RATE, Events, Load, kill_at, signal_all
from stack import GATE, PROJECT, changed, run, wait_until
from stack_haproxy import STOPPED, ask

PLANNED = {
    "roll fe and be": lambda events: events.roll("fe", "be"),
    "scale 2 to 6": lambda events: events.scale(6),
    "scale 6 to 2": lambda events: events.scale(2),
    "reload": lambda events: events.reload(1),
    "certificate": lambda events: events.certificate(),
    "broken release": lambda events: events.broken_release(),
}
FAULTS = {
    "kill -9 of a be": lambda events: events.kill("be"),
    "hanging fe": lambda events: events.pause("fe"),
    "hanging be": lambda events: events.pause("be"),
    "rm -f of an fe": lambda events: events.remove("fe"),
}
# Front ends that there have to be before, where a test is chosen alone.
BEFORE = {"scale 2 to 6": 2, "scale 6 to 2": 6}
# Five moments at which a run is killed, in the order in which it comes to them; one of them in the gate.
GATES = ("rotation",) if GATE else ("start", "health", "rotation", "drain", "stop")
# Milliseconds.
WORST = 3000


@pytest.fixture(scope="module", name="events")
def changes(stack, tmp_path_factory):
    """Return the events of this deployment, with the settings that its inventory gives; these hold again in the end."""
    names = ("fe_environment", "be_environment", "fe_replicas", "be_replicas")
    settings = {name: stack.settings[name] for name in names}
    yield Events(stack, settings, tmp_path_factory.mktemp("certificates"))
    stack.playbook("site.yml")


@pytest.fixture(scope="module")
def bench_application(stack, events):
    """Deploy the application of the measurement, which knows ``/?delay=``, unless the stack has it."""
    hosts = yaml.safe_load((PROJECT / "molecule/ha/inventory/hosts.yml").read_text())["all"]["hosts"]
    settings = {name: value for name, value in hosts["localhost"].items() if name.startswith(("fe_", "be_"))}
    if stack.settings["fe_image"] != settings["fe_image"]:
        stack.playbook("../tests/helper.yml", "-e", "helper=bench:debian")
        events.settings.update(settings)
        events.apply()


@pytest.fixture(scope="module", name="windows")
def happened(request, events):
    """Make every event that a chosen test is about, one after the other, under load; return what each has cost."""
    chosen = {item.callspec.params["name"] for item in request.session.items if "windows" in item.fixturenames}
    found, replicas = {}, events.settings["fe_replicas"]
    with Load(events.stack) as load:
        for name, event in {**PLANNED, **FAULTS}.items():
            if name not in chosen:
                continue
            if events.settings["fe_replicas"] != BEFORE.get(name, events.settings["fe_replicas"]):
                events.scale(BEFORE[name])
            with load.event(name) as found[name]:
                event(events)
            if name.startswith("rm"):
                events.apply()
    if events.settings["fe_replicas"] != replicas:
        events.scale(replicas)
    return found


@pytest.mark.parametrize("name", PLANNED)
def test_planned_change_loses_nothing(windows, name, capsys):
    show(capsys, windows[name])
    assert not windows[name].failed, windows[name].describe()


@pytest.mark.parametrize("name", FAULTS)
def test_fault_loses_no_get(windows, name, capsys):
    show(capsys, windows[name])
    assert not windows[name].failed, windows[name].describe()
    # In the gate other tests take their time of the processors.
    assert GATE or windows[name].worst < WORST


def show(capsys, *windows):
    """Print what events have cost, also where the test passes."""
    with capsys.disabled():
        print(f" [{'; '.join(window.describe() for window in windows)}]", end="")


@pytest.mark.parametrize("name", ["broken release"])
@pytest.mark.usefixtures("windows", "name")
def test_broken_release_is_refused_with_its_last_lines(events):
    assert re.search(r"ends again and again( \(exit code 3\))?\. The previous release still serves:", events.refusal)
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


def test_changes_in_one_run_lose_nothing(stack, events, capsys):
    """New releases, another setting of the edge and another certificate at once; then more replicas, then fewer."""
    events.until_all_serve()
    if events.settings["fe_replicas"] != 2:
        events.scale(2)
    before = stack.ids()
    with Load(stack) as load:
        with load.event("changes in one run") as once:
            events.change_at_once()
        after = stack.ids()
        with load.event("scale 2 to 6") as more:
            events.scale(6)
        with load.event("scale 6 to 2") as fewer:
            events.scale(2)
    show(capsys, once, more, fewer)
    failed = [request for request in load.requests if not request.good]
    assert not failed, failed[:4]
    kept = {name for name in before if before[name] == after.get(name)}
    assert {f"{stack.name}-fe-lb-1", f"{stack.name}-be-lb-1", f"{stack.name}-db-1"} <= kept
    # All of it is in force: in each replica, in each answer by https, in what the edge shows.
    assert len(stack.containers("fe")) == 2
    for container in stack.containers("fe") + stack.containers("be"):
        assert f"RELEASE={events.release}" in container["Config"]["Env"]
    assert stack.request(scheme="https").headers["Strict-Transport-Security"] == "max-age=300"
    served = ssl.get_server_certificate((stack.address, stack.port("https")), timeout=5)
    wanted = (events.folder / "site.pem").read_text()
    assert ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(wanted)


def test_container_that_somebody_runs_beside_the_services_is_left_alone(stack, events):
    file = str(stack.directory / "docker-compose.yml")
    identity = run("docker", "compose", "--file", file, "run", "--detach", "be", "sleep", "600").stdout.strip()
    try:
        assert changed(events.apply().stdout) == 0
        events.roll("be")
        assert json.loads(run("docker", "inspect", identity).stdout)[0]["State"]["Running"]
    finally:
        run("docker", "rm", "--force", identity)


@pytest.mark.usefixtures("bench_application")
def test_requests_that_were_under_way_have_ended_well(events, capsys):
    """A tenth of the requests are POSTs of 5 s, which no load balancer may send a second time."""
    with Load(events.stack) as load, load.event("roll fe with slow requests") as window:
        events.roll_slow()
    show(capsys, window)
    assert len(events.slow) > SLOW_RATE
    assert all(request.good for request in events.slow), {request.status for request in events.slow}
    assert min(request.milliseconds for request in events.slow) > 5000
    assert not window.failed, window.describe()


@pytest.mark.usefixtures("bench_application")
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
        cut = time.monotonic()
        assert [answer.result().status for answer in answers] == [200] * len(answers)
        # Two seconds of silence, up to one until it is noticed, and four that the other one takes.
        assert time.monotonic() - cut < 10
    events.until_started_again(container)


def test_release_before_comes_back(stack, events, capsys):
    def releases():
        return {
            variable for c in stack.containers("fe") for variable in c["Config"]["Env"] if variable.startswith("RELEASE=")
        }

    before = releases()
    with Load(stack) as load, load.event("roll fe and roll it back") as window:
        events.roll("fe")
        assert releases() == {f"RELEASE={events.release}"} != before
        stack.playbook("rollback.yml", "-e", json.dumps(events.settings))
        assert releases() == before
    events.until_all_serve(5)
    show(capsys, window)
    assert not window.failed, window.describe()


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
        assert changed(events.apply().stdout) == 0
    assert not [request for request in load.requests if not request.good]


def test_second_run_says_who_holds_the_stack(stack, events):
    events.new_release("fe")
    with stack_lock.held(stack.directory, "changes containers", 0):
        refused = events.apply(check=False, stack_wait_timeout=1)
    assert refused.returncode
    assert f"Another run holds the stack: changes containers (process {os.getpid()} of" in " ".join(refused.stdout.split())
    events.apply()


def test_watchdog_restarts_nothing_while_a_run_replaces_it(stack, events, capsys):
    """A front end that is cut off is the watchdog's business until a run has the stack, which replaces it."""
    events.until_all_serve()
    path, socket = stack.directory / "watchdog/events.jsonl", stack.directory / "fe-lb/run/master.sock"
    before = path.read_text() if path.exists() else ""
    container = events.container("fe")
    addresses = {network["IPAddress"] for network in container["NetworkSettings"]["Networks"].values()}

    def slot():
        return next(server for server in events.servers("fe") if server.address in addresses)

    events.new_release("fe")
    with Load(stack, rate=50) as load, load.event("roll fe while one is cut off") as window:
        # It has no request when it is cut off, and as long as it is drained the watchdog takes no notice.
        ask(socket, f"@1 set server fe/{slot().name} state drain")
        wait_until(lambda: sum(events.under_way("fe")[slot().name] for _ in range(5)) == 0)
        events.cut_off(container)
        wait_until(lambda: slot().operation == STOPPED)
        with ThreadPoolExecutor() as pool:
            run = pool.submit(events.apply, check=False)
            wait_until(lambda: stack_lock.running(stack.directory).get("containers"), 30)
            ask(socket, f"@1 set server fe/{slot().name} state ready")
            done = run.result()
        assert done.returncode == 0, done.stdout
        # Not after it either: what the run has brought serves.
        events.until_all_serve()
    show(capsys, window)
    assert not window.failed, window.describe()
    assert (path.read_text() if path.exists() else "") == before
    assert all(f"RELEASE={events.release}" in item["Config"]["Env"] for item in stack.containers("fe"))


def send(container, number):
    """Send a signal to every process of a container: the first one may be an init that only passes others on."""
    first = json.loads(run("docker", "inspect", container).stdout)[0]["State"]["Pid"]
    signal_all(first, number)


def test_replica_that_hangs_again_and_again_is_restarted_no_more_than_the_limit(stack, events):
    events.apply(watchdog_restarts=2)
    target = events.container("be")["Id"]

    def told(what):
        path = stack.directory / "watchdog/events.jsonl"
        return sum(e["id"] == target and e["what"] == what for e in map(json.loads, path.read_text().splitlines()))

    begin = told("restarted")
    while not told("left alone"):
        send(target, signal.SIGSTOP)
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
    send(target, signal.SIGCONT)
    events.until_all_serve()


def test_replacement_of_a_load_balancer_is_announced(stack, events):
    journal = stack.directory / "rollout.log"
    seen = len(journal.read_text())
    events.apply(lb_limits={"cpus": "2.0", "memory": "600M", "pids": 128})
    said = journal.read_text()[seen:]
    assert "fe-lb has to be replaced: the application is not reached for about two seconds" in said
    events.until_all_serve(5)
    # The front ends of this scenario resolve be-lb when they start, and it may have another address now.
    events.roll("fe")
    assert stack.request().status == 200


def test_watchdog_can_be_switched_off(stack, events):
    def running():
        return bool(stack_lock.holder(stack.directory / "watchdog"))

    assert running()
    events.apply(watchdog_enabled=False)
    assert not running()
    events.apply()
    assert running()


def passwords(stack):
    """Return the generated passwords, by their file."""
    folder = stack.directory / "secrets"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("first", [True, False], ids=["first deployment", "later"])
def test_runs_at_once_come_one_after_the_other(stack, events, number, first):
    if first:
        stack.playbook("teardown.yml", "-e", "remove_data=true")
        before = None
    else:
        before = passwords(stack)
    replicas = [2 + index % 2 for index in range(number)]
    with ThreadPoolExecutor(number) as pool:
        runs = list(pool.map(lambda wanted: events.apply(check=False, fe_replicas=wanted), replicas))
    for done in runs:
        assert done.returncode == 0 or "Another run holds the stack: site.yml" in " ".join(done.stdout.split()), done.stdout
    assert any(done.returncode == 0 for done in runs)
    assert before in (None, passwords(stack))
    found = passwords(stack)
    events.apply()
    assert passwords(stack) == found
    assert changed(events.apply().stdout) == 0
    assert stack.request().status == 200


def test_address_of_another_host_is_refused_while_the_stack_runs(stack, events):
    before = stack.ids()
    refused = events.apply(check=False, bind_address="198.51.100.1")
    assert "http_port: bind_address 198.51.100.1 is no address of this host" in " ".join(refused.stdout.split())
    assert stack.ids() == before
    assert stack.request().status == 200


def test_load_balancer_that_does_not_start_gives_its_place_back(stack, events):
    before = stack.container("fe-lb")
    failed = events.apply(check=False, lb_limits={"cpus": "2.0", "memory": "512M", "pids": 1})
    assert "serves again." in " ".join(failed.stdout.split())
    assert stack.request().status == 200
    events.apply()
    assert stack.container("fe-lb") == before
