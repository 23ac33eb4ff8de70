"""One run at a time on a stack."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"
PAUSE = 0.2


class LockError(Exception):
    """The text says who holds the stack."""


def holder(directory: Path) -> dict:
    """Return who holds the stack: process, user, since (seconds of the epoch) and what it does; empty: nobody."""
    try:
        with (directory / NAME).open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError):
                    return json.loads(file.read())
                return {"doing": "something"}
    except OSError:
        pass
    return {}


def describe(found: dict) -> str:
    """Return a holder in words."""
    since = time.strftime("%H:%M:%S", time.localtime(found.get("since", 0)))
    return f"{found.get('doing')} (process {found.get('process')} of {found.get('user')}, since {since})"


@contextlib.contextmanager
def held(directory: Path, doing: str, timeout: float) -> Iterator[int]:
    """Hold the stack whose files are in ``directory``; yield a descriptor for child processes to inherit.

    The kernel lets go when the last process that has the descriptor ends, so a run that is killed holds nobody up, but
    what it has started is waited for.

    Raises:
        LockError: somebody else holds it for more than ``timeout`` seconds.
    """
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockError(
                        f"Another run holds the stack: {describe(holder(directory))}; wait until it has ended, or end it."
                    ) from None
                time.sleep(PAUSE)
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        content = {"process": os.getpid(), "user": user, "since": time.time(), "doing": doing}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(content).encode(), 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
