"""Read dumps on the controller, and hand them over as the database takes them."""

from __future__ import annotations

import gzip
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase

try:
    from ansible.module_utils import stack_dump
except ImportError as error:
    stack_dump, MISSING = None, error.name


class ActionModule(ActionBase):
    """Documented in ``library/stack_dumps.py``."""

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Read all dumps; write them only if all of them fit."""
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        path = None if self._task.check_mode else arguments.get("path")
        result.update(changed=False, notes=[])
        problems = []
        if arguments["dumps"] and stack_dump is None:
            return result | {
                "failed": True,
                "msg": f"database_dumps: reading dumps needs the Python package {MISSING} on this machine; run"
                " `pip install --requirement requirements.txt` with the Python of Ansible.",
            }
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as folder:
            for index, name in enumerate(arguments["dumps"]):
                dump = Path(arguments["project_dir"]) / Path(name).expanduser()
                target = Path(folder) / f"{index:03d}-{dump.name}.gz"
                # Fast rather than small: it is read once.
                with gzip.open(target, "wb", compresslevel=1) if path else nullcontext() as file:
                    wrong, changed = stack_dump.fit(dump, arguments["database"], arguments["user"], file)
                problems += wrong
                result["notes"] += changed
            if problems:
                result.update(failed=True, msg="\n".join(problems))
            elif path:
                result.update(self._copy(folder, path, task_vars))
        return result

    def _copy(self, source: str, path: str, task_vars: dict) -> dict:
        """Copy a folder of this machine to the host, and return what is to be told of that."""
        task = self._task.copy()
        task.args = {"src": f"{source}/", "dest": f"{path}/", "mode": "0644", "directory_mode": "0755"}
        # Dumps are data.
        task.diff = False
        copy = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done = copy.run(task_vars=task_vars)
        return {key: done[key] for key in ("changed", "failed", "msg") if key in done}
