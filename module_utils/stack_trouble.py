"""Why an application does not come up: it listens where its load balancer cannot reach it, or is killed for memory.

Where it listens stand the kernel's tables of its container, so no tool in the image is needed.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.stack_compose import filters, killed
from ansible.module_utils.stack_host import read_text
from ansible.module_utils.stack_ports import read_listeners

# Seconds for which an application listens in the wrong place before that is said: some open one port after the other.
SETTLED = 3.0
# Seconds between two looks.
PAUSE = 1.0
# Restarts after which a container that is killed for memory will be killed again.
RESTARTS = 3
# Docker's own name server, in every container (libnetwork).
RESOLVER = "127.0.0.11"


def listening(inspected: dict) -> set[tuple[str, int]]:
    """Return addresses and TCP ports that something in a container listens on; nothing if that cannot be seen.

    Args:
        inspected: the answer to ``docker inspect``.
    """
    addresses = [network["IPAddress"] for network in inspected["NetworkSettings"]["Networks"].values() if network]
    folder = Path(f"/proc/{inspected['State']['Pid']}/net")
    # Where the engine runs in a machine of its own, its process numbers mean something else here.
    routes = read_text(folder / "fib_trie").split()
    if any(address in routes for address in addresses if address):
        texts = [read_text(folder / name) for name in ("tcp", "tcp6")]
    else:
        argv = ["docker", "exec", inspected["Id"], "cat", "/proc/net/tcp", "/proc/net/tcp6"]
        texts = [subprocess.run(argv, capture_output=True, text=True, check=False).stdout]
    found = {(address, port) for text in texts for address, port, _ in read_listeners(text, "tcp")}
    return {(address, port) for address, port in found if address != RESOLVER}


def misplaced(found: set[tuple[str, int]], port: int, setting: str) -> str:
    """Return where an application listens instead of ``port`` on an address that others reach; nothing if nowhere yet."""
    outside = sorted({number for address, number in found if not ipaddress.ip_address(address).is_loopback})
    if not found or port in outside:
        return ""
    advice = f"let the application listen on 0.0.0.0:{port}"
    if outside:
        return f"listens on {' and '.join(map(str, outside))}, and {setting} is {port}; correct {setting}, or {advice}"
    address, number = min(found, key=lambda item: (item[1] != port, item))
    shown = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
    other = "" if number == port else f", and {setting} is {port}"
    return f"listens on {shown} alone, where no other container reaches it{other}; {advice}"


class Watch:
    """Looks now and then at the containers of a service that do not come up, and remembers what it has seen."""

    def __init__(self, service: str, port: int) -> None:
        """Expect that the containers of ``service`` listen on ``port``; 0, and that is not looked at."""
        self.service, self.port = service, port
        self._looked = 0.0
        self._misplaced: dict[str, tuple[str, float]] = {}
        self._killed: dict[str, str] = {}
        self._final: set[str] = set()

    def look(self, containers: Callable[[], list[dict]]) -> dict[str, str]:
        """Return why containers do not come up, as half a sentence, by their ids; where they listen after a while.

        Args:
            containers: returns what ``docker inspect`` says of them.
        """
        now = time.monotonic()
        if now - self._looked >= PAUSE:
            self._looked = now
            places = {}
            for item in containers():
                key = item["Id"]
                if text := killed(self.service, item):
                    self._killed[key] = text
                    if item.get("RestartCount", 0) >= RESTARTS:
                        self._final.add(key)
                if item["State"]["Running"] and self.port:
                    places[key] = misplaced(listening(item), self.port, f"{self.service}_port")
            self._misplaced = {
                key: self._misplaced[key] if self._misplaced.get(key, ("",))[0] == where else (where, now)
                for key, where in places.items()
                if where
            }
        return self.known()

    def known(self, settled: float = SETTLED) -> dict[str, str]:
        """Return what ``look`` has found; where containers listen if that has been so for ``settled`` seconds."""
        now = time.monotonic()
        return self._killed | {key: where for key, (where, since) in self._misplaced.items() if now - since >= settled}

    def final(self) -> dict[str, str]:
        """Return those of what ``look`` returns that stay as they are.

        Whoever has opened a port on loopback does not open it again; one that has opened another port may still do so.
        """
        stays = f":{self.port} alone, where"
        return {key: why for key, why in self.known().items() if key in self._final or stays in why}


def containers_of(project: str, service: str) -> list[dict]:
    """Return what the engine says of the containers of a service; nothing if it does not answer."""
    argv = ["docker", "ps", "--all", "--quiet", *filters(project), f"--filter=label=com.docker.compose.service={service}"]
    ids = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
    if not ids:
        return []
    done = subprocess.run(["docker", "inspect", "--type=container", *ids], capture_output=True, text=True, check=False)
    return json.loads(done.stdout or "[]")
