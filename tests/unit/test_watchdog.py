"""When a replica is taken to hang."""

import os
import signal
import subprocess
import sys
import time

import pytest
import watchdog
from stack import wait_until

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
