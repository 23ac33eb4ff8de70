"""Containers and volumes that live as long as a backup or a restore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

LABEL = "webstack.recovery"


class RecoveryError(Exception):
    """Nothing more can be done; the text is for the person who has asked for it."""


@dataclass
class Settings:
    """What the playbook has written to settings.json.

    ``user`` runs servers, ``storage_user`` runs restic and needs ``storage_capabilities`` to read what servers wrote.
    ``run_options`` are those with which a container knows the users of the host.
    """

    stack: str
    directory: str
    repository: str
    local: bool
    database: str
    mysql: str
    restic: str
    user: str
    storage_user: str
    storage_capabilities: list[str]
    run_options: list[str]
    keep: dict[str, int]
    logs_days: int
    engine: str = ""


@dataclass
class Container:
    """A container to be run: as little as it needs."""

    image: str
    entrypoint: str
    arguments: list[str]
    user: str
    name: str
    network: str = "none"
    volumes: list[str] = field(default_factory=list)
    tmpfs: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)


def docker(*argv: str, text: str = "", check: bool = True) -> str:
    """Return what Docker's client prints, given ``text`` on its standard input.

    Raises:
        RecoveryError: it failed, unless ``check`` is false.
    """
    done = subprocess.run(["docker", *argv], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RecoveryError(f"docker {argv[0]} failed: {reason}")
    return done.stdout


class Engine:
    """Runs what one stack needs for its backups."""

    def __init__(self, settings: Settings) -> None:
        """Work for a stack."""
        self.settings = settings

    def command(self, container: Container) -> list[str]:
        """Return the command that runs a container in the foreground."""
        settings = self.settings
        return [
            *("docker", "run", "--rm", "--interactive", "--pull=never", "--read-only", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", "--log-driver=none", f"--label={LABEL}={settings.stack}"),
            *settings.run_options,
            f"--name={settings.stack}-backup-{container.name}",
            f"--user={container.user}",
            f"--network={container.network}",
            *(f"--cap-add={capability}" for capability in container.capabilities),
            *(f"--tmpfs={place}" for place in container.tmpfs),
            *(f"--volume={volume}" for volume in container.volumes),
            f"--entrypoint={container.entrypoint}",
            container.image,
            *container.arguments,
        ]

    def run(
        self, container: Container, text: str = "", source: IO[bytes] | None = None, target: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess:
        """Run a container to its end and return its exit code and output.

        It is given ``text``, or what ``source`` holds, and what it prints goes to ``target`` if there is one.
        """
        given = {"stdin": source} if source else {"input": text.encode()}
        command = self.command(container)
        done = subprocess.run(command, stdout=target or subprocess.PIPE, stderr=subprocess.PIPE, check=False, **given)
        done.stdout, done.stderr = (done.stdout or b"").decode(), done.stderr.decode(errors="replace")
        return done

    def shell(
        self, script: str, volumes: list[str], *, text: str = "", source: IO[bytes] | None = None, user: str = ""
    ) -> str:
        """Run a script of bash beside volumes, given ``text`` or ``source`` on its standard input, and return its output.

        It runs as ``user``, or as whoever may read everything in them.

        Raises:
            RecoveryError: it failed.
        """
        capabilities = self.settings.storage_capabilities
        container = Container(
            image=self.settings.mysql,
            entrypoint="bash",
            arguments=["-c", f"set -euo pipefail\n{script}"],
            user=user or self.settings.storage_user,
            name="look",
            volumes=volumes,
            capabilities=[] if user else capabilities,
        )
        done = self.run(container, text, source)
        if done.returncode:
            raise RecoveryError(f"The engine could not look at a volume: {done.stderr.strip()[-500:]}")
        return done.stdout

    def clean(self) -> None:
        """Remove what an interrupted run has left."""
        mine = f"--filter=label={LABEL}={self.settings.stack}"
        if containers := docker("ps", "--all", "--quiet", mine).split():
            docker("rm", "--force", "--volumes", *containers)
        if volumes := docker("volume", "ls", "--quiet", mine).split():
            docker("volume", "rm", *volumes)

    @contextmanager
    def volume(self, purpose: str) -> Iterator[str]:
        """Yield the name of a volume that is there for as long as that lasts."""
        name = f"{self.settings.stack}_{purpose}"
        docker("volume", "create", f"--label={LABEL}={self.settings.stack}", name)
        try:
            yield name
        finally:
            docker("volume", "rm", "--force", name)

    def has_volume(self, name: str) -> bool:
        """Tell whether there is a volume of that name."""
        return name in docker("volume", "ls", "--quiet", f"--filter=name={name}").split()

    def database(self) -> dict | None:
        """Return what the engine knows of the container of the database, or None if there is none.

        A Swarm keeps ended ones and puts others in their place, so there only one that runs counts.
        """
        stack = self.settings.stack
        compose = (f"project={stack}", "service=db", "oneoff=False")
        labels = [f"--filter=label=com.docker.compose.{label}" for label in compose]
        found = docker("ps", "--all", "--quiet", "--no-trunc", *labels).split()
        if not found:
            label = f"--filter=label=com.docker.swarm.service.name={stack}_db"
            found = docker("ps", "--quiet", "--no-trunc", label).split()
        return json.loads(docker("inspect", found[0]))[0] if found else None
