"""What the settings of a stack may be, checked before anything is changed.

Everything here is a pure function of its arguments, apart from looking at files that settings name
on the controller. Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.stack_checks_files import check_files
from ansible.module_utils.stack_checks_services import (
    check_backup,
    check_database,
    check_engine,
    check_load_balancers,
    check_monitoring,
)
from ansible.module_utils.stack_forms import between, keys, matches, size
from ansible.module_utils.stack_secrets import is_secret
from ansible.module_utils.stack_settings import (
    DEFAULTS,
    DNS_RECORD,
    MONITORING_PORTS,
    convert,
    dns_capacity,
    known_names,
    monitoring_ports,
    networks_of,
    parse_size,
    read_settings,
    replica_capacity,
    tiers,
    unknown_settings,
)


def refusals(
    names: set[str], read: Callable[[str], Any], project: Path, sources: Any = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of all settings in their declared types, and a sentence for each reason to refuse them.

    Args:
        names: every variable that is set for the host, settings and others.
        read: returns the value of a setting; it is asked only if all settings are there.
        project: the checkout.
        sources: a ``stack_written.Sources``, which tells how values were written.
    """
    settings = read_settings(project)
    missing = sorted(set(settings) - names)
    if missing:
        return {}, [
            f"{missing[0]} and {len(missing) - 1} other settings are not loaded; put a link group_vars ->"
            f" {project}/group_vars beside your inventory."
        ]
    problems = unknown_settings(names, known_names(project), set(settings))
    values, wrong = convert(settings, {name: read(name) for name in settings}, sources)
    return values, problems + wrong + check_settings(values, project)


def check_templates(variables: Mapping[str, Any], fill: Callable[[Any], Any], project: Path) -> list[str]:
    """Return a sentence for each part of a setting that Ansible takes for a template and cannot fill in.

    Args:
        variables: as they were written, settings and others.
        fill: returns a value with its templates filled in.
        project: the checkout.
    """
    problems, wrong = [], []
    for name in [name for name in read_settings(project) if name in variables]:
        try:
            fill(variables[name])
        except Exception:
            wrong.append(name)
    for name in wrong:
        for path, key, text in _templates(name, variables[name]):
            try:
                fill(text)
            except Exception as error:
                if any(re.search(rf"\b{other}\b", text) for other in wrong if other != name):
                    # It names the one that is wrong.
                    continue
                # A secret, and with it a reason that quotes it, is not shown.
                hidden = is_secret(name) or is_secret(key)
                reason = str(getattr(error, "message", error)).strip().splitlines() or ["no reason given"]
                what = "what is given" if hidden else f"{text!r} ({reason[-1].strip().rstrip('.')})"
                problems.append(
                    f"{path}: Ansible takes {{{{ }}}} for a template of its own and cannot fill in {what}; correct it, or"
                    f' write !unsafe before the value to keep it as it stands: {key}: !unsafe "...".'
                )
    return problems


def _templates(path: str, value: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Return each text in a value that may be a template: its path, its key, and the text."""
    key = key or path
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _templates(f"{path}.{name}", item, str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _templates(path, item, key)
    elif isinstance(value, str) and re.search(r"\{[{%#]", value):
        yield path, key, value


def check_settings(values: dict, project: Path) -> list[str]:
    """Return all problems of settings that have their declared types."""
    return (
        check_replicas(values)
        + check_ports(values)
        + check_names(values)
        + check_containers(values)
        + check_database(values)
        + check_load_balancers(values)
        + check_monitoring(values)
        + check_backup(values)
        + check_engine(values)
        + check_networks(values, project)
        + check_files(values, project)
    )


def check_replicas(values: dict) -> list[str]:
    """Check the numbers of replicas against the load balancers' slots and the DNS payload."""
    problems = []
    slots, payload = values.get("lb_slots"), values.get("lb_dns_payload")
    if slots is not None and payload is not None and slots > dns_capacity(payload, "fe"):
        problems.append(
            f"lb_slots: {slots} servers do not fit into a DNS answer of {payload} bytes;"
            f" give at most {dns_capacity(payload, 'fe')} or raise lb_dns_payload to {slots * DNS_RECORD + 64}."
        )
        return problems
    for tier in tiers(values):
        name = f"{tier}_replicas"
        replicas = values.get(name)
        if replicas is None:
            continue
        if replicas < 1:
            problems.append(f"{name}: {replicas} replicas cannot serve; give 1 or more, 2 for availability.")
        elif slots is not None and payload is not None and replicas > replica_capacity(slots, payload, tier):
            problems.append(
                f"{name}: {replicas} replicas are more than the load balancer has room for"
                f" ({slots} slots, two for each replica so that a change can run beside the old ones);"
                f" give at most {replica_capacity(slots, payload, tier)} or raise lb_slots."
            )
    return problems


def check_ports(values: dict) -> list[str]:
    """Check every port setting, and that no port of the host is used twice."""
    problems = []
    for name in ("http_port", "https_port", *MONITORING_PORTS, "fe_port", "be_port", "be_lb_port"):
        problems += between(values, name, 1, 65535, "a port")
    own = ("database_port", "debug_port")
    for name in own:
        problems += between(values, name, 0, 65535, "a port, or 0 for none")
    taken: dict[int, str] = {}
    for name in ("http_port", "https_port", *(name for name in own if values.get(name)), *monitoring_ports(values)):
        other = taken.setdefault(values[name], name) if name in values else name
        if other != name:
            problems.append(f"{name}: {values[name]} is {other} as well; give them different ports.")
    return problems


def check_names(values: dict) -> list[str]:
    """Check names, addresses, paths and durations by their form."""
    problems = matches(
        values,
        "stack_name",
        r"[a-z0-9]+(?:[_-][a-z0-9]+)*",
        "a project name of lower-case letters, digits, and single - or _ between them",
    )
    problems += matches(values, "database_name", r"[A-Za-z0-9_$-]{1,64}", "1 to 64 letters, digits, _, $ or -")
    problems += matches(values, "database_user", r"[A-Za-z0-9_.-]{1,32}", "1 to 32 letters, digits, _, . or -")
    problems += matches(values, "database_password", r"[^\r\n]*", "a password without line breaks")
    if values.get("database_user") == "root":
        problems.append("database_user: root is the server's own account; give the application another name.")
    if values.get("database_user") == "exporter":
        problems.append("database_user: exporter is the account of monitoring; give the application another name.")
    problems += matches(values, "image_registry", r"(?:[A-Za-z0-9.:_/-]+/)?", "a prefix that ends with /, or nothing")
    try:
        ipaddress.ip_address(values.get("bind_address", "127.0.0.1"))
    except ValueError:
        problems.append(f"bind_address: {values['bind_address']!r} is no IP address; give one of the host, or 0.0.0.0.")
    for tier in tiers(values):
        problems += matches(
            values, f"{tier}_user", r"(?:[0-9]+(?::[0-9]+)?)?", "numbers as uid or uid:gid, or nothing for the image's own"
        )
        problems += matches(
            values, f"{tier}_rollout_batch", r"[1-9][0-9]*|(?:100|[1-9][0-9]?)%", "a number of replicas, or a share like 25%"
        )
        problems += matches(
            values, f"{tier}_health_path", r"(?:/[^\s\"'\\#]*)?", "a path that begins with /, or nothing for a TCP check"
        )
        problems += matches(
            values,
            f"{tier}_health_host",
            r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
            "a host name like shop.example, perhaps with a port",
        )
    periods = [f"{tier}_stop_grace_period" for tier in (*tiers(values), "lb", "database")]
    drains = [f"{tier}_drain_timeout" for tier in tiers(values)]
    for name in [*periods, *drains, "lb_hard_stop_after", "watchdog_window"]:
        # Of one unit: HAProxy knows no 1m30s.
        problems += matches(values, name, r"[0-9]+(?:h|m|s)", "a duration of one unit like 30s or 2m")
    for name in ("be_lb_aliases", "database_aliases"):
        for alias in values.get(name) or []:
            if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", str(alias)):
                problems.append(f"{name}: {alias!r} is no host name; use letters, digits, -, _ and dots.")
    for key, value in (values.get("network_subnets") or {}).items():
        try:
            ipaddress.ip_network(value)
        except ValueError:
            problems.append(f"network_subnets: {value!r} for {key} is no address range; write it like 10.9.5.0/24.")
    return problems


def check_networks(values: dict, project: Path) -> list[str]:
    """Check that address ranges are for networks that there are."""
    networks = networks_of(project)
    return keys("network_subnets", values.get("network_subnets") or {}, networks, "network")


def check_containers(values: dict) -> list[str]:
    """Check limits, reservations, environment, capabilities and mounts of the containers, and what builds leave."""
    problems = []
    if str(values.get("image_build_cache", 0)) != "0" and size("", values["image_build_cache"]):
        problems.append(
            f"image_build_cache: {values['image_build_cache']!r} is no size; write it like 10G, or 0 for all of it."
        )
    for name in [name for name, usual in DEFAULTS.items() if "cpus" in usual]:
        limits = values.get(name)
        if limits is None:
            continue
        problems += keys(name, limits, DEFAULTS[name], "limit")
        if "memory" in limits:
            problems += size(f"{name}.memory", limits["memory"])
        for key, kind in (("cpus", float), ("pids", int)):
            try:
                valid = not isinstance(limits.get(key), bool) and 0 < kind(limits.get(key, 1)) < 10**6
            except (TypeError, ValueError, OverflowError):
                valid = False
            if not valid:
                problems.append(f"{name}.{key}: {limits[key]!r} is no positive number; correct it or leave it out.")
    for tier in (*tiers(values), "lb", "database"):
        problems += _check_reservation(tier, values)
    if "monitoring_memory_reservation" in values:
        problems += size("monitoring_memory_reservation", values["monitoring_memory_reservation"])
    for tier in tiers(values):
        problems += matches(values, f"{tier}_source_target", r"(?:/[^:]*)?", "an absolute path in the image, or nothing")
        for key in values.get(f"{tier}_environment") or {}:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
                problems.append(f"{tier}_environment: {key!r} is no name of a variable; use letters, digits and _.")
        for mount in values.get(f"{tier}_mounts") or []:
            if not isinstance(mount, dict) or not {"source", "target"} <= set(mount) <= {"source", "target", "read_only"}:
                problems.append(f"{tier}_mounts: {mount!r} is not understood; give source, target and perhaps read_only.")
            elif not (isinstance(mount["source"], str) and mount["source"] and isinstance(mount["target"], str)):
                problems.append(
                    f"{tier}_mounts: source and target are paths; put them in quotes, because YAML reads ~ as nothing."
                )
            elif not isinstance(mount.get("read_only", True), bool):
                problems.append(f"{tier}_mounts: read_only is {mount['read_only']!r}; give true or false, without quotes.")
            elif not str(mount["target"]).startswith("/"):
                problems.append(f"{tier}_mounts: the target {mount['target']!r} is not absolute; begin it with /.")
    return problems


def _check_reservation(tier: str, values: dict) -> list[str]:
    """Check the memory that a container is counted with, which the engine does not allow to exceed the limit."""
    name = f"{tier}_memory_reservation"
    if name not in values:
        return []
    problems = size(name, values[name])
    limit = (values.get(f"{tier}_limits") or {}).get("memory")
    if problems or limit is None or size("", limit):
        return problems
    if parse_size(values[name]) > parse_size(limit):
        return [f"{name}: {values[name]} is more than {tier}_limits.memory, which is {limit}; lower it, or raise the limit."]
    return []
