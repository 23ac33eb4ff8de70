"""What was acknowledged outlives whatever happens to database, engine and disk while it is written."""

import contextlib
import time

import pytest
from stack import changed, run, wait_until
from writer import Writer

MACHINE = "webstack-test-persistence-engine"
# The disk of the database, in the machine.
DISK = "/var/lib/docker/volumes/webstack-test-persistence_database/_data"
WRITERS = 3
# How often what happens; 20 rounds together.
ROUNDS = {"database killed": 15, "engine killed": 3, "disk full": 2}
# Seconds of writing between two rounds.
BETWEEN = 1.0


def inside(*argv, check=True):
    return run("docker", "exec", MACHINE, *argv, check=check)


def acknowledged(writers):
    return sum(write.acknowledged for writer in writers for write in list(writer.writes))


def refused(writers):
    return sum(not write.acknowledged for writer in writers for write in list(writer.writes))


def kill_database(stack, _writers):
    container = stack.container("db")
    stack.docker("kill", "--signal=KILL", container)
    # The engine itself would wait longer with each time.
    stack.docker("start", container)


def kill_engine(_stack, _writers):
    inside("pkill", "-KILL", "-x", "dockerd")
    wait_until(lambda: inside("docker", "version", check=False).returncode == 0)


def fill_disk(_stack, writers):
    ballast = f"{DISK}/.ballast"
    # The rest is for the writers, who fill it soon.
    script = 'fallocate --length "$(($(df --output=avail --block-size=1 "$1" | tail -n 1) - 262144))" "$2"'
    try:
        inside("bash", "-euc", script, "bash", DISK, ballast)
        before = refused(writers)
        wait_until(lambda: refused(writers) > before, 60)
    finally:
        inside("rm", "--force", ballast)


HAPPENS = {"database killed": kill_database, "engine killed": kill_engine, "disk full": fill_disk}


@pytest.fixture(autouse=True)
def machine(stack):
    stack.address = run(
        "docker", "inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", MACHINE
    ).stdout.strip()


@pytest.mark.long
def test_no_acknowledged_write_is_lost(stack):
    with contextlib.ExitStack() as stacked:
        writers = [stacked.enter_context(Writer(stack, f"crash-{number}")) for number in range(WRITERS)]
        for what, times in ROUNDS.items():
            for _ in range(times):
                HAPPENS[what](stack, writers)
                # Writes go on by themselves.
                before = acknowledged(writers)
                wait_until(lambda count=before: acknowledged(writers) > count + 10, 180)
                time.sleep(BETWEEN)
    emails = stack.mysql("SELECT email FROM app.users WHERE email LIKE 'crash-%'").splitlines()
    good = {write.email for writer in writers for write in writer.writes if write.acknowledged}
    lost = good - set(emails)
    rounds = sum(ROUNDS.values())
    print(f"{rounds} rounds, {len(good)} acknowledged, {refused(writers)} refused or unanswered, {len(lost)} lost")
    assert rounds >= 20
    assert len(good) > 1000
    assert not lost
    # Each row once, and nothing that nobody has sent.
    assert len(emails) == len(set(emails))
    assert set(emails) <= {write.email for writer in writers for write in writer.writes}
    assert changed(stack.playbook("site.yml").stdout) == 0
