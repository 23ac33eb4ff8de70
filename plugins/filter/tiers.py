"""Filters that derive from the one list of tiers (``_stack_tiers``) what the parts of the stack need to know of them.

A tier is a replicated service, and before it a load balancer of its own that is called like it with ``-lb``.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_trial import KEYS, check_definitions


def balancer(tier: dict[str, Any]) -> dict[str, str]:
    """Return the ``name`` of the load balancer of a tier, and the ``socket`` by which it is asked."""
    name = f"{tier['name']}-lb"
    return {"name": name, "socket": f"{name}/run/master.sock"}


def tier_sockets(tiers: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return each tier's ``name``, and the ``socket`` by which its load balancer is asked."""
    return [{**balancer(tier), "name": tier["name"]} for tier in tiers]


def container_counts(tiers: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many containers there shall be of each service, in the order of the sketch."""
    counts = {}
    for tier in tiers:
        counts |= {f"{tier['name']}-lb": tier["load_balancers"], tier["name"]: tier["replicas"]}
    return counts


def shown_tiers(tiers: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return of each tier what the console shows of it: ``name``, ``title`` and ``missing``."""
    return [{key: tier[key] for key in ("name", "title", "missing")} for tier in tiers]


def tier_definitions(
    tiers: list[dict[str, Any]], known: dict[str, Any], balancers: dict[str, dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return by what replicas of each tier are judged: the wanted definition, then those that running ones need.

    Args:
        tiers: with ``port``, ``health_path`` and ``health_host``.
        known: what the last run has returned.
        balancers: what the running load balancers know, by name.
    """
    return {
        tier["name"]: check_definitions(
            {key: tier[key] for key in KEYS}, known.get(tier["name"], []), balancers.get(f"{tier['name']}-lb", {})
        )
        for tier in tiers
    }


def wanted_definitions(definitions: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return of what ``tier_definitions`` has returned the wanted one of each tier."""
    return {name: known[:1] for name, known in definitions.items()}


def replicated_services(tiers: list[dict[str, Any]], definitions: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the tiers as ``compose_rollout`` takes them, in the order in which they are changed.

    That is the reverse of the sketch: a new front end may need what only the new back ends have.
    """
    return [
        {
            **{key: tier[key] for key in ("name", "replicas", "batch", "drain", "memory", "port")},
            "load_balancers": [balancer(tier)],
            "first": definitions[tier["name"]][0]["first"],
        }
        for tier in reversed(tiers)
    ]


def balancer_services(tiers: list[dict[str, Any]], definitions: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the load balancers as ``compose_rollout`` takes them, in the order in which they are changed."""
    return [
        {
            **balancer(tier),
            "definitions": definitions[tier["name"]],
            "gap": tier["downtime"],
        }
        for tier in reversed(tiers)
    ]


def balancer_tiers(tiers: list[dict[str, Any]], definitions: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return for each load balancer its ``name``, where it is to ``listen``, and which ``servers`` it stands before."""
    return [
        {
            "name": f"{tier['name']}-lb",
            "listen": tier["listen"],
            "servers": {
                "name": tier["name"],
                "alias": tier["alias"],
                "definitions": definitions[tier["name"]],
                "replicas": tier["replicas"],
                # Requests at a time that one load balancer sends to a server, which it may share with others; 0: unlimited.
                "limit": -(-tier["max_requests"] // tier["load_balancers"]),
            },
        }
        for tier in tiers
    ]


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "balancer_services": balancer_services,
            "balancer_tiers": balancer_tiers,
            "container_counts": container_counts,
            "replicated_services": replicated_services,
            "shown_tiers": shown_tiers,
            "tier_definitions": tier_definitions,
            "tier_sockets": tier_sockets,
            "wanted_definitions": wanted_definitions,
        }
