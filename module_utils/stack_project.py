"""A Compose project as a rollout sees it: its containers, and orders to the engine and to the load balancers."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from ansible.module_utils.stack_compose import compose, filters, hopeless, killed, read_published
from ansible.module_utils.stack_haproxy import Server, ask, tier_servers
from ansible.module_utils.stack_ports import overlap

PAUSE = 0.2
LOG_LINES = 12
# Restarts by the engine after which a new container is taken for broken; while it runs the engine does not tell how it has
# ended, so some more are waited for.
RESTARTS, UNEXPLAINED = 2, 4
# Seconds that a load balancer may be away, because it starts again.
AWAY = 10.0


class RolloutError(Exception):
    """The text says what failed, and what runs now."""


class Container:
    """What the engine says of one container."""

    def __init__(self, inspected: dict) -> None:
        """Read the answer to ``docker inspect``."""
        labels, state = inspected["Config"]["Labels"], inspected["State"]
        self.inspected = inspected
        self.id: str = inspected["Id"]
        self.name: str = inspected["Name"].lstrip("/")
        self.service: str = labels.get("com.docker.compose.service", "")
        self.number = int(labels.get("com.docker.compose.container-number", 0))
        self.hash: str = labels.get("com.docker.compose.config-hash", "")
        self.image: str = inspected["Image"]
        self.image_name: str = inspected["Config"]["Image"]
        self.status: str = state["Status"]
        # A container without a health check is well as soon as it runs; the load balancers check it anyway.
        self.health: str = (state.get("Health") or {}).get("Status", "healthy")
        self.restarts: int = inspected.get("RestartCount", 0)
        self.exit_code: int = state.get("ExitCode", 0)
        self.killed = killed(self.service, inspected)
        networks = inspected["NetworkSettings"]["Networks"].values()
        self.addresses = {network["IPAddress"] for network in networks if network.get("IPAddress")}


class Stack:
    """A Compose project: asks and orders the engine and the load balancers."""

    def __init__(self, parameters: dict, descriptor: int | None) -> None:
        """Work on the project of ``parameters``; child processes inherit ``descriptor``."""
        self.project: str = parameters["project"]
        self.path = Path(parameters["path"])
        self.compose = compose(self.project, self.path, parameters["file"])
        # What load balancers have counted that this run has replaced.
        self.ended: list[dict] = []
        self.descriptors = () if descriptor is None else (descriptor,)

    def run(self, *argv: str) -> str:
        """Return what a command prints (RolloutError: it failed)."""
        done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=self.descriptors)
        if done.returncode:
            raise RolloutError(f"{' '.join(argv[:4])} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def model(self) -> dict:
        """Return what is rendered: for each service the digest of its configuration, the image's name and its ports."""
        digests = dict(
            line.split() for line in self.run(*self.compose, "config", "--hash", "*").splitlines() if line.strip()
        )
        services = json.loads(self.run(*self.compose, "config", "--format", "json"))["services"]
        return {
            name: {"hash": digests[name], "image": service["image"], "ports": service.get("ports", [])}
            for name, service in services.items()
        }

    def containers(self, *ids: str) -> list[Container]:
        """Return the containers with these ids that are still there, or all of the project."""
        if not ids:
            ids = tuple(self.run("docker", "ps", "--all", "--quiet", "--no-trunc", *filters(self.project)).split())
        if not ids:
            return []
        # One that is gone meanwhile is no failure.
        done = subprocess.run(["docker", "inspect", "--type=container", *ids], capture_output=True, text=True, check=False)
        if done.returncode and not all("No such" in line for line in done.stderr.splitlines()):
            raise RolloutError(f"The engine does not say what runs: {done.stderr.strip()}")
        found = [Container(item) for item in json.loads(done.stdout or "[]")]
        return sorted(found, key=lambda container: (container.service, container.number))

    def image_id(self, name: str) -> str:
        """Return the id of an image, empty if it is not on the host."""
        argv = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    def ask(self, balancer: dict, command: str) -> str:
        """Return what a load balancer answers (RolloutError: it does not, although it had the time to start again)."""
        deadline = time.monotonic() + AWAY
        while True:
            try:
                return ask(self.path / balancer["socket"], command)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RolloutError(
                        f"{balancer['name']} does not answer on {balancer['socket']} ({error}), so its servers in rotation"
                        f" are unknown. See docker logs {self.project}-{balancer['name']}-1, and run this again."
                    ) from error
            time.sleep(PAUSE)

    def servers(self, balancer: dict, tier: str) -> list[Server]:
        """Return the slots of a load balancer, those of each backend of a tier (RolloutError: it does not answer)."""
        return tier_servers(self.ask(balancer, "@1 show servers state"), tier)

    def set_state(self, balancer: dict, server: Server, state: str) -> None:
        """Let a slot drain, or make it ready (RolloutError: the load balancer does not answer)."""
        self.ask(balancer, f"@1 set server {server.path} state {state}")

    def remove(self, containers: list[Container]) -> None:
        """Remove containers; one that is gone already is no failure (RolloutError: one is still there)."""
        ids = [container.id for container in containers]
        if ids:
            argv = ["docker", "rm", "--force", "--volumes", *ids]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=self.descriptors)
            if done.returncode and (left := self.containers(*ids)):
                raise RolloutError(f"The engine does not remove {names(left)}: {done.stderr.strip()}")

    def publish(self, service: str, wanted: dict, kept: str) -> None:
        """Publish for a moment what a service shall publish and none of its containers does, to see whether it can be.

        Raises:
            RolloutError: it cannot; the text ends with ``kept``.
        """
        listed = self.run("docker", "ps", "--no-trunc", "--format", "{{json .}}", *filters(self.project))
        own = [item for item in read_published(listed) if item["service"] == service]
        options = []
        for port in wanted["ports"]:
            address, number = port.get("host_ip") or "0.0.0.0", int(port["published"])  # noqa: S104 (what Compose means)
            near = [item for item in own if (item["port"], item["protocol"]) == (number, port["protocol"])]
            if not any(overlap(address, item["address"]) for item in near):
                host = f"[{address}]" if ":" in address else address
                options.append(f"--publish={host}:{number}:{port['target']}/{port['protocol']}")
        if not options:
            return
        argv = ["docker", "run", "--rm", "--pull=never", *options, "--entrypoint=/bin/sh", wanted["image"], "-c", ":"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=self.descriptors)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise RolloutError(f"{service}: the engine does not publish its ports ({reason}). {kept}")

    def last_lines(self, container: Container) -> str:
        """Return the end of a container's log, indented."""
        argv = ["docker", "logs", "--tail", str(LOG_LINES), container.id]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it has written nothing)"


def names(containers: list[Container]) -> str:
    """Return the names of some containers for a message; of many only the first and the last."""
    found = [container.name for container in sorted(containers, key=lambda item: item.number)]
    return ", ".join(found) if len(found) < 6 else f"{found[0]} to {found[-1]} ({len(found)})"


def broken(container: Container) -> str:
    """Return why a container will not become healthy, or nothing."""
    if container.status in ("exited", "dead") or hopeless(container.service, container.exit_code):
        return container.killed or f"has ended with exit code {container.exit_code}"
    if container.restarts >= (UNEXPLAINED if container.status == "running" else RESTARTS):
        code = f" (exit code {container.exit_code})" if container.exit_code else ""
        return container.killed or f"ends again and again{code}"
    if container.health == "unhealthy":
        return "is unhealthy"
    return ""
