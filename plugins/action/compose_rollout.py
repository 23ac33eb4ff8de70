"""Show what compose_rollout does while it does it."""

from __future__ import annotations

import json
import shlex
import threading
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Seconds between two looks at the journal.
PAUSE = 1.0


class ActionModule(ActionBase):
    """Documented in ``library/compose_rollout.py``."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Run the module, and show the lines that it adds to the journal."""
        result = super().run(tmp, task_vars)
        if self._task.check_mode:
            result.update(self._execute_module(task_vars=task_vars))
            return result
        self._journal = shlex.quote(f"{self._task.args['path']}/rollout.log")
        self._seen = int(self._command(f"cat {self._journal} 2>/dev/null | wc -c"))
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            result.update(self._execute_module(task_vars=task_vars))
        finally:
            ended.set()
            watcher.join()
        self._show()
        return result

    def _watch(self, ended: threading.Event) -> None:
        """Show new lines until the module has ended."""
        while not ended.wait(PAUSE):
            try:
                self._show()
            except Exception as error:
                Display().vv(f"The progress could not be read: {error!r}")

    def _show(self) -> None:
        """Show the lines that have come since the last look."""
        text = self._command(f"tail -c +{self._seen + 1} {self._journal} 2>/dev/null")
        complete = text[: text.rfind("\n") + 1]
        self._seen += len(complete.encode())
        if complete:
            # The callback prints it once, whoever asks first.
            Display().display(f"{self._task.name}:")
        for line in complete.splitlines():
            step = json.loads(line)
            # Why it has failed is the last that is said.
            if step["gate"] != "failed":
                Display().display(f"  {step['service']}: {step['text']}", color="bright blue")

    def _command(self, command: str) -> str:
        """Return what a command on the host prints."""
        return self._low_level_execute_command(command)["stdout"]
