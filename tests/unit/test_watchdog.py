"""When a replica is taken to hang, and what is done about it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import watchdog
from stack import wait_until
from stack_lock import LEASE, RUN, claim, held

# Two threads of which one wakes up several times a second, as a server does for health checks.
WAKING = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(1, flush=True)
while True: time.sleep(0.05)
"""
SLEEPING = "import time\nprint(1, flush=True)\ntime.sleep(60)"


@pytest.fixture(name="start")
def starter():
    """Return a function that starts a Python program below a shell, and waits until it runs."""
    started = []

    def start(program):
        command = ["sh", "-c", '"$0" -c "$1"; exit', sys.executable, program]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        process.stdout.read(2)
        return process.pid

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_what_wakes_up_is_seen_to_run(start):
    process = start(WAKING)
    before = watchdog.runs(process)
    wait_until(lambda: watchdog.runs(process) > before, 5)


@pytest.mark.parametrize("stopped", [False, True])
def test_what_hangs_does_not_run(start, stopped):
    process = start(WAKING if stopped else SLEEPING)
    assert len(watchdog.family(process)) == 2
    if stopped:
        for number in watchdog.family(process):
            os.kill(number, signal.SIGSTOP)
    wait_until(lambda: not watchdog.is_busy(process), 5)
    before = watchdog.runs(process)
    # That nothing happens cannot be awaited.
    time.sleep(1)
    assert watchdog.runs(process) == before
    assert not watchdog.is_busy(process)


def test_what_computes_is_busy(start):
    process = start("print(1, flush=True)\nwhile True: pass")
    wait_until(lambda: watchdog.is_busy(process), 5)


def test_what_has_ended_is_nothing():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert watchdog.runs(process.pid) == 0
    assert not watchdog.is_busy(process.pid)


STATE = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n"
STATISTICS = "# pxname,svname,status,check_status,addr,hrsp_2xx,hrsp_5xx\n"
# Seconds after which each kind of replica is restarted: just after these, and not before.
AT_ONCE, LATER = watchdog.CERTAIN, watchdog.PATIENCE


class Scene:
    """A watchdog of the service ``fe``, a load balancer that tells of its servers, and an engine that restarts."""

    def __init__(self, folder, monkeypatch):
        (folder / "watchdog").mkdir()
        service = {"name": "fe", "socket": "fe-lb/run/master.sock"}
        self.root, self.now, self.servers, self.restarted = folder, 1000.0, {}, []
        self.threads = dict.fromkeys(range(1, 9), 1)
        self.busy = set()
        # Those that answer requests although they fail their checks, and how often they have.
        self.answering, self.answers = set(), 7
        # All have started long ago and run.
        self.states = dict.fromkeys(range(1, 9), "running")
        self.started = dict.fromkeys(range(1, 9), "2020-01-01T00:00:00.0Z")
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(watchdog, "ask", self.ask)
        monkeypatch.setattr(watchdog, "inspect", lambda ids: [self.container(int(number)) for number in ids])
        monkeypatch.setattr(watchdog, "runs", self.threads.__getitem__)
        monkeypatch.setattr(watchdog, "is_busy", self.busy.__contains__)
        monkeypatch.setattr(watchdog.subprocess, "run", self.engine)
        settings = {"project": "web", "restarts": 3, "window": 600, "services": [service]}
        self.watchdog = watchdog.Watchdog(folder / "watchdog", settings)

    def ask(self, _socket, command, timeout):
        """Answer as HAProxy does: whether each server passes its checks, and how the last one ended."""
        if "servers state" in command:
            lines = [
                f"3 fe {number} fe-{number} 10.0.0.{number} {2 if check == 'L7OK' else 0} 0"
                for number, check in self.servers.items()
            ]
            return STATE + "".join(f"{line}\n" for line in lines)
        rows = [
            f"fe,fe-{number},{'UP' if check == 'L7OK' else 'DOWN'},{check},10.0.0.{number}:8000,,"
            for number, check in self.servers.items()
        ]
        self.answers += 1
        # In another slot of another backend, and with errors that are the load balancer's own.
        rows += [
            f"fe-open,fe-{9 - number},UP,L4OK,10.0.0.{number}:8000"
            f",{self.answers if number in self.answering else 7},{self.answers}"
            for number in self.servers
        ]
        return STATISTICS + "".join(f"{row}\n" for row in rows)

    def container(self, number):
        """Return what the engine says of a replica."""
        state = self.states[number]
        return {
            "Id": str(number),
            "Name": f"/web-fe-{number}",
            "State": {
                "Status": state,
                "Paused": state == "paused",
                "Pid": number,
                "StartedAt": self.started[number],
            },
            "NetworkSettings": {"Networks": {"frontend": {"IPAddress": f"10.0.0.{number}"}}},
        }

    def engine(self, command, **_):
        """List the replicas, or restart one."""
        if command[1] == "restart":
            self.restarted.append(int(command[-1]))
            return subprocess.CompletedProcess(command, 0, "", "")
        return subprocess.CompletedProcess(command, 0, "\n".join(map(str, self.servers)), "")

    def passes(self, seconds):
        """Let the watchdog look as often as it does in so many seconds, and return whom it restarts in them."""
        before = len(self.restarted)
        end = self.now + seconds
        while self.now < end - 0.001:
            self.watchdog.look()
            self.now += watchdog.INTERVAL
        return self.restarted[before:]


@pytest.fixture(name="scene")
def pretended(tmp_path, monkeypatch):
    return Scene(tmp_path, monkeypatch)


def test_replica_that_hangs_while_others_serve_is_restarted_at_once(scene):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    assert scene.passes(AT_ONCE) == []
    assert scene.passes(2 * watchdog.INTERVAL) == [2]


@pytest.mark.parametrize("check", ["L7TOUT", "L4CON"])
def test_where_none_serves_ten_seconds_pass_first(scene, check):
    assert LATER == 10
    scene.servers = {1: check, 2: check}
    assert scene.passes(LATER) == []
    # One at a time: the next one when this one serves again.
    assert scene.passes(1) == [1]
    assert scene.passes(watchdog.SETTLE / 2) == []
    scene.servers[1] = "L7OK"
    assert scene.passes(1) == [2]


def test_restarted_replica_that_does_not_come_back_holds_the_next_one_up_for_a_while_only(scene):
    scene.servers = {1: "L7TOUT", 2: "L7TOUT", 3: "L7OK"}
    assert scene.passes(1) == [1]
    assert scene.passes(watchdog.SETTLE - 1) == []
    assert scene.passes(2)[0] in (1, 2)


@pytest.mark.parametrize("check", ["L4CON", "L7RSP"])
def test_refused_connection_is_given_ten_seconds(scene, check):
    scene.servers = {1: "L7OK", 2: check}
    assert scene.passes(LATER) == []
    assert scene.passes(1) == [2]


@pytest.mark.parametrize("how", ["wakes up", "is busy"])
def test_replica_of_which_something_runs_is_given_ten_seconds(scene, how):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    assert scene.passes(watchdog.INTERVAL) == []
    if how == "is busy":
        scene.busy.add(2)
    else:
        scene.threads[2] += 1
    assert scene.passes(LATER - watchdog.INTERVAL) == []
    assert scene.passes(1) == [2]


@pytest.mark.parametrize("others", ["L7TOUT", "L7OK"])
def test_replica_that_answers_requests_is_slow_and_left_alone_until_it_stops(scene, others):
    """As all of them are under too much load: a restart would take the last ones away."""
    scene.servers = {1: others, 2: "L7TOUT"}
    scene.busy.update({1, 2})
    scene.answering = {1, 2}
    assert scene.passes(5 * LATER) == []
    scene.answering.discard(2)
    assert scene.passes(LATER - 2 * watchdog.INTERVAL) == []
    assert scene.passes(1) == [2]


@pytest.mark.parametrize("check", ["L7STS", "L7OKC", ""])
def test_replica_that_answers_with_an_error_is_left_alone(scene, check):
    scene.servers = {1: "L7OK", 2: check}
    assert scene.passes(10 * LATER) == []


@pytest.mark.parametrize("state", ["restarting", "exited", "created"])
def test_replica_that_the_engine_starts_is_left_to_it(scene, state):
    scene.servers = {1: "L7OK", 2: "L4CON"}
    scene.states[2] = state
    assert scene.passes(3 * LATER) == []


def test_paused_replica_is_restarted_at_once(scene):
    """Its processes seem to wait for the disk."""
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    scene.states[2] = "paused"
    scene.busy.add(2)
    assert scene.passes(1) == [2]


def test_nothing_is_restarted_during_a_run(scene):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    with held(scene.root, "changes containers", 0):
        assert scene.passes(3 * LATER) == []
    assert scene.passes(1) == [2]


@pytest.mark.parametrize("containers", [True, False], ids=["site.yml", "backup.yml"])
def test_nothing_is_restarted_while_a_playbook_changes_containers(scene, containers):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    claim(scene.root, {"id": "a", "doing": "a playbook", "since": 0, "containers": containers}, 0)
    assert set(scene.passes(3 * LATER)) == (set() if containers else {2})
    (scene.root / RUN).unlink()
    assert 2 in scene.passes(3 * LATER)


def test_run_that_has_died_does_not_pause_it_for_ever(scene):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, 0)
    moment = time.time() - LEASE - 1
    os.utime(scene.root / RUN, (moment, moment))
    assert scene.passes(1) == [2]


def test_run_of_another_user_pauses_it(scene, monkeypatch):
    """Its file can be seen and not read."""
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    (scene.root / RUN).touch(mode=0)
    read = Path.read_text

    def refuse(path, *arguments, **options):
        if path.name == RUN:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert scene.passes(3 * LATER) == []


@pytest.mark.parametrize("check", ["L7TOUT", "L4CON"])
def test_run_that_comes_between_look_and_restart_finds_nothing_restarted(scene, monkeypatch, check):
    """The run has the stack by the time that the engine is asked for the replica."""
    scene.servers = {1: "L7OK", 2: check}
    inspect = watchdog.inspect

    def slowly(ids):
        claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, 0)
        return inspect(ids)

    monkeypatch.setattr(watchdog, "inspect", slowly)
    assert scene.passes(3 * LATER) == []
    assert (scene.root / RUN).exists()
    assert not scene.watchdog.events.exists()


def test_run_that_comes_during_a_restart_waits_for_it(scene, monkeypatch):
    scene.servers = {1: "L7OK", 2: "L7TOUT"}
    engine, told = watchdog.subprocess.run, []

    def restarting(command, **options):
        if command[1] == "restart":
            # Time stands still here, so it may not wait.
            told.append(claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, -1))
            # A watchdog that is killed meanwhile leaves this process, which goes on holding the stack.
            assert options["pass_fds"]
        return engine(command, **options)

    monkeypatch.setattr(watchdog.subprocess, "run", restarting)
    assert scene.passes(1) == [2]
    assert [other["doing"] for other in told] == ["the watchdog restarts web-fe-2"]
    assert claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, 0) == {}


def test_patience_begins_anew_after_a_run(scene):
    scene.servers = {1: "L7OK", 2: "L4CON"}
    assert scene.passes(LATER - 1) == []
    claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, 0)
    assert scene.passes(LATER) == []
    (scene.root / RUN).unlink()
    assert scene.passes(LATER) == []
    assert scene.passes(1) == [2]


def test_container_of_a_run_has_not_served_because_an_earlier_one_had_its_address(scene):
    scene.servers = {1: "L7OK", 2: "L7OK"}
    assert scene.passes(1) == []
    scene.servers[2] = "L4CON"
    assert scene.passes(LATER - 1) == []
    claim(scene.root, {"id": "a", "doing": "site.yml", "since": 0, "containers": True}, 0)
    assert scene.passes(LATER) == []
    scene.started[2] = time.strftime("%Y-%m-%dT%H:%M:%S.0Z", time.gmtime())
    (scene.root / RUN).unlink()
    assert scene.passes(2 * LATER) == []
    # It served before, and hangs now.
    scene.servers[2] = "L7OK"
    assert scene.passes(1) == []
    scene.servers[2] = "L4CON"
    assert scene.passes(LATER) == []
    assert scene.passes(1) == [2]


def test_check_that_passes_again_starts_the_patience_anew(scene):
    scene.servers = {1: "L7OK", 2: "L4CON"}
    assert scene.passes(LATER - 1) == []
    scene.servers[2] = "L7OK"
    assert scene.passes(1) == []
    scene.servers[2] = "L4CON"
    assert scene.passes(LATER) == []
    assert scene.passes(1) == [2]
