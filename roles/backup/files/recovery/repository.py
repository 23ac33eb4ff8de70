"""The repository of backups, which restic keeps: encrypted, compressed, checksummed, anywhere that restic can write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recovery.containers import Container, Engine, RecoveryError

TAG = "webstack"
# What exit codes of restic mean.
SENTENCES = {
    10: "backup_repository: there are no backups in {repository}.",
    11: "The repository {repository} is locked by somebody else: {reason}",
    12: "backup_password: it does not open the repository {repository}; give the one it was made with.",
}
# What the repository of another machine needs is read from a file: no command line and no description of a container has it.
SCRIPT = 'if [ -f /secrets/environment ]; then set -a; . /secrets/environment; set +a; fi; exec restic "$@"'


@dataclass(frozen=True)
class Snapshot:
    """Something in the repository: a ``backup`` (also one that came before a restore, ``safety``), or ``logs``.

    ``at`` is when its data was as it is in there, in seconds of the epoch.
    """

    id: str
    stack: str
    kind: str
    at: float
    server: str
    version: str

    @property
    def short(self) -> str:
        """The beginning of its name, which is enough to name it."""
        return self.id[:8]


def read_snapshots(text: str) -> list[Snapshot]:
    """Return the snapshots of this project in what ``restic snapshots --json`` prints, oldest first."""
    found = []
    for item in json.loads(text) or []:
        if TAG not in (item.get("tags") or []):
            continue
        tags = dict(tag.partition("=")[::2] for tag in item["tags"])
        snapshot = Snapshot(
            item["id"], item["hostname"], tags["kind"], float(tags["at"]), tags.get("server", ""), tags.get("version", "")
        )
        found.append(snapshot)
    return sorted(found, key=lambda snapshot: snapshot.at)


class Repository:
    """Where the backups of a stack are."""

    def __init__(self, engine: Engine) -> None:
        """Use the repository of the settings."""
        self.engine, self.settings = engine, engine.settings

    def run(self, *arguments: str, volumes: tuple[str, ...] = (), target: IO[bytes] | None = None) -> str:
        """Run restic and return what it prints, unless that goes to ``target`` (RecoveryError: it failed)."""
        settings = self.settings
        folder = Path(settings.directory)
        place = settings.repository
        volumes += (f"{folder}/secrets/backup:/secrets:ro", f"{folder}/backup/cache:/cache")
        if settings.local:
            Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
            volumes += (f"{place}:/repository",)
            place = "/repository"
        container = Container(
            image=settings.restic,
            entrypoint="sh",
            arguments=[
                *("-c", SCRIPT, "restic", "--repo", place, "--password-file=/secrets/password", "--cache-dir=/cache"),
                *("--retry-lock=5m", *arguments),
            ],
            user=settings.storage_user,
            name="storage",
            # Another machine's repository is reached the way in which containers reach the outside.
            network="none" if settings.local else "bridge",
            volumes=list(volumes),
            tmpfs=["/tmp:mode=1777"],  # noqa: S108 (in the container)
            capabilities=settings.storage_capabilities,
        )
        done = self.engine.run(container, target=target)
        if done.returncode:
            text = SENTENCES.get(done.returncode, "restic {command} failed: {reason}")
            reason = self.reason(done.stderr or done.stdout)
            raise RecoveryError(text.format(repository=settings.repository, command=arguments[0], reason=reason))
        return done.stdout

    @staticmethod
    def reason(errors: str) -> str:
        """Return in one line why restic has failed."""
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        return next((line for line in lines if line.startswith("Fatal:")), (lines or ["it gives no reason"])[-1])

    def exists(self) -> bool:
        """Tell whether there is a repository (RecoveryError: it cannot be opened)."""
        try:
            self.run("cat", "config")
        except RecoveryError as failure:
            if str(failure).startswith("backup_repository: there are no backups"):
                return False
            raise
        return True

    def prepare(self) -> None:
        """Make the repository, unless there is one (RecoveryError: somebody else's files are there)."""
        if self.exists():
            return
        place = Path(self.settings.repository)
        if self.settings.local and any(place.iterdir()):
            raise RecoveryError(f"backup_repository: {place} holds files that are no backups; give an empty folder.")
        self.run("init")

    def snapshots(self, *kinds: str, stack: str = "") -> list[Snapshot]:
        """Return the snapshots of a stack that are of some kinds, oldest first."""
        stack = stack or self.settings.stack
        found = read_snapshots(self.run("snapshots", "--json", f"--tag={TAG}"))
        return [snapshot for snapshot in found if snapshot.kind in kinds and snapshot.stack == stack]

    def store(self, place: str, volume: str, tags: dict[str, str], *options: str) -> dict:
        """Store what is in a volume, seen at ``place``, and return restic's summary."""
        labels = [f"--tag={TAG}", *(f"--tag={key}={value}" for key, value in tags.items())]
        arguments = ["backup", place, f"--host={self.settings.stack}", "--json", "--quiet", *labels, *options]
        output = self.run(*arguments, volumes=(f"{volume}:{place}:ro",))
        return json.loads(output.strip().splitlines()[-1])

    def fetch(self, snapshot: Snapshot, volume: str) -> None:
        """Bring a snapshot into a volume; every piece of it is checked against its checksum.

        Raises:
            RecoveryError: it cannot be read as a whole.
        """
        self.run("restore", snapshot.id, "--target=/target", "--quiet", volumes=(f"{volume}:/target",))

    def read(self, snapshot: Snapshot, path: str, target: IO[bytes] | None = None) -> str:
        """Return the text of a file of a snapshot, or write its bytes to ``target``."""
        return self.run("dump", snapshot.id, path, target=target)

    def names(self, snapshot: Snapshot) -> list[str]:
        """Return the paths of the files in a snapshot."""
        lines = [json.loads(line) for line in self.run("ls", "--json", snapshot.id).splitlines()]
        return [line["path"] for line in lines if line.get("type") == "file"]

    def forget(self) -> None:
        """Forget what the settings do not keep; a safety copy is kept as long as the latest backups."""
        stack, keep = self.settings.stack, self.settings.keep
        rules = [f"--keep-{period}={number}" for period, number in keep.items()]
        common = ["forget", f"--host={stack}", "--group-by=host", "--quiet"]
        self.run(*common, f"--tag={TAG},kind=backup", *rules)
        self.run(*common, f"--tag={TAG},kind=safety", "--keep-last=3")
        # Each has the logs of three days, so that one for each day is enough.
        days = self.settings.logs_days
        self.run(*common, f"--tag={TAG},kind=logs", "--keep-within=2h", f"--keep-within-daily={days}d", "--keep-last=1")
        self.run("prune", "--quiet")

    def check(self) -> None:
        """Read everything in the repository and compare it with its checksums.

        Raises:
            RecoveryError: something is missing or damaged.
        """
        self.run("check", "--read-data", "--quiet")
