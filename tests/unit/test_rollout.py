"""How many containers start and leave at a time, who holds a stack, and what the load balancers say of their slots."""

import os
import re
import signal
import subprocess
import sys

import pytest
import stack_compose
import stack_haproxy
import stack_lock
import stack_rollout
from ansible.module_utils import stack_project, stack_replicas, stack_singles
from hypothesis import given
from hypothesis import strategies as st
from stack import PROJECT, wait_until

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_every_way_ends_with_the_wanted_containers_and_none_is_missed_meanwhile(current, old, wanted, batch, leave):
    begin = current + old
    for _ in range(4 * (begin + wanted) + 1):
        step = stack_rollout.next_step(current, old, wanted, batch, leave)
        if step is None:
            break
        current += step.start
        assert current + old <= max(begin, wanted) + batch
        old -= step.retire_old
        current -= step.retire_current
        assert current + old >= min(begin, wanted)
        assert min(current, old) >= 0
    assert (current, old) == (wanted, 0)


@pytest.mark.parametrize(
    ("text", "replicas", "size"),
    [
        ("25%", 2, 1),
        ("25%", 8, 2),
        ("25%", 9, 3),
        ("100%", 7, 7),
        ("3", 100, 3),
        ("1%", 1, 1),
        ("25%", 200, 20),
        ("30", 200, 30),
    ],
)
def test_batch_is_a_share_or_a_number(text, replicas, size):
    assert stack_rollout.batch_size(text, replicas, cpus=4) == size


@pytest.mark.parametrize("text", ["0", "0%", "101%", "a", "-1", "2.5"])
def test_what_is_no_batch_is_refused(text):
    with pytest.raises(ValueError, match="neither a number nor a share"):
        stack_rollout.batch_size(text, 2, 2)


HOLDER = """
import subprocess, sys
sys.path.insert(0, sys.argv[2])
import pathlib, stack_lock
with stack_lock.held(pathlib.Path(sys.argv[1]), "changes containers", 0) as descriptor:
    child = subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,))
    print(child.pid, flush=True)
    child.wait()
"""


def test_second_run_is_told_who_holds_the_stack_until_the_last_child_has_ended(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path, PROJECT / "module_utils"], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(stack_lock.LockError, match=rf"changes containers \(process {process.pid} of"):
            stack_lock.held(tmp_path, "writes files", 0.1).__enter__()
        process.kill()
        process.wait()
        # What it has started still works on the stack.
        assert stack_lock.holder(tmp_path)["process"] == process.pid
    finally:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not stack_lock.holder(tmp_path), 5)
    with stack_lock.held(tmp_path, "writes files", 0):
        assert stack_lock.holder(tmp_path)["doing"] == "writes files"
    assert stack_lock.holder(tmp_path) == {}


STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 fe 1 fe-1 10.0.0.2 2 0 1
3 fe 2 fe-2 10.0.0.3 2 8 1
3 fe 3 fe-3 10.0.0.4 0 0 1
3 fe 4 fe-4 10.0.0.5 0 32 1
3 fe 5 fe-5 - 0 32 1
"""


def test_slots_are_read():
    servers = {server.name: server for server in stack_haproxy.read_servers(STATE)}
    assert [name for name, server in servers.items() if server.up] == ["fe-1"]
    assert [name for name, server in servers.items() if server.draining] == ["fe-2"]
    # In maintenance, because the name has no such address any more, a slot is free.
    assert [name for name, server in servers.items() if not server.address] == ["fe-4", "fe-5"]


def test_services_that_differ_are_found():
    containers = [
        {"service": "fe", "hash": "a", "image": "webstack/fe:1"},
        {"service": "be", "hash": "old", "image": "webstack/be:1"},
        {"service": "db", "hash": "c", "image": "b9d3ffa13a92"},
    ]
    assert stack_compose.outdated_services(containers, "fe a\nbe b\ndb c\n") == ["be", "db"]


COLUMNS = "# pxname,svname,check_status,check_code\n"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("fe,fe-1,L7STS,400", [("L7STS", "400")]),
        ("fe,fe-1,* L7STS,503", [("L7STS", "503")]),
        ("fe,fe-1,L4CON,", [("L4CON", "")]),
        ("fe,fe-1,L7TOUT,0", [("L7TOUT", "")]),
        ("fe,fe-1,L7OK,200", []),
        ("fe,fe-1,INI,", []),
        ("fe,fe-2,L7STS,400", []),
        ("be,fe-1,L7STS,400", []),
    ],
)
def test_failed_check_is_found_with_what_it_was_answered(row, found):
    assert stack_haproxy.failed_checks(COLUMNS + row, "fe", 1, {"fe-1"}) == found
    # By another definition nobody has failed.
    assert stack_haproxy.failed_checks(COLUMNS + row, "fe", 10001) == []


@pytest.mark.parametrize(("first", "admitted"), [(1, False), (10001, True), (0, True)])
def test_new_container_is_admitted_by_the_definition_that_is_wanted(tmp_path, first, admitted):
    """Whatever it answers to the one of before: the load balancer will know that one no longer."""
    stack = stack_project.Stack({"project": "web", "path": tmp_path, "file": "docker-compose.yml"}, None)
    slots = ["fe fe-1 10.0.0.2 0 0", "fe fe-10001 10.0.0.2 2 0", "fe fe-10002 - 0 32", "fe-open fe-1 10.0.0.2 2 0"]
    # A tier whose name only begins the same, and slots of its own tier that no request goes to by its checks.
    slots += ["fe-other fe-1 10.0.0.2 2 0", "fe-open fe-2 - 0 32"]
    state = "\n".join(["1", "# be_name srv_name srv_addr srv_op_state srv_admin_state", *slots])
    stack.ask = lambda *_: state
    service = {"name": "fe", "replicas": 1, "batch": "1", "first": first, "load_balancers": [{"name": "fe-lb"}], "memory": 0}
    rollout = stack_replicas.Rollout(stack, service, {}, 1, print)
    container = Engine.container("new", 1, "running")
    container.addresses = {"10.0.0.2"}
    assert rollout.serving(container)
    assert rollout.admitted(container, service["load_balancers"]) is admitted
    # Room counts where new ones are judged.
    if first == 1:
        with pytest.raises(stack_project.RolloutError, match="0 free slots"):
            rollout.check_room(1)
    else:
        rollout.check_room(1)


def test_slots_that_somebody_has_kept_out_or_unchecked_serve_again(tmp_path, monkeypatch):
    """As a session of the debugger leaves them whose machine was switched off: the next container would never be checked."""
    stack = stack_project.Stack({"project": "web", "path": tmp_path, "file": "docker-compose.yml"}, None)
    slots = [
        "be be-1 10.0.0.1 0 1 6",
        "be be-2 10.0.0.2 2 0 6",
        "be be-3 - 0 32 2",
        "be-open be-3 - 0 32 2",
        "be be-4 - 0 32 6",
    ]
    slots += ["be be-5 10.0.0.5 1 8 6", "fe fe-1 10.0.1.1 0 1 2"]
    columns = "# be_name srv_name srv_addr srv_op_state srv_admin_state srv_check_state"
    told = []

    def ask(_, command):
        told.append(command.removeprefix("@1 "))
        return "\n".join(["1", columns, *slots]) if command.endswith("state") else ""

    monkeypatch.setattr(stack, "ask", ask)
    service = {"name": "be", "replicas": 2, "batch": "1", "first": 0, "load_balancers": [{"name": "be-lb"}]}
    stack_replicas.Rollout(stack, service, {}, 1, lambda *_: None).undrain([])
    assert sorted(told[1:]) == [
        "enable health be-open/be-3",
        "enable health be/be-3",
        "set server be/be-1 state ready",
        "set server be/be-5 state ready",
    ]


class Engine(stack_project.Stack):
    """The engine, as far as a load balancer is replaced: containers by their id, with what it was told to do."""

    def __init__(self, path, breaks=""):
        super().__init__({"project": "web", "path": path, "file": "docker-compose.yml"}, None)
        self.there = {"old": self.container("old", 1, "running")}
        self.breaks, self.told, self.serving = breaks, [], ["old"]

    @staticmethod
    def container(identity, number, status, health="healthy"):
        """Return what the engine knows of a load balancer."""
        labels = {"com.docker.compose.service": "fe-lb", "com.docker.compose.container-number": number}
        return stack_project.Container(
            {
                **{
                    "Id": identity,
                    "Name": f"/web-fe-lb-{number}",
                    "Image": "x",
                    "NetworkSettings": {"Networks": {}},
                    "HostConfig": {},
                },
                **{
                    "Config": {"Labels": labels, "Image": "haproxy"},
                    "State": {"Status": status, "Health": {"Status": health}},
                },
            }
        )

    def containers(self, *ids):
        """Return what is there."""
        return [item for key, item in self.there.items() if not ids or key in ids]

    def publish(self, service, wanted, kept):
        """Try what the new one publishes."""
        self.order("publish")

    def order(self, what):
        """Note an order, and fail if it is the one that breaks."""
        self.told.append((what, [key for key, item in self.there.items() if item.status == "running"]))
        if self.breaks == what:
            self.breaks = ""
            raise stack_project.RolloutError(f"{what} failed")

    def run(self, *argv):
        """Do what a command would."""
        if argv[:2] == ("docker", "compose"):
            self.order("up")
            self.there["new"] = self.container("new", 2, "created", "starting")
        elif argv[1] == "start":
            identity = argv[2]
            self.order(f"start {identity}")
            health = "unhealthy" if self.breaks == identity else "healthy"
            self.there[identity] = self.container(identity, self.there[identity].number, "running", health)
        elif argv[1] == "stop":
            self.order("stop")
            self.there["old"] = self.container("old", 1, "exited")
        else:
            self.order(argv[1])
        return ""

    def remove(self, containers):
        """Remove containers."""
        for item in containers:
            self.there.pop(item.id)

    def last_lines(self, container):
        """Return what a container has said."""
        return "  its words"


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("publish", "publish failed"),
        ("up", "up failed"),
        ("stop", "stop failed"),
        ("start new", "start new failed"),
        ("new", "The last lines of web-fe-lb-2:\n  its words\nfe-lb: web-fe-lb-2 is unhealthy. web-fe-lb-1 serves again."),
    ],
)
def test_load_balancer_that_does_not_come_up_gives_its_place_back(tmp_path, monkeypatch, breaks, said):
    monkeypatch.setattr(stack_singles, "save_state", lambda *_: None)
    engine = Engine(tmp_path, breaks)
    other = {"name": "fe-lb", "socket": "fe-lb/run/master.sock", "definitions": [{"first": 1, "port": 8000}]}
    with pytest.raises(stack_project.RolloutError, match=re.escape(said)):
        stack_singles.replace_balancer(engine, other, engine.containers(), {"ports": []}, 1)
    assert [(key, item.status) for key, item in engine.there.items()] == [("old", "running")]


def test_load_balancer_serves_until_the_new_one_is_made_and_what_it_publishes_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(stack_singles, "save_state", lambda *_: None)
    engine = Engine(tmp_path)
    engine.there["left"] = engine.container("left", 2, "created")
    other = {"name": "fe-lb", "socket": "fe-lb/run/master.sock", "definitions": [{"first": 1, "port": 8000}]}
    stack_singles.replace_balancer(engine, other, engine.containers(), {"ports": []}, 1)
    assert engine.told == [
        ("publish", ["old"]),
        ("up", ["old"]),
        ("stop", ["old"]),
        ("start new", []),
        ("rename", ["new"]),
    ]
    assert list(engine.there) == ["new"]


@pytest.mark.parametrize(
    ("row", "passing"),
    [
        ("fe,fe-1,UP,L7OK", {"10.0.0.2"}),
        ("fe,fe-1,UP,* L7OK", {"10.0.0.2"}),
        ("fe,fe-1,UP,L4OK", {"10.0.0.2"}),
        ("fe,fe-1,UP 1/2,L7STS", set()),
        ("fe,fe-1,UP,INI", set()),
        ("fe,fe-1,DOWN,L7OK", set()),
        ("fe,BACKEND,UP,", set()),
        ("be,be-1,UP,L7OK", set()),
    ],
)
def test_server_is_in_rotation_when_this_process_has_checked_it(row, passing):
    # Judged in two ways it is one all the same.
    twice = f"{row},10.0.0.2:8000\n{row.replace('-1,', '-10001,')},10.0.0.2:9000\n"
    assert stack_haproxy.addresses_passing("# pxname,svname,status,check_status,addr\n" + twice, "fe") == passing
