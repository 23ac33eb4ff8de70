"""Forms that values of settings have, as data; what does not have its form gets a sentence that says what to do."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from ansible.module_utils.stack_settings import milliseconds, parse_size, shown

# What tells whether a value is right (a function that fails says no), and what is said of one that is not.
Form = tuple[Callable[[Any], Any], str]


def between(low: float, high: float, unit: str) -> Form:
    """Return the form of a number in a range."""
    return lambda value: low <= value <= high, f"is out of range; give {unit} from {low} to {high}"


def matches(pattern: str, wanted: str, wrong: str = "is not valid; give {}") -> Form:
    """Return the form of a text that matches a pattern as a whole; ``wanted`` says in words what does."""
    return lambda value: re.fullmatch(pattern, str(value)), wrong.format(wanted)


def number(high: float, wrong: str, kind: Callable = float) -> Form:
    """Return the form of a number above 0 and not above ``high``, which may be written as a text."""
    return lambda value: not isinstance(value, bool) and 0 < kind(value) <= high, wrong


HOST = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
SIZE: Form = (parse_size, "is no size; write it like 256M or 1G")
NO_NUMBER = "is no positive number; correct it or leave it out"

# Settings (with * for any characters), elements of lists and keys of dictionaries under the name of their setting, values in
# dictionaries as setting.key; the first form that does not fit is told.
FORMS: list[tuple[str, Form]] = [
    ("http_port https_port monitoring_*_port fe_port be_port be_lb_port swarm_registry_port", between(1, 65535, "a port")),
    ("database_port debug_port", between(0, 65535, "a port, or 0 for none")),
    ("*_lb_replicas", between(0, 100, "a number")),
    ("lb_slots", between(2, 4000, "servers")),
    ("lb_dns_payload", between(512, 65535, "bytes")),
    ("lb_discovery_interval lb_health_interval", between(0.1, 60, "seconds")),
    ("lb_max_connections", between(100, 1000000, "connections")),
    ("lb_panic_share", between(0, 1, "a share of the replicas")),
    ("*_max_requests", between(0, 1000000, "requests")),
    ("hsts_max_age", between(0, 10**9, "seconds")),
    ("watchdog_restarts", between(0, 1000, "restarts")),
    ("stack_releases_kept", between(1, 1000, "releases")),
    ("monitoring_interval", between(1, 300, "seconds")),
    ("backup_logs_interval", between(1, 60, "minutes")),
    ("backup_logs_days", between(1, 3650, "days")),
    ("swarm_drain_delay", between(1, 600, "seconds")),
    ("swarm_floating_number", between(1, 255, "a number")),
    (
        "stack_name",
        matches(
            r"[a-z0-9]+(?:[_-][a-z0-9]+)*",
            "a project name of lower-case letters, digits, and single - or _ between them",
        ),
    ),
    ("database_name", matches(r"[A-Za-z0-9_$-]{1,64}", "1 to 64 letters, digits, _, $ or -")),
    ("database_user", matches(r"[A-Za-z0-9_.-]{1,32}", "1 to 32 letters, digits, _, . or -")),
    (
        "database_password backup_password swarm_registry_password",
        matches(r"[^\r\n]*", "a password without line breaks"),
    ),
    ("image_registry", matches(r"(?:[A-Za-z0-9.:_/-]+/)?", "a prefix that ends with /, or nothing")),
    ("fe_user be_user", matches(r"(?:[0-9]+(?::[0-9]+)?)?", "numbers as uid or uid:gid, or nothing for the image's own")),
    (
        "*_rollout_batch",
        matches(r"[1-9][0-9]*|(?:100|[1-9][0-9]?)%", "a number of replicas, or a share like 25%"),
    ),
    ("*_health_path", matches(r"(?:/[^\s\"'\\#]*)?", "a path that begins with /, or nothing for a TCP check")),
    (
        "*_health_host",
        matches(
            rf"(?:{HOST}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?",
            "a host name like shop.example, perhaps with a port",
        ),
    ),
    ("*_source_target", matches(r"(?:/[^:]*)?", "an absolute path in the image, or nothing")),
    (
        # HAProxy knows no 1m30s.
        "*_stop_grace_period lb_hard_stop_after *_drain_timeout watchdog_window",
        matches(r"[0-9]+(?:h|m|s)", "a duration of one unit like 30s or 2m"),
    ),
    ("monitoring_retention", matches(r"[1-9][0-9]*(?:h|d|w|y)", "a duration of one unit like 15d or 2w")),
    ("monitoring_retention_size", matches(r"[1-9][0-9]*(?:MB|GB|TB)", "an amount of disk space like 1GB")),
    ("monitoring_alert_webhook_url", matches(r"(?:https?://\S+)?", "a URL that begins with http, or nothing")),
    ("monitoring_docker_socket", matches(r"(?:/\S+)?", "an absolute path, or nothing")),
    ("backup_schedule", matches(r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9])?", "a time like 03:30, or nothing")),
    ("swarm_registry", matches(r"(?:[A-Za-z0-9.:_-]+(?:/[a-z0-9._-]+)*)?", "a registry without a / at the end")),
    ("swarm_registry_user", matches(r"[^\s:]+", "a name without blanks and colons")),
    ("be_lb_aliases database_aliases", matches(HOST, "use letters, digits, -, _ and dots", "is no host name; {}")),
    ("*_environment", matches(r"[A-Za-z_][A-Za-z0-9_]*", "use letters, digits and _", "is no name of a variable; {}")),
    (
        "edge_headers edge_hidden_headers",
        matches(r"[A-Za-z0-9-]+", "use letters, digits and -", "is no name of a header; {}"),
    ),
    ("edge_headers.*", matches(r"[ -~]+", "give a text of one line in ASCII", "is no value of a header; {}")),
    ("bind_address", (ipaddress.ip_address, "is no IP address; give one of the host, or 0.0.0.0")),
    (
        "edge_trusted",
        (lambda value: ipaddress.ip_network(value, strict=False), "is no address; write it like 10.1.2.0/24"),
    ),
    (
        "swarm_floating_address",
        (
            lambda value: value == "" or ("/" in value and ipaddress.ip_interface(value)),
            "is no address with its range; write it like 10.0.0.100/24",
        ),
    ),
    ("*_memory_reservation *_limits.memory edge_limits.headers", SIZE),
    ("edge_limits.body", (lambda value: str(value) == "0" or parse_size(value), SIZE[1])),
    (
        "edge_limits.headers",
        (lambda value: 2**13 <= parse_size(value) <= 2**20, "is out of range; give a size from 8K to 1M"),
    ),
    (
        "edge_limits.connections edge_limits.requests",
        matches(r"[0-9]+", "give how many, or 0 for no limit", "is no number; {}"),
    ),
    (
        "image_build_cache",
        (lambda value: value == "0" or parse_size(value), "is no size; write it like 10G, or 0 for all of it"),
    ),
    ("*_limits.cpus", number(10**6, NO_NUMBER)),
    ("*_limits.pids", number(10**6, NO_NUMBER, int)),
    (
        "lb_timeouts.*",
        (lambda value: milliseconds(value) >= 0, "is no duration; write it like 500ms or 30s"),
    ),
    ("lb_timeouts.queue", (lambda value: milliseconds(value) >= 100, "is too short; give 100ms or more")),
    ("monitoring_alert_thresholds.*_share", number(1, "is out of range; give a share from 0 to 1")),
    ("monitoring_alert_thresholds.*", number(10**6, "is out of range; give a positive number")),
    (
        "backup_keep.*",
        matches(r"[1-9][0-9]*", "give 1 or more, or 0 for none of them", "is no number of backups; {}"),
    ),
]
_GLOBS = [(glob, form) for globs, form in FORMS for glob in globs.split()]


def check_forms(values: dict) -> list[str]:
    """Return a sentence for each value that does not have its form."""
    problems = []
    for path, value, quoted in _parts(values):
        forms = [form for glob, form in _GLOBS if path == glob or ("*" in glob and _fits(path, glob))]
        wrong = next((sentence for check, sentence in forms if not valid(check, value)), "")
        if wrong:
            problems.append(f"{path}: {quoted} {wrong}.")
    return problems


def _fits(path: str, glob: str) -> bool:
    """Tell whether setting and key fit, each by itself: a key that looks like a setting is none."""
    return all(map(fnmatchcase, path.partition("."), glob.partition(".")))


def _parts(values: dict) -> Iterator[tuple[str, Any, str]]:
    """Yield each value, key and element of settings: its path, itself, and how a message quotes it."""
    for name, value in values.items():
        if not isinstance(value, (list, dict)):
            yield name, value, shown(name, value)
            continue
        yield from ((name, item, repr(item)) for item in value)
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", item, repr(item)) for key, item in value.items())


def check_keys(name: str, given: dict, known: list[str], kind: str) -> list[str]:
    """Check that a dictionary has no other keys than those that are known; ``kind`` is what one of them is called."""
    problems = []
    for key in [key for key in given if key not in known]:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use {', '.join(known)}."
        problems.append(f"{name}: {key!r} is no {kind}; {hint}")
    return problems


def valid(check: Callable[[Any], Any], value: Any) -> bool:
    """Tell whether a function takes a value: it returns something that holds, and does not fail."""
    try:
        return bool(check(value))
    except (TypeError, ValueError, OverflowError):
        return False
