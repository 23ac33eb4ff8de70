"""Units of systemd: root's with the system's own, another user's with theirs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


class SystemdError(Exception):
    """The text says what systemd refuses."""


def available() -> bool:
    """Tell whether systemd runs, with an instance for this user."""
    if not Path("/run/systemd/system").is_dir():
        return False
    return os.getuid() == 0 or Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "systemd").is_dir()


def folder() -> Path:
    """Return where this user's units lie."""
    return Path("/etc/systemd/system") if os.getuid() == 0 else Path("~/.config/systemd/user").expanduser()


def call(*arguments: str, check: bool = True) -> None:
    """Run systemctl.

    Raises:
        SystemdError: it failed.
    """
    command = ["systemctl", *([] if os.getuid() == 0 else ["--user"]), *arguments]
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode:
        raise SystemdError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def linger() -> None:
    """Let a user's units run without a login; not every policy allows it, and then they run while the user is logged in."""
    if os.getuid() != 0:
        subprocess.run(["loginctl", "enable-linger"], capture_output=True, check=False)
