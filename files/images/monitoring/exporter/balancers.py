"""What the load balancers know of the servers behind them."""

from __future__ import annotations

import csv
import io
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


def ask(balancer: str, url: str) -> list[Server]:
    """Return the servers of a load balancer.

    Raises:
        requests.RequestException: it does not answer.
    """
    answer = requests.get(f"{url}/;csv;no-maint", timeout=TIMEOUT)
    answer.raise_for_status()
    return read_servers(balancer, answer.text)
