#!/usr/bin/env python3
"""Restart replicas that no longer answer although their process lives.

Runs on the host as the user who has deployed the stack, beside the engine. The load balancers check each replica about
once a second; this asks them over their sockets what they have found, and lets the engine restart what hangs. No
container gets the engine's socket for that. Usage: watchdog.py FOLDER, with settings.json in it.
"""

from __future__ import annotations

import calendar
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stack_environment import clean_environment
from stack_haproxy import STOPPED, ask, by_address, read_answers, read_checks, read_servers
from stack_history import append, read, tell
from stack_lock import LockError, held, holder, pauses
from stack_process import family

# Seconds between two looks at the load balancers.
INTERVAL = 0.2
# Seconds after which a replica that is out is taken to hang: a check more, which one that has only been held up passes.
CERTAIN = 0.3
# The same while it is not certain: the connection is refused (it may be starting again by itself), one of its threads has
# run meanwhile, or waits for the processor or the disk (it may be slow, or the load balancer is), or no other replica
# serves (the reason may lie elsewhere).
PATIENCE = 10.0
# Seconds from its start in which a replica that has never served is taken to be starting.
START = 120.0
# Seconds to wait for a restarted replica before the next one of the same service is restarted.
SETTLE = 20.0
# Codes of HAProxy's checks for "nothing came", and for "it takes no connection" or "it hangs up".
HANGING = ("L4TOUT", "L6TOUT", "L7TOUT")
BROKEN = ("L4CON", "L6RSP", "L7RSP")


@dataclass
class Outage:
    """A replica that fails its checks."""

    since: float
    # What the engine said of it when it was first found to hang, and how often its threads had run by then.
    container: dict = field(default_factory=dict)
    runs: int = 0
    # What it has answered all the same, because too few others are in (lb_panic_share); None: nobody has looked yet.
    answers: int | None = None


class Watchdog:
    """Watches the replicated services of one stack."""

    def __init__(self, folder: Path, settings: dict) -> None:
        """Read settings: ``project``, ``restarts`` in ``window`` seconds, and ``services`` with name and socket."""
        self.root, self.settings = folder.parent, settings
        self.served: dict[str, set[str]] = {service["name"]: set() for service in settings["services"]}
        # By service and address.
        self.out: dict[str, dict[str, Outage]] = {name: {} for name in self.served}
        # Not forgotten when this program itself starts anew.
        self.restarted: dict[str, list[float]] = {}
        self.events = folder / "events.jsonl"
        for event in read(self.events):
            if event["what"] == "restarted":
                self.restarted.setdefault(event["id"], []).append(event["time"])
        self.settling: dict[str, tuple[float, set[str]]] = {}
        self.told: set[str] = set()

    def look(self) -> None:
        """Look at every service once; not while a run changes containers, and after it begin anew."""
        if pauses(self.root):
            self.out, self.settling = {name: {} for name in self.out}, {}
            # A new container may have got the address of one that has served.
            self.served = {name: set() for name in self.served}
            return
        for service in self.settings["services"]:
            # A load balancer that is away or reloading says nothing about its servers.
            with suppress(OSError):
                self.look_at(service["name"], self.root / service["socket"])

    def look_at(self, name: str, socket: Path) -> None:
        """Restart at most one replica of a service.

        Raises:
            OSError: the load balancer does not answer.
        """
        now = time.monotonic()
        # One that passes by any of the definitions that the load balancer knows is well.
        servers = by_address(read_servers(ask(socket, f"@1 show servers state {name}", timeout=2)))
        up = {server.address for server in servers if server.up}
        self.served[name] = (self.served[name] | up) & {server.address for server in servers}
        down = [server for server in servers if server.operation == STOPPED and not server.draining]
        self.out[name] = {server.address: self.out[name].get(server.address) or Outage(now) for server in down}
        # The last one that was restarted serves again, or has had its time.
        begun, fresh = self.settling.get(name, (0.0, set()))
        if up & fresh or now - begun > SETTLE:
            self.settling.pop(name, None)
        if not down or name in self.settling or holder(self.root):
            return
        statistics = ask(socket, "@1 show stat", timeout=2)
        checks, answers = read_checks(statistics, name), read_answers(statistics)
        for server in down:
            outage, check = self.out[name][server.address], checks.get(server.name, "")
            answered = answers.get(server.address, 0)
            if outage.answers is None:
                outage.answers = answered
            if answered > outage.answers:
                # Who answers is slow, not hanging: begin anew.
                outage = self.out[name][server.address] = Outage(now, answers=answered)
            limit = CERTAIN if check in HANGING and up else PATIENCE
            if check in HANGING and not outage.container:
                outage.container = self.find(name, server.address)
                outage.runs = runs(outage.container["State"]["Pid"]) if outage.container else 0
            waited = now - outage.since
            if check in HANGING + BROKEN and waited > limit and self.restart(name, server.address, check, waited):
                return

    def restart(self, name: str, address: str, check: str, waited: float) -> bool:
        """Restart the replica with an address, out for ``waited`` seconds, if that may be; tell whether it was."""
        outage = self.out[name][address]
        container = outage.container
        # While it is certain no time is lost with asking again.
        if not container or waited > PATIENCE:
            container = self.find(name, address)
        if not container:
            return False
        identity = container["Id"]
        # A container that starts, or that the engine is restarting, is the engine's business.
        if container["State"]["Status"] not in ("running", "paused"):
            return False
        if address not in self.served[name] and age(container["State"]["StartedAt"]) < START:
            return False
        # Processes of a paused container seem to wait for the disk.
        if waited < PATIENCE and not container["State"]["Paused"]:
            process = container["State"]["Pid"]
            if is_busy(process) or runs(process) != outage.runs:
                return False
        window, limit = self.settings["window"], self.settings["restarts"]
        now = time.time()
        times = [moment for moment in self.restarted.get(identity, []) if now - moment < window]
        if len(times) >= limit:
            if identity not in self.told:
                self.told.add(identity)
                self.tell(name, container, "left alone", f"{limit} restarts within {window} s did not help ({check})")
            return False
        self.told.discard(identity)
        begin = time.monotonic()
        command = ["docker", "restart", "--time", "0" if check in HANGING else "5", identity]
        try:
            # A run that comes now waits; one that has come since the look may be about to replace this very container.
            with held(self.root, f"the watchdog restarts {container['Name'].lstrip('/')}", timeout=0) as descriptor:
                if pauses(self.root):
                    return False
                done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=(descriptor,))
        except LockError:
            return False
        if done.returncode:
            self.tell(name, container, "not restarted", done.stderr.strip())
            return False
        self.restarted[identity] = [*times, now]
        self.served[name].discard(address)
        outage.since = time.monotonic()
        self.settling[name] = (time.monotonic(), {item for found in inspect([identity]) for item in addresses(found)})
        self.tell(name, container, "restarted", f"it did not answer ({check})", seconds=round(time.monotonic() - begin, 2))
        return True

    def find(self, name: str, address: str) -> dict:
        """Return what the engine knows of the replica with an address; empty if there is none."""
        labels = (f"project={self.settings['project']}", f"service={name}")
        filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
        listed = subprocess.run(["docker", "ps", "--quiet", *filters], capture_output=True, text=True, check=False)
        return next((item for item in inspect(listed.stdout.split()) if address in addresses(item)), {})

    def tell(self, service: str, container: dict, what: str, why: str, **more: float) -> None:
        """Write an event for the status."""
        event = {"time": time.time(), "service": service, "container": container["Name"].lstrip("/"), "id": container["Id"]}
        append(self.events, event | {"what": what, "why": why, **more})
        text = f"{event['container']} was {what} by the watchdog: {why}"
        tell(self.root, "watchdog", text, service=service, id=event["id"])


def inspect(ids: list[str]) -> list[dict]:
    """Return what the engine knows of some containers; of those that are gone, nothing."""
    if not ids:
        return []
    done = subprocess.run(["docker", "inspect", "--type=container", *ids], capture_output=True, text=True, check=False)
    return json.loads(done.stdout or "[]")


def addresses(container: dict) -> list[str]:
    """Return the addresses of a container."""
    networks = container["NetworkSettings"]["Networks"].values()
    return [network["IPAddress"] for network in networks if network.get("IPAddress")]


def threads(process: int, name: str) -> list[str]:
    """Return a file of the kernel's (proc(5)) for each thread of a process and of what it has started."""
    texts = []
    for number in family(process):
        try:
            texts += [(thread / name).read_text() for thread in Path(f"/proc/{number}/task").iterdir()]
        except OSError:
            continue
    return texts


def is_busy(process: int) -> bool:
    """Tell whether a thread of a process, or of what it has started, runs or waits for the processor or the disk.

    One that hangs does neither: something has come for it, and it sleeps or is stopped.
    """
    return any(text.rpartition(")")[2].split()[0] in "RD" for text in threads(process, "stat"))


def runs(process: int) -> int:
    """Return how often the threads of a process, and of what it has started, have begun or stopped to run so far.

    Checks come several times a second. One that hangs does not even wake up for them; one that does has only been slow.
    """
    counts = [
        line.split()[1] for text in threads(process, "status") for line in text.splitlines() if "_ctxt_switches" in line
    ]
    return sum(map(int, counts))


def age(started: str) -> float:
    """Return the seconds since a moment as the engine writes it (UTC, with nanoseconds)."""
    return time.time() - calendar.timegm(time.strptime(started[:19], "%Y-%m-%dT%H:%M:%S"))


def main() -> None:
    """Watch until SIGTERM, or until the settings are gone."""
    folder = Path(sys.argv[1]).resolve()
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    clean_environment(settings["engine"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with held(folder, settings["version"], timeout=5):
            watchdog = Watchdog(folder, settings)
            while (folder / "settings.json").exists():
                watchdog.look()
                time.sleep(INTERVAL)
    except LockError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
