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

from ansible.module_utils import stack_checks_services, stack_settings
from ansible.module_utils.stack_checks_files import check_files
from ansible.module_utils.stack_forms import check_forms, check_keys, valid
from ansible.module_utils.stack_secrets import is_secret


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
    settings = stack_settings.read_settings(project)
    missing = sorted(set(settings) - names)
    if missing:
        return {}, [
            f"{missing[0]} and {len(missing) - 1} other settings are not loaded; put a link group_vars ->"
            f" {project}/group_vars beside your inventory."
        ]
    problems = stack_settings.unknown_settings(names, stack_settings.known_names(project), set(settings))
    values, wrong = stack_settings.convert(settings, {name: read(name) for name in settings}, sources)
    return values, problems + wrong + check_settings(values, project)


def check_templates(variables: Mapping[str, Any], fill: Callable[[Any], Any], project: Path) -> list[str]:
    """Return a sentence for each part of a setting that Ansible takes for a template and cannot fill in.

    Args:
        variables: as they were written, settings and others.
        fill: returns a value with its templates filled in.
        project: the checkout.
    """
    problems, wrong = [], []
    for name in [name for name in stack_settings.read_settings(project) if name in variables]:
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
        check_forms(values)
        + check_dictionaries(values, project)
        + check_replicas(values)
        + check_ports(values)
        + check_containers(values)
        + stack_checks_services.check_database(values)
        + stack_checks_services.check_headers(values)
        + stack_checks_services.check_backup(values)
        + stack_checks_services.check_engine(values)
        + check_files(values, project)
    )


def check_replicas(values: dict) -> list[str]:
    """Check the numbers of replicas against the load balancers' slots and the DNS payload."""
    problems = []
    slots, payload = values.get("lb_slots"), values.get("lb_dns_payload")
    if slots is not None and payload is not None and slots > stack_settings.dns_capacity(payload, "fe"):
        return [
            f"lb_slots: {slots} servers do not fit into a DNS answer of {payload} bytes; give at most"
            f" {stack_settings.dns_capacity(payload, 'fe')} or raise lb_dns_payload to"
            f" {slots * stack_settings.DNS_RECORD + 64}."
        ]
    for tier in stack_settings.tiers(values):
        name = f"{tier}_replicas"
        replicas = values.get(name)
        if replicas is None:
            continue
        if replicas < 1:
            problems.append(f"{name}: {replicas} replicas cannot serve; give 1 or more, 2 for availability.")
        elif slots is not None and payload is not None and replicas > stack_settings.replica_capacity(slots, payload, tier):
            problems.append(
                f"{name}: {replicas} replicas are more than the load balancer has room for"
                f" ({slots} slots, two for each replica so that a change can run beside the old ones);"
                f" give at most {stack_settings.replica_capacity(slots, payload, tier)} or raise lb_slots."
            )
    return problems


def check_ports(values: dict) -> list[str]:
    """Check that no port of the host is used twice."""
    problems = []
    taken: dict[int, str] = {}
    own = [name for name in ("database_port", "debug_port") if values.get(name)]
    for name in ("http_port", "https_port", *own, *stack_settings.monitoring_ports(values)):
        other = taken.setdefault(values[name], name) if name in values else name
        if other != name:
            problems.append(f"{name}: {values[name]} is {other} as well; give them different ports.")
    return problems


def check_dictionaries(values: dict, project: Path) -> list[str]:
    """Check that dictionaries have the keys that they shall have, and no others."""
    subnets = values.get("network_subnets") or {}
    problems = check_keys("network_subnets", subnets, stack_settings.networks_of(project), "network")
    for key, value in subnets.items():
        if not valid(ipaddress.ip_network, value):
            problems.append(f"network_subnets: {value!r} for {key} is no address range; write it like 10.9.5.0/24.")
    for name, setting in stack_settings.read_settings(project).items():
        if name not in values or not setting.spec.get("options"):
            continue
        known = list(setting.spec["options"])
        kind = {"keep": "period"}.get(name.rpartition("_")[2], name.rpartition("_")[2].rstrip("s"))
        problems += check_keys(name, values[name], known, kind)
        # Somebody has taken it out of group_vars, where the default is.
        for key in () if name in stack_settings.DROPPING else [key for key in known if key not in values[name]]:
            problems.append(f"{name}: {key} has no value; give one in group_vars.")
    return problems


def check_containers(values: dict) -> list[str]:
    """Check reservations and mounts of the containers, and accounts that have the names of others."""
    problems = []
    for tier in (*stack_settings.tiers(values), "lb", "database"):
        name = f"{tier}_memory_reservation"
        reserved, limit = values.get(name), (values.get(f"{tier}_limits") or {}).get("memory")
        both = all(valid(stack_settings.parse_size, size) for size in (reserved, limit))
        # The engine refuses more.
        if both and stack_settings.parse_size(reserved) > stack_settings.parse_size(limit):
            problems.append(
                f"{name}: {reserved} is more than {tier}_limits.memory, which is {limit}; lower it, or raise the limit."
            )
    for tier in stack_settings.tiers(values):
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
