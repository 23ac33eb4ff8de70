"""Units of systemd: root's with the system's own, another user's with theirs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.stack_run import user

# Ask logind about a user, and let that user's units run without a login; the name follows. Nobody is asked for a password.
SHOW = ("loginctl", "show-user", "--property=Linger", "--value")
ENABLE = ("loginctl", "--no-ask-password", "enable-linger")


class SystemdError(Exception):
    """The text says what systemd refuses."""


def available() -> bool:
    """Tell whether systemd runs, with an instance for this user."""
    if not Path("/run/systemd/system").is_dir():
        return False
    return os.getuid() == 0 or Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "systemd").is_dir()


def scheduler() -> str:
    """Return what starts programs by itself on this host: ``systemd``, ``cron``, or nothing."""
    return "systemd" if available() else "cron" if shutil.which("crontab") else ""


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


def present(names: list[str]) -> dict[str, str]:
    """Return those units that are there: their content, by name."""
    return {name: (folder() / name).read_text(encoding="utf-8") for name in names if (folder() / name).exists()}


def replace(names: list[str], units: dict[str, str], active: str) -> None:
    """Replace units.

    Args:
        names: those that may be there; what is not among ``units`` is removed.
        units: those that shall be there: their content, by name.
        active: how the names of those end that are stopped before they go, or started, now and with every start of the host.

    Raises:
        SystemdError: systemd refuses.
        OSError: a unit cannot be written.
    """
    superfluous = sorted(set(present(names)) - set(units))
    for name in superfluous:
        if name.endswith(active):
            call("disable", "--now", name, check=False)
        (folder() / name).unlink()
    if units:
        folder().mkdir(parents=True, exist_ok=True)
        for name, content in units.items():
            (folder() / name).write_text(content, encoding="utf-8")
        linger()
    if superfluous or units:
        call("daemon-reload")
    for name in [name for name in units if name.endswith(active)]:
        call("enable", name)
        call("restart", name)


def lingers() -> bool:
    """Tell whether what systemd runs for this user goes on after the last logout, as logind says (loginctl(1))."""
    if os.getuid() == 0:
        return True
    try:
        # Of a user who is neither logged in nor lingers, logind knows nothing.
        done = subprocess.run([*SHOW, user()], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == "yes"


def linger() -> None:
    """Let this user's units run without a login, where the policy of the host (polkit) lets the user decide that.

    Raises:
        SystemdError: it does not.
    """
    if lingers():
        return
    with contextlib.suppress(OSError):
        subprocess.run([*ENABLE, user()], capture_output=True, check=False)
    if not lingers():
        raise SystemdError(linger_refusal(user()))


def linger_refusal(name: str) -> str:
    """Return the sentence for a user whose units end with the last logout."""
    return (
        f"watchdog_enabled, backup_schedule: systemd ends what runs for {name} with the last logout, and refuses to change"
        f" that; run `sudo loginctl enable-linger {name}` once, and then this again (or set watchdog_enabled=false and"
        " leave backup_schedule empty)."
    )
