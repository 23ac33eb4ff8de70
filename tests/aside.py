"""Run a command on what others leave of the processors, as if it ran on another machine: `python tests/aside.py COMMAND…`.

A low priority (nice) is not enough: the kernel weighs groups of processes first, each session of its own on many machines,
and a priority counts only within a group. So the command gets a group that runs while nothing else wants to.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

# In the first version of control groups that of the processors has a hierarchy of its own.
GROUPS = [Path(root, "webstack-test-aside") for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup")]


def step_aside() -> None:
    """Move this process, and so whatever it starts, to the group; where that is not allowed, lower its priority."""
    for group in GROUPS:
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            for name, value in (("cpu.idle", "1"), ("cgroup.procs", str(os.getpid()))):
                with (group / name).open("r+") as file:
                    file.write(value)
            return
    os.nice(19)


def main() -> int:
    """Run the command that is given, take its group away again, and return its exit code."""
    done = subprocess.run(sys.argv[1:], check=False, preexec_fn=step_aside)
    for group in GROUPS:
        with contextlib.suppress(OSError):
            # What it has left running, as the watchdog, is no part of it any more.
            for process in (group / "cgroup.procs").read_text().split():
                (group.parent / "cgroup.procs").write_text(process)
            group.rmdir()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
