"""Talking to a running stack: HAProxy's answers, waiting for containers, ports."""

import os
import socket
import threading

import compose_wait
import haproxy_converge
import pytest
import stack_haproxy
import stack_host
import stack_survey

STATISTICS = """# pxname,svname,status,weight
fe,fe-1,UP,1
fe,fe-2,UP 1/2,1
fe,fe-3,MAINT,1
fe,fe-4,DOWN,1
fe,BACKEND,UP,1
other,fe-1,UP,1
"""


def test_servers_that_pass_their_checks_are_counted():
    assert stack_haproxy.servers_up(STATISTICS, "fe") == 2
    assert stack_haproxy.servers_up(STATISTICS, "nothing") == 0


@pytest.mark.parametrize(
    ("text", "digest"),
    [("global\n    description abc123\n", "abc123"), ("Name: HAProxy\ndescription: abc123\nnode: x\n", "abc123"), ("", "")],
)
def test_digest_is_read_from_file_and_process(text, digest):
    assert stack_haproxy.version(text) == digest


def test_deep_sockets_can_be_asked(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)
        server.bind("master.sock")
        monkeypatch.undo()
        server.listen()

        def answer():
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"show info\n"
                connection.sendall(b"Name: HAProxy\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert stack_haproxy.ask(folder / "master.sock", "show info") == "Name: HAProxy\n"
        thread.join()


def test_balancer_that_is_away_is_named(tmp_path):
    balancer = {"name": "fe-lb", "socket": "master.sock", "version": "1", "backend": "fe", "servers": 2}
    values = {"path": str(tmp_path), "timeout": 0, "action": "wait", "load_balancers": [balancer]}
    with pytest.raises(haproxy_converge.RefusalError, match=r"fe-lb does not answer on master\.sock"):
        haproxy_converge.converge(values, check_mode=False)


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("running", "Up 3 seconds", "well"),
        ("running", "Up 3 seconds (healthy)", "well"),
        ("running", "Up 1 second (health: starting)", "starting"),
        ("running", "Up 1 minute (unhealthy)", "troubled"),
        ("created", "Created", "starting"),
        ("restarting", "Restarting (1) 2 seconds ago", "troubled"),
        ("exited", "Exited (0) 2 seconds ago", "troubled"),
        ("paused", "Up 1 minute (Paused)", "troubled"),
    ],
)
def test_condition_of_a_container(state, status, expected):
    assert compose_wait.condition({"state": state, "status": status}) == expected


def test_waiting_is_patient_with_what_recovers(monkeypatch):
    states = iter(["(unhealthy)", "(unhealthy)", "(healthy)"])
    monkeypatch.setattr(compose_wait, "PAUSE", 0)
    container = {"name": "fe-1", "service": "fe", "state": "running"}
    monkeypatch.setattr(compose_wait, "listed", lambda _: [{**container, "status": f"Up {next(states)}"}])
    assert compose_wait.wait("p", 10, 10)[1] == []


@pytest.mark.parametrize(("service", "status", "at_once"), [
    ("db", "Restarting (78) 1 second ago", True),
    ("db", "Exited (78) 1 second ago", True),
    ("db", "Restarting (1) 1 second ago", False),
    # Another application may mean something else by it.
    ("be", "Restarting (78) 1 second ago", False),
])  # fmt: skip
def test_waiting_ends_at_once_where_no_further_start_mends_the_database(monkeypatch, service, status, at_once):
    container = {"name": "x", "service": service, "state": "restarting", "status": status}
    looks = iter([[container], [{**container, "state": "running", "status": "Up (healthy)"}]])
    monkeypatch.setattr(compose_wait, "PAUSE", 0)
    monkeypatch.setattr(compose_wait, "listed", lambda _: next(looks))
    assert bool(compose_wait.wait("p", 60, 60)[1]) is at_once


def test_waiting_gives_up_on_what_does_not(monkeypatch):
    monkeypatch.setattr(compose_wait, "PAUSE", 0)
    container = {"name": "fe-1", "service": "fe", "state": "restarting", "status": "Restarting"}
    monkeypatch.setattr(compose_wait, "listed", lambda _: [container])
    assert compose_wait.wait("p", 60, 0) == ([container], [container])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["name=seccomp,profile=builtin"], ""),
        (["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"], "rootless"),
        (["name=seccomp,profile=builtin", "name=userns"], "userns"),
        ([], ""),
    ],
)
def test_engine_says_how_it_maps_users(options, expected):
    assert stack_host.mapping(options) == expected


@pytest.fixture
def project(tmp_path):
    """Make a checkout of somebody who is not root and whom this machine does not know."""
    os.chown(tmp_path, 54321, 54322)
    return tmp_path


def test_root_develops_as_the_owner_of_the_checkout(project):
    found = stack_host.developer(project, "")
    assert (found["uid"], found["gid"], found["user"], found["groups"]) == (54321, 54322, "54321:54322", [])


def test_developer_is_whoever_runs_the_playbook(project, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    monkeypatch.setattr(os, "getgroups", lambda: [100, 44, 27])
    mask = os.umask(0o027)
    try:
        found = stack_host.developer(project, "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert (found["user"], found["groups"], found["umask"]) == ("1234:100", [27, 44], "0027")
    found = stack_host.developer(project, "rootless")
    assert (found["uid"], found["user"], found["groups"], found["lost_groups"]) == (1234, "0:0", [], [27, 44])


@pytest.mark.parametrize(
    ("owner", "group", "mode", "expected"),
    [(0, 44, 0o770, 44), (1234, 44, 0o770, None), (0, 45, 0o770, None), (0, 44, 0o750, None), (0, 44, 0o777, None)],
)
def test_folder_that_only_a_further_group_opens_is_found(tmp_path, monkeypatch, owner, group, mode, expected):
    os.chown(tmp_path, owner, group)
    tmp_path.chmod(mode)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert stack_host.closed_without(tmp_path, [27, 44]) == expected


def test_what_mounts_need_and_is_not_there_is_found(tmp_path):
    (tmp_path / "code/there").mkdir(parents=True)
    (tmp_path / "file").touch()
    mounts = [
        {"setting": "fe_source", "source": str(tmp_path / "code"), "target": "/srv"},
        {"setting": "fe_mounts", "source": str(tmp_path / "new"), "target": "/srv/uploads"},
        {"setting": "fe_mounts", "source": str(tmp_path / "file"), "target": "/srv/uploads/one"},
        {"setting": "fe_mounts", "source": str(tmp_path / "file"), "target": "/srv/there"},
        {"setting": "fe_mounts", "source": str(tmp_path / "file"), "target": "/srvother"},
        # Inside a mount of the other tier.
        {"setting": "be_mounts", "source": str(tmp_path / "file"), "target": "/srv/other"},
    ]
    found = stack_host.missing_paths(mounts, [{"setting": "fe_tmpfs", "target": "/srv/cache"}])
    assert found == [
        {"path": str(tmp_path / "new"), "kind": "directory"},
        {"path": str(tmp_path / "code/uploads"), "kind": "directory"},
        {"path": str(tmp_path / "new/one"), "kind": "file"},
        {"path": str(tmp_path / "code/cache"), "kind": "directory"},
    ]


def test_missing_program_is_no_crash():
    commands = stack_survey.Commands()
    commands.start("x", "/nowhere/docker")
    code, _, errors = commands.result("x")
    assert code == 127
    assert "/nowhere/docker" in errors
