"""One run at a time on a stack.

Two locks, both in the folder of the stack on the host:

- A run of a playbook that changes something has the file ``.run`` from its first look at the host to its end. It lasts over
  many tasks, perhaps of a connection that breaks, so no process on the host can hold it: the machine that runs Ansible says
  again and again that the run lives (``stack_run``), and a run of which nothing is heard for a while has lost it.
- A program that changes files or containers holds ``.lock`` by ``flock`` meanwhile, which what it has started inherits.
"""

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
RUN = ".run"
PAUSE = 0.2
# Seconds without a sign of life after which a run has lost the stack.
LEASE = 60.0


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


def running(directory: Path) -> dict:
    """Return which run has the stack, as it was given to ``claim``; empty: none."""
    path = directory / RUN
    try:
        if abs(time.time() - path.stat().st_mtime) > LEASE:
            return {}
    except OSError:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        # It is another user's, or is being written.
        return {"doing": "something"}


def pauses(directory: Path) -> dict:
    """Return the run that changes containers, or is about to; empty: none."""
    run = running(directory)
    return run if run.get("containers", bool(run)) else {}


def claim(directory: Path, run: dict, timeout: float) -> dict:
    """Give the stack to a run for ``LEASE`` seconds; return who has it instead if that is another one, else nothing.

    A run that has it already keeps it. What an earlier run has started and left behind is waited for as well.

    Args:
        directory: the folder of the stack; made if it is not there.
        run: ``id``, which no other run has, and what others are told: ``doing``, ``process``, ``user``, ``since``, and
            whether it changes ``containers``.
        timeout: seconds to wait for the other one.

    Raises:
        OSError: the folder cannot be written.
    """
    deadline = time.monotonic() + timeout
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            other, ours = _claim(directory / RUN, run)
        except FileNotFoundError:
            # A run that was refused has taken its folder away.
            continue
        if ours:
            return {}
        if not other:
            other = holder(directory)
            if not other:
                return {}
            (directory / RUN).unlink()
        if time.monotonic() > deadline:
            return other
        time.sleep(PAUSE)


def _claim(path: Path, run: dict) -> tuple[dict, bool]:
    """Return which other run has the file, and whether this one had it before; if neither, it has it now."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            # Only while it is looked at: two runs may come at once.
            fcntl.flock(file, fcntl.LOCK_EX)
            state = os.fstat(descriptor)
            if state.st_nlink == 0:
                # Its run has ended between the two lines above.
                continue
            text = file.read()
            found: dict = {}
            if text and abs(time.time() - state.st_mtime) <= LEASE:
                try:
                    found = json.loads(text)
                except ValueError:
                    found = {"doing": "something"}
            if found and found.get("id") != run["id"]:
                return found, False
            file.seek(0)
            file.truncate()
            file.write(json.dumps({**run, "since": found.get("since", run["since"])}))
            return {}, bool(found)


def describe(found: dict) -> str:
    """Return a holder in words."""
    if "process" not in found:
        return str(found.get("doing"))
    since = time.strftime("%H:%M:%S", time.localtime(found.get("since", 0)))
    machine = f" on {found['machine']}" if found.get("machine") else ""
    return f"{found.get('doing')} (process {found['process']} of {found.get('user')}{machine}, since {since})"


def refusal(found: dict) -> str:
    """Return the sentence for the run that comes second."""
    return f"Another run holds the stack: {describe(found)}; wait until it has ended, or end it."


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
                    raise LockError(refusal(holder(directory))) from None
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
