"""Filters that turn values of settings into text, numbers and digests, and programs into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.stack_failure import seconds
from ansible.module_utils.stack_files import digest
from ansible.module_utils.stack_settings import (
    as_text,
    milliseconds,
    parse_duration,
    parse_size,
    with_defaults,
)


def program_files(names: list[str], source: str, target: str) -> list[dict[str, str]]:
    """Return programs in Python as the module ``config_tree`` takes them.

    Args:
        names: of the programs, without suffix.
        source: their folder on the controller.
        target: their folder in the tree.
    """
    return [
        {"path": f"{target}/{name}.py", "content": Path(source, f"{name}.py").read_text(encoding="utf-8")} for name in names
    ]


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "as_text": as_text,
            "digest": digest,
            "duration_seconds": parse_duration,
            "memory_bytes": parse_size,
            "milliseconds": milliseconds,
            "program_files": program_files,
            "told_seconds": seconds,
            "with_defaults": with_defaults,
        }
