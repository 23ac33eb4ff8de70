"""Talking to HAProxy over its master socket."""

from __future__ import annotations

import csv
import os
import re
import socket
from pathlib import Path


def ask(path: Path, command: str, timeout: float = 10) -> str:
    """Return the answer of a master socket to one command.

    Raises:
        OSError: nothing answers there within ``timeout`` seconds.
    """
    # The address of a Unix socket holds 108 bytes, less than many paths: it is named from its folder.
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path.name)
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    finally:
        os.fchdir(before)
        os.close(before)
    return answer.decode(errors="replace")


def version(text: str) -> str:
    """Return the digest in a configuration or in an answer to ``show info``; empty if there is none."""
    match = re.search(r"^\s*description:?\s+(\S+)", text, re.MULTILINE)
    return match[1] if match else ""


def servers_up(statistics: str, backend: str) -> int:
    """Return how many servers of a backend pass their checks, from an answer to ``show stat``."""
    rows = csv.DictReader(statistics.lstrip("# ").splitlines())
    # "UP", and "UP 1/2" while a check has just failed; "no check" does not occur here.
    return sum(
        row["pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND") and row["status"].startswith("UP")
        for row in rows
    )
