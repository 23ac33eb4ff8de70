"""The targets of the Makefile that look into a running deployment."""

import os
import pty
import re
import select
import signal
import subprocess
import threading
import time

import pytest
import stack_lock
from developer import ROOT, Developer, as_root, developers
from stack import wait_until
from stack_haproxy import ask


@pytest.fixture(scope="module")
def developer():
    return Developer(developers(engine="host", umask="0077", php=False)[0])


def test_logs_follow_a_service(developer):
    command = [str(developer.home / "as"), "make", "logs", "SERVICE=be", f"VENV={(ROOT / 'venv').read_text()}"]
    # By the folder, where no settings say it.
    command.append(f"STACK_DIR={developer.directory}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = first_lines(process.stdout, 3)
        process.terminate()
    services = {re.search(r"([a-z-]+)-[0-9]+ +\|", line)[1] for line in lines}
    assert services == {"be"}


def first_lines(stream, count):
    """Return the first lines that a container has printed; what make itself says is none of them."""
    lines = []
    while len(lines) < count:
        line = stream.readline()
        assert line, f"nothing more after {lines}"
        if "|" in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize(("arguments", "service"), [((), "fe"), (("SERVICE=be",), "be")])
def test_shell_is_opened_in_a_service(developer, arguments, service):
    done = developer.make("shell", *arguments, input="id -u; umask; hostname\n")
    uid, mask, host = done.stdout.split()[-3:]
    assert (uid, mask) == (str(developer.uid), "0077")
    assert host in {item["Config"]["Hostname"] for item in developer.containers(service)}


@pytest.mark.parametrize("name", developers(engine="host", umask="0077"))
def test_number_without_a_name_has_a_home(name):
    developer = Developer(name)
    for tier in ("fe", "be"):
        # Nobody there knows the number, and the home is writable all the same.
        script = 'cd && touch home && ! getent passwd "$(id -u)" && stat --format=%u home'
        assert developer.execute(tier, "sh", "-c", script).stdout == f"{developer.uid}\n"


def test_pip_has_a_place_for_its_cache(developer):
    script = 'folder=$(pip cache dir) && mkdir -p "$folder" && touch "$folder/fetched" && echo "$folder"'
    assert developer.execute("be", "sh", "-c", script).stdout.strip().startswith("/tmp/")  # noqa: S108


def test_client_of_the_database_is_the_application(developer):
    done = developer.make("mysql", input="SELECT CURRENT_USER(), DATABASE();\n")
    assert done.stdout.split()[-2:] == ["app@%", "app"]


def test_samples_are_tested_in_containers(developer):
    done = developer.make("app-test")
    assert len(re.findall(r"^OK$", done.stderr, re.MULTILINE)) == 2
    # A test that fails is the command's failure, and only the tier that is named is tested.
    path = developer.code["fe"] / "tests/test_main.py"
    text = developer.read(path)
    developer.write(path, text.replace("status_code == 200", "status_code == 201"))
    try:
        assert developer.make("app-test", check=False).returncode
        assert developer.make("app-test", "SERVICE=be").returncode == 0
    finally:
        developer.write(path, text)


class Terminal:
    """A command in a terminal."""

    def __init__(self, command):
        self.master, slave = pty.openpty()
        # A terminal tells those who run in it that it closes, if it is theirs.
        self.process = subprocess.Popen(["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.text = ""

    def __enter__(self):
        """Run it for as long as the block lasts."""
        return self

    def __exit__(self, *_):
        """End it, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, keys):
        """Type keys."""
        os.write(self.master, keys.encode())

    def shows(self, words, seconds=60):
        """Wait until words stand on the screen, and forget what stands before."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} is not there:\n{self.text}"
            if select.select([self.master], [], [], 0.5)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text.partition(words)[2]


def debugger(developer, *options):
    """Start a session for the back end, as a person does."""
    arguments = f"ARGS=-e @{developer.home}/settings.yml {' '.join(options)}"
    make = ["make", "debug", "SERVICE=be", f"VENV={(ROOT / 'venv').read_text()}", arguments]
    return Terminal([str(developer.home / "as"), *make])


def undisturbed(developer, before):
    """Tell whether the very same replicas are there, get requests and are checked."""
    rows = ask(developer.directory / "be-lb/run/master.sock", "@1 show servers state be").splitlines()
    header = rows[1].lstrip("# ").split()
    servers = [dict(zip(header, row.split(), strict=False)) for row in rows[2:] if row.strip()]
    # Bits of HAProxy's management guide: put into maintenance by somebody; checks configured, checks enabled.
    kept_out = [server for server in servers if int(server["srv_admin_state"]) & 0x01]
    unchecked = [server for server in servers if int(server["srv_check_state"]) & 0x06 == 0x02]
    replicas = {item["Config"]["Hostname"] for item in developer.containers("be")}
    return not kept_out and not unchecked and developer.ids() == before and developer.names("backend", 12) == replicas


@pytest.fixture
def breakpoints(developer):
    """Stop each request for the list of users."""
    path = developer.code["be"] / "app/main.py"
    text = developer.read(path)
    query = "    with pool.connect() as connection:"
    developer.write(path, text.replace(query, f"    breakpoint()\n{query}", 1))
    yield
    developer.write(path, text)


def test_breakpoint_stops_in_the_terminal_and_everything_is_as_before(developer, breakpoints):
    before, answers = developer.ids(), []
    with debugger(developer) as terminal:
        terminal.shows("serves alone now")
        # It is asked by a front end, through both balancers.
        asking = threading.Thread(target=lambda: answers.append(developer.request()))
        asking.start()
        terminal.shows("(Pdb)")
        # Another run is told who has the stack; that takes longer than checks would have taken to give the replica up.
        refused = developer.make("dev", arguments="-e stack_wait_timeout=1", check=False)
        assert "make debug SERVICE=be" in refused.stdout
        terminal.type("p limit * 7\r")
        terminal.shows("700")
        terminal.type("c\r")
        asking.join(30)
        assert answers[0].status == 200
        terminal.type("\x03")
        terminal.process.wait(60)
    wait_until(lambda: undisturbed(developer, before))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_session_that_is_broken_off_leaves_everything_as_before(developer, number):
    before = developer.ids()
    with debugger(developer) as terminal:
        terminal.shows("serves alone now")
        as_root("kill", f"-{number.value}", str(stack_lock.running(developer.directory)["process"]))
    wait_until(lambda: undisturbed(developer, before))
