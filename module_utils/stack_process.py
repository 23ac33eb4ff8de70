"""Processes of the host, as the kernel tells of them (proc(5))."""

from __future__ import annotations

from pathlib import Path


def family(process: int) -> list[int]:
    """Return a process and everything that it has started, directly or not, each after what has started it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            # It has ended meanwhile.
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for item in found:
        found += children.get(item, [])
    return found
