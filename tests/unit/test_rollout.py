"""How many containers start and leave at a time, who holds a stack, and what the load balancers say of their slots."""

import os
import signal
import subprocess
import sys

import pytest
import stack_compose
import stack_haproxy
import stack_lock
import stack_rollout
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
