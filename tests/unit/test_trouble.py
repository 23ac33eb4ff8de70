"""Why replicas do not come up: where they listen, by the kernel's tables, and whether they were killed for memory."""

import os
import socket
import subprocess

import compose_wait
import pytest
import stack_compose
import stack_ports
import stack_settings
import stack_trouble
from stack import PROJECT


def inspected(pid=0, running=True, restarts=0, key="a", **state):
    """Return what the engine says of a container, which is this process where ``pid`` is its number."""
    return {
        "Id": key,
        "Name": f"/web-fe-{key}",
        "State": {"Pid": pid or os.getpid(), "Running": running, **state},
        "RestartCount": restarts,
        "HostConfig": {"Memory": 256 * 2**20},
        "NetworkSettings": {"Networks": {"front": {"IPAddress": "127.0.0.1"}}},
    }


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::"])  # noqa: S104
def test_kernel_tells_where_a_container_listens(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener, socket.socket(family) as bound:
        listener.bind((address, 0))
        listener.listen()
        bound.bind((address, 0))
        found = stack_trouble.listening(inspected())
        assert (address, listener.getsockname()[1]) in found
        # Bound is not listening.
        assert bound.getsockname()[1] not in {port for _, port in found}


def test_tables_of_another_machine_are_not_taken_for_a_containers(monkeypatch):
    """Its engine runs elsewhere, so the number of its process is somebody else's here; it is asked itself."""
    asked = []
    table = "  sl  local_address rem_address   st\n   0: 0100007F:1388 00000000:0000 0A 0 00:0 0 1 0 77 1 0 100\n"

    def run(argv, **_):
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 0, table, "")

    monkeypatch.setattr(stack_trouble.subprocess, "run", run)
    item = inspected()
    item["NetworkSettings"]["Networks"]["front"]["IPAddress"] = "203.0.113.77"
    assert stack_trouble.listening(item) == {("127.0.0.1", 5000)}
    assert asked == [["docker", "exec", "a", "cat", "/proc/net/tcp", "/proc/net/tcp6"]]


ALL = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (set(), ""),
        ({(ALL, 8000)}, ""),
        ({("10.0.0.2", 8000), ("127.0.0.1", 9229)}, ""),
        ({("::", 8000)}, ""),
        ({("127.0.0.1", 8000)}, "listens on 127.0.0.1:8000 alone, where no other container reaches it; let the application"),
        ({("::1", 8000)}, "listens on [::1]:8000 alone, where no"),
        (
            {("127.0.0.1", 5000)},
            "listens on 127.0.0.1:5000 alone, where no other container reaches it, and fe_port is 8000; let",
        ),
        ({("127.0.0.1", 9229), ("127.0.0.1", 8000)}, "listens on 127.0.0.1:8000 alone, where"),
        (
            {(ALL, 5000)},
            "listens on 5000, and fe_port is 8000; correct fe_port, or let the application listen on 0.0.0.0:8000",
        ),
        ({(ALL, 5000), (ALL, 80), ("127.0.0.1", 8000)}, "listens on 80 and 5000, and fe_port is 8000; correct"),
    ],
)
def test_application_that_is_not_reached_is_told_where_it_listens(found, said):
    where = stack_trouble.misplaced(found, 8000, "fe_port")
    assert where.startswith(said)
    assert bool(where) is bool(said)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that tests put forward."""
    now = [100.0]
    monkeypatch.setattr(stack_trouble.time, "monotonic", lambda: now[0])
    return now


def watched(monkeypatch, clock, looks):
    """Return what is known, and what is final, after each second; each look is where an application listens then."""
    watch = stack_trouble.Watch("fe", 8000)
    told = []
    for look in looks:
        monkeypatch.setattr(stack_trouble, "listening", lambda _, look=look: look)
        clock[0] += 1
        told.append((bool(watch.look(lambda: [inspected()])), bool(watch.final())))
    return told


def test_loopback_is_told_within_ten_seconds_and_ends_the_waiting(monkeypatch, clock):
    told = watched(monkeypatch, clock, [set()] * 3 + [{("127.0.0.1", 8000)}] * 7)
    assert told[-1] == (True, True)
    assert told[3] == (False, False)


def test_another_port_is_told_within_ten_seconds_and_may_still_be_followed_by_the_right_one(monkeypatch, clock):
    told = watched(monkeypatch, clock, [set()] * 3 + [{(ALL, 5000)}] * 7)
    assert told[-1] == (True, False)
    assert watched(monkeypatch, clock, [{(ALL, 5000)}] * 5 + [{(ALL, 8000)}])[-1] == (False, False)


def test_application_that_opens_its_port_late_is_not_blamed(monkeypatch, clock):
    told = watched(monkeypatch, clock, [{("127.0.0.1", 9229)}] * 2 + [{("127.0.0.1", 9229), (ALL, 8000)}] * 7)
    assert not any(said for said, _ in told)


def test_first_deployment_ends_while_others_start_and_names_what_the_engine_takes_for_well(monkeypatch):
    """A container without a health check is well for the engine; db still starts."""
    states = {"fe": "Up 9 seconds", "db": "Up 9 seconds (health: starting)"}
    listed = [
        {"service": name, "id": name, "name": f"web-{name}-1", "state": "running", "status": states[name]} for name in states
    ]
    monkeypatch.setattr(compose_wait, "listed", lambda _: listed)
    monkeypatch.setattr(compose_wait, "containers_of", lambda *_: [inspected(key="fe")])
    monkeypatch.setattr(compose_wait, "PAUSE", 0)
    monkeypatch.setattr(stack_trouble, "PAUSE", 0)
    monkeypatch.setattr(stack_trouble, "SETTLED", 0)
    monkeypatch.setattr(stack_trouble, "listening", lambda _: {("127.0.0.1", 8000)})
    monkeypatch.setattr(compose_wait.subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0, "", ""))
    watches = {"fe": stack_trouble.Watch("fe", 8000)}
    _, unwell = compose_wait.wait("web", 60, 60, watches)
    assert {item["service"] for item in unwell} == {"fe", "db"}
    last = compose_wait.explain(unwell, watches).splitlines()[-1]
    assert "web-fe-1 listens on 127.0.0.1:8000 alone" in last
    # What is well in the end is well, whatever was seen on the way.
    listed[:] = [{**item, "status": "Up 9 seconds (healthy)"} for item in listed]
    assert compose_wait.wait("web", 60, 60, watches)[1] == []


def test_port_0_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(stack_trouble, "listening", lambda _: pytest.fail("looked"))
    assert stack_trouble.Watch("fe", 0).look(lambda: [inspected()]) == {}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"OOMKilled": True, "ExitCode": 137}, "was killed for memory (fe_limits.memory is 256M)"),
        ({"OOMKilled": True, "ExitCode": 1}, "was killed for memory (fe_limits.memory is 256M)"),
        ({"ExitCode": 137}, "was killed with exit code 137, most likely for memory (fe_limits.memory is 256M)"),
        ({"ExitCode": 1}, ""),
        ({"ExitCode": 0}, ""),
    ],
)
def test_container_that_was_killed_for_memory_names_its_limit(state, said):
    assert stack_compose.killed("fe", inspected(**state)) == said


def test_what_was_killed_is_remembered_while_it_runs_again_and_given_up_after_some_restarts(clock):
    watch = stack_trouble.Watch("fe", 0)
    watch.look(lambda: [inspected(running=False, restarts=1, OOMKilled=True)])
    clock[0] += 2
    assert "fe_limits.memory is 256M" in watch.look(lambda: [inspected(restarts=1)])["a"]
    assert watch.final() == {}
    clock[0] += 2
    watch.look(lambda: [inspected(running=False, restarts=stack_trouble.RESTARTS, OOMKilled=True)])
    assert list(watch.final()) == ["a"]


@pytest.mark.parametrize(("number", "text"), [(256 * 2**20, "256M"), (2**30, "1G"), (1536 * 2**20, "1.5G"), (1000, "1000")])
def test_sizes_are_written_as_settings_write_them(number, text):
    assert stack_compose.written_size(number) == text


def test_limit_of_each_service_is_named_by_the_setting_that_the_template_has():
    template = (PROJECT / "docker-compose.yml.j2").read_text().partition("\nservices:\n")[2].partition("\nnetworks:\n")[0]
    seen = set()
    for block in template.split("\n\n"):
        lines = [
            line
            for line in block.splitlines()
            if line.startswith("  ") and not line.startswith("   ") and line.endswith(":")
        ]
        limits = [line.partition('"limits": ')[2].split()[0] for line in block.splitlines() if '"limits": ' in line]
        if lines and limits:
            service = lines[0].strip(" :")
            seen.add(service)
            named = stack_compose.killed(service, {**inspected(OOMKilled=True)})
            assert f"({limits[0]}.memory is " in named, service
    assert {"fe", "be", "db", "prometheus", "console"} <= seen
    settings = stack_settings.read_settings(PROJECT)
    assert {*stack_compose.LIMITS.values(), "lb_limits", "monitoring_limits"} <= set(settings)
    assert stack_ports.read_listeners("", "tcp") == []
