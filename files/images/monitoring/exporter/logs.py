"""What containers have written: the end of one log with secrets masked, and the requests in those of the edge, by path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from stack_secrets import MASK, Masks, secret_values

# Lines of a log that are shown, and those of the edge that are looked through; the proxy lets no more than 9999 through.
LINES, REQUESTS = 200, 5000
# Characters of a line.
WIDTH = 2000
# Seconds that are looked back on for requests.
RECENT = 900
# Colours and other orders to a terminal, and characters that nobody can see.
CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# What stands behind a name of something secret, in whatever form applications write it, and keys without their first line.
NAMED = re.compile(
    r"""(?i)((?:pass(?:word|wd|phrase)?|secret|token|authorization|cookie|credentials?|(?:api|access|private)[-_]?key)"""
    r"""["']?\s*[:=]\s*(?:bearer |basic |token )?["']?)[^\s"',;&]+"""
)
BARE = re.compile(r"(?i)(\b(?:bearer|basic) )[A-Za-z0-9+/=._~-]{8,}")
KEY = re.compile(r"(?m)^(\S+ )[A-Za-z0-9+/=]{40,}$")
# Parts of a path that tell one thing from another of its kind, or one person: numbers and what looks like a key.
PART = re.compile(r"(?<=/)(?:\d+|[0-9a-fA-F-]{16,}|[^/]*\d[^/]{14,}|[^/]{40,})(?=/|$)")


def masked(text: str, environment: Iterable[str] = ()) -> str:
    """Return a text without what is a secret by its form, or by the variables of a container's environment."""
    variables = dict(item.partition("=")[::2] for item in environment)
    masks = Masks()
    masks.add(secret_values("environment", {key: value for key, value in variables.items() if not key.endswith("_FILE")}))
    text = BARE.sub(rf"\1{MASK}", NAMED.sub(rf"\1{MASK}", masks.apply(text)))
    return KEY.sub(rf"\1{MASK}", text)


def lines(text: str, environment: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the lines of a log with their times, masked and without characters that only a terminal understands."""
    found = []
    clean = "\n".join(CONTROL.sub("", line) for line in text.split("\n"))
    for line in masked(clean, environment).splitlines():
        moment, _, content = line.partition(" ")
        try:
            at = datetime.fromisoformat(moment).timestamp()
        except ValueError:
            at, content = 0.0, line
        found.append({"time": at, "text": content[:WIDTH]})
    return found[-LINES:]


def by_path(text: str) -> list[dict[str, Any]]:
    """Return what a load balancer's log says of requests: for each method and path how many, how many failed, how slow.

    Times are seconds until the server began its answer, or until the load balancer gave one itself.
    """
    rows: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line.partition(" ")[2])
            status, waited = int(entry["status"]), int(entry["response_ms"])
            name = f"{entry['method']} {PART.sub('…', str(entry['path']))}"
            seconds = (waited if waited >= 0 else int(entry["total_ms"])) / 1000
        except (ValueError, KeyError, TypeError):
            # Not a request, or cut off.
            continue
        name = CONTROL.sub("", masked(name))[:WIDTH]
        row = rows.setdefault(
            name, {"path": name, "requests": 0, "failed": 0, "seconds": 0.0, "slowest": 0.0, "statuses": {}}
        )
        row["requests"] += 1
        row["seconds"] += max(0.0, seconds)
        row["slowest"] = max(row["slowest"], seconds)
        # Without an answer of the server: HAProxy writes -1, or the status that it gave instead.
        if status >= 500 or status < 0:
            row["failed"] += 1
            row["statuses"][str(status)] = row["statuses"].get(str(status), 0) + 1
    return list(rows.values())
