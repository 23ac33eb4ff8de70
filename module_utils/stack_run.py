"""The run of a playbook on the machine that runs Ansible: what it is called, and that it lives.

For the action plugin of ``stack_preflight``, which runs in a worker: a process that Ansible forks for a task and that ends
with it. What has to last as long as the run needs a process of its own.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

# Seconds between two signs of life.
RENEWAL = 10.0
# Seconds between two looks at what the run has started.
LOOK = 0.2


def user() -> str:
    """Return the name of this user, or the number of one that has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def describe(main: int, doing: str, containers: bool) -> dict:
    """Return what ``stack_lock.claim`` has to know of a run.

    Args:
        main: number of the process of ``ansible-playbook``.
        doing: what it runs, for a person.
        containers: whether it changes containers.
    """
    machine = socket.gethostname()
    return {
        "id": f"{machine} {main} {_started(main)}",
        "doing": doing,
        "process": main,
        "user": user(),
        "machine": machine,
        "since": time.time(),
        "containers": containers,
    }


def keep(main: int, renew: Callable[[], None], release: Callable[[], None], patient: bool = True) -> None:
    """Call ``renew`` every ``RENEWAL`` seconds while a run lives, and then ``release``, in a process of its own.

    The run has ended when its process has, however that came, and, where this is ``patient``, the workers that it left.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        # In a session of its own, so that a signal to the run leaves it alone, and nobody's child.
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        _keep(main, renew, release, patient)
    finally:
        os._exit(0)


def _keep(main: int, renew: Callable[[], None], release: Callable[[], None], patient: bool) -> None:
    """Do what ``keep`` promises, in this process."""
    workers: list[int] = []
    due = time.monotonic() + RENEWAL
    while not _ends(main, LOOK):
        workers = _children(main) or workers
        if time.monotonic() >= due:
            due = time.monotonic() + RENEWAL
            try:
                renew()
            except Exception:  # noqa: S112
                # The next one may get through; if none does, the lock is lost after a while.
                continue
    while patient and any(_lives(worker) for worker in workers):
        if time.monotonic() >= due:
            due = time.monotonic() + RENEWAL
            renew()
        time.sleep(0.1)
    release()


def _ends(process: int, timeout: float) -> bool:
    """Tell whether a process has ended, or ends within ``timeout`` seconds; a zombie has ended."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        # Not on every system.
        time.sleep(timeout)
        return not _lives(process)
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


def _lives(process: int) -> bool:
    """Tell whether there is a process with a number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _children(process: int) -> list[int]:
    """Return what a process has started, where the kernel tells (proc(5))."""
    try:
        return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _started(process: int) -> str:
    """Return when a process was started, by the kernel's clock (proc(5)): its number alone comes back."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
