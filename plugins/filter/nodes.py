"""Filters for the nodes of a Swarm, its networks, and for the labels that say which of them have which part of a stack."""

from __future__ import annotations

import json
import re
from typing import Any

# What the engine of a manager says whose Swarm has lost too many managers.
WITHOUT_QUORUM = re.compile("leader|quorum|deadline")
# Exit code of timeout(1).
TIMEOUT = 124


def nodes_by_host(nodes: list[dict]) -> dict[str, dict]:
    """Return nodes by their names in the inventory, or by their ids where it has none for them."""
    return {(node["Spec"].get("Labels") or {}).get("webstack.host", node["ID"]): node for node in nodes}


def label_holders(nodes: dict[str, dict]) -> dict[str, list[str]]:
    """Return the hosts that have each label.

    Args:
        nodes: from ``nodes_by_host``.
    """
    holders: dict[str, list[str]] = {}
    for host, node in nodes.items():
        for label in node["Spec"].get("Labels") or {}:
            holders.setdefault(label, []).append(host)
    return holders


def labels_wrong(places: dict[str, list], holders: dict[str, list], nodes: dict[str, dict]) -> list[dict[str, Any]]:
    """Return ``host``, ``node`` and ``label`` of each label that a node lacks (``present`` is true) or has wrongly.

    Args:
        places: hosts that shall have each label.
        holders: from ``label_holders``.
        nodes: from ``nodes_by_host``.
    """
    wrong = []
    for label, hosts in places.items():
        found = holders.get(label, [])
        for present, differing in (
            (True, [h for h in hosts if h not in found]),
            (False, [h for h in found if h not in hosts]),
        ):
            wrong += [{"host": host, "node": nodes[host]["ID"], "label": label, "present": present} for host in differing]
    return wrong


def nodes_labelled(holders: dict[str, list], labels: list[str]) -> list[list[str]]:
    """Return a host and a label for each host that has one of ``labels``; ``holders`` are from ``label_holders``."""
    return [[host, label] for label in labels for host in holders.get(label, [])]


def swarm_formed(asked: list[dict]) -> bool:
    """Tell whether managers belong to a Swarm, even one that has lost its quorum, from what they said of their nodes.

    Args:
        asked: results of a command, empty ones of managers that could not be asked.
    """
    return any(item.get("rc") in (0, TIMEOUT) or WITHOUT_QUORUM.search(item.get("stderr", "")) for item in asked)


def swarm_controllers(hosts: list[str], answers: list[str]) -> list[str]:
    """Return the hosts whose engine can change the Swarm; ``answers`` are theirs to ``docker info``, or empty."""
    told = (json.loads(answer or "{}") for answer in answers)
    return [host for host, swarm in zip(hosts, told, strict=True) if swarm.get("ControlAvailable")]


def network_ranges(found: list[dict], stack: str) -> dict[str, str]:
    """Return the address range of each network of a stack that has one; ``found`` is what the engine tells of them."""
    return {
        network["Name"].removeprefix(f"{stack}_"): network["IPAM"]["Config"][0]["Subnet"]
        for network in found
        if network["IPAM"]["Config"]
    }


def networks_refused(
    found: list[dict], stack: str, definitions: dict[str, dict], subnets: dict[str, str], encrypted: bool
) -> list[str]:
    """Return in what networks that exist differ from what is wanted.

    Args:
        found: what the engine tells of them.
        stack: whose they are.
        definitions: by name, whether they are ``internal``.
        subnets: the ranges that are given, by name.
        encrypted: whether what goes from host to host is.
    """
    problems, ranges = [], network_ranges(found, stack)
    for network in found:
        name = network["Name"].removeprefix(f"{stack}_")
        if name not in definitions:
            continue
        if subnets.get(name) and ranges.get(name, subnets[name]) != subnets[name]:
            problems.append(f"network_subnets: {name} has the range {ranges[name]}")
        if encrypted != ("encrypted" in (network["Options"] or {})):
            problems.append(f"swarm_encrypted: {name} is {'not ' if encrypted else ''}encrypted")
        if bool(definitions[name]["internal"]) != network["Internal"]:
            problems.append(f"The network {name} is {'' if network['Internal'] else 'not '}internal")
    return problems


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "label_holders": label_holders,
            "labels_wrong": labels_wrong,
            "network_ranges": network_ranges,
            "networks_refused": networks_refused,
            "nodes_by_host": nodes_by_host,
            "nodes_labelled": nodes_labelled,
            "swarm_controllers": swarm_controllers,
            "swarm_formed": swarm_formed,
        }
