"""What the load balancers know of the servers behind them."""

from __future__ import annotations

import csv
import io
import math
import socket
import time
import urllib.parse
from dataclasses import dataclass, replace

import requests

# Seconds that a load balancer may take to answer.
TIMEOUT = 3
# What a health check has found, by HAProxy's code of it (management guide, 9.1, check_status). What a server has answered
# beside its status is left out: it would be a label of the server's making.
REASONS = {
    "INI": "not checked yet",
    "SOCKERR": "the load balancer has no socket for it",
    "L4TOUT": "no connection in time",
    "L4CON": "connection refused",
    "L6TOUT": "no TLS in time",
    "L6RSP": "no valid TLS",
    "L7TOUT": "no answer in time",
    "L7RSP": "no valid answer of HTTP",
    "L7STS": "HTTP {code}",
}
DRAINED = "drained"
# What the names of those backends of a tier end with that say nothing about rotation (haproxy.cfg.j2): for WebSockets and
# event streams, and for when too few replicas pass their checks.
STREAMS, OPEN = "-streams", "-open"


@dataclass(frozen=True)
class Server:
    """A replica as a load balancer sees it."""

    balancer: str
    address: str
    up: bool
    requests: int
    errors: int
    # Average of the last 1024 requests, in seconds (HAProxy's rtime).
    response_time: float
    # Why it is not in rotation; empty: it is.
    reason: str = ""
    # Whether the reason is about the path that is asked for.
    asked: bool = False
    # When it was put into rotation or taken out of it, in seconds of the epoch; 0: the load balancer does not say.
    since: float = 0.0


def passes(row: dict[str, str]) -> bool:
    """Tell whether a server is in rotation, by a row of the statistics."""
    return row["status"].startswith(("UP", "no check"))


def reason(row: dict[str, str]) -> str:
    """Return why a server is not in rotation, by a row of the statistics; empty if it is."""
    if passes(row):
        return ""
    if row["status"].startswith("DRAIN"):
        return DRAINED
    code = (row.get("check_code") or "").strip()
    status = (row.get("check_status") or "").lstrip("* ")
    return REASONS.get(status, "its check fails").format(code=code if code.isdecimal() else "")


def idle(row: dict[str, str]) -> float:
    """Return the seconds since a server got its last request, by a row of the statistics; infinite if it has got none."""
    seconds = int(row.get("lastsess") or -1)
    return seconds if seconds >= 0 else math.inf


def combined(balancer: str, address: str, rows: list[dict[str, str]], judged: list[dict[str, str]]) -> Server:
    """Return a replica by its rows of the statistics; those that are ``judged`` say whether it is in rotation."""
    # During a change a replica may be judged in two ways; one that it passes is enough.
    up = any(passes(row) for row in judged)
    first = next(row for row in judged if passes(row) == up)
    # An average of old requests says nothing; and streams begin at once, whatever the replica does.
    short = [row for row in rows if not row["pxname"].endswith(STREAMS)]
    latest = min(short, key=lambda row: (idle(row), -int(row["rtime"] or 0)))
    return Server(
        balancer,
        address,
        up,
        sum(int(row["stot"] or 0) for row in rows),
        # What the server has answered badly, and what it has not answered.
        sum(int(row[name] or 0) for row in rows for name in ("hrsp_5xx", "econ", "eresp")),
        int(latest["rtime"] or 0) / 1000,
        reason(first),
        (first.get("check_status") or "").lstrip("* ").startswith("L7"),
        # Whole seconds on both sides, so that it stays the same from one look to the next.
        int(time.time()) - int(first["lastchg"]) if first.get("lastchg") else 0.0,
    )


def read_servers(balancer: str, text: str) -> list[Server]:
    """Return the replicas in HAProxy's statistics as CSV (management guide, 9.1) that have an address."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        # Type 2 is a server; a slot without a replica is in maintenance.
        if row["type"] == "2" and not row["status"].startswith("MAINT"):
            found.setdefault(row["addr"].rpartition(":")[0], []).append(row)
    servers = []
    for address, rows in found.items():
        if judged := [row for row in rows if not row["pxname"].endswith((STREAMS, OPEN))]:
            servers.append(combined(balancer, address, rows, judged))
    return servers


def addresses(url: str) -> list[str]:
    """Return the URL for each address that its name stands for: there may be several load balancers of a tier.

    Raises:
        OSError: nobody knows the name.
    """
    parts = urllib.parse.urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port, socket.AF_INET, socket.SOCK_STREAM)
    return [f"{parts.scheme}://{address}:{port}" for address, port in sorted({item[4] for item in found})]


def merged(servers: list[Server]) -> Server:
    """Return what several load balancers say of one replica; it is in rotation if it is at each of them."""
    up = all(server.up for server in servers)
    return replace(
        next(server for server in servers if server.up == up),
        requests=sum(server.requests for server in servers),
        errors=sum(server.errors for server in servers),
        response_time=max(server.response_time for server in servers),
    )


def ask(balancer: str, url: str) -> list[Server]:
    """Return the servers of a tier's load balancers (OSError, requests.RequestException: one of them does not answer)."""
    found: dict[str, list[Server]] = {}
    for each in addresses(url):
        answer = requests.get(f"{each}/;csv;no-maint", timeout=TIMEOUT)
        answer.raise_for_status()
        for replica in read_servers(balancer, answer.text):
            found.setdefault(replica.address, []).append(replica)
    return [merged(servers) for servers in found.values()]
