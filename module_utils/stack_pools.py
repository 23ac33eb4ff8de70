"""Address ranges that an engine has left for networks."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct

# What an engine takes ranges from unless default-address-pools says otherwise (moby, daemon/libnetwork/ipamutils).
DEFAULT_POOLS = [
    *({"Base": f"172.{number}.0.0/16", "Size": 16} for number in range(17, 32)),
    {"Base": "192.168.0.0/16", "Size": 20},
]


def read_pools(text: str) -> list[dict]:
    """Return the pools, each with Base and Size (bits of a range), as ``docker info`` says; nothing stands for the usual."""
    return json.loads(text or "null") or DEFAULT_POOLS


def read_ranges(text: str) -> list[str]:
    """Return the ranges of networks, from lines of JSON that each hold what IPAM of one is configured with."""
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [config["Subnet"] for configs in lines for config in configs or [] if config.get("Subnet")]


def read_routes(text: str) -> list[str]:
    """Return the ranges that the host itself is on, from ``/proc/net/route`` (proc(5)); an engine takes none of them."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        destination, gateway, mask = (socket.inet_ntoa(struct.pack("<L", int(fields[column], 16))) for column in (1, 2, 7))
        if gateway == "0.0.0.0" and destination != "0.0.0.0":  # noqa: S104 (no address that is listened on)
            found.append(f"{destination}/{mask}")
    return found


def free_ranges(pools: list[dict], taken: list[str], enough: int) -> int:
    """Return how many ranges for networks are free, at most ``enough``.

    Args:
        pools: from ``read_pools``.
        taken: ranges that others have.
        enough: where counting may end.
    """
    occupied = [ipaddress.ip_network(text, strict=False) for text in taken]
    free = 0
    for pool in pools:
        base = ipaddress.ip_network(pool["Base"], strict=False)
        if base.version != 4 or pool["Size"] < base.prefixlen:
            continue
        near = [network for network in occupied if network.version == 4 and network.overlaps(base)]
        for part in base.subnets(new_prefix=pool["Size"]):
            if free >= enough:
                return free
            free += not any(part.overlaps(network) for network in near)
    return free
