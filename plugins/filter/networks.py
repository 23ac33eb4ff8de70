"""Filters for the networks of Compose, and for those that exist."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.stack_settings import as_text, parse_version

# Option of an internal network with which the engine itself keeps the host off its bridge.
ISOLATED = "com.docker.network.bridge.gateway_mode_ipv4"


def network_definition(
    network: dict[str, Any], subnet: str | None, options: dict[str, Any], isolated: bool = False
) -> dict[str, Any]:
    """Return a network of Compose.

    ``internal`` alone still lets a container reach the host by the bridge's own address, so an
    internal bridge gets none. The other kind publishes ports and needs that address, but nobody on it
    has to open connections to the outside: without masquerading none of them gets an answer.
    Only a network that is ``outbound`` is for that.
    """
    bridge = "com.docker.network.bridge."
    if network["internal"]:
        driver_options = {f"{bridge}inhibit_ipv4": "true"} | ({ISOLATED: "isolated"} if isolated else {})
    else:
        driver_options = {f"{bridge}enable_ip_masquerade": str(network.get("outbound", False)).lower()}
    driver_options |= {key: as_text(value) for key, value in options.items()}
    result: dict[str, Any] = {"driver": "bridge", "internal": network["internal"], "driver_opts": driver_options}
    if subnet:
        result["ipam"] = {"config": [{"subnet": subnet}]}
    return result


def networks_isolated(definitions: dict[str, dict], engine: str, found: dict[str, dict]) -> list[str]:
    """Return the internal networks whose bridge the engine itself keeps from the host, as it can from 28 on.

    One that exists stays what it is: it could only be recreated, and without an address it is closed as well.
    """
    able = parse_version(engine) >= (28,)
    return [
        name
        for name, definition in definitions.items()
        if definition["internal"] and (ISOLATED in found[name]["options"] if name in found else able)
    ]


def networks_outdated(
    definitions: dict[str, dict],
    subnets: dict[str, str],
    options: dict[str, Any],
    isolated: list[str],
    found: dict[str, dict],
) -> list[str]:
    """Return the networks that exist with another definition than the wanted one.

    A network cannot be changed, only recreated, and not every release of Compose notices.
    """
    outdated = []
    for name, definition in definitions.items():
        if name not in found:
            continue
        wanted = network_definition(definition, subnets.get(name), options, name in isolated)
        same = found[name]["internal"] == wanted["internal"] and found[name]["options"] == wanted["driver_opts"]
        if not same or (name in subnets and found[name]["subnets"] != [subnets[name]]):
            outdated.append(name)
    return outdated


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "network_definition": network_definition,
            "networks_isolated": networks_isolated,
            "networks_outdated": networks_outdated,
        }
