"""Replicas of a service, changed a batch at a time so that no request is lost."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ansible.module_utils.stack_haproxy import Server, failed_checks, first_of, read_sessions
from ansible.module_utils.stack_project import PAUSE, Container, RolloutError, Stack, broken, names
from ansible.module_utils.stack_rollout import batch_size, next_step
from ansible.module_utils.stack_trial import ANSWERED, brief
from ansible.module_utils.stack_trouble import Watch

# Seconds in which a load balancer has noticed that an address is gone; it asks every half second.
FORGET = 15.0
# Share of the containers that are stopped at a time when there shall be fewer.
LEAVE = 0.25


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

    def judged(self, balancer: dict, containers: list[Container]) -> list[Server]:
        """Return those of the slots that requests go to, where checks of the application decide."""
        return [server for server in self.slots(balancer, containers) if server.backend == self.name]

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
        if stopped := len(containers) - len(running):
            parts.append(f"{stopped} that do not run would be removed")
        return [f"{self.name}: {', '.join(parts)}."]

    def run(self) -> None:
        """Do it (RolloutError: a gate was not passed, or the engine refused something)."""
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
                # Those first that nobody sees, because they serve nothing, then the oldest.
                old.sort(key=lambda container: (self.serving(container), container.number))
                self.retire(old[: step.retire_old])
                old = old[step.retire_old :]
            if step.retire_current:
                current.sort(key=lambda container: container.number)
                self.retire(current[-step.retire_current :])
                current = current[: -step.retire_current]

    def serving(self, container: Container) -> bool:
        """Tell whether every load balancer sends requests to a container."""
        return all(any(server.up for server in self.judged(balancer, [container])) for balancer in self.balancers)

    def admitted(self, container: Container, balancers: list[dict]) -> bool:
        """Tell whether load balancers send requests to a container because it passes the checks that are wanted now."""
        return all(
            any(server.up and self.is_wanted(server) for server in self.judged(balancer, [container]))
            for balancer in balancers
        )

    def is_wanted(self, server: Server) -> bool:
        """Tell whether a slot belongs to the definition by which new containers are judged."""
        return self.service["first"] in (0, first_of(server.name))

    def undrain(self, running: list[Container]) -> None:
        """Make drained slots ready, except those of old containers that others stand in for.

        So are those that a session of `make debug` has left in maintenance or without checks: a slot keeps that for the
        container that it gets next, which would never be in rotation.
        """
        old = self.addresses([container for container in running if not self.is_current(container)])
        for balancer in self.balancers:
            servers = self.stack.servers(balancer, self.name)
            spared = any(server.up for server in servers if server.backend == self.name)
            for server in servers:
                if server.unchecked:
                    self.stack.ask(balancer, f"@1 enable health {server.path}")
                if server.kept_out or (server.draining and not (spared and server.address in old)):
                    self.say("clean", f"{balancer['name']} sends requests to {server.name} again")
                    self.stack.set_state(balancer, server, "ready")

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
                f"{self.name}: {number} more containers reserve {needed / 2**20:.0f} MiB of memory and"
                f" {available / 2**20:.0f} MiB are free; lower {self.name}_rollout_batch or free some memory."
            )
        for balancer in self.balancers:
            places = [item for item in self.stack.servers(balancer, self.name) if item.backend == self.name]
            free = sum(not item.address for item in places if self.is_wanted(item))
            if free < number:
                raise RolloutError(
                    f"{self.name}: {balancer['name']} has {free} free slots for {number} more containers; lower"
                    f" {self.name}_rollout_batch or raise lb_slots."
                )

    def start(self, number: int, beside: list[Container]) -> list[Container]:
        """Start so many new containers and return them (RolloutError: Compose failed; what it had made is removed)."""
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
        servers = {server.name for server in self.judged(balancer, [container]) if self.is_wanted(server)}
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
        return f"The previous release still serves: {names(containers)}."

    def retire(self, containers: list[Container], patience: float | None = None) -> None:
        """Drain containers, wait for their requests, stop and remove them, and make their slots ready for others."""
        # One that the engine has started again meanwhile has another address.
        containers = self.stack.containers(*(container.id for container in containers)) if containers else []
        if not containers:
            return
        drained: list[tuple[dict, Server]] = []
        for balancer in self.balancers:
            for server in self.slots(balancer, containers):
                self.stack.set_state(balancer, server, "drain")
                drained.append((balancer, server))
        if drained:
            self.say("drain", f"waiting for {names(containers)} to finish their requests")
        quiet = 0

        def idle() -> bool:
            # Twice in a row: a request may be on its way to a server at the first look.
            nonlocal quiet
            open_ = 0
            for balancer in self.balancers:
                sessions = read_sessions(self.stack.ask(balancer, "@1 show stat"))
                open_ += sum(sessions.get(server.path, 0) for other, server in drained if other is balancer)
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

        # The flag outlives the address: whoever gets the slot next would get no requests.
        self.until(FORGET, lambda: not any(self.slots(balancer, containers) for balancer in self.balancers))
        for balancer, server in drained:
            self.stack.set_state(balancer, server, "ready")
