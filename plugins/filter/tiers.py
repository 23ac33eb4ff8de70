"""Filters that derive from the one list of tiers (``_stack_tiers``) what the parts of the stack need to know of them.

A tier is a replicated service, and before it a load balancer of its own that is called like it with ``-lb``: how that is
deployed and checks its servers, and what it has counted.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_files import digest
from ansible.module_utils.stack_summary import changes, failed_requests
from ansible.module_utils.stack_trial import KEYS, check_definitions, check_field

# In the image haproxy.
CONFIGURATION = "/usr/local/etc/haproxy"
VERSION = "@VERSION@"


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
        {**balancer(tier), "definitions": definitions[tier["name"]], "gap": tier["downtime"]} for tier in reversed(tiers)
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
                "shared_by": tier["load_balancers"],
            },
        }
        for tier in tiers
    ]


def with_before(balancers: list[dict[str, Any]], before: dict[str, str]) -> list[dict[str, Any]]:
    """Return load balancers, each with the configuration that it goes back to."""
    return [{**balancer, "before": before.get(balancer["name"], "")} for balancer in balancers]


def load_balancers(
    tiers: list[dict[str, Any]], rendered: list[dict[str, str]], common: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Return what is deployed of the load balancers, and how each is brought to its configuration.

    Args:
        tiers: what ``balancer_tiers`` has returned.
        rendered: for each of them the ``wanted`` configuration, and the one ``between`` while replicas of two kinds are
            judged, empty if they are all of one kind.
        common: ``owner`` (number of ``user`` and ``group``), ``files`` that each has beside its configuration by name,
            ``certificate`` and ``key`` of one that listens for https, ``check`` (command that runs the image) and
            ``checked`` (what it runs), ``patience`` and ``settings`` for ``haproxy_converge``.

    Returns:
        ``directories``, ``files`` and ``checks`` for ``config_tree``; ``rotation`` and ``transition`` for
        ``haproxy_converge``: how they are in the end, and before that.
    """
    owner = {"owner": common["owner"]["user"], "group": common["owner"]["group"]}
    found: dict[str, list[dict[str, Any]]] = {
        key: [] for key in ("directories", "files", "checks", "rotation", "transition")
    }
    for tier, texts in zip(tiers, rendered, strict=True):
        name, listen, servers = tier["name"], tier["listen"], tier["servers"]
        folder = f"{name}/config"
        secure = "https" in listen
        # It bears a digest of itself and of what it loads, so that a running process can be asked whether it has read it.
        loaded = [*common["files"].values(), *([common["certificate"]] if secure else [])]
        wanted, between = texts["wanted"], texts["between"] or texts["wanted"]
        version, version_between = digest(wanted, *loaded), digest(between, *loaded)
        found["directories"] += [{"path": name}, {"path": folder}]
        found["files"].append({"path": f"{folder}/haproxy.cfg", "content": between.replace(VERSION, version_between)})
        found["files"] += [{"path": f"{folder}/{file}", "content": text} for file, text in common["files"].items()]
        if secure:
            found["directories"].append({"path": f"{folder}/tls", "mode": "0700", **owner})
            found["files"] += [
                {"path": f"{folder}/tls/site.pem", "content": common["certificate"], "mode": "0600", **owner},
                {"path": f"{folder}/tls/site.pem.key", "secret_content": common["key"], "mode": "0600", **owner},
            ]
        found["directories"].append({"path": f"{name}/run", "mode": "0700", **owner})
        # The names that it binds to stand for loopback there.
        names = [f"--add-host={network}.{name}:127.0.0.1" for network in (listen["network"], "metrics")]
        volume = f"--volume={{tree}}/{folder}:{CONFIGURATION}:ro"
        argv = [*common["check"], *names, volume, *common["checked"]]
        found["checks"].append({"name": f"The configuration of {name}", "paths": [f"{name}/"], "argv": argv})
        entry = {
            **balancer(servers),
            "file": f"{folder}/haproxy.cfg",
            "version": version,
            "configuration": wanted.replace(VERSION, version),
            "transition": between,
            "backend": servers["name"],
            "servers": servers["replicas"],
            "definitions": servers["definitions"],
            "patience": common["patience"],
            "settings": {**servers["definitions"][0], **common["settings"]},
        }
        found["rotation"].append(entry)
        found["transition"].append({**entry, "version": version_between})
    return found


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "balancer_services": balancer_services,
            "balancer_tiers": balancer_tiers,
            "check_field": check_field,
            "container_counts": container_counts,
            "failed_requests": failed_requests,
            "load_balancers": load_balancers,
            "replicated_services": replicated_services,
            "service_changes": changes,
            "shown_tiers": shown_tiers,
            "tier_definitions": tier_definitions,
            "tier_sockets": tier_sockets,
            "wanted_definitions": wanted_definitions,
            "with_before": with_before,
        }
