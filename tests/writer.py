"""Writers whose every acknowledged row is known, and a look at a repository of backups."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stack import run

if TYPE_CHECKING:
    from stack import Stack

RESTIC = "webstack/restic:debian"


@dataclass(frozen=True)
class Write:
    """One row that was sent: what stands in it, when (seconds of the epoch), its status (0: no answer) and milliseconds."""

    email: str
    begin: float
    status: int
    milliseconds: float

    @property
    def acknowledged(self) -> bool:
        """Whether the application has said that the row is there."""
        return self.status == 303


class Writer:
    """Sends numbered rows through the edge, one after another, until its block ends."""

    def __init__(self, stack: Stack, name: str) -> None:
        """Prepare rows that are called after ``name``."""
        self.stack, self.name = stack, f"{name}-{uuid.uuid4().hex[:8]}"
        self.writes: list[Write] = []
        self._port = stack.port("http")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        for number in itertools.count():
            if self._end.is_set():
                return
            email, begin = f"{self.name}-{number}@example.com", time.time()
            try:
                status = self.stack.post_user("Writer", email, port=self._port).status
            except OSError:
                status = 0
            self.writes.append(Write(email, begin, status, (time.time() - begin) * 1000))

    def __enter__(self) -> Writer:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the row that is on its way."""
        self._end.set()
        self._thread.join()

    def within(self, begin: float, end: float) -> list[Write]:
        """Return what was sent between two times."""
        return [write for write in self.writes if begin <= write.begin <= end]


def rows(stack: Stack) -> list[str]:
    """Return every row of the sample, as the database has it."""
    return stack.mysql("SET NAMES utf8mb4; SELECT * FROM app.users ORDER BY id").splitlines()


def restic(repository: str, password: str, *arguments: str, volumes: tuple[str, ...] = ()) -> str:
    """Run restic on a repository in a folder and return what it prints."""
    mounts = [f"--volume={volume}" for volume in (f"{repository}:/repository", *volumes)]
    options = ["--rm", "--network=none", f"--env=RESTIC_PASSWORD={password}", *mounts]
    return run("docker", "run", *options, RESTIC, "--repo=/repository", "--no-cache", *arguments).stdout
