"""Talking to HAProxy over its master socket."""

from __future__ import annotations

import csv
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Bits of srv_admin_state and the values of srv_op_state (HAProxy's management guide, "show servers state").
FORCED_DRAIN = 0x08
MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20 | 0x40
STOPPED, RUNNING = 0, 2
# Codes of a check that has passed.
PASSED = ("L4OK", "L6OK", "L7OK", "L7OKC")


def ask(path: Path, command: str, timeout: float = 10) -> str:
    """Return the answer of a master socket to one command.

    Raises:
        OSError: nothing answers there within ``timeout`` seconds.
    """
    # The address of a Unix socket holds 108 bytes, less than many paths: its folder is named by a descriptor (proc(5)).
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    finally:
        os.close(folder)
    return answer.decode(errors="replace")


def version(text: str) -> str:
    """Return the digest in a configuration or in an answer to ``show info``; empty if there is none."""
    match = re.search(r"^\s*description:?\s+(\S+)", text, re.MULTILINE)
    return match[1] if match else ""


def read_rows(statistics: str) -> Iterator[dict[str, str]]:
    """Return the rows of an answer to ``show stat``, by the names of their columns (management guide, 9.1)."""
    return csv.DictReader(statistics.lstrip("# ").splitlines())


def servers_up(statistics: str, backend: str) -> int:
    """Return how many servers of a backend pass their checks, from an answer to ``show stat``."""
    # "UP", and "UP 1/2" while a check has just failed; "no check" does not occur here.
    return sum(
        row["pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND") and row["status"].startswith("UP")
        for row in read_rows(statistics)
    )


def servers_passing(statistics: str, backend: str) -> int:
    """Return how many servers of a backend are up by a check of this very process, from an answer to ``show stat``.

    After a reload a server is up because it was, until the first check has come back.
    """
    rows = [
        row for row in read_rows(statistics) if row["pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND")
    ]
    return sum(row["status"].startswith("UP") and row["check_status"].lstrip("* ") in PASSED for row in rows)


@dataclass(frozen=True)
class Server:
    """One slot of a backend: its name, the address in it (empty: none), and its state in HAProxy's numbers."""

    name: str
    address: str
    operation: int
    administration: int

    @property
    def up(self) -> bool:
        """Whether it gets requests."""
        return bool(self.address) and self.operation == RUNNING and self.administration == 0

    @property
    def draining(self) -> bool:
        """Whether somebody has said that it shall get no new requests."""
        return bool(self.administration & FORCED_DRAIN)


def read_servers(state: str) -> list[Server]:
    """Return the slots in an answer to ``show servers state``."""
    lines = state.splitlines()
    header = next((line for line in lines if line.startswith("# ")), "").lstrip("# ").split()
    servers = []
    for line in lines:
        fields = dict(zip(header, line.split()))
        if line.startswith("#") or len(fields) < len(header) or not header:
            continue
        administration = int(fields["srv_admin_state"])
        # In maintenance, because its name has no such address any more, a slot still shows the last one.
        address = "" if fields["srv_addr"] == "-" or administration & MAINTENANCE else fields["srv_addr"]
        servers.append(Server(fields["srv_name"], address, int(fields["srv_op_state"]), administration))
    return servers


def read_sessions(statistics: str, backend: str) -> dict[str, int]:
    """Return how many requests each server of a backend is serving, from an answer to ``show stat``."""
    return {row["svname"]: int(row["scur"] or 0) for row in read_rows(statistics) if row["pxname"] == backend}


@dataclass(frozen=True)
class Counts:
    """Requests since the process has started, and those that ended with a status of 5xx or without an answer."""

    requests: int
    failed: int


def read_counts(statistics: str) -> dict[str, Counts]:
    """Return the requests of each server and of the application's frontend, from an answer to ``show stat``."""
    found = {}
    for row in read_rows(statistics):
        number = {key: int(row[key] or 0) for key in ("stot", "req_tot", "hrsp_5xx", "econ", "eresp")}
        if row["type"] == "0" and row["pxname"] == "application":
            found["FRONTEND"] = Counts(number["req_tot"], number["hrsp_5xx"])
        elif row["type"] == "2":
            found[row["svname"]] = Counts(number["stot"], number["hrsp_5xx"] + number["econ"] + number["eresp"])
    return found


def read_checks(statistics: str, backend: str) -> dict[str, str]:
    """Return the code of each server's last check (``L7OK``, ``L7TOUT`` …), from an answer to ``show stat``."""
    rows = read_rows(statistics)
    return {row["svname"]: row["check_status"].lstrip("* ") for row in rows if row["pxname"] == backend}


def refused_checks(statistics: str, backend: str, servers: set[str] | None = None) -> str:
    """Return the status with which health checks are refused (``400``), from an answer to ``show stat``, or nothing.

    Args:
        statistics: the answer.
        backend: whose servers are looked at.
        servers: some of them; None: all.
    """
    for row in read_rows(statistics):
        if row["pxname"] != backend or (servers is not None and row["svname"] not in servers):
            continue
        if row["check_status"].lstrip("* ") == "L7STS" and re.fullmatch("4[0-9][0-9]", row.get("check_code") or ""):
            return row["check_code"]
    return ""


def refused_advice(code: str, tier: str) -> str:
    """Return what to do where a tier answers health checks with a status of ``refused_checks``."""
    return (
        f"health checks are answered with {code}: give {tier}_health_path a path that is open, and {tier}_health_host"
        " a host that the application answers"
    )


def save_state(master: Path, port: int) -> Path:
    """Write what the process behind a master socket knows of its servers, for the one that follows; return the file.

    Servers on another port than ``port`` are left out: a port in the file would outdo that of the configuration.

    Raises:
        OSError: nothing answers.
    """
    lines = ask(master, "@1 show servers state").splitlines()
    header = next((line for line in lines if line.startswith("# ")), "# srv_port").lstrip("# ").split()
    column = header.index("srv_port")
    kept = [line for line in lines if len(fields := line.split()) < len(header) or fields[column] in (str(port), "srv_port")]
    state = master.with_name("state")
    temporary = master.with_name(".state.new")
    temporary.write_text("\n".join(kept) + "\n", encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(state)
    return state
