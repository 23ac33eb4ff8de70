"""What load balancers, monitoring, backups and a Swarm may be told.

Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

import difflib
import ipaddress
import re

from ansible.module_utils.stack_forms import between, keys, matches, size
from ansible.module_utils.stack_settings import DEFAULTS, milliseconds, parse_size

THRESHOLDS = tuple(sorted(DEFAULTS["monitoring_alert_thresholds"]))
# Kinds of places that restic reaches with environment variables alone: its container has no keys, no files and no programs.
REPOSITORIES = ("rest", "s3", "b2", "azure", "gs", "swift")
# What backup_keep may name.
KEPT = ("last", "daily", "weekly", "monthly", "yearly")
TIMEOUTS = tuple(sorted(DEFAULTS["lb_timeouts"]))
EDGE_LIMITS = tuple(sorted(DEFAULTS["edge_limits"]))

# Server variables that only the stack may choose, and why.
FIXED = {
    **dict.fromkeys(("bind_address", "port", "skip_networking", "socket"), "the stack reaches its server by it"),
    **dict.fromkeys(("datadir", "pid_file", "user"), "the container is made for it"),
    **dict.fromkeys(("init_file", "skip_grant_tables"), "the accounts of the stack come and are asked for by it"),
    **dict.fromkeys(("disable_log_bin", "log_bin", "skip_log_bin"), "backups need the binary log"),
}
# MySQL copies the data for a backup only with packets of this size (bytes).
PACKET = 2 * 2**20


def check_database(values: dict) -> list[str]:
    """Check the server variables that MySQL would accept although the stack does not work with them."""
    problems = []
    for name, value in (values.get("database_settings") or {}).items():
        # MySQL takes a dash for an underscore, and ignores after loose- what it does not know.
        plain = str(name).lower().replace("-", "_").removeprefix("loose_")
        if not re.fullmatch(r"[a-z][a-z0-9_.]*", plain) or re.search(r"[\r\n]", str(value)):
            problems.append(f"database_settings: {name!r} is no server variable with a value of one line; correct it.")
        elif plain in FIXED:
            problems.append(f"database_settings: {name} stays as it is, because {FIXED[plain]}; leave it out.")
        elif plain == "max_allowed_packet" and not size("", value) and parse_size(value) < PACKET:
            problems.append(f"database_settings.{name}: {value} is too small for backups; give 2M or more, or leave it out.")
    return problems


def check_load_balancers(values: dict) -> list[str]:
    """Check what HAProxy is configured with."""
    timeouts = values.get("lb_timeouts") or {}
    problems = keys("lb_timeouts", timeouts, TIMEOUTS, "timeout")
    for key in [key for key in TIMEOUTS if key in timeouts]:
        try:
            milliseconds(timeouts[key])
        except ValueError:
            problems.append(f"lb_timeouts.{key}: {timeouts[key]!r} is no duration; write it like 500ms or 30s.")
    problems += _check_edge(values)
    problems += between(values, "lb_slots", 2, 4000, "servers")
    problems += between(values, "lb_dns_payload", 512, 65535, "bytes")
    problems += between(values, "lb_discovery_interval", 0.1, 60, "seconds")
    problems += between(values, "lb_health_interval", 0.1, 60, "seconds")
    problems += between(values, "lb_max_connections", 100, 1000000, "connections")
    problems += between(values, "lb_panic_share", 0, 1, "a share of the replicas")
    for tier in ("fe", "be"):
        problems += between(values, f"{tier}_max_requests", 0, 1000000, "requests")
    problems += between(values, "hsts_max_age", 0, 10**9, "seconds")
    problems += between(values, "watchdog_restarts", 0, 1000, "restarts")
    problems += between(values, "stack_releases_kept", 1, 1000, "releases")
    return problems


def _check_edge(values: dict) -> list[str]:
    """Check what the edge takes from clients and adds to answers."""
    limits = values.get("edge_limits") or {}
    problems = keys("edge_limits", limits, EDGE_LIMITS, "limit")
    for key in [key for key in ("connections", "requests") if key in limits]:
        if isinstance(limits[key], bool) or not str(limits[key]).isdigit():
            problems.append(f"edge_limits.{key}: {limits[key]!r} is no number; give how many, or 0 for no limit.")
    if str(limits.get("body", 0)) != "0":
        problems += size("edge_limits.body", limits["body"])
    if "headers" in limits:
        wrong = size("edge_limits.headers", limits["headers"])
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
    problems = between(values, "monitoring_interval", 1, 300, "seconds")
    problems += matches(values, "monitoring_retention", r"[1-9][0-9]*(?:h|d|w|y)", "a duration of one unit like 15d or 2w")
    problems += matches(values, "monitoring_retention_size", r"[1-9][0-9]*(?:MB|GB|TB)", "an amount of disk space like 1GB")
    problems += matches(
        values, "monitoring_alert_webhook_url", r"(?:https?://\S+)?", "a URL that begins with http, or nothing"
    )
    problems += matches(values, "monitoring_docker_socket", r"(?:/\S+)?", "an absolute path, or nothing")
    thresholds = values.get("monitoring_alert_thresholds") or {}
    problems += keys("monitoring_alert_thresholds", thresholds, THRESHOLDS, "threshold")
    for key in [key for key in THRESHOLDS if key in thresholds]:
        value = thresholds[key]
        try:
            valid = not isinstance(value, bool) and 0 < float(value) <= (1 if key.endswith("share") else 10**6)
        except (TypeError, ValueError, OverflowError):
            valid = False
        if not valid:
            wanted = "a share from 0 to 1" if key.endswith("share") else "a positive number"
            problems.append(f"monitoring_alert_thresholds.{key}: {value!r} is out of range; give {wanted}.")
    return problems


def check_backup(values: dict) -> list[str]:
    """Check where backups go, how many are kept and when they are taken."""
    problems = _check_repository(values)
    problems += matches(values, "backup_password", r"[^\r\n]*", "a password without line breaks")
    problems += matches(values, "backup_schedule", r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9])?", "a time like 03:30, or nothing")
    problems += between(values, "backup_logs_interval", 1, 60, "minutes")
    problems += between(values, "backup_logs_days", 1, 3650, "days")
    for key in values.get("backup_environment") or {}:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
            problems.append(f"backup_environment: {key!r} is no name of a variable; use letters, digits and _.")
    keep = values.get("backup_keep") or {}
    problems += keys("backup_keep", keep, KEPT, "period")
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
    problems = between(values, "swarm_registry_port", 1, 65535, "a port")
    problems += between(values, "swarm_drain_delay", 1, 600, "seconds")
    problems += matches(
        values, "swarm_registry", r"(?:[A-Za-z0-9.:_-]+(?:/[a-z0-9._-]+)*)?", "a registry without a / at the end"
    )
    problems += matches(values, "swarm_registry_user", r"[^\s:]+", "a name without blanks and colons")
    problems += matches(values, "swarm_registry_password", r"[^\r\n]*", "a password without line breaks")
    problems += between(values, "swarm_floating_number", 1, 255, "a number")
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
        problems += between(values, name, 0, 100, "a number")
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
