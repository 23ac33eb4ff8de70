"""Forms that values of settings have; each function returns a sentence for a value that has another one, or nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any

from ansible.module_utils.stack_settings import parse_size, shown


def between(values: dict, name: str, low: float, high: float, unit: str) -> list[str]:
    """Check that a number is in a range; a setting that is not there is."""
    value = values.get(name)
    if value is None or low <= value <= high:
        return []
    return [f"{name}: {value} is out of range; give {unit} from {low} to {high}."]


def matches(values: dict, name: str, pattern: str, wanted: str) -> list[str]:
    """Check that a text matches a pattern as a whole; ``wanted`` says in words what does."""
    value = values.get(name)
    if value is None or re.fullmatch(pattern, str(value)):
        return []
    return [f"{name}: {shown(name, str(value))} is not valid; give {wanted}."]


def size(name: str, value: Any) -> list[str]:
    """Check that a value is an amount of memory or disk space."""
    try:
        parse_size(value)
    except ValueError:
        return [f"{name}: {value!r} is no size; write it like 256M or 1G."]
    return []


def keys(name: str, given: dict, known: Collection[str], kind: str) -> list[str]:
    """Check that a dictionary has no other keys than those that are known; ``kind`` is what one of them is called."""
    problems = []
    for key in [key for key in given if key not in known]:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use {', '.join(known)}."
        problems.append(f"{name}: {key!r} is no {kind}; {hint}")
    return problems
