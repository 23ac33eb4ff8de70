"""What the engine knows of the containers of a stack, asked through the read-only proxy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import docker
from docker.errors import APIError, NotFound

# Labels by which containers of a Compose project are known, and those of a Swarm's stack: the first one names the stack, the
# second one the service, in a Swarm with the stack before it.
COMPOSE = ("com.docker.compose.project", "com.docker.compose.service")
SWARM = ("com.docker.stack.namespace", "com.docker.swarm.service.name")
ONE_OFF = "com.docker.compose.oneoff"
# Seconds that one answer of the engine may take; it waits for nobody who is stuck.
TIMEOUT = 5
# Questions at a time: most of the time of each is the engine's, which the application needs as well.
THREADS = 2
HEALTH = {"healthy": 1, "unhealthy": 0, "starting": 0}
# Seconds between two health checks, where the image does not say; as the engine has it.
CHECKED = 30.0


@dataclass
class Found:
    """One container: what the engine says of it, and what it uses (empty unless it runs)."""

    name: str
    service: str
    image: str
    details: dict[str, Any]
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``restarting``, ``exited``, ``dead`` or ``created``."""
        return self.details["State"]["Status"]

    @property
    def health(self) -> int:
        """1: healthy, 0: not (yet), -1: nobody checks; as cAdvisor tells it."""
        return HEALTH.get((self.details["State"].get("Health") or {}).get("Status", "none"), -1)

    @property
    def started(self) -> float:
        """When it was started last, in seconds of the epoch; 0: never."""
        return seconds(self.details["State"]["StartedAt"])

    @property
    def finished(self) -> float:
        """When it ended last, in seconds of the epoch; 0: never."""
        return seconds(self.details["State"].get("FinishedAt", "0001-"))

    @property
    def since(self) -> float:
        """Since when it is as it is, in seconds of the epoch: runs, has ended, or fails its health check."""
        if self.state in ("exited", "dead"):
            return self.finished
        health = self.details["State"].get("Health") or {}
        failed, log = health.get("FailingStreak", 0), health.get("Log") or []
        if not failed or not log or health.get("Status") != "unhealthy":
            return self.started
        # The engine keeps the last five.
        if failed <= len(log):
            return seconds(log[-failed]["Start"])
        interval = ((self.details["Config"].get("Healthcheck") or {}).get("Interval") or 0) / 1e9 or CHECKED
        return seconds(log[-1]["Start"]) - (failed - 1) * interval

    @property
    def addresses(self) -> set[str]:
        """Its addresses on all networks."""
        networks = self.details["NetworkSettings"]["Networks"].values()
        return {network["IPAddress"] for network in networks if network["IPAddress"]}


def seconds(moment: str) -> float:
    """Return a time of the engine (RFC 3339, with nanoseconds) in seconds of the epoch; 0 for its time of never."""
    if moment.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(moment).timestamp()


class Engine:
    """Asks the engine."""

    def __init__(self, url: str, project: str, node: str = "") -> None:
        """Ask the engine at ``url`` for the containers of a project, or of a Swarm's stack if it is that of a ``node``."""
        self.node = node
        self._prefix = f"{project}_" if node else ""
        label, self._service = SWARM if node else COMPOSE
        self._client = docker.APIClient(
            base_url=url, version="auto", timeout=TIMEOUT, num_pools=THREADS, max_pool_size=THREADS
        )
        self._filters = {"label": [f"{label}={project}"] + ([] if node else [f"{ONE_OFF}=False"])}
        self._pool = ThreadPoolExecutor(THREADS)

    def containers(self) -> Iterator[Found]:
        """Return every container that is still there when it is its turn.

        Raises:
            docker.errors.APIError, requests.RequestException: the engine cannot be asked.
        """
        # A Swarm keeps ended containers for their logs; where one is missing, another one takes its place.
        listed = self._client.containers(all=not self.node, filters=self._filters)
        return (found for found in self._pool.map(self._look_at, listed) if found)

    def find(self, name: str) -> dict[str, Any] | None:
        """Return what the engine says of the stack's own container of that name; None: there is none.

        Raises:
            docker.errors.APIError, requests.RequestException: the engine cannot be asked.
        """
        listed = self._client.containers(all=True, filters=self._filters)
        found = next((item for item in listed if f"/{name}" in item["Names"]), None)
        return self._client.inspect_container(found["Id"]) if found else None

    def running(self, service: str) -> list[str]:
        """Return the ids of the containers of a service that run.

        Raises:
            docker.errors.APIError, requests.RequestException: the engine cannot be asked.
        """
        listed = self._client.containers(filters=self._filters)
        wanted = self._prefix + service
        return [item["Id"] for item in listed if item["Labels"].get(self._service) == wanted]

    def logs(self, identity: str, lines: int, since: int | None = None) -> str:
        """Return the end of what a container has written, each line with its time before it.

        Raises:
            docker.errors.APIError, requests.RequestException: the engine cannot be asked, or the proxy lets no log through.
        """
        text = self._client.logs(identity, timestamps=True, tail=lines, since=since)
        return text.decode("utf-8", "replace")

    def _look_at(self, item: dict[str, Any]) -> Found | None:
        """Return a container, or None if it has gone meanwhile."""
        try:
            details = self._client.inspect_container(item["Id"])
            service = item["Labels"].get(self._service, "").removeprefix(self._prefix)
            # What pins an image says nothing to people.
            found = Found(details["Name"].lstrip("/"), service, item["Image"].partition("@")[0], details)
            if found.state in ("running", "paused"):
                # One look: the engine otherwise waits a second for a second one.
                found.stats = self._client.stats(item["Id"], stream=False, one_shot=True)
        except APIError as error:
            # Removed, or being removed.
            if isinstance(error, NotFound) or error.status_code == 409:
                return None
            raise
        return found
