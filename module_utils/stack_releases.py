"""Releases: what the tiers were, so that they can be that again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

FOLDER = "releases"
INDEX = "index.json"


def tiers(text: str) -> list[str]:
    """Return the tiers of a rendered Compose file: what has a load balancer of its own."""
    return re.findall(r"^  (\S+)-lb:$", text, re.MULTILINE)


def section(text: str, service: str) -> str:
    """Return the lines of one service in a rendered Compose file (KeyError: there is none)."""
    match = re.search(rf"^  {re.escape(service)}:\n(?:(?:    .*)?\n)*", text, re.MULTILINE)
    if not match:
        raise KeyError(service)
    return match[0]


def replicas(text: str, service: str) -> int:
    """Return how many containers of a service a rendered Compose file wants."""
    return int(re.search(r'"replicas": (\d+)', section(text, service))[1])


def digest(text: str) -> str:
    """Return what tells one release from another; how many containers there are, and a Swarm, are not part of it."""
    other = re.compile(r'"replicas": \d+|^    x-.*\n', re.MULTILINE)
    parts = [other.sub("", section(text, service)).strip() for service in tiers(text)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def splice(current: str, release: str) -> str:
    """Return a Compose file with the tiers of a release, as many replicas of them as now, and all else as now."""
    for service in tiers(release):
        number = replicas(current, service)
        wanted = re.sub(r'"replicas": \d+', f'"replicas": {number}', section(release, service))
        current = current.replace(section(current, service), wanted)
    return current


def read_index(stack_dir: Path) -> list[dict]:
    """Return the releases that are kept, the one that runs last; empty if there are none."""
    try:
        return json.loads((stack_dir / FOLDER / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def is_saved(stack_dir: Path) -> bool:
    """Tell whether what is rendered is the newest release."""
    try:
        text = (stack_dir / "docker-compose.yml").read_text(encoding="utf-8")
        return bool(index := read_index(stack_dir)) and index[-1]["digest"] == digest(text)
    except (OSError, KeyError):
        return False
