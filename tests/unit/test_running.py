"""Commands that look into a deployment, and sessions with a debugger, with a client of Docker that writes down its calls."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import stack_debug
import stack_lock
import stack_run
import yaml
from stack import PROJECT, wait_until

# Writes down how it is called; `run` goes on where FOREVER is set, and hears no signal, as Compose in a terminal.
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
    *NetworkSettings*) echo '{"shop_backend": {"IPAddress": "10.0.0.9"}, "shop_data": {"IPAddress": "10.0.1.9"}}';;
    *" run --rm --no-deps --use-aliases"*) [ -z "$FOREVER" ] || { trap '' TERM HUP; exec sleep 60; };;
    *"--network container:"*) cat; exit;;
esac
exit ${CODE:-0}
"""
SERVICES = {
    "fe-lb": {"image": "haproxy:1"},
    "fe": {"environment": {"APP_MODE": "development"}},
    "be-lb": {"networks": {"middle": None, "backend": None}},
    "be": {"environment": {"APP_MODE": "development"}, "networks": {"backend": None, "data": None}},
    "db": {},
}
HEADER = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_check_state\n"


class Host:
    """A home with a stack in it, and what Docker was asked."""

    def __init__(self, folder):
        self.home, self.calls = folder, folder / "calls"
        self.calls.touch()
        (folder / "bin").mkdir()
        client = folder / "bin/docker"
        client.write_text(DOCKER)
        client.chmod(0o755)
        path = f"{folder}/bin:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "HOME": str(folder), "CALLS": str(self.calls)}

    def deploy(self, name, folder=None, **environment):
        """Write the Compose file of a stack; return its folder."""
        services = {**SERVICES, "fe": {"environment": environment}} if environment else SERVICES
        directory = folder or self.home / ".local/share" / name
        directory.mkdir(parents=True)
        (directory / "docker-compose.yml").write_text(yaml.safe_dump({"name": name, "services": services}, sort_keys=False))
        return directory

    def run(self, command, *arguments, service="", folder="", **environment):
        """Run a command of the Makefile to its end."""
        words = [sys.executable, str(PROJECT / "bin/running.py"), command, service, str(folder), *arguments]
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "check": False}
        return subprocess.run(words, env={**self.environment, **environment}, cwd=self.home, **options)

    def asked(self):
        """Return how Docker was called."""
        return self.calls.read_text().splitlines()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "webstack"),
        (["-e", "stack_name=shop"], "shop"),
        (["-e", '{"stack_name": "shop"}', "--tags", "config", "--diff"], "shop"),
        (["-e", "stack_dir=~/elsewhere"], "webstack"),
        (["-i", "{home}/hosts.yml"], "shop"),
    ],
)
def test_deployment_is_the_one_that_the_arguments_say(host, arguments, name):
    own = {"ansible_connection": "local", "stack_name": "shop"}
    (host.home / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"here": own}}}))
    (host.home / "group_vars").symlink_to(PROJECT / "group_vars")
    folder = host.deploy(name, host.home / "elsewhere" if "elsewhere" in str(arguments) else None)
    done = host.run(
        "logs", *(argument.format(home=host.home) if "{home}" in argument else argument for argument in arguments)
    )
    assert done.returncode == 0, done.stderr
    file = f"compose --project-name {name} --file {folder}/docker-compose.yml"
    assert host.asked() == [f"{file} logs --follow --tail 50"]


@pytest.mark.parametrize(
    ("command", "service", "said"),
    [
        ("logs", "be", ["logs --follow --tail 50 be"]),
        ("shell", "", ["exec --no-TTY fe sh -c umask 0022; exec sh"]),
        ("shell", "db", ["exec --no-TTY db sh -c umask 0022; exec sh"]),
        ("mysql", "", ["exec --no-TTY db bash -c MYSQL_PWD="]),
        ("app-test", "", ["run --rm --no-deps --no-TTY fe python -m unittest", "run --rm --no-deps --no-TTY be python -m"]),
        ("app-test", "be", ["run --rm --no-deps --no-TTY be python -m unittest"]),
    ],
)
def test_commands_become_those_of_compose(host, command, service, said):
    folder = host.deploy("shop")
    for code in (0, 3):
        host.calls.write_text("")
        # A folder that is named needs no settings.
        done = host.run(command, service=service, folder=folder, CODE=str(code), COMPOSE_PROJECT_NAME="other")
        assert done.returncode == code
        for line, words in zip(host.asked(), said, strict=True):
            assert line.startswith(f"compose --project-name shop --file {folder}/docker-compose.yml {words}")


@pytest.mark.parametrize(
    ("command", "service", "arguments", "words"),
    [
        ("logs", "", ["-e", "stack_name=none"], "There is no deployment in {home}/.local/share/none: run make up, or give"),
        ("shell", "web", [], "SERVICE=web is no service of webstack; there are fe-lb, fe, be-lb, be, db."),
        ("mysql", "", ["-e", "stack_engine=swarm"], "make mysql is for a single host; in a Swarm use docker service logs"),
        ("logs", "", ["-i", "{home}/hosts.yml"], "this one runs on far: log in there, and run it there."),
        ("logs", "", ["--limit", "nobody"], "leaves us with no hosts to target"),
        ("debug", "db", [], "make debug is for the application: give SERVICE=fe or SERVICE=be."),
        ("app-test", "be-lb", [], "make app-test is for the application: give SERVICE=fe or SERVICE=be."),
        (
            "debug",
            "be",
            ["-e", "stack_name=made"],
            "make debug needs the code as it is on the disk, so it is for development",
        ),
        ("app-test", "", ["-e", "stack_name=made"], "make app-test needs the code as it is on the disk, so it is for"),
    ],
)
def test_debugger_is_refused_with_a_sentence(host, command, service, arguments, words):
    """And the other commands are."""
    (host.home / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"far": {"ansible_connection": "ssh"}}}}))
    (host.home / "group_vars").symlink_to(PROJECT / "group_vars")
    host.deploy("webstack")
    host.deploy("made", PORT="8000")
    done = host.run(command, *(word.replace("{home}", str(host.home)) for word in arguments), service=service)
    assert done.returncode
    said = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert words.format(home=host.home) in said[-1]
    assert len(said) == 1
    assert not host.asked()


class Balancer:
    """Answers on a master socket as HAProxy does, for three servers of be in each of its backends."""

    BACKENDS = ("be", "be-open")

    def __init__(self, folder):
        slots = {"be-1": ("10.0.0.1", 2, 0), "be-2": ("10.0.0.2", 2, 0), "be-3": ("-", 0, 0x20)}
        self.servers = {f"{backend}/{name}": [*slots[name]] for backend in self.BACKENDS for name in slots}
        self.unchecked, self.heard, self.checked = set(), [], None
        (folder / "be-lb/run").mkdir(parents=True)
        self.server = socket.socket(socket.AF_UNIX)
        here = os.open(folder / "be-lb/run", os.O_PATH)
        # By its descriptor: the name may be too long.
        self.server.bind(f"/proc/self/fd/{here}/master.sock")
        self.server.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        """Answer whoever asks."""
        while True:
            connection, _ = self.server.accept()
            with connection:
                command = connection.makefile().readline().strip().removeprefix("@1 ")
                connection.sendall(self.answer(command).encode())

    def answer(self, command):
        """Return what HAProxy says to a command."""
        if command.startswith("show servers state"):
            checks = {path: 2 if path in self.unchecked else 6 for path in self.servers}
            slots = [(*path.split("/"), *values, checks[path]) for path, values in self.servers.items()]
            rows = ["1 {} 1 {} {} {} {} {}".format(*slot) for slot in [*slots, ("be-lb", "be-9", "10.0.0.7", 2, 0, 2)]]
            return HEADER + "\n".join(rows) + "\n"
        self.heard.append(command)
        if self.checked:
            self.checked.cancel()
        self.checked = threading.Timer(0.5, self.check)
        self.checked.start()
        name = command.split()[2]
        if command.startswith(("disable health", "enable health")):
            (self.unchecked.add if command.startswith("disable") else self.unchecked.discard)(name)
        elif command.endswith(("state maint", "state ready")):
            # One that comes back waits for its next check.
            self.servers[name][1:] = [0, 0x01] if command.endswith("maint") else [0, 0]
        return "\n"

    def check(self):
        """Let servers that are not kept out pass a check."""
        for values in self.servers.values():
            values[1] = 0 if values[2] else 2

    def found(self):
        """Let the balancer find the replica of the session, which has passed its first check."""
        for backend in self.BACKENDS:
            self.servers[f"{backend}/be-3"] = ["10.0.0.9", 2, 0]

    def as_before(self):
        """Tell whether nothing of a session is left."""
        return not self.unchecked and not any(values[2] & 0x01 for values in self.servers.values())


@pytest.fixture
def session(host, monkeypatch):
    """Return a session, its balancer and the host."""
    for name in ("PATH", "HOME", "CALLS"):
        monkeypatch.setenv(name, host.environment[name])
    folder = host.deploy("shop")
    stack = yaml.safe_load((folder / "docker-compose.yml").read_text())
    client = ["docker", "compose", "--project-name", "shop"]
    return stack_debug.Session(client, stack, folder, "be", 5678), Balancer(folder), host


def test_replica_serves_alone_and_is_not_checked(session):
    one, balancer, host = session
    stack_lock.claim(one.folder, one.run, 0)
    watcher = threading.Thread(target=one.take_over, daemon=True)
    watcher.start()
    # Until it serves, the others do.
    wait_until(lambda: any("inspect" in line for line in host.asked()))
    assert not balancer.heard
    balancer.found()
    wait_until(lambda: len(balancer.heard) == 6)
    assert balancer.heard[:2] == ["disable health be/be-3", "disable health be-open/be-3"]
    others = {f"{backend}/be-{number}" for backend in balancer.BACKENDS for number in (1, 2)}
    assert set(balancer.heard[2:]) == {f"set server {path} state maint" for path in others}
    # One that comes back is sent away again.
    balancer.servers["be/be-2"][2] = 0
    wait_until(lambda: balancer.servers["be/be-2"][2] == 0x01)
    one.over.set()
    watcher.join(10)
    # Another run is told who has the stack.
    other = stack_lock.claim(one.folder, {"id": "other", "since": 0.0}, 0)
    assert other["doing"] == "make debug SERVICE=be"
    one.restore()
    assert balancer.as_before()
    # Those that come back have passed a check before this one goes.
    assert balancer.servers["be/be-1"][1] == balancer.servers["be/be-2"][1] == 2
    assert "rm --force shop-be-debug" in host.asked()
    assert stack_lock.running(one.folder) == {}
    # Done once, it leaves a run alone that has come since.
    balancer.heard.clear()
    stack_lock.claim(one.folder, {"id": "other", "since": 0.0}, 0)
    one.restore()
    assert not balancer.heard
    assert stack_lock.running(one.folder)["id"] == "other"


def test_replica_is_one_of_the_service_with_its_names(session):
    one, *_ = session
    words = " ".join(one.command(terminal=False))
    assert "run --rm --no-deps --use-aliases --name shop-be-debug --env APP_MODE=debug --env DEBUG_PORT=5678" in words
    assert words.endswith(" --no-TTY be")
    assert one.command(terminal=True)[-1] == "be"
    assert "--no-TTY" not in one.command(terminal=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, None])
def test_session_that_is_broken_off_is_put_right(session, number):
    one, balancer, host = session
    words = [sys.executable, str(PROJECT / "bin/running.py"), "debug", "be", str(one.folder)]
    environment = {**host.environment, "FOREVER": "1" if number else ""}
    if number is None:
        balancer.found()
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment, "start_new_session": True}
    # What an earlier one has left, of which nobody knows any more.
    balancer.unchecked.add("be/be-2")
    with subprocess.Popen(words, **options) as process:
        if number:
            wait_until(lambda: stack_lock.running(one.folder))
            wait_until(lambda: "enable health be/be-2" in balancer.heard)
            balancer.found()
            wait_until(lambda: balancer.unchecked and balancer.servers["be/be-1"][2])
            assert not balancer.as_before()
            process.send_signal(number)
        process.wait(30)
    assert (process.returncode == 0) is (number is None)
    wait_until(lambda: not (one.folder / stack_lock.RUN).exists())
    assert balancer.as_before()
    assert "rm --force shop-be-debug" in host.asked()


def test_debugger_of_an_editor_has_a_port(session):
    """On loopback of the host and of the container: what comes is handed on in the network of that container alone."""
    one, _, host = session
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=one.relay, args=[listener], daemon=True).start()
        with socket.create_connection(listener.getsockname(), timeout=20) as editor:
            editor.sendall(b"initialize")
            editor.shutdown(socket.SHUT_WR)
            assert editor.recv(100) == b"initialize"
    (call,) = host.asked()
    assert "--network container:shop-be-debug --entrypoint=bash haproxy:1" in call
    assert "--cap-drop=ALL" in call
    assert call.endswith("5678")
    for tier in ("fe", "be"):
        start = (PROJECT / f"data/{tier}/app/__main__.py").read_text()
        assert 'debugpy.listen(("127.0.0.1", int(os.environ["DEBUG_PORT"])))' in start


def test_relay_reaches_loopback():
    """As bash does it, without containers."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo():
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        threading.Thread(target=echo, daemon=True).start()
        command = ["bash", "-c", stack_debug.RELAY, str(server.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
            relay.stdin.write(b"hello")
            relay.stdin.flush()
            assert relay.stdout.read(5) == b"HELLO"


def test_port_that_is_taken_is_named_and_nothing_is_started(session):
    one, balancer, host = session
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = host.run("debug", "-e", f"debug_port={taken.getsockname()[1]}", service="be", folder=one.folder)
    assert re.search(
        r"^debug_port: [0-9]+ cannot be used \(Address already in use\); give another one\.$", done.stderr, re.M
    )
    assert done.returncode
    assert not any(" run " in line for line in host.asked())
    assert not (Path(one.folder) / stack_lock.RUN).exists()
    assert balancer.as_before()
    assert stack_run.describe(os.getpid(), "", True)["id"]
