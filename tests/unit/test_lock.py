"""One run of a playbook at a time on a stack, from its first look at the host to its end, however that comes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import stack_lock
import stack_run
import yaml
from stack import PROJECT, wait_until


def run(identity="here 1 1", **more):
    """Return a run as the preflight describes it."""
    return {"id": identity, "doing": "site.yml", "process": 1, "user": "alice", "machine": "ci", "since": 1000.0, **more}


def heard(folder, seconds):
    """Let the last sign of life of the run that has the stack be so many seconds old."""
    moment = time.time() - seconds
    os.utime(folder / stack_lock.RUN, (moment, moment))


def test_second_run_is_told_who_has_the_stack(tmp_path):
    assert stack_lock.claim(tmp_path / "new" / "stack", run(), 0) == {}
    other = stack_lock.claim(tmp_path / "new" / "stack", run("there 1 1"), 0)
    sentence = stack_lock.refusal(other)
    assert re.search(r"holds the stack: site\.yml \(process 1 of alice on ci, since \d\d:\d\d:\d\d\); wait", sentence)


def test_playbook_that_imports_another_keeps_what_it_has(tmp_path):
    stack_lock.claim(tmp_path, run(), 0)
    heard(tmp_path, stack_lock.LEASE - 1)
    assert stack_lock.claim(tmp_path, run(since=2000.0), 0) == {}
    assert stack_lock.running(tmp_path)["since"] == 1000.0
    # And it has been heard of.
    heard_last = time.time() - (tmp_path / stack_lock.RUN).stat().st_mtime
    assert heard_last < stack_lock.LEASE - 1


@pytest.mark.parametrize("content", [json.dumps(run()), "", "{", json.dumps(run("z" * 4000))])
def test_run_that_is_not_heard_of_has_lost_the_stack(tmp_path, content):
    (tmp_path / stack_lock.RUN).write_text(content)
    heard(tmp_path, stack_lock.LEASE + 1)
    assert stack_lock.running(tmp_path) == {}
    assert stack_lock.claim(tmp_path, run("there 1 1"), 0) == {}
    assert stack_lock.running(tmp_path)["id"] == "there 1 1"


def test_what_a_run_has_left_behind_is_waited_for(tmp_path):
    with stack_lock.held(tmp_path, "changes containers", 0):
        assert stack_lock.claim(tmp_path, run(), 0)["doing"] == "changes containers"
        # Who has not got the stack keeps nobody else out.
        assert stack_lock.running(tmp_path) == {}
    assert stack_lock.claim(tmp_path, run(), 0) == {}


def test_link_to_a_file_of_others_is_not_written_to(tmp_path):
    (tmp_path / "other").write_text("precious")
    (tmp_path / stack_lock.RUN).symlink_to("other")
    with pytest.raises(OSError):  # noqa: PT011 (which one is the kernel's)
        stack_lock.claim(tmp_path, run(), 0)
    assert (tmp_path / "other").read_text() == "precious"


CLAIM = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[2])
import stack_lock
folder = pathlib.Path(sys.argv[1])
other = stack_lock.claim(folder, {"id": str(os.getpid()), "doing": "site.yml", "since": 0}, 30)
assert not other, other
# Whoever is in here at the same time finds this name taken.
(folder / "inside").mkdir()
time.sleep(0.05)
(folder / "inside").rmdir()
(folder / stack_lock.RUN).unlink()
try:
    folder.rmdir()
except OSError:
    pass  # The next one was quicker.
"""


def test_of_five_at_once_each_gets_its_turn_alone(tmp_path):
    argv = [sys.executable, "-c", CLAIM, tmp_path / "stack", PROJECT / "module_utils"]
    processes = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(5)]
    assert [process.communicate()[1] for process in processes] == [""] * 5
    assert list(tmp_path.iterdir()) == []


# As Ansible does it: a run that forks a worker, which keeps the lock and ends with its task.
RUN = """
import os, pathlib, signal, sys, time
sys.path.insert(0, sys.argv[2])
import stack_run
stack_run.RENEWAL = stack_run.LOOK = 0.1
# Whoever has started the tests may ignore them.
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
folder = pathlib.Path(sys.argv[1])
main = os.getpid()
if not os.fork():
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    stack_run.keep(main, (folder / "renewed").touch, (folder / "released").touch)
    os._exit(0)
os.wait()
if not os.fork():
    os.setsid()
    # Under its name once it is whole.
    (folder / "written").write_text(str(os.getpid()))
    (folder / "written").rename(folder / "worker")
    time.sleep(60)
    os._exit(0)
(folder / "main").write_text("")
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_end_of_a_run_gives_the_stack_back_once_its_last_worker_has_ended(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path, PROJECT / "module_utils"], start_new_session=True, stderr=subprocess.DEVNULL
    )
    worker = None
    try:
        wait_until(lambda: (tmp_path / "main").exists() and (tmp_path / "worker").exists(), 10)
        worker = int((tmp_path / "worker").read_text())
        (tmp_path / "renewed").unlink(missing_ok=True)
        wait_until((tmp_path / "renewed").exists, 10)
        # All of its group, and nobody has asked after it yet.
        os.killpg(process.pid, number)
        (tmp_path / "renewed").unlink()
        wait_until((tmp_path / "renewed").exists, 10)
        assert not (tmp_path / "released").exists()
        os.kill(worker, signal.SIGKILL)
        wait_until((tmp_path / "released").exists, 10)
    finally:
        process.kill()
        process.wait()
        if worker:
            subprocess.run(["kill", "-9", str(worker)], capture_output=True, check=False)


def test_process_of_the_same_number_is_another_run():
    """A number comes back; a moment does not."""
    with subprocess.Popen(["sleep", "60"]) as process:
        mine, other = stack_run.describe(os.getpid(), "", True), stack_run.describe(process.pid, "", True)
        assert mine["id"] == stack_run.describe(os.getpid(), "", True)["id"]
        assert mine["id"].rpartition(" ")[2] != other["id"].rpartition(" ")[2] != ""
        process.kill()


READS_ONLY = {"status.yml", "render.yml", "bootstrap.yml", "hosts.yml", "checkout.yml", "settings.yml"}


def own_plays(path):
    """Yield the plays of a playbook, those of what it imports among them, bar what only reads."""
    for play in yaml.safe_load(path.read_text()):
        if "import_playbook" not in play:
            yield play
        elif play["import_playbook"] not in READS_ONLY:
            yield from own_plays(path.parent / play["import_playbook"])


@pytest.mark.parametrize("path", sorted(PROJECT.glob("playbooks/*.yml")), ids=lambda path: path.name)
def test_every_playbook_that_changes_a_stack_takes_it_first(path):
    """Before anything is done on the host, bar looking for a manager."""
    if path.name in READS_ONLY:
        return
    harmless = {"Refuse a Swarm", "Refuse a move without a new node"}
    first = next(own_plays(path))
    tasks = [task for task in first["tasks"] if task["name"] not in harmless]
    role = tasks[0].get("ansible.builtin.import_role") or tasks[0]["ansible.builtin.include_role"]
    assert role["name"] == "preflight"
    assert role.get("tasks_from", "lock") == "lock"
    assert first["hosts"] == "webstack_control"


def test_modules_wait_with_what_the_preflight_hands_on():
    for name in ("main.yml", "lock.yml"):
        task = yaml.safe_load((PROJECT / "roles/preflight/tasks" / name).read_text())[-1]
        assert task["stack_preflight"]["lock_timeout"] == "{{ stack_wait_timeout | int }}"
