"""Count the runs of playbooks: one line for each in the file that WEBSTACK_RUNS names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: count_runs
type: aggregate
short_description: Count the runs of playbooks
description:
  - C(make test) loads it and prints the number of runs at its end.
"""


class CallbackModule(CallbackBase):
    """Writes a line when a run begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count_runs"

    counted = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Note the run; a command with several playbooks is one."""
        if not self.counted:
            self.counted = True
            with Path(os.environ["WEBSTACK_RUNS"]).open("a", encoding="utf-8") as file:
                file.write(f"{playbook._file_name}\n")
