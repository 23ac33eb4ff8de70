"""Spare the host the module if it is known that nothing differs."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible.module_utils.stack_folder import next_record
from ansible.plugins.action import ActionBase


def as_wanted(arguments: dict[str, Any]) -> bool:
    """Tell whether everything that a task wants is what ``known`` says of the folder.

    In doubt it is not, and the module looks for itself.
    """
    known = arguments.get("known") or {}
    tree = known.get("tree") or {}
    privileged = known.get("uid") == 0
    record = known.get("record") or {}
    if arguments.get("stack") and next_record(record, {"directories": [], **arguments}) != record:
        return False
    values: dict[str, int] = {}
    for item in [*arguments.get("directories", []), *arguments["files"]]:
        found = tree.get(item["path"])
        is_file = "content" in item or "secret" in item or "secret_content" in item
        if not found or found["mode"] != int(item.get("mode", "0644" if is_file else "0755"), 8):
            return False
        if privileged and (found["uid"], found["gid"]) != (int(item.get("owner") or 0), int(item.get("group") or 0)):
            return False
        if "secret" in item:
            # A value that is given has to be compared, which only the module can.
            if arguments.get("secrets", {}).get(item["secret"]):
                return False
            if found["secret"] is None or values.setdefault(item["secret"], found["secret"]) != found["secret"]:
                return False
        digest = hashlib.sha256(item["content"].encode()).hexdigest() if "content" in item else found["digest"]
        if item.get("secret_content") or digest != found["digest"]:
            return False
    return True


class ActionModule(ActionBase):
    """Documented in ``library/config_tree.py``."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Answer from what is known if nothing differs, else run the module."""
        result = super().run(tmp, task_vars)
        if as_wanted(self._task.args):
            result.update(changed=False, changed_files=[])
            return result
        return self._execute_module(task_vars=task_vars)
