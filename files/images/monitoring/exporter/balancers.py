"""What the load balancers know of the servers behind them."""

from __future__ import annotations

import csv
import io
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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
    # Why it gets no requests; empty: it does.
    reason: str = ""
    # Whether the reason is about the path that is asked for.
    asked: bool = False
    # When it was put into rotation or taken out of it, in seconds of the epoch; 0: the load balancer does not say.
    since: float = 0.0


def reason(row: dict[str, str]) -> str:
    """Return why a server gets no requests, by a row of the statistics; empty if it does."""
    if row["status"].startswith(("UP", "no check")):
        return ""
    if row["status"].startswith("DRAIN"):
        return DRAINED
    code = (row.get("check_code") or "").strip()
    status = (row.get("check_status") or "").lstrip("* ")
    return REASONS.get(status, "its check fails").format(code=code if code.isdecimal() else "")


def read_servers(balancer: str, text: str) -> list[Server]:
    """Return the servers in HAProxy's statistics as CSV (management guide, 9.1) that have an address."""
    servers = []
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        # Type 2 is a server; a slot without a replica is in maintenance.
        if row["type"] != "2" or row["status"].startswith("MAINT"):
            continue
        # What the server has answered badly, and what it has not answered.
        errors = sum(int(row[name] or 0) for name in ("hrsp_5xx", "econ", "eresp"))
        servers.append(
            Server(
                balancer,
                row["addr"].rpartition(":")[0],
                row["status"].startswith(("UP", "no check")),
                int(row["stot"] or 0),
                errors,
                int(row["rtime"] or 0) / 1000,
                reason(row),
                (row.get("check_status") or "").lstrip("* ").startswith("L7"),
                # Whole seconds on both sides, so that it stays the same from one look to the next.
                int(time.time()) - int(row["lastchg"]) if row.get("lastchg") else 0.0,
            )
        )
    return servers


def addresses(url: str) -> list[str]:
    """Return the URL for each address that its name stands for: there may be several load balancers of a tier.

    Raises:
        OSError: nobody knows the name.
    """
    parts = urllib.parse.urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port, socket.AF_INET, socket.SOCK_STREAM)
    return [f"{parts.scheme}://{address}:{port}" for address, port in sorted({item[4] for item in found})]


def merged(servers: list[Server], enough: Callable[[Iterable[bool]], bool]) -> Server:
    """Return what is said of one replica in several places; it is in rotation if ``enough`` of them (any, all) say so."""
    up = enough(server.up for server in servers)
    # If it is out, one that sends it nothing has the reason; if it is in, one that says so has none.
    first = next(server for server in servers if server.up == up)
    return Server(
        first.balancer,
        first.address,
        up,
        sum(server.requests for server in servers),
        sum(server.errors for server in servers),
        max(server.response_time for server in servers),
        first.reason,
        first.asked,
        first.since,
    )


def ask(balancer: str, url: str) -> list[Server]:
    """Return the servers of a tier's load balancers (OSError, requests.RequestException: one of them does not answer)."""
    found: dict[str, list[Server]] = {}
    for each in addresses(url):
        answer = requests.get(f"{each}/;csv;no-maint", timeout=TIMEOUT)
        answer.raise_for_status()
        slots: dict[str, list[Server]] = {}
        for server in read_servers(balancer, answer.text):
            slots.setdefault(server.address, []).append(server)
        # During a change one load balancer may judge a replica in two ways; one that it passes is enough.
        for address, servers in slots.items():
            found.setdefault(address, []).append(merged(servers, any))
    return [merged(servers, all) for servers in found.values()]
