"""Filters for the files that the module ``config_tree`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def program_files(names: list[str], source: str, target: str) -> list[dict[str, str]]:
    """Return programs in Python as ``config_tree`` takes them.

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
        return {"program_files": program_files}
