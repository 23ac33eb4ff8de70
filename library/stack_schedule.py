#!/usr/bin/python
"""Let the host take backups of a stack by itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_schedule
short_description: Let the host take backups of a stack by itself
description:
  - Makes timers of systemd where it runs, else lines in the crontab of the user, or removes them.
options:
  name:
    description: Project name of Compose; part of the names of timers, and of the lines in the crontab.
    type: str
    required: true
  path:
    description: Folder of what takes the backups.
    type: path
    required: true
  at:
    description: Time of day at which a backup is taken, as HH:MM. Empty removes the schedule.
    type: str
    default: ""
  interval:
    description: Minutes after which the binary logs are stored; a divisor of 60 is kept to exactly.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
    description: Says whether there would be a change.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Take backups at night
  stack_schedule:
    name: webstack
    path: ~/.local/share/webstack/backup
    at: "03:30"
"""

RETURN = r"""
keeper:
  description: What keeps the time, C(systemd) or C(cron).
  returned: always
  type: str
"""

import os  # noqa: E402
import shlex  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils import stack_systemd as systemd  # noqa: E402
from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402

# The system's own Python, which is there as long as the system; that of the playbook may be in a folder of its own.
PYTHON_PATH = "/usr/local/bin:/usr/bin:/bin"
SERVICE = """[Unit]
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


class ScheduleError(Exception):
    """The text says why there is no schedule."""


def python() -> str:
    """Return the Python that takes the backups."""
    return shutil.which("python3", path=PYTHON_PATH) or sys.executable


class Systemd:
    """The schedule as timers of systemd."""

    def __init__(self, name: str, path: Path) -> None:
        """Name the units."""
        self.name, self.path = name, path

    def wanted(self, at: str, interval: int) -> dict[str, str]:
        """Return the units by name."""
        units = {}
        for command, unit, what, when in (
            ("backup", f"{self.name}-backup", "database", f"*-*-* {at}:00"),
            ("logs", f"{self.name}-backup-logs", "binary logs", f"*:0/{interval}"),
        ):
            values = {"name": self.name, "what": what, "when": when, "command": command, "python": python()}
            # A % would be a specifier of systemd.
            values |= {"path": str(self.path).replace("%", "%%"), "search": os.environ["PATH"].replace("%", "%%")}
            units[f"{unit}.service"] = SERVICE.format(**values)
            units[f"{unit}.timer"] = TIMER.format(**values)
        return units

    def present(self) -> dict[str, str]:
        """Return the units that are there, by name."""
        names = [f"{self.name}-backup{part}.{kind}" for part in ("", "-logs") for kind in ("service", "timer")]
        folder = systemd.folder()
        return {name: (folder / name).read_text(encoding="utf-8") for name in names if (folder / name).exists()}

    def write(self, units: dict[str, str]) -> None:
        """Replace the units that are there.

        Raises:
            SystemdError: systemd refuses.
        """
        # The timers alone: a backup that is being taken is taken to its end.
        superfluous = sorted(set(self.present()) - set(units))
        systemd.remove(superfluous, [name for name in superfluous if name.endswith(".timer")])
        if units:
            systemd.install(units, [name for name in units if name.endswith(".timer")])


class Cron:
    """The schedule as lines in the crontab of this user."""

    def __init__(self, name: str, path: Path) -> None:
        """Know the lines by what stands at their end."""
        self.path, self.mark = path, f"# backups of {name}"

    def wanted(self, at: str, interval: int) -> list[str]:
        """Return the lines."""
        hour, minute = at.split(":")
        lines = []
        for command, when in (("backup", f"{int(minute)} {int(hour)} * * *"), ("logs", f"*/{interval} * * * *")):
            words = shlex.join([python(), "-m", "recovery", command])
            call = f"cd {shlex.quote(str(self.path))} && PATH={shlex.quote(os.environ['PATH'])} {words}"
            # A % would be a line break.
            lines.append(f"{when} {call} >{command}.log 2>&1 ".replace("%", r"\%") + self.mark)
        return lines

    @staticmethod
    def everything() -> list[str]:
        """Return all lines of the crontab."""
        done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    def present(self) -> list[str]:
        """Return the lines that are there."""
        return [line for line in self.everything() if line.endswith(self.mark)]

    def write(self, lines: list[str]) -> None:
        """Replace the lines that are there.

        Raises:
            ScheduleError: cron refuses.
        """
        others = [line for line in self.everything() if not line.endswith(self.mark)]
        text = "".join(f"{line}\n" for line in others + lines)
        done = subprocess.run(["crontab", "-"], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ScheduleError(f"crontab refuses the lines: {done.stderr.strip()}")


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "at": {"type": "str", "default": ""},
            "interval": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    scheduler = systemd.scheduler()
    if not scheduler:
        if parameters["at"]:
            module.fail_json(msg="backup_schedule: this host has neither systemd nor cron; install cron, or leave it empty.")
        module.exit_json(changed=False, keeper="")
    keeper = {"systemd": Systemd, "cron": Cron}[scheduler](parameters["name"], Path(parameters["path"]).resolve())
    try:
        wanted = keeper.wanted(parameters["at"], parameters["interval"]) if parameters["at"] else type(keeper.present())()
        changed = keeper.present() != wanted
        if changed and not module.check_mode:
            keeper.write(wanted)
    except (ScheduleError, systemd.SystemdError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, keeper=scheduler)


if __name__ == "__main__":
    main()
