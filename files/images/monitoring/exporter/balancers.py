"""What the load balancers know of the servers behind them."""

from __future__ import annotations

import csv
import io
import socket
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import requests

# Seconds that a load balancer may take to answer.
TIMEOUT = 3


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
    first = servers[0]
    return Server(
        first.balancer,
        first.address,
        enough(server.up for server in servers),
        sum(server.requests for server in servers),
        sum(server.errors for server in servers),
        max(server.response_time for server in servers),
    )


def ask(balancer: str, url: str) -> list[Server]:
    """Return the servers of a tier's load balancers.

    Raises:
        OSError, requests.RequestException: one of them does not answer.
    """
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
