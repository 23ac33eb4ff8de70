"""Let what systemd runs for a user go on without a login."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils import stack_systemd as systemd
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Documented in ``library/stack_linger.py``."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Ask as the user, then as root; a task that may not become root ends with the sentence, too."""
        result = super().run(tmp, task_vars) | {"changed": True}
        name = self._task.args["user"]
        if self._task.check_mode:
            return result
        for root in (False, True):
            try:
                self._low_level_execute_command(shlex.join([*systemd.ENABLE, name]), sudoable=root)
            except AnsibleError:
                # There is no sudo, or it wants a password that nobody has given.
                continue
            said = self._low_level_execute_command(shlex.join([*systemd.SHOW, name]), sudoable=False)
            if said["stdout"].strip() == systemd.LINGERS:
                return result
        return result | {"failed": True, "changed": False, "msg": systemd.linger_refusal(name)}
