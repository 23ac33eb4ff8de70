"""Filters for the load balancers: how they check servers, and what they have counted."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_files import digest
from ansible.module_utils.stack_summary import changes, failed_requests
from ansible.module_utils.stack_trial import check_field


def with_before(balancers: list[dict[str, Any]], before: dict[str, str]) -> list[dict[str, Any]]:
    """Return load balancers, each with the configuration that it goes back to."""
    return [{**balancer, "before": before.get(balancer["name"], "")} for balancer in balancers]


# In the image haproxy.
CONFIGURATION = "/usr/local/etc/haproxy"
VERSION = "@VERSION@"


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
            "name": name,
            "socket": f"{name}/run/master.sock",
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
            "check_field": check_field,
            "failed_requests": failed_requests,
            "load_balancers": load_balancers,
            "service_changes": changes,
            "with_before": with_before,
        }
