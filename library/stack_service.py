#!/usr/bin/python
"""Let a program of a stack run on the host by itself, or end it: the watchdog, or what takes backups at their times."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_service
short_description: Let a program of a stack run on the host by itself, or end it
description:
  - Where systemd runs, the watchdog is a service of it and backups are timers, of the user's own instance if that is not
    root. They come back after a reboot.
  - Elsewhere the watchdog is a process in the background, which the next run of the playbook starts again, and backups are
    lines in the crontab of the user.
options:
  name:
    description: Name of the stack; part of the names of units, and of the lines in the crontab.
    type: str
    required: true
  program: {type: str, choices: [watchdog, backup], required: true, description: Which one.}
  path: {type: path, required: true, description: Folder of the program and its C(settings.json).}
  version:
    description: Digest of program and settings of the watchdog; a process with another one is replaced. Empty ends it.
    type: str
    default: ""
  at: {type: str, default: "", description: "Time of day at which a backup is taken, as HH:MM. Empty removes the schedule."}
  interval:
    description: Minutes after which the binary logs are stored; a divisor of 60 is kept to exactly.
    type: int
    default: 5
attributes:
  check_mode: {support: full, description: Says whether there would be a change.}
  diff_mode: {support: none, description: There is nothing to show.}
"""

EXAMPLES = r"""
- name: Let the watchdog run
  stack_service:
    name: webstack
    program: watchdog
    path: ~/.local/share/webstack/watchdog
    version: 0123456789abcdef

- name: Take backups at night
  stack_service:
    name: webstack
    program: backup
    path: ~/.local/share/webstack/backup
    at: "03:30"
"""

RETURN = r"""#"""

import contextlib  # noqa: E402
import os  # noqa: E402
import shlex  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils import stack_systemd as systemd  # noqa: E402
from ansible.module_utils.stack_lock import holder  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module, until  # noqa: E402

# Seconds in which the watchdog starts or ends.
PATIENCE = 15.0
# The system's own Python, which is there as long as the system; that of the playbook may be in a folder of its own.
PYTHON_PATH = "/usr/local/bin:/usr/bin:/bin"
WATCHDOG = """[Unit]
Description=Restarts replicas of {name} that no longer answer
After=docker.service

[Service]
ExecStart="{python}" "{path}/watchdog.py" "{path}"
Restart=always
RestartSec=5

[Install]
WantedBy={target}
"""
BACKUP = """[Unit]
Description=Stores the {what} of {name}
After=docker.service

[Service]
Type=oneshot
Environment="PATH={search}"
WorkingDirectory={path}
ExecStart="{python}" -m recovery {command}
"""
TIMER = """[Unit]
Description=Stores the {what} of {name}

[Timer]
OnCalendar={when}
# What was missed because the machine was off is made good.
Persistent=true

[Install]
WantedBy=timers.target
"""


def literal(text: object) -> str:
    """Return a text for a unit, in which a % would be a specifier of systemd."""
    return str(text).replace("%", "%%")


def system_python() -> str:
    """Return the Python that takes the backups."""
    return shutil.which("python3", path=PYTHON_PATH) or sys.executable


def watchdog_units(name: str, path: Path) -> dict[str, str]:
    """Return the unit of the watchdog, by its name."""
    target = "multi-user.target" if os.getuid() == 0 else "default.target"
    content = WATCHDOG.format(name=name, python=sys.executable, path=literal(path), target=target)
    return {f"{name}-watchdog.service": content}


def backup_units(name: str, path: Path, at: str, interval: int) -> dict[str, str]:
    """Return the units that take backups, by name."""
    units = {}
    for command, unit, what, when in (
        ("backup", f"{name}-backup", "database", f"*-*-* {at}:00"),
        ("logs", f"{name}-backup-logs", "binary logs", f"*:0/{interval}"),
    ):
        values = {"name": name, "what": what, "when": when, "command": command, "python": system_python()}
        values |= {"path": literal(path), "search": literal(os.environ["PATH"])}
        units[f"{unit}.service"] = BACKUP.format(**values)
        units[f"{unit}.timer"] = TIMER.format(**values)
    return units


class Cron:
    """Lines in the crontab of this user, known by what stands at their end."""

    def __init__(self, name: str, path: Path) -> None:
        """Take backups of a stack with what is in a folder."""
        self.path, self.mark = path, f"# backups of {name}"

    def wanted(self, at: str, interval: int) -> list[str]:
        """Return the lines; none without a time."""
        if not at:
            return []
        hour, minute = at.split(":")
        lines = []
        for command, when in (("backup", f"{int(minute)} {int(hour)} * * *"), ("logs", f"*/{interval} * * * *")):
            words = shlex.join([system_python(), "-m", "recovery", command])
            call = f"cd {shlex.quote(str(self.path))} && PATH={shlex.quote(os.environ['PATH'])} {words}"
            # A % would be a line break.
            lines.append(f"{when} {call} >{command}.log 2>&1 ".replace("%", r"\%") + self.mark)
        return lines

    def present(self, ours: bool = True) -> list[str]:
        """Return the lines that are there and ``ours``, or those that are not."""
        done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines() if done.returncode == 0 else []
        return [line for line in lines if line.endswith(self.mark) == ours]

    def write(self, lines: list[str]) -> None:
        """Replace the lines that are there.

        Raises:
            RefusalError: cron refuses.
        """
        text = "".join(f"{line}\n" for line in self.present(ours=False) + lines)
        done = subprocess.run(["crontab", "-"], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RefusalError(f"crontab refuses the lines: {done.stderr.strip()}")


def start_process(path: Path) -> None:
    """Start the watchdog in a session of its own, after the one that runs has ended."""
    stop_process(path)
    with (path / "errors.log").open("w", encoding="utf-8") as errors:
        subprocess.Popen(
            [sys.executable, str(path / "watchdog.py"), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )


def stop_process(path: Path) -> None:
    """End the watchdog that runs.

    Raises:
        RefusalError: it does not end.
    """
    found = holder(path)
    if found.get("process"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found["process"], signal.SIGTERM)
        why = f"The watchdog (process {found['process']}) does not end; end it by hand."
        until(time.monotonic() + PATIENCE, lambda: not holder(path), why)


def keep_watchdog(name: str, path: Path, version: str, check_mode: bool) -> bool:
    """Let the watchdog run, or end it where no version is wanted; return whether there was something to do.

    Raises:
        RefusalError: it does not start or end.
    """
    units, running = watchdog_units(name, path), holder(path).get("doing")
    supervised = systemd.available()
    changed = running != version if version else bool(running or (supervised and systemd.present(list(units))))
    if changed and not check_mode:
        if supervised:
            systemd.replace(list(units), units if version else {}, ".service")
        else:
            (start_process if version else stop_process)(path)
        if version:
            why = f"The watchdog does not start; look at {path}/errors.log, or set watchdog_enabled: false."
            until(time.monotonic() + PATIENCE, lambda: holder(path).get("doing") == version, why)
    return changed


def keep_backups(name: str, path: Path, at: str, interval: int, check_mode: bool) -> bool:
    """Let backups be taken, or not any more where there is no time; return whether there was something to do.

    Raises:
        RefusalError: nothing on the host can do that.
    """
    scheduler = systemd.scheduler()
    if not scheduler:
        if at:
            raise RefusalError("backup_schedule: this host has neither systemd nor cron; install cron, or leave it empty.")
        return False
    if scheduler == "systemd":
        units = backup_units(name, path, at, interval)
        wanted, present = units if at else {}, systemd.present(list(units))
        # The timers alone: a backup that is being taken is taken to its end.
        write = partial(systemd.replace, list(units), wanted, ".timer")
    else:
        cron = Cron(name, path)
        wanted, present = cron.wanted(at, interval), cron.present()
        write = partial(cron.write, wanted)
    if present != wanted and not check_mode:
        write()
    return present != wanted


def main() -> None:
    """Run the module."""
    options = {
        "name": {"type": "str", "required": True},
        "program": {"type": "str", "choices": ["watchdog", "backup"], "required": True},
        "path": {"type": "path", "required": True},
        "version": {"type": "str", "default": ""},
        "at": {"type": "str", "default": ""},
        "interval": {"type": "int", "default": 5},
    }
    with running_module(options, systemd.SystemdError) as module:
        given = module.params
        name, path = given["name"], Path(given["path"]).resolve()
        if given["program"] == "watchdog":
            changed = keep_watchdog(name, path, given["version"], module.check_mode)
        else:
            changed = keep_backups(name, path, given["at"], given["interval"], module.check_mode)
        module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
