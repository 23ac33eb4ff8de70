"""What has happened to a stack: one JSON object a line, written where it happens, for the console and the status.

``time`` (seconds of the epoch), ``kind`` and ``text``, and what else belongs to it. Kinds: ``step`` (a rollout is at work),
``rollout``, ``failed``, ``release``, ``watchdog``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

PATH = Path("history/events.jsonl")
SIZE = 1 << 20


def tell(root: Path, kind: str, text: str, **more: Any) -> None:
    """Write down what has happened in the folder ``root`` of a stack; nothing fails because that cannot be written."""
    with contextlib.suppress(OSError):
        (root / PATH).parent.mkdir(mode=0o755, exist_ok=True)
        append(root / PATH, {"time": round(time.time(), 3), "kind": kind, "text": text, **more})


def append(path: Path, event: dict[str, Any]) -> None:
    """Add an event to a file, in which the oldest make room (OSError: it cannot be written)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        # A run and the watchdog may come at once.
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whatever the umask is: the console's part that reads it runs as another user.
        os.fchmod(descriptor, 0o644)
        file.write(json.dumps(event).encode() + b"\n")
        if os.fstat(descriptor).st_size > SIZE:
            file.seek(-SIZE // 2, os.SEEK_END)
            kept = file.read().partition(b"\n")[2]
            file.truncate(0)
            file.write(kept)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file, the newest last; empty if there is no such file."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
