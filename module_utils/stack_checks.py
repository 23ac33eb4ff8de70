"""What the settings of a stack may be, checked before anything is changed.

Everything here is a pure function of its arguments, apart from looking at files that settings name
on the controller. Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.stack_certificates import CertificateError, pair
from ansible.module_utils.stack_compose import engine_problem
from ansible.module_utils.stack_secrets import is_secret
from ansible.module_utils.stack_settings import (
    DEFAULTS,
    DNS_RECORD,
    MONITORING_PORTS,
    convert,
    dns_capacity,
    known_names,
    memory_needed,
    milliseconds,
    monitoring_ports,
    networks_of,
    parse_size,
    parse_version,
    read_settings,
    replica_capacity,
    shown,
    unknown_settings,
)

# Part of the host's memory that replicas may be counted with; the rest is the engine's and the host's.
MEMORY_SHARE = 0.9
DUMP_SUFFIXES = (".sql", ".sql.gz", ".sql.bz2", ".sql.xz", ".sql.zst")
THRESHOLDS = ("backup_hours", "certificate_days", "disk_free_share", "error_share", "latency_p95", "memory_share")
# Kinds of places that restic reaches with environment variables alone: its container has no keys, no files and no programs.
REPOSITORIES = ("rest", "s3", "b2", "azure", "gs", "swift")
# What backup_keep may name.
KEPT = ("last", "daily", "weekly", "monthly", "yearly")
TIMEOUTS = ("check", "client", "connect", "fe_keep_alive", "http_keep_alive", "http_request", "queue", "server", "tunnel")
EDGE_LIMITS = ("body", "connections", "headers", "requests")


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
        + check_load_balancers(values)
        + check_monitoring(values)
        + check_backup(values)
        + check_engine(values)
        + check_networks(values, project)
        + check_files(values, project)
    )


def check_host(values: dict, host: dict, minimum: dict[str, tuple[int, ...]]) -> list[str]:
    """Return what on the host stands against these settings.

    Args:
        values: settings in their declared types.
        host: what the module ``stack_preflight`` found on the host, and as ``confirm`` the stack of which a person has said
            that it may be changed in this way.
        minimum: oldest versions that are accepted, of ``engine`` and ``compose``.
    """
    problems = []
    if host["engine_version"] is None:
        return [engine_problem(host["engine_error"])]
    if host["compose_version"] is None:
        return ["Docker Compose v2 is missing; install it, or let playbooks/bootstrap.yml do it."]
    for name, key in (("Docker Engine", "engine"), ("Docker Compose", "compose")):
        found = parse_version(host[f"{key}_version"])
        if found < minimum[key]:
            wanted = ".".join(map(str, minimum[key]))
            problems.append(f"{name} {host[f'{key}_version']} is too old; upgrade it to {wanted} or later.")
    problems += host["folder_problems"]
    if host["engine"] and not host["engine"].startswith("unix://"):
        problems.append(
            f"DOCKER_HOST: Docker's client on the host uses the engine at {host['engine']}, but files are mounted, so it"
            " must be the host's own; unset DOCKER_HOST and DOCKER_CONTEXT (docker context use default), and put that"
            " machine into the inventory."
        )
    elif values["stack_engine"] == "swarm" and host["engine"] not in ("", "unix:///var/run/docker.sock"):
        problems.append(
            f"DOCKER_HOST: a Swarm is deployed with the engine of the system, not with {host['engine']}; unset DOCKER_HOST"
            " and DOCKER_CONTEXT."
        )
    if host["strangers"]:
        problems.append(
            f"stack_name: a Compose project {values['stack_name']} is there already, from {', '.join(host['strangers'])};"
            " choose another name, or set stack_dir to that folder if it is this stack's."
        )
    if host["foreign"]:
        problems.append(
            f"stack_name: somebody else has made the {', the '.join(host['foreign'])}; choose another name, or remove"
            f" {'them' if len(host['foreign']) > 1 else 'it'}."
        )
    limit = int(host["memory"] * MEMORY_SHARE)
    needed = memory_needed(values)
    if needed > limit:
        tier = max(("fe", "be"), key=lambda t: values[f"{t}_replicas"] * parse_size(values[f"{t}_memory_reservation"]))
        problems.append(
            f"{tier}_replicas: all containers are counted with {needed / 2**30:.1f} GiB of memory and the host can give"
            f" {limit / 2**30:.1f} GiB; lower {tier}_replicas, or {tier}_memory_reservation if a replica needs less."
        )
    if values["backup_schedule"] and not host["scheduler"]:
        problems.append("backup_schedule: this host has neither systemd nor cron; install cron, or leave it empty.")
    if values["monitoring_enabled"] and host["socket_group"] is None:
        problems.append(
            f"monitoring_docker_socket: {host['docker_socket']} does not exist on the host; give the engine's"
            " socket (docker context inspect shows it), or set monitoring_enabled=false."
        )
    if host["selinux"]:
        problems.append(
            f"stack_dir: this engine separates containers by SELinux and would keep them from {host['stack_dir']}; take"
            " selinux-enabled out of /etc/docker/daemon.json (or out of the engine's service), and restart the engine."
        )
    for port in host["ports"]:
        if port["problem"]:
            problems.append(f"{port['setting']}: {port['problem']}.")
    missing = host["pools"]["missing"]
    if host["pools"]["free"] < len(missing):
        problems.append(
            f"network_subnets: the engine has {host['pools']['free']} address ranges left and the stack needs {len(missing)}"
            f" ({', '.join(missing)}); give networks ranges of your own (network_subnets: {{{missing[0]}: 10.9.5.0/27}}),"
            " remove networks that nothing uses (docker network prune), or enlarge default-address-pools in"
            " /etc/docker/daemon.json and restart the engine."
        )
    problems += check_mode(values, host)
    problems += check_mounts(values, host)
    # One that is started takes the passwords that it finds; one that runs knows the old ones alone.
    if not host["secrets_complete"] and any(container["service"] == "db" for container in host["containers"]):
        problems.append(
            f"The database of {values['stack_name']} is there, but its passwords are not in {host['stack_dir']}/secrets"
            " (stack_dir); bring that folder back, or remove the container of the database, which takes new passwords when"
            " it starts again; its data stays."
        )
    return problems


def check_mode(values: dict, host: dict) -> list[str]:
    """Check that a stack for production does not become one for development by mistake; the way back is free."""
    if values["app_mode"] != "development":
        return []
    name = values["stack_name"]
    there = host["mode"] == "production" and (host["containers"] or host["database_volume"])
    if not there or host["confirm"] == name:
        return []
    return [
        f"app_mode: the stack {name} is deployed for production, and development would put containers with your working copy"
        f" in the place of its front ends and back ends; if that is meant, give -e confirm={name} (make dev"
        f" ARGS='-e confirm={name}'), else give another stack_name and other ports."
    ]


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
    for tier in ("fe", "be"):
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
        problems += _between(values, name, 1, 65535, "a port")
    own = ("database_port", "debug_port")
    for name in own:
        problems += _between(values, name, 0, 65535, "a port, or 0 for none")
    taken: dict[int, str] = {}
    for name in ("http_port", "https_port", *(name for name in own if values.get(name)), *monitoring_ports(values)):
        other = taken.setdefault(values[name], name) if name in values else name
        if other != name:
            problems.append(f"{name}: {values[name]} is {other} as well; give them different ports.")
    return problems


def check_names(values: dict) -> list[str]:
    """Check names, addresses, paths and durations by their form."""
    problems = _matches(
        values,
        "stack_name",
        r"[a-z0-9]+(?:[_-][a-z0-9]+)*",
        "a project name of lower-case letters, digits, and single - or _ between them",
    )
    problems += _matches(values, "database_name", r"[A-Za-z0-9_$-]{1,64}", "1 to 64 letters, digits, _, $ or -")
    problems += _matches(values, "database_user", r"[A-Za-z0-9_.-]{1,32}", "1 to 32 letters, digits, _, . or -")
    problems += _matches(values, "database_password", r"[^\r\n]*", "a password without line breaks")
    if values.get("database_user") == "root":
        problems.append("database_user: root is the server's own account; give the application another name.")
    if values.get("database_user") == "exporter":
        problems.append("database_user: exporter is the account of monitoring; give the application another name.")
    problems += _matches(values, "image_registry", r"(?:[A-Za-z0-9.:_/-]+/)?", "a prefix that ends with /, or nothing")
    try:
        ipaddress.ip_address(values.get("bind_address", "127.0.0.1"))
    except ValueError:
        problems.append(f"bind_address: {values['bind_address']!r} is no IP address; give one of the host, or 0.0.0.0.")
    for tier in ("fe", "be"):
        problems += _matches(
            values, f"{tier}_user", r"(?:[0-9]+(?::[0-9]+)?)?", "numbers as uid or uid:gid, or nothing for the image's own"
        )
        problems += _matches(
            values, f"{tier}_rollout_batch", r"[1-9][0-9]*|(?:100|[1-9][0-9]?)%", "a number of replicas, or a share like 25%"
        )
        problems += _matches(
            values, f"{tier}_health_path", r"(?:/[^\s\"'\\#]*)?", "a path that begins with /, or nothing for a TCP check"
        )
        problems += _matches(
            values,
            f"{tier}_health_host",
            r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
            "a host name like shop.example, perhaps with a port",
        )
    periods = [f"{tier}_stop_grace_period" for tier in ("fe", "be", "lb", "database")]
    for name in [*periods, "lb_hard_stop_after", "fe_drain_timeout", "be_drain_timeout", "watchdog_window"]:
        # Of one unit: HAProxy knows no 1m30s.
        problems += _matches(values, name, r"[0-9]+(?:h|m|s)", "a duration of one unit like 30s or 2m")
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
    return _keys("network_subnets", values.get("network_subnets") or {}, networks, "network")


def check_containers(values: dict) -> list[str]:
    """Check limits, reservations, environment, capabilities and mounts of the containers, and what builds leave."""
    problems = []
    if str(values.get("image_build_cache", 0)) != "0" and _size("", values["image_build_cache"]):
        problems.append(
            f"image_build_cache: {values['image_build_cache']!r} is no size; write it like 10G, or 0 for all of it."
        )
    for name in (
        "fe_limits",
        "be_limits",
        "lb_limits",
        "database_limits",
        "monitoring_prometheus_limits",
        "monitoring_limits",
    ):
        limits = values.get(name)
        if limits is None:
            continue
        problems += _keys(name, limits, ("cpus", "memory", "pids"), "limit")
        if "memory" in limits:
            problems += _size(f"{name}.memory", limits["memory"])
        for key, kind in (("cpus", float), ("pids", int)):
            try:
                valid = not isinstance(limits.get(key), bool) and kind(limits.get(key, 1)) > 0
            except (TypeError, ValueError):
                valid = False
            if not valid:
                problems.append(f"{name}.{key}: {limits[key]!r} is no positive number; correct it or leave it out.")
    for tier in ("fe", "be", "lb", "database"):
        problems += _check_reservation(tier, values)
    if "monitoring_memory_reservation" in values:
        problems += _size("monitoring_memory_reservation", values["monitoring_memory_reservation"])
    for tier in ("fe", "be"):
        problems += _matches(values, f"{tier}_source_target", r"(?:/[^:]*)?", "an absolute path in the image, or nothing")
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
    problems = _size(name, values[name])
    limit = (values.get(f"{tier}_limits") or {}).get("memory")
    if problems or limit is None or _size("", limit):
        return problems
    if parse_size(values[name]) > parse_size(limit):
        return [f"{name}: {values[name]} is more than {tier}_limits.memory, which is {limit}; lower it, or raise the limit."]
    return []


def check_load_balancers(values: dict) -> list[str]:
    """Check what HAProxy is configured with."""
    timeouts = values.get("lb_timeouts") or {}
    problems = _keys("lb_timeouts", timeouts, TIMEOUTS, "timeout")
    for key in [key for key in TIMEOUTS if key in timeouts]:
        try:
            milliseconds(timeouts[key])
        except ValueError:
            problems.append(f"lb_timeouts.{key}: {timeouts[key]!r} is no duration; write it like 500ms or 30s.")
    problems += _check_edge(values)
    problems += _between(values, "lb_slots", 2, 4000, "servers")
    problems += _between(values, "lb_dns_payload", 512, 65535, "bytes")
    problems += _between(values, "lb_discovery_interval", 0.1, 60, "seconds")
    problems += _between(values, "lb_health_interval", 0.1, 60, "seconds")
    problems += _between(values, "lb_max_connections", 100, 1000000, "connections")
    problems += _between(values, "hsts_max_age", 0, 10**9, "seconds")
    problems += _between(values, "watchdog_restarts", 0, 1000, "restarts")
    problems += _between(values, "stack_releases_kept", 1, 1000, "releases")
    return problems


def _check_edge(values: dict) -> list[str]:
    """Check what the edge takes from clients and adds to answers."""
    limits = values.get("edge_limits") or {}
    problems = _keys("edge_limits", limits, EDGE_LIMITS, "limit")
    for key in [key for key in ("connections", "requests") if key in limits]:
        if isinstance(limits[key], bool) or not str(limits[key]).isdigit():
            problems.append(f"edge_limits.{key}: {limits[key]!r} is no number; give how many, or 0 for no limit.")
    if str(limits.get("body", 0)) != "0":
        problems += _size("edge_limits.body", limits["body"])
    if "headers" in limits:
        wrong = _size("edge_limits.headers", limits["headers"])
        if not wrong and not 2**13 <= parse_size(limits["headers"]) <= 2**20:
            wrong = [f"edge_limits.headers: {limits['headers']!r} is out of range; give a size from 8K to 1M."]
        problems += wrong
    for address in values.get("edge_trusted") or []:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            problems.append(f"edge_trusted: {address!r} is no address; write it like 10.1.2.0/24.")
    for setting in ("edge_headers", "edge_hidden_headers"):
        for name in values.get(setting) or []:
            if not re.fullmatch(r"[A-Za-z0-9-]+", str(name)):
                problems.append(f"{setting}: {name!r} is no name of a header; use letters, digits and -.")
    usual = {name.lower(): name for name in DEFAULTS["edge_headers"]}
    for name, value in (values.get("edge_headers") or {}).items():
        # Any other header may be given, but hardly one that looks like these.
        alike = difflib.get_close_matches(str(name).lower(), usual, n=1, cutoff=0.9)
        if alike and str(name).lower() not in usual:
            problems.append(f"edge_headers: {name!r} is no header that browsers know; did you mean {usual[alike[0]]}?")
        if not re.fullmatch(r"[ -~]+", str(value)):
            problems.append(f"edge_headers.{name}: {value!r} is no value of a header; give a text of one line in ASCII.")
    return problems


def check_monitoring(values: dict) -> list[str]:
    """Check what Prometheus and Alertmanager are configured with."""
    problems = _between(values, "monitoring_interval", 1, 300, "seconds")
    problems += _matches(values, "monitoring_retention", r"[1-9][0-9]*(?:h|d|w|y)", "a duration of one unit like 15d or 2w")
    problems += _matches(values, "monitoring_retention_size", r"[1-9][0-9]*(?:MB|GB|TB)", "an amount of disk space like 1GB")
    problems += _matches(
        values, "monitoring_alert_webhook_url", r"(?:https?://\S+)?", "a URL that begins with http, or nothing"
    )
    problems += _matches(values, "monitoring_docker_socket", r"(?:/\S+)?", "an absolute path, or nothing")
    thresholds = values.get("monitoring_alert_thresholds") or {}
    problems += _keys("monitoring_alert_thresholds", thresholds, THRESHOLDS, "threshold")
    for key in [key for key in THRESHOLDS if key in thresholds]:
        value = thresholds[key]
        try:
            valid = not isinstance(value, bool) and 0 < float(value) <= (1 if key.endswith("share") else 10**6)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            wanted = "a share from 0 to 1" if key.endswith("share") else "a positive number"
            problems.append(f"monitoring_alert_thresholds.{key}: {value!r} is out of range; give {wanted}.")
    return problems


def check_backup(values: dict) -> list[str]:
    """Check where backups go, how many are kept and when they are taken."""
    problems = _check_repository(values)
    problems += _matches(values, "backup_password", r"[^\r\n]*", "a password without line breaks")
    problems += _matches(values, "backup_schedule", r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9])?", "a time like 03:30, or nothing")
    problems += _between(values, "backup_logs_interval", 1, 60, "minutes")
    problems += _between(values, "backup_logs_days", 1, 3650, "days")
    for key in values.get("backup_environment") or {}:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
            problems.append(f"backup_environment: {key!r} is no name of a variable; use letters, digits and _.")
    keep = values.get("backup_keep") or {}
    problems += _keys("backup_keep", keep, KEPT, "period")
    for key in [key for key in KEPT if key in keep]:
        if isinstance(keep[key], bool) or not str(keep[key]).isdigit() or int(keep[key]) < 1:
            problems.append(
                f"backup_keep.{key}: {keep[key]!r} is no number of backups; give 1 or more, or 0 for none of them."
            )
    if "backup_keep" in values and not keep:
        problems.append("backup_keep: with nothing in it no backup would be kept; give for example last: 3.")
    return problems


def _check_repository(values: dict) -> list[str]:
    """Check that restic can reach from its container where backups go."""
    place = str(values.get("backup_repository", "~/backups"))
    kind, _, rest = place.partition(":")
    every = ", ".join(f"{name}:" for name in REPOSITORIES)
    if kind == "gs" and "GOOGLE_ACCESS_TOKEN" not in (values.get("backup_environment") or {}):
        return [
            "backup_repository: gs: needs GOOGLE_ACCESS_TOKEN in backup_environment, because a file with credentials does"
            " not reach restic's container; give it, or use s3:https://storage.googleapis.com/BUCKET with an HMAC key."
        ]
    if re.match(r"~?/\S", place) or (kind in REPOSITORIES and rest.strip()):
        return []
    if kind in ("sftp", "rclone"):
        needs = "an SSH key and known hosts" if kind == "sftp" else "the program rclone and its configuration"
        return [
            f"backup_repository: {kind}: needs {needs}, which restic's container does not have; give one of {every} or a"
            " folder in which you have mounted the other machine."
        ]
    return [f"backup_repository: {place!r} is not valid; give an absolute path, or a repository that begins with {every}."]


def check_engine(values: dict) -> list[str]:
    """Check what only a Swarm can do, and what it cannot."""
    problems = _between(values, "swarm_registry_port", 1, 65535, "a port")
    problems += _between(values, "swarm_drain_delay", 1, 600, "seconds")
    problems += _matches(
        values, "swarm_registry", r"(?:[A-Za-z0-9.:_-]+(?:/[a-z0-9._-]+)*)?", "a registry without a / at the end"
    )
    problems += _matches(values, "swarm_registry_user", r"[^\s:]+", "a name without blanks and colons")
    problems += _matches(values, "swarm_registry_password", r"[^\r\n]*", "a password without line breaks")
    problems += _between(values, "swarm_floating_number", 1, 255, "a number")
    if values.get("swarm_floating_address"):
        try:
            valid = "/" in values["swarm_floating_address"] and ipaddress.ip_interface(values["swarm_floating_address"])
        except ValueError:
            valid = False
        if not valid:
            problems.append(
                f"swarm_floating_address: {values['swarm_floating_address']!r} is no address with its range; write it like"
                " 10.0.0.100/24."
            )
    for name in ("fe_lb_replicas", "be_lb_replicas"):
        problems += _between(values, name, 0, 100, "a number")
    if values.get("stack_engine") != "swarm":
        for name in ("fe_lb_replicas", "be_lb_replicas"):
            if values.get(name, 0) > 1:
                problems.append(
                    f"{name}: {values[name]} load balancers of a tier need several hosts; give 0, or set stack_engine=swarm."
                )
        return problems
    if values.get("database_port"):
        problems.append(
            "database_port: a Swarm publishes ports on every address of its hosts, and the database's is for loopback alone;"
            " set it to 0, and use the client in the container of the database."
        )
    if values.get("app_mode") == "development":
        problems.append(
            "app_mode: development is for the machine that has the code, and a Swarm runs replicas on any of its hosts; set"
            " stack_engine=compose for it."
        )
    if values.get("network_driver_options"):
        problems.append(
            "network_driver_options: they are for bridges of one host and a Swarm has networks across hosts; leave it empty."
        )
    if values.get("backup_schedule"):
        problems.append(
            "backup_schedule: no host of a Swarm takes backups by itself; leave it empty and run playbooks/backup.yml."
        )
    return problems


def check_files(values: dict, project: Path) -> list[str]:
    """Check the files that settings name on the controller: sources, dumps, certificate and key."""
    problems = []
    for tier in ("fe", "be"):
        name = f"{tier}_source"
        if values.get(f"{tier}_image") or name not in values:
            continue
        source = _path(values[name], project)
        if not source.is_dir():
            problems.append(f"{name}: the folder {source} does not exist; correct the path or set {tier}_image.")
        elif not (source / "Dockerfile").is_file():
            problems.append(f"{name}: {source} has no Dockerfile; add one or set {tier}_image.")
    for dump in values.get("database_dumps") or []:
        path = _path(dump, project)
        if not path.is_file():
            problems.append(f"database_dumps: the file {path} does not exist; correct the path or leave it out.")
        elif not path.name.endswith(DUMP_SUFFIXES):
            problems.append(f"database_dumps: {path} is no dump; its name must end with {', '.join(DUMP_SUFFIXES)}.")
    if values.get("seccomp_profile"):
        problems += _check_seccomp(_path(values["seccomp_profile"], project))
    return problems + check_certificate(values, project)


def _check_seccomp(path: Path) -> list[str]:
    """Check that a profile is one, which the engine would only notice when it starts a container."""
    try:
        profile = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return [f"seccomp_profile: {path} cannot be read ({error.strerror}); correct the path, or leave it empty."]
    except ValueError as error:
        return [f"seccomp_profile: {path} is no JSON ({error}); correct it, or leave the setting empty."]
    if not isinstance(profile, dict) or not str(profile.get("defaultAction")).startswith("SCMP_ACT_"):
        return [f"seccomp_profile: {path} has no defaultAction; correct it, or leave the setting empty."]
    return []


def check_certificate(values: dict, project: Path) -> list[str]:
    """Check that certificate and key are both given, belong together and are valid now."""
    certificate, key = values.get("tls_certificate"), values.get("tls_private_key")
    if not certificate and not key:
        return []
    if not key:
        return ["tls_private_key: missing beside tls_certificate; give both or neither."]
    if not certificate:
        return ["tls_certificate: missing beside tls_private_key; give both or neither."]
    for name, path in (("tls_certificate", certificate), ("tls_private_key", key)):
        # The message must not show a key, so the value is not quoted.
        if "-----BEGIN" in path:
            return [f"{name}: the value is PEM text; write it to a file and give the path of that."]
    content = {}
    for name, path in (("tls_certificate", certificate), ("tls_private_key", key)):
        try:
            content[name] = _path(path, project).read_bytes()
        except OSError as error:
            return [f"{name}: {_path(path, project)} cannot be read ({error.strerror}); correct the path."]
    try:
        pair(content["tls_certificate"], content["tls_private_key"])
    except CertificateError as error:
        path = certificate if error.setting == "tls_certificate" else key
        said = str(error).replace("{certificate}", f"tls_certificate {certificate}")
        return [f"{error.setting}: {path} {said}."]
    return []


def check_mounts(values: dict, host: dict) -> list[str]:
    """Check what is mounted, and in development whether its files can be the same person's on both sides."""
    problems = []
    develops = values["app_mode"] == "development"
    for mount in host["mounts"]:
        name, source = mount["setting"], mount["source"]
        if mount["lost_group"] is not None:
            problems.append(
                f"{name}: you may write in {source} only as a member of group {mount['lost_group']}, which a rootless engine"
                " cannot hand on; make the folder your own, or use an engine that runs as root."
            )
        if mount["exists"]:
            continue
        if name.endswith("_source"):
            problems.append(
                f"{name}: app_mode is development and {source} is not on the host; run the playbook on the machine that has"
                " the code."
            )
        # In development it is made, as the user.
        elif not develops:
            problems.append(f"{name}: the source {source} does not exist on the host; create it first.")
    for tier in ("fe", "be") if develops and host["mapping"] == "rootless" else ():
        names = {str(capability).upper().removeprefix("CAP_") for capability in values[f"{tier}_capabilities"]}
        if names & {"SETUID", "SETGID"}:
            problems.append(
                f"{tier}_capabilities: a service that becomes another user (SETUID, SETGID) is not you to a rootless"
                " engine, and neither would its files be yours; use an image that stays root, or an engine run by root."
            )
    return problems


def _path(value: Any, project: Path) -> Path:
    """Return the path of a file that a setting names; relative ones start at the checkout."""
    try:
        return project / Path(str(value)).expanduser()
    except RuntimeError:
        # The home of a user who does not exist; so the file is not there either, which is said.
        return project / str(value)


def _between(values: dict, name: str, low: float, high: float, unit: str) -> list[str]:
    value = values.get(name)
    if value is None or low <= value <= high:
        return []
    return [f"{name}: {value} is out of range; give {unit} from {low} to {high}."]


def _matches(values: dict, name: str, pattern: str, wanted: str) -> list[str]:
    value = values.get(name)
    if value is None or re.fullmatch(pattern, str(value)):
        return []
    return [f"{name}: {shown(name, str(value))} is not valid; give {wanted}."]


def _size(name: str, value: Any) -> list[str]:
    try:
        parse_size(value)
    except ValueError:
        return [f"{name}: {value!r} is no size; write it like 256M or 1G."]
    return []


def _keys(name: str, given: dict, known: Collection[str], kind: str) -> list[str]:
    """Check that a setting has no other keys than those that are known."""
    problems = []
    for key in [key for key in given if key not in known]:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use {', '.join(known)}."
        problems.append(f"{name}: {key!r} is no {kind}; {hint}")
    return problems
