#!/usr/bin/python
"""Let the watchdog of a stack run on the host, or end it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_watchdog
short_description: Let the watchdog of a stack run on the host, or end it
description:
  - Where systemd runs, the watchdog is a service of it (of the user's own instance, if the user is not root) and comes
    back after a reboot. Elsewhere it is a process in the background, which the next run of the playbook starts again.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  path:
    description: Folder with C(watchdog.py) and C(settings.json).
    type: path
    required: true
  version:
    description: Digest of program and settings; a process with another one is replaced.
    type: str
    default: ""
  state:
    description: Whether it shall run.
    type: str
    choices: [started, stopped]
    default: started
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Let the watchdog run
  stack_watchdog:
    name: webstack
    path: ~/.local/share/webstack/watchdog
    version: 0123456789abcdef
"""

RETURN = r"""
supervisor:
  description: Who keeps it running, C(systemd) or C(none).
  returned: always
  type: str
"""

import contextlib  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils import stack_systemd as systemd  # noqa: E402
from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_lock import holder  # noqa: E402

# Seconds in which it starts or ends.
PATIENCE = 15.0
UNIT = """[Unit]
Description=Restarts replicas of {name} that no longer answer
After=docker.service

[Service]
ExecStart="{python}" "{path}/watchdog.py" "{path}"
Restart=always
RestartSec=5

[Install]
WantedBy={target}
"""


class WatchdogError(Exception):
    """The text says what did not happen."""


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition.

    Raises:
        WatchdogError: it does not come true in time; the text says ``what`` did not happen.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise WatchdogError(what)
        time.sleep(0.05)


class Systemd:
    """The watchdog as a service of systemd."""

    def __init__(self, name: str, path: Path) -> None:
        """Name the unit and say what is in it."""
        self.unit = f"{name}-watchdog.service"
        target = "multi-user.target" if os.getuid() == 0 else "default.target"
        # A % would be a specifier of systemd.
        self.content = UNIT.format(name=name, python=sys.executable, path=str(path).replace("%", "%%"), target=target)

    def present(self) -> bool:
        """Tell whether there is a unit."""
        return (systemd.folder() / self.unit).exists()

    def start(self) -> None:
        """Write the unit and start it anew.

        Raises:
            SystemdError: systemd refuses.
        """
        systemd.install({self.unit: self.content}, [self.unit])

    def stop(self) -> None:
        """Stop it and remove the unit."""
        systemd.remove([self.unit], [self.unit])


class Background:
    """The watchdog as a process of its own."""

    def __init__(self, _name: str, path: Path) -> None:
        """Know the folder."""
        self.path = path

    def present(self) -> bool:
        """Tell whether it runs."""
        return bool(holder(self.path))

    def start(self) -> None:
        """Start it in a session of its own, after the one that runs has ended."""
        self.stop()
        errors = (self.path / "errors.log").open("w", encoding="utf-8")
        with errors:
            subprocess.Popen(
                [sys.executable, str(self.path / "watchdog.py"), str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the process that runs.

        Raises:
            WatchdogError: it does not end.
        """
        found = holder(self.path)
        if found.get("process"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found["process"], signal.SIGTERM)
            wait(lambda: not holder(self.path), f"The watchdog (process {found['process']}) does not end; end it by hand.")


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    path = Path(parameters["path"]).resolve()
    running = holder(path).get("doing")
    started = parameters["state"] == "started"
    supervised = systemd.available()
    supervisor = (Systemd if supervised else Background)(parameters["name"], path)
    changed = running != parameters["version"] if started else bool(running) or supervisor.present()
    if changed and not module.check_mode:
        try:
            if started:
                supervisor.start()
                wait(
                    lambda: holder(path).get("doing") == parameters["version"],
                    f"The watchdog does not start; look at {path}/errors.log, or set watchdog_enabled: false.",
                )
            else:
                supervisor.stop()
        except (WatchdogError, systemd.SystemdError, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=changed, supervisor="systemd" if supervised else "none")


if __name__ == "__main__":
    main()
