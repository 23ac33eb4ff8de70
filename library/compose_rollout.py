#!/usr/bin/python
"""Bring replicated services of a Compose project from what runs to what is rendered, without losing a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_rollout
short_description: Replace, add and remove replicas of Compose services behind HAProxy without losing a request
description:
  - New containers start beside the old ones, a batch at a time. Once the engine says that they are healthy and every
    load balancer in front of them says that their addresses are up, as many old ones are drained in the load balancers,
    waited for until they serve no request any more, stopped and removed.
  - If a new container does not get that far, the batch is removed, the old ones go on serving, and the module fails
    with the last log lines.
  - Everything is read from the engine and from the load balancers, nothing is remembered. A run that was interrupted is
    finished by the next one.
  - Other services that differ are replaced first, one after the other. What that means for requests is said before. A load
    balancer that does not come up gives its place back to the old one, and the module fails.
  - A service of which nothing runs is left to C(docker compose up).
  - While it works it writes a line for each step to C(rollout.log) in O(path); the action plugin of the same name shows
    them. Only one run at a time works on a stack.
options:
  project:
    description: Project name of Compose.
    type: str
    required: true
  path:
    description: Folder of the rendered files.
    type: path
    required: true
  file:
    description: The Compose file, in O(path).
    type: path
    default: docker-compose.yml
  services:
    description: Replicated services, in the order in which they are changed.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the service.
        type: str
        required: true
      replicas:
        description: How many containers there shall be.
        type: int
        required: true
      batch:
        description: Containers started at a time, as a number or as a share of the replicas (C(25%)); at least one, and of a
          share at most five for each processor.
        type: str
        default: 25%
      drain:
        description: Seconds that a drained container may take to finish its requests before it is stopped.
        type: float
        default: 30
      port:
        description: Port that each container listens on; 0, and that is not looked at.
        type: int
        default: 0
      memory:
        description: Bytes that one container is counted with.
        type: int
        default: 0
      load_balancers:
        description: Those that stand before it, each with its C(name) and its master C(socket) in O(path).
        type: list
        elements: dict
        required: true
      first:
        description: Number of the first server of the definition by which load balancers judge new containers, where they
          know several; 0 means any.
        type: int
        default: 0
  others:
    description: Other services in the order in which they are replaced, each with C(name) and C(gap), load balancers with
      C(socket) and the C(definitions) by which they judge their servers as well.
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds that a batch may take to be healthy and in rotation.
    type: float
    default: 180
  lock_timeout:
    description: Seconds to wait for another run on the same stack.
    type: float
    default: 180
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: full
    description: Shows the containers of each service before and after, by image and configuration.
"""

EXAMPLES = r"""
- name: Change the replicas piece by piece
  compose_rollout:
    project: webstack
    path: ~/.local/share/webstack
    services:
      - name: fe
        replicas: 4
        load_balancers: [{name: fe-lb, socket: fe-lb/run/master.sock}]
"""

RETURN = r"""
ended:
  description: C(requests) and C(failed) ones that a load balancer had counted when it was replaced, by its name.
  returned: always
  type: list
  elements: dict
steps:
  description: What was done, a sentence each; in check mode what would be done.
  returned: always
  type: list
  elements: str
"""

import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_compose import filters, hopeless, killed, read_published  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_haproxy import (  # noqa: E402
    Server,
    ask,
    drop_state,
    failed_checks,
    first_of,
    frontend_counts,
    read_servers,
    read_sessions,
    save_state,
)
from ansible.module_utils.stack_history import tell  # noqa: E402
from ansible.module_utils.stack_lock import LockError, held  # noqa: E402
from ansible.module_utils.stack_ports import overlap  # noqa: E402
from ansible.module_utils.stack_rollout import batch_size, next_step  # noqa: E402
from ansible.module_utils.stack_trial import ANSWERED, brief  # noqa: E402
from ansible.module_utils.stack_trouble import Watch  # noqa: E402

PAUSE = 0.2
JOURNAL = "rollout.log"
JOURNAL_SIZE = 1 << 20
# Restarts by the engine after which a new container is taken for broken; while it runs the engine does not tell how it has
# ended, so some more are waited for.
RESTARTS, UNEXPLAINED = 2, 4
# Seconds in which a load balancer has noticed that an address is gone; it asks every half second.
FORGET = 15.0
LOG_LINES = 12
# Share of the containers that are stopped at a time when there shall be fewer.
LEAVE = 0.25
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
        self.compose = [
            "docker",
            "compose",
            "--project-name",
            self.project,
            "--file",
            str(self.path / parameters["file"]),
            "--project-directory",
            str(self.path),
        ]
        # What load balancers have counted that this run has replaced.
        self.ended: list[dict] = []
        self.descriptors = () if descriptor is None else (descriptor,)

    def run(self, *argv: str) -> str:
        """Return what a command prints.

        Raises:
            RolloutError: it failed.
        """
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
        """Return what a load balancer answers.

        Raises:
            RolloutError: it does not, although it had the time to start again.
        """
        deadline = time.monotonic() + AWAY
        while True:
            try:
                return ask(self.path / balancer["socket"], command)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RolloutError(
                        f"{balancer['name']} does not answer on {balancer['socket']} ({error}), so nobody knows what is in"
                        f" rotation. Look at docker logs {self.project}-{balancer['name']}-1, and run this again."
                    ) from error
            time.sleep(PAUSE)

    def servers(self, balancer: dict, backend: str) -> list[Server]:
        """Return the slots of a load balancer.

        Raises:
            RolloutError: it does not answer.
        """
        return read_servers(self.ask(balancer, f"@1 show servers state {backend}"))

    def sessions(self, balancer: dict, backend: str) -> dict[str, int]:
        """Return the requests under way by slot.

        Raises:
            RolloutError: the load balancer does not answer.
        """
        return read_sessions(self.ask(balancer, "@1 show stat"), backend)

    def set_state(self, balancer: dict, backend: str, server: str, state: str) -> None:
        """Let a slot drain, or make it ready.

        Raises:
            RolloutError: the load balancer does not answer.
        """
        self.ask(balancer, f"@1 set server {backend}/{server} state {state}")

    def remove(self, containers: list[Container]) -> None:
        """Remove containers; one that is gone already is no failure.

        Raises:
            RolloutError: one is still there.
        """
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


class Rollout:
    """Changes one service."""

    def __init__(self, stack: Stack, service: dict, wanted: dict, timeout: float, say: Callable[[str, str], None]) -> None:
        """Bring ``service`` to ``wanted`` (digest and image); ``say`` takes the gate and what happens there."""
        self.stack, self.service, self.wanted, self.timeout, self.say = stack, service, wanted, timeout, say
        self.name: str = service["name"]
        self.balancers: list[dict] = service["load_balancers"]
        self.batch = batch_size(service["batch"], service["replicas"], os.cpu_count() or 1)

    def found(self) -> list[Container]:
        """Return the service's containers."""
        return [container for container in self.stack.containers() if container.service == self.name]

    def is_current(self, container: Container) -> bool:
        """Tell whether a container is what is rendered."""
        return container.hash == self.wanted["hash"] and container.image == self.wanted["id"]

    def addresses(self, containers: list[Container]) -> set[str]:
        """Return all addresses of some containers."""
        return {address for container in containers for address in container.addresses}

    def slots(self, balancer: dict, containers: list[Container]) -> list[Server]:
        """Return the slots of a load balancer that hold some containers."""
        addresses = self.addresses(containers)
        return [server for server in self.stack.servers(balancer, self.name) if server.address in addresses]

    def until(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Wait until ``condition`` is true, at most so many seconds, and tell whether it is."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
        return True

    def plan(self) -> list[str]:
        """Return what would be done, without doing it."""
        containers = self.found()
        running = [container for container in containers if container.status in ("running", "paused")]
        current = [container for container in running if self.is_current(container)]
        old, missing = len(running) - len(current), self.service["replicas"] - len(current)
        if not running or (not old and not missing and len(running) == len(containers)):
            return []
        parts = [f"{missing} would start in batches of {self.batch}"] if missing > 0 else []
        leave = old + max(0, -missing)
        if leave:
            parts.append(f"{leave} would be drained, for at most {self.service['drain']:g} s, and removed")
        parts += (
            [f"{len(containers) - len(running)} that do not run would be removed"] if len(containers) > len(running) else []
        )
        return [f"{self.name}: {', '.join(parts)}."]

    def run(self) -> None:
        """Do it.

        Raises:
            RolloutError: a gate was not passed, or the engine refused something.
        """
        containers = self.found()
        running = [container for container in containers if container.status in ("running", "paused")]
        if not running:
            return
        # Nothing is changed before every load balancer has answered.
        for balancer in self.balancers:
            self.stack.servers(balancer, self.name)
        # What an interrupted run has left: containers that never started or have stopped, and drained slots.
        stopped = [container for container in containers if container not in running]
        if stopped:
            self.say("clean", f"removing {names(stopped)}, which do not run")
            self.stack.remove(stopped)
        self.undrain(running)
        current = [container for container in running if self.is_current(container)]
        old = [container for container in running if not self.is_current(container)]
        if current and old:
            # Of an interrupted run: nothing old may leave for them before they have got in.
            late = [item for item in current if item.health != "healthy" or not self.admitted(item, self.balancers)]
            self.admit(late, late)
        done = 0
        total = max(0, self.service["replicas"] - len(current)) or len(old)
        leave = max(1, math.ceil(len(running) * LEAVE))
        while step := next_step(len(current), len(old), self.service["replicas"], self.batch, leave):
            if step.start:
                self.check_room(step.start)
                part = f" ({done + step.start} of {total})" if step.start < total else ""
                self.say("start", f"starting {step.start}{part} beside {len(current) + len(old)}")
                new = self.start(step.start, current + old)
                self.admit(new, new)
                current += new
                done += step.start
            if step.retire_old:
                # Those first that nobody sees: they serve nothing.
                old = self.useless_first(old)
                self.retire(old[: step.retire_old])
                old = old[step.retire_old :]
            if step.retire_current:
                current.sort(key=lambda container: container.number)
                self.retire(current[-step.retire_current :])
                current = current[: -step.retire_current]

    def serving(self, container: Container, balancers: list[dict] | None = None) -> bool:
        """Tell whether every load balancer (or each of some) sends requests to a container."""
        asked = self.balancers if balancers is None else balancers
        return all(any(server.up for server in self.slots(balancer, [container])) for balancer in asked)

    def admitted(self, container: Container, balancers: list[dict]) -> bool:
        """Tell whether load balancers send requests to a container because it passes the checks that are wanted now."""
        return all(
            any(server.up and self.is_wanted(server) for server in self.slots(balancer, [container]))
            for balancer in balancers
        )

    def is_wanted(self, server: Server) -> bool:
        """Tell whether a slot belongs to the definition by which new containers are judged."""
        return self.service["first"] in (0, first_of(server.name))

    def useless_first(self, containers: list[Container]) -> list[Container]:
        """Return containers in the order in which they can be spared: first what serves nothing, then the oldest."""
        return sorted(containers, key=lambda container: (self.serving(container), container.number))

    def undrain(self, running: list[Container]) -> None:
        """Make drained slots ready, except those of old containers that others stand in for."""
        old = self.addresses([container for container in running if not self.is_current(container)])
        for balancer in self.balancers:
            servers = self.stack.servers(balancer, self.name)
            spared = any(server.up for server in servers)
            for server in servers:
                if server.draining and not (spared and server.address in old):
                    self.say("clean", f"{balancer['name']} sends requests to {server.name} again")
                    self.stack.set_state(balancer, self.name, server.name, "ready")

    def check_room(self, number: int) -> None:
        """Refuse to start more containers than there is room for.

        Raises:
            RolloutError: memory or slots do not suffice; nothing was started.
        """
        # Linux's own estimate of what can be had without swapping (proc(5)).
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        if number * self.service["memory"] > available:
            needed = number * self.service["memory"]
            raise RolloutError(
                f"{self.name}: {number} more containers are counted with {needed / 2**20:.0f} MiB of memory and"
                f" {available / 2**20:.0f} MiB are free; lower {self.name}_rollout_batch or free some memory."
            )
        for balancer in self.balancers:
            free = sum(not item.address for item in self.stack.servers(balancer, self.name) if self.is_wanted(item))
            if free < number:
                raise RolloutError(
                    f"{self.name}: {balancer['name']} has {free} free slots for {number} more containers; lower"
                    f" {self.name}_rollout_batch or raise lb_slots."
                )

    def start(self, number: int, beside: list[Container]) -> list[Container]:
        """Start so many new containers and return them.

        Raises:
            RolloutError: Compose failed; what it had made is removed.
        """
        known = {container.id for container in beside}
        scale = f"{self.name}={len(beside) + number}"
        options = ["--detach", "--no-deps", "--no-recreate", "--no-build", "--pull=never", f"--scale={scale}"]
        failure: RolloutError | None = None
        try:
            self.stack.run(*self.stack.compose, "up", *options, self.name)
        except RolloutError as error:
            failure = error
        new = [container for container in self.found() if container.id not in known]
        if failure or len(new) != number:
            self.stack.remove(new)
            raise RolloutError(
                f"{self.name}: {failure or 'Compose has started another number of containers'} {self.kept(beside)}"
            )
        return new

    def admit(self, new: list[Container], removable: list[Container]) -> None:
        """Wait until new containers are healthy and every load balancer sends them requests.

        Raises:
            RolloutError: one does not get that far; those of ``removable`` are removed.
        """
        if not new:
            return
        deadline = time.monotonic() + self.timeout
        self.say("health", f"waiting for {names(new)} to be healthy")
        late = f"was not healthy within {self.timeout:g} s"
        self.wait_for(new, lambda item: item.health == "healthy", deadline, lambda _: late, removable)
        for balancer in self.balancers:
            self.say("rotation", f"waiting for {balancer['name']} to send requests to {names(new)}")
            # However long health has taken, the load balancer's checks have some time as well.
            until = max(deadline, time.monotonic() + 10)
            ready, why = partial(self.admitted, balancers=[balancer]), partial(self.kept_out, balancer)
            self.wait_for(new, ready, until, why, removable)

    def kept_out(self, balancer: dict, container: Container) -> str:
        """Return why a load balancer sends no requests to a container."""
        servers = {server.name for server in self.slots(balancer, [container]) if self.is_wanted(server)}
        checks = failed_checks(self.stack.ask(balancer, "@1 show stat"), self.name, 0, servers)
        why = f"see {self.name}_port, {self.name}_health_path and lb_timeouts.check"
        if checks:
            why = brief(*checks[0], self.name)
        return f"does not pass the checks of {balancer['name']} within {self.timeout:g} s ({why})"

    def wait_for(
        self,
        new: list[Container],
        ready: Callable[[Container], bool],
        deadline: float,
        late: Callable[[Container], str],
        removable: list[Container],
    ) -> None:
        """Wait until all of some containers are ``ready``.

        Raises:
            RolloutError: one has failed, or at ``deadline`` (monotonic seconds) one is not, and ``late`` says why.
        """
        ids = [container.id for container in new]
        watch = Watch(self.name, self.service["port"])
        told = ""
        while True:
            found = self.stack.containers(*ids)
            trouble = [(item, reason) for item in found if (reason := broken(item))]
            missing = [item for item in found if not ready(item)]
            if not trouble and not missing and len(found) == len(new):
                return
            known = watch.look(lambda missing=missing: [item.inspected for item in missing])
            trouble = trouble or [(item, known[item.id]) for item in missing if item.id in watch.final()]
            said = next((f"{item.name} {known[item.id]}" for item in missing if item.id in known), told)
            if not trouble and said != told:
                told = said
                self.say("health", told)
            if not trouble and time.monotonic() > deadline:
                trouble = [(item, known.get(item.id) or late(item)) for item in missing]
            if trouble:
                self.give_up(trouble, removable)
            if len(found) < len(new) and time.monotonic() > deadline:
                raise RolloutError(f"{self.name}: somebody has removed new containers. {self.kept(self.found())}")
            time.sleep(PAUSE)

    def give_up(self, trouble: list[tuple[Container, str]], new: list[Container]) -> None:
        """Remove the new containers and fail.

        Raises:
            RolloutError: always; it says why, with the last lines of one container's log.
        """
        container, reason = trouble[0]
        lines = self.stack.last_lines(container)
        self.say("abort", f"giving up, removing {names(new) or 'nothing'}")
        self.retire(new, patience=5)
        known = {item.id for item in new}
        remaining = [item for item in self.found() if item.id not in known]
        others = f" and {len(trouble) - 1} more" if len(trouble) > 1 else ""
        text = f"{self.name}: {container.name} ({container.image_name}){others} {reason}. {self.kept(remaining)}"
        # What answers has said all.
        if ANSWERED not in reason:
            text = f"The last lines of {container.name}:\n{lines}\n{text}"
        raise RolloutError(text)

    def kept(self, containers: list[Container]) -> str:
        """Return a sentence on what runs after a failure."""
        return f"What ran before goes on serving: {names(containers)}."

    def retire(self, containers: list[Container], patience: float | None = None) -> None:
        """Drain containers, wait for their requests, stop and remove them, and make their slots ready for others."""
        # One that the engine has started again meanwhile has another address.
        containers = self.stack.containers(*(container.id for container in containers)) if containers else []
        if not containers:
            return
        drained: list[tuple[dict, str]] = []
        for balancer in self.balancers:
            for server in self.slots(balancer, containers):
                self.stack.set_state(balancer, self.name, server.name, "drain")
                drained.append((balancer, server.name))
        if drained:
            self.say("drain", f"waiting for {names(containers)} to finish their requests")
        quiet = 0

        def idle() -> bool:
            # Twice in a row: a request may be on its way to a server at the first look.
            nonlocal quiet
            open_ = 0
            for balancer in self.balancers:
                sessions = self.stack.sessions(balancer, self.name)
                open_ += sum(sessions.get(server, 0) for other, server in drained if other is balancer)
            quiet = 0 if open_ else quiet + 1
            return quiet > 1

        if drained and not self.until(self.service["drain"] if patience is None else patience, idle):
            self.say("drain", f"{names(containers)} still have requests after {self.service['drain']:g} s; stopping them")
        self.say("stop", f"stopping {names(containers)}")
        ids = [container.id for container in containers]
        # Each has the grace period of its service; a container that is gone meanwhile is no failure.
        subprocess.run(["docker", "stop", *ids], capture_output=True, check=False, pass_fds=self.stack.descriptors)
        self.say("remove", f"removing {names(containers)}")
        self.stack.remove(containers)

        def forgotten() -> bool:
            return not any(self.slots(balancer, containers) for balancer in self.balancers)

        # The flag outlives the address: whoever gets the slot next would get no requests.
        self.until(FORGET, forgotten)
        for balancer, server in drained:
            self.stack.set_state(balancer, self.name, server, "ready")


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


def replace_others(
    stack: Stack, parameters: dict, model: dict, say: Callable[[str, str, str], None], check: bool
) -> list[str]:
    """Replace services that are not replicated and differ; return what was or would be done.

    Raises:
        RolloutError: the engine refused, or one is not healthy in time.
    """
    steps = []
    for other in parameters["others"]:
        name = other["name"]
        found = [container for container in stack.containers() if container.service == name]
        wanted = model[name]
        if any(c.hash == wanted["hash"] and c.image == wanted["id"] and c.status == "running" for c in found):
            continue
        running = [container for container in found if container.status == "running"]
        steps.append(f"{name}: replaced; {other['gap']}." if running else f"{name}: started.")
        if check:
            continue
        say(name, "replace", f"{name} has to be replaced: {other['gap']}" if running else f"starting {name}")
        begin = time.monotonic()
        if running and other.get("socket"):
            replace_balancer(stack, other, found, wanted, parameters["timeout"])
        else:
            stack.run(*stack.compose, "up", "--detach", "--no-deps", "--no-build", "--pull=never", name)
            if problem := unhealthy(stack, name, begin + parameters["timeout"]):
                raise RolloutError(problem)
        say(name, "replace", f"{name} is healthy after {time.monotonic() - begin:.1f} s")
        tell(stack.path, "rollout", f"{name} was {'replaced' if running else 'started'}", service=name)
    return steps


def unhealthy(stack: Stack, name: str, deadline: float, *ids: str) -> str:
    """Wait until the containers of a service, or those with some ids, are healthy; return why they are not, or nothing.

    Args:
        stack: the project.
        name: the service.
        deadline: monotonic seconds.
        ids: of its containers; none: all of them.
    """
    while True:
        found = [container for container in stack.containers(*ids) if container.service == name]
        if found and all(item.status == "running" and item.health == "healthy" for item in found):
            return ""
        trouble = [item for item in found if broken(item)]
        if trouble or time.monotonic() > deadline:
            if not found:
                return f"{name}: its container is gone."
            item = (trouble or found)[0]
            return (
                f"The last lines of {item.name}:\n{stack.last_lines(item)}\n"
                f"{name}: {item.name} {broken(item) or 'was not healthy in time'}."
            )
        time.sleep(PAUSE)


def replace_balancer(stack: Stack, other: dict, found: list[Container], wanted: dict, timeout: float) -> None:
    """Let another container take the place of a load balancer, which comes back if the new one is not healthy.

    Two of them cannot run at once: they publish the same ports and answer on the same socket. But the new one is made, and
    what it publishes that the old one does not is tried, while the old one serves.

    Raises:
        RolloutError: the old one serves, or serves again.
    """
    name = other["name"]
    old = [container for container in found if container.status == "running"]
    kept = f"{names(old)} goes on serving."
    # Of a run that was interrupted.
    stack.remove([container for container in found if container not in old])
    stack.publish(name, wanted, kept)
    known = [container.id for container in old]

    def added() -> list[Container]:
        return [item for item in stack.containers() if item.service == name and item.id not in known]

    options = ["--no-recreate", "--no-build", "--pull=never"]
    try:
        # Not `create`, which takes no scale in older releases of Compose.
        stack.run(*stack.compose, "up", "--no-start", "--no-deps", *options, f"--scale={name}={len(old) + 1}", name)
        (new,) = added()
    except (RolloutError, ValueError) as error:
        stack.remove(added())
        raise RolloutError(f"{name}: {error} {kept}") from error
    try:
        # The next process begins with the servers that this one knows.
        save_state(stack.path / other["socket"], other["definitions"])
        stack.ended.append({name: frontend_counts(stack.path / other["socket"])})
        # The listening sockets are gone as soon as a load balancer is told to stop: it does not wait for connections that
        # are merely kept open.
        stack.run("docker", "stop", "--time=1", *known)
        stack.run("docker", "start", new.id)
        failure = unhealthy(stack, name, time.monotonic() + timeout, new.id)
    except (RolloutError, OSError) as error:
        failure = f"{name}: {error}"
    if failure:
        stack.remove([new])
        stack.run("docker", "start", *known)
        back = unhealthy(stack, name, time.monotonic() + timeout, *known)
    drop_state(stack.path / other["socket"])
    if failure:
        raise RolloutError(f"{failure} {names(old)} {'does not come back' if back else 'serves again'}.")
    stack.remove(old)
    # Compose counts on; people look for the first.
    stack.run("docker", "rename", new.id, old[0].name)


def outcome(before: list[Container], after: list[Container], service: str) -> str:
    """Return what a rollout has made of a service, in one sentence; empty if its containers are the same."""
    old, new = ([item for item in some if item.service == service] for some in (before, after))
    kept = {item.id for item in old} & {item.id for item in new}
    come, gone = ([item for item in some if item.id not in kept] for some in (new, old))
    scaled = f"scaled from {len(old)} to {len(new)}" if len(old) != len(new) else ""
    rolled = f"rolled: {names(come)} instead of {names(gone)}" if come and gone else ""
    return f"{service} was {' and '.join(filter(None, (scaled, rolled)))}" if scaled or rolled else ""


def describe(containers: list[Container], service: str) -> str:
    """Return a line for each container of a service: name, image and digest of its configuration."""
    return "".join(f"{c.name} {c.image_name} {c.hash[:12]}\n" for c in containers if c.service == service)


def converge(parameters: dict, check: bool, descriptor: int | None) -> dict:
    """Do what the module promises and return its result.

    Raises:
        RolloutError: see there.
    """
    stack = Stack(parameters, descriptor)
    steps: list[str] = []
    journal = stack.path / JOURNAL

    def say(service: str, gate: str, text: str) -> None:
        line = {"time": round(time.time(), 3), "service": service, "gate": gate, "text": text}
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        tell(stack.path, "step", f"{service}: {text}", service=service)

    model = stack.model()
    ids = {image: stack.image_id(image) for image in {service["image"] for service in model.values()}}
    for name, service in model.items():
        service["id"] = ids[service["image"]]
        if not service["id"] and not check:
            raise RolloutError(f"{name}: the image {service['image']} is not on the host; nothing was changed.")
    before = stack.containers()
    steps += replace_others(stack, parameters, model, say, check)
    for service in parameters["services"]:

        def progress(gate: str, text: str, name: str = service["name"]) -> None:
            say(name, gate, text)

        rollout = Rollout(stack, service, model[service["name"]], parameters["timeout"], progress)
        plan = rollout.plan()
        steps += plan
        if check:
            continue
        try:
            rollout.run()
        except RolloutError as error:
            progress("failed", str(error).splitlines()[-1].removeprefix(f"{service['name']}: "))
            raise
        if plan:
            progress("done", "done")
            if text := outcome(before, stack.containers(), service["name"]):
                tell(stack.path, "rollout", text, service=service["name"])
    after = before if check else stack.containers()
    diff = []
    for name in (service["name"] for service in parameters["services"] + parameters["others"]):
        old, new = describe(before, name), describe(after, name)
        if check and any(step.startswith(f"{name}: ") for step in steps):
            new = old + "".join(f"{step}\n" for step in steps if step.startswith(f"{name}: "))
        if old != new:
            header = f"containers of {name}"
            diff.append({"before_header": header, "after_header": header, "before": old, "after": new})
    if not check and journal.exists() and journal.stat().st_size > JOURNAL_SIZE:
        journal.write_bytes(journal.read_bytes()[-JOURNAL_SIZE // 2 :].partition(b"\n")[2])
    return {"changed": bool(steps), "steps": steps, "ended": stack.ended, "diff": diff}


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "file": {"type": "path", "default": "docker-compose.yml"},
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "replicas": {"type": "int", "required": True},
                    "batch": {"type": "str", "default": "25%"},
                    "drain": {"type": "float", "default": 30},
                    "port": {"type": "int", "default": 0},
                    "memory": {"type": "int", "default": 0},
                    "load_balancers": {"type": "list", "elements": "dict", "required": True},
                    "first": {"type": "int", "default": 0},
                },
            },
            "others": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "float", "default": 180},
            "lock_timeout": {"type": "float", "default": 180},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if not parameters["services"]:
        # Nothing to do would look like done.
        module.fail_json(msg="services: none is named.")
    try:
        if module.check_mode:
            module.exit_json(**converge(parameters, True, None))
        with held(Path(parameters["path"]), "changes containers", parameters["lock_timeout"]) as descriptor:
            result = converge(parameters, False, descriptor)
    except (RolloutError, LockError, OSError) as error:
        if not module.check_mode:
            tell(Path(parameters["path"]), "failed", f"A rollout failed: {str(error).splitlines()[0]}")
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
