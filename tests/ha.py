"""Requests at a constant rate through the edge, events meanwhile, and what they cost."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench_lb import certificate
from stack import GATE, PROJECT, Stack, run, wait_until
from stack_haproxy import Server, ask, drop_state, read_servers, read_sessions, save_state
from stack_process import family

# Requests per second, a multiple of 20 or fewer (LOAD_RATE=10), and those beside them that take long.
RATE = int(os.environ.get("LOAD_RATE", "200"))
SLOW_RATE = 25
SLOW_PATH = "/?delay=5"
# Load, stack and playbook share a few processors here, where a playbook mostly comes from another machine. Not in the gate:
# beside its other tests a playbook that gets only what is left would hardly get on.
ASIDE = () if GATE else (sys.executable, str(PROJECT / "tests/aside.py"))
# Seconds after an event in which its consequences are counted in.
TAIL = 2.0


@dataclass(frozen=True)
class Request:
    """One request: when it began (seconds of the epoch), its status (0: none), how long it took and what went wrong."""

    begin: float
    kind: str
    status: int
    milliseconds: float
    error: str

    @property
    def good(self) -> bool:
        """Whether it got what it asked for."""
        return self.status == 200 and not self.error


@dataclass
class Window:
    """The requests of one event."""

    name: str
    begin: float
    end: float = 0.0
    requests: list[Request] = field(default_factory=list)

    @property
    def failed(self) -> list[Request]:
        """Those that did not get what they asked for."""
        return [request for request in self.requests if not request.good]

    def percentile(self, share: float) -> float:
        """Return the milliseconds within which so many percent of the requests ended."""
        times = [request.milliseconds for request in self.requests]
        return statistics.quantiles(times, n=1000, method="inclusive")[round(share * 10) - 1] if len(times) > 1 else 0.0

    @property
    def worst(self) -> float:
        """The milliseconds of the slowest request."""
        return max((request.milliseconds for request in self.requests), default=0.0)

    def describe(self) -> str:
        """Return the figures for a message."""
        failures = {f"{request.status} {request.error}" for request in self.failed}
        return (
            f"{self.name}: {len(self.requests)} requests, {len(self.failed)} failed {sorted(failures)[:4]},"
            f" p50 {self.percentile(50):.1f} ms, p99 {self.percentile(99):.1f} ms, worst {self.worst:.0f} ms"
        )


class Load:
    """A load generator that runs beside what happens."""

    def __init__(
        self, stack: Stack, rate: int = RATE, path: str = "/", method: str = "GET", bases: list[str] | None = None
    ) -> None:
        """Prepare requests for a path of a stack, at its own addresses or at others (``http://10.0.0.1:8080``)."""
        self._file = tempfile.NamedTemporaryFile("w+", suffix=".csv")  # noqa: SIM115 (closed when the load ends)
        bases = bases or [f"{scheme}://{stack.address}:{stack.port(scheme)}" for scheme in ("http", "https")]
        options = (f"--rate={rate}", f"--path={path}", f"--method={method}")
        self._command = [sys.executable, str(PROJECT / "tests/bench_ha/load.py"), *bases, *options]
        self._rate = rate
        self._windows: list[Window] = []
        self.requests: list[Request] = []

    def __enter__(self) -> Load:
        """Send requests until the block ends."""
        self._process = subprocess.Popen(self._command, stdout=self._file, stderr=subprocess.DEVNULL)
        # Its clients are there, and the first requests have been answered.
        wait_until(lambda: Path(self._file.name).read_text().count("\n") > self._rate, 60)
        return self

    def __exit__(self, *_: object) -> None:
        """End the load and hand each window its requests."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(timeout=90) == 0, "the load generator has failed"
        with Path(self._file.name).open(newline="") as file:
            for row in csv.DictReader(file):
                error = row["error"].strip("[]'\"")
                status, milliseconds = int(row["status"]), float(row["milliseconds"])
                self.requests.append(Request(float(row["start"]), row["kind"], status, milliseconds, error))
        self._file.close()
        self.requests.sort(key=lambda request: request.begin)
        for window in self._windows:
            window.requests = [request for request in self.requests if window.begin <= request.begin <= window.end]

    @contextlib.contextmanager
    def event(self, name: str) -> Iterator[Window]:
        """Count the requests during the block and shortly after it as those of an event."""
        window = Window(name, time.time())
        yield window
        time.sleep(TAIL)
        window.end = time.time()
        self._windows.append(window)


class Events:
    """Changes and faults of a deployment; ``roll_slow`` needs the application of ``tests/bench_ha``."""

    def __init__(self, stack: Stack, settings: dict, folder: Path) -> None:
        """Start from settings; certificates go to ``folder``."""
        self.stack, self.settings, self.folder = stack, settings, folder
        self.release = 1

    def servers(self, tier: str) -> list[Server]:
        """Return the slots of a tier's load balancer that hold a server, or are marked as draining."""
        found = read_servers(ask(self.stack.directory / f"{tier}-lb/run/master.sock", f"@1 show servers state {tier}"))
        return [server for server in found if server.address or server.draining]

    def all_serve(self, tier: str) -> bool:
        """Tell whether exactly the wanted replicas of a tier get requests, and no slot is marked."""
        servers = self.servers(tier)
        return len(servers) == self.settings[f"{tier}_replicas"] and all(server.up for server in servers)

    def until_all_serve(self, seconds: float = 60) -> None:
        """Wait until exactly the wanted replicas of both tiers get requests."""
        wait_until(lambda: all(self.all_serve(tier) for tier in ("fe", "be")), seconds)

    def until_started_again(self, container: dict) -> None:
        """Wait until a container has been started again and all replicas get requests."""

        def started() -> bool:
            state = json.loads(self.stack.docker("inspect", container["Id"]).stdout)[0]["State"]
            return state["Running"] and state["StartedAt"] != container["State"]["StartedAt"]

        wait_until(started)
        self.until_all_serve()

    def container(self, tier: str) -> dict:
        """Return what the engine knows of the first replica of a tier."""
        return min(self.stack.containers(tier), key=lambda item: item["Name"])

    def apply(self, check: bool = True, **once: object) -> subprocess.CompletedProcess:
        """Run the playbook with the settings, and with others for this time."""
        return self.stack.playbook("site.yml", "-e", json.dumps({**self.settings, **once}), check=check, before=ASIDE)

    def new_release(self, *tiers: str) -> None:
        """Change what the containers of some tiers are made from."""
        self.release += 1
        for tier in tiers:
            name = f"{tier}_environment"
            self.settings[name] = {**self.settings[name], "RELEASE": str(self.release)}

    def quiet(self) -> None:
        """Do nothing for a while."""
        time.sleep(8)

    def roll(self, *tiers: str) -> None:
        """Bring a new release of some tiers."""
        self.new_release(*tiers)
        self.apply()

    def roll_slow(self) -> None:
        """Bring a new release of the front ends while a tenth of the requests takes 5 s.

        These are POSTs: no load balancer may send them a second time, so only draining saves them.
        """
        with Load(self.stack, SLOW_RATE, SLOW_PATH, "POST") as slow:
            self.roll("fe")
        self.slow = slow.requests

    def scale(self, replicas: int) -> None:
        """Change the number of front ends."""
        self.settings["fe_replicas"] = replicas
        self.apply()

    def reload(self, times: int) -> None:
        """Give the load balancers another setting, so often."""
        for number in range(times):
            self.settings["lb_health_interval"] = 0.7 if number % 2 == 0 else 0.6
            self.apply()

    def new_certificate(self) -> None:
        """Make another certificate for the edge."""
        certificate(self.folder)
        self.settings["tls_certificate"] = str(self.folder / "site.pem")
        self.settings["tls_private_key"] = str(self.folder / "site.pem.key")

    def certificate(self) -> None:
        """Change the certificate."""
        self.new_certificate()
        self.apply()

    def change_at_once(self) -> None:
        """Bring a new release of both tiers, another setting of the edge and another certificate, all in one run."""
        self.new_release("fe", "be")
        self.settings["hsts_max_age"] = 300
        self.new_certificate()
        self.apply()

    def kill(self, tier: str) -> None:
        """Kill the process of a replica; the engine starts it again."""
        container = self.container(tier)
        os.kill(container["State"]["Pid"], signal.SIGKILL)
        self.until_started_again(container)

    def pause(self, tier: str) -> None:
        """Let a replica hang; the watchdog starts it again."""
        container = self.container(tier)
        self.stack.docker("pause", container["Id"])
        self.until_started_again(container)

    def under_way(self, tier: str) -> dict[str, int]:
        """Return how many requests each replica of a tier is serving."""
        answer = ask(self.stack.directory / f"{tier}-lb/run/master.sock", "@1 show stat")
        found = read_sessions(answer)
        return {server.name: found[server.path] for server in self.servers(tier)}

    def cut_off(self, container: dict) -> None:
        """Take the links of a replica's networks down, as if its machine were lost."""
        inside = ("nsenter", f"--target={container['State']['Pid']}", "--net", "ip")
        for link in re.findall(r"^\d+: (eth\d+)", run(*inside, "-oneline", "link").stdout, re.MULTILINE):
            run(*inside, "link", "set", "dev", link, "down")

    def remove(self, tier: str) -> None:
        """Take a replica away by force; the next run brings another one."""
        self.stack.docker("rm", "--force", self.container(tier)["Id"])
        wait_until(lambda: len(self.servers(tier)) < self.settings[f"{tier}_replicas"])

    def crash_database(self) -> None:
        """Kill the database; the engine starts it again, and the back ends find it by themselves."""
        os.kill(self.stack.containers("db")[0]["State"]["Pid"], signal.SIGKILL)
        wait_until(lambda: self.stack.request().status == 503)
        wait_until(lambda: self.stack.request().status == 200)

    def broken_release(self) -> None:
        """Try a release that cannot start; it must be refused and change nothing."""
        before = self.stack.ids()
        refused = self.apply(check=False, fe_command=["sh", "-c", "echo This release is broken. >&2; exit 3"])
        assert refused.returncode, "a broken release was taken for a good one"
        self.refusal = " ".join(refused.stdout.split())
        assert self.stack.ids() == before
        self.until_all_serve(5)


def reload_balancer(master: Path, port: int) -> None:
    """Let a load balancer read its configuration, as a change of it does; its servers listen on ``port``."""
    save_state(master, [{"first": 1, "port": port}])
    assert "Success=1" in ask(master, "reload", timeout=60)
    drop_state(master)


def signal_all(process: int, number: int) -> None:
    """Send a signal to a process and to all that it has started, as far as that still runs."""
    for item in family(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(item, number)


def kill_at(events: Events, gate: str) -> None:
    """Run the playbook and kill it, with all it has started, when its journal comes to a gate."""
    journal = events.stack.directory / "rollout.log"
    seen = len(journal.read_text())
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *events.stack.inventories]
    process = subprocess.Popen(
        [*command, str(PROJECT / "playbooks/site.yml"), "-e", json.dumps(events.settings)],
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: f'"gate": "{gate}"' in journal.read_text()[seen:], 90)
    finally:
        signal_all(process.pid, signal.SIGKILL)
        process.wait()
