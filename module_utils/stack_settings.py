"""Read the public settings of a stack, and what follows from them: ports, mounts, memory, room for replicas.

Everything here is a pure function of its arguments, apart from reading roles and group_vars of the checkout.
``stack_checks`` says what the values may be.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
    check_type_str,
)

# Size of the fixed parts of a DNS answer in bytes: header (RFC 1035, 4.1.1) and the EDNS0 record
# (RFC 6891, 6.1.2); and of one A record whose name is compressed to a pointer.
DNS_HEADER = 12
DNS_EDNS = 11
DNS_RECORD = 16
# Line in a file of group_vars after which role variables are wired to settings.
WIRING_MARK = "# --- wiring"

UNITS = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}
# Settings whose names start like this are the stack's own: one that nobody reads is a mistake.
OWN_PREFIXES = (
    *("fe_", "be_", "lb_", "database_", "watchdog_", "monitoring_", "backup_", "restore_", "edge_"),
    *("frontend_", "backend_", "load_balancer_", "image_", "stack_", "swarm_"),
)
# Settings that are ports of 127.0.0.1.
MONITORING_PORTS = ("monitoring_console_port", "monitoring_prometheus_port", "monitoring_grafana_port")

TYPES = {
    "int": (check_type_int, "a whole number"),
    "float": (check_type_float, "a number"),
    "bool": (check_type_bool, "true or false"),
    "list": (check_type_list, "a list"),
    "dict": (check_type_dict, "a dictionary"),
    "str": (check_type_str, "a text"),
    "path": (check_type_str, "a path"),
}


@dataclass
class Setting:
    """One public setting: what its value must be and which role variable it feeds."""

    name: str
    option: str
    type: str = "str"
    choices: list | None = None
    description: str = ""
    role: str = ""
    default: Any = field(default=None)


def read_settings(project: Path) -> dict[str, Setting]:
    """Return every public setting by name, from the roles' argument specs and their wiring in group_vars.

    Args:
        project: the checkout.
    """
    options: dict[str, tuple[str, dict]] = {}
    for path in sorted(project.glob("roles/*/meta/argument_specs.yml")):
        specs = _read_yaml(path)["argument_specs"]
        for name, spec in specs["main"].get("options", {}).items():
            options[name] = (path.parts[-3], spec)
    settings: dict[str, Setting] = {}
    for path in sorted(project.glob("group_vars/all/*.yml")):
        public, wiring = _read_yaml(path, False), _read_yaml(path, True)
        sources = {name: name for name in public if name in options}
        for option, value in wiring.items():
            match = re.fullmatch(r"\{\{\s*([a-z0-9_]+)\b[^}]*\}\}", str(value))
            if match and option in options and match[1] in public:
                sources.setdefault(match[1], option)
        for name, option in sources.items():
            role, spec = options[option]
            settings[name] = Setting(
                name,
                option,
                spec.get("type", "str"),
                spec.get("choices"),
                " ".join(spec["description"]) if isinstance(spec["description"], list) else spec["description"],
                role,
                public[name],
            )
    return settings


def known_names(project: Path) -> set[str]:
    """Return every variable that the project reads: settings, role options, and what wiring refers to."""
    names = set(read_settings(project))
    for path in project.glob("roles/*/meta/argument_specs.yml"):
        specs = _read_yaml(path)["argument_specs"]
        for spec in specs.values():
            names.update(spec.get("options", {}))
    for path in project.glob("group_vars/all/*.yml"):
        wiring = _read_yaml(path, True)
        names.update(wiring)
        for expression in re.findall(r"\{\{(.*?)\}\}", str(list(wiring.values()))):
            names.update(re.findall(r"\b[a-z][a-z0-9_]+\b", expression))
    return names


def unknown_settings(names: set[str], known: set[str], settings: set[str]) -> list[str]:
    """Return a sentence for each of ``names`` that looks like a setting and is none.

    A name is taken for a mistaken setting if it starts like one of the project's or differs little
    from one; other variables of the user's inventory are left alone.
    """
    problems = []
    for name in sorted(names - known):
        # "environment" is Ansible's own, like those with its prefix.
        if name == "environment" or name.startswith(("_", "ansible_", "molecule_")):
            continue
        close = difflib.get_close_matches(name, sorted(settings), n=1, cutoff=0.6)
        alike = difflib.get_close_matches(name, sorted(settings), n=1, cutoff=0.85)
        if alike or name.startswith(OWN_PREFIXES):
            hint = f"did you mean {close[0]}?" if close else "README.md lists all settings."
            problems.append(f"{name} is no setting of this stack: {hint}")
    return problems


def shown(name: str, value: Any) -> str:
    """Return a value as messages quote it; a secret is not quoted, nor an environment, which may hold one."""
    return "what is given" if name.endswith(("password", "private_key", "webhook_url", "environment")) else repr(value)


def convert(settings: dict[str, Setting], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values in their declared types, and a sentence for each that has another type."""
    converted: dict[str, Any] = {}
    problems = []
    for name, setting in settings.items():
        if name not in values:
            continue
        value = values[name]
        check, wanted = TYPES[setting.type]
        try:
            # A list or dictionary is not made from text: "a,b" and "a=b" are mostly mistakes.
            if setting.type in ("list", "dict") and isinstance(value, str):
                raise TypeError
            # True is an int to Python, None the text "None" to Ansible; to a user they are neither.
            if value is None or (setting.type in ("int", "float", "str") and isinstance(value, bool)):
                raise TypeError
            if setting.type == "str" and isinstance(value, (list, dict)):
                raise TypeError
            converted[name] = check(value)
        except (TypeError, ValueError):
            hint = f"correct the value of {name}"
            if setting.type in ("list", "dict"):
                example = "[...]" if setting.type == "list" else "{...}"
                hint = f"on the command line write it as JSON: -e '{{\"{name}\": {example}}}'"
            problems.append(f"{name}: {shown(name, value)} is not {wanted}; {hint}.")
            continue
        if setting.choices and converted[name] not in setting.choices:
            problems.append(f"{name}: {value!r} is not known; use one of {', '.join(map(str, setting.choices))}.")
    return converted, problems


def monitoring_ports(values: dict) -> list[str]:
    """Return the settings of those ports that monitoring publishes."""
    if not values.get("monitoring_enabled", True):
        return []
    return [name for name in MONITORING_PORTS if values.get("monitoring_grafana") or name != "monitoring_grafana_port"]


# The service that publishes what a setting says.
PUBLISHERS = {
    "http_port": "fe-lb",
    "https_port": "fe-lb",
    "monitoring_console_port": "console",
    "monitoring_prometheus_port": "prometheus",
    "monitoring_grafana_port": "grafana",
}


def published_ports(values: dict) -> list[tuple[str, str, str]]:
    """Return the ports of the host that a deployment publishes: setting, address and protocol."""
    ports = [(name, values["bind_address"], "tcp") for name in ("http_port", "https_port")]
    if values["http3_enabled"]:
        ports.append(("https_port", values["bind_address"], "udp"))
    return ports + [(name, "127.0.0.1", "tcp") for name in monitoring_ports(values)]


def mounts(values: dict) -> list[dict]:
    """Return what is mounted from the host: the ``setting`` that says so, ``source`` and ``target``."""
    found = []
    for tier in ("fe", "be"):
        if values["app_mode"] == "development" and not values[f"{tier}_image"] and values[f"{tier}_source_target"]:
            code = {"source": values[f"{tier}_source"], "target": values[f"{tier}_source_target"]}
            found.append({"setting": f"{tier}_source", **code})
        for mount in values[f"{tier}_mounts"]:
            found.append({"setting": f"{tier}_mounts", "source": mount["source"], "target": mount["target"]})
    return found


def mount_source(source: Any, project: str) -> str:
    """Return where a bind mount starts: relative to the checkout, unless absolute or from the home (~/) on the host."""
    return str(source) if str(source).startswith("~/") else str(Path(project) / str(source))


def balancers(values: dict) -> dict[str, int]:
    """Return how many of each load balancer there are."""
    usual = 2 if values["stack_engine"] == "swarm" else 1
    return {name: values[f"{name.replace('-', '_')}_replicas"] or usual for name in ("fe-lb", "be-lb")}


def memory_needed(values: dict) -> int:
    """Return the bytes that all containers are counted with."""
    return (
        values["fe_replicas"] * parse_size(values["fe_memory_reservation"])
        + values["be_replicas"] * parse_size(values["be_memory_reservation"])
        + sum(balancers(values).values()) * parse_size(values["lb_memory_reservation"])
        + parse_size(values["database_memory_reservation"])
        + (parse_size(values["monitoring_memory_reservation"]) if values["monitoring_enabled"] else 0)
    )


def dns_capacity(payload: int, name: str) -> int:
    """Return how many addresses an answer of ``payload`` bytes holds for the name of a service."""
    question = len(name) + 2 + 4
    return max(0, (payload - DNS_HEADER - question - DNS_EDNS) // DNS_RECORD)


def replica_capacity(slots: int, payload: int, name: str) -> int:
    """Return the most replicas that a load balancer can follow through a change.

    A change starts new replicas beside the old ones, so each counts twice.
    """
    return min(slots, dns_capacity(payload, name)) // 2


def parse_size(text: Any) -> int:
    """Return the bytes of a size in Docker's notation (``256M``, ``1.5G``, ``1048576``).

    Raises:
        ValueError: ``text`` is no such size or not positive.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([bkmg]?b?)", str(text).strip().lower())
    if not match or match[2] not in UNITS or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no size")
    return int(float(match[1]) * UNITS[match[2]])


def parse_duration(text: Any) -> int:
    """Return the seconds of a duration of one unit (``30s``, ``2m``, ``1h``).

    Raises:
        ValueError: ``text`` is no such duration.
    """
    match = re.fullmatch(r"([0-9]+)([hms])", str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is no duration")
    return int(match[1]) * {"h": 3600, "m": 60, "s": 1}[match[2]]


def parse_version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version (``v2.26.1-4`` is ``(2, 26, 1)``)."""
    match = re.match(r"v?([0-9]+(?:\.[0-9]+)*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else (0,)


@lru_cache
def _read_yaml(path: Path, wiring: bool | None = None) -> dict:
    """Return a YAML file, or the part before (False) or after (True) its wiring mark."""
    text = path.read_text(encoding="utf-8")
    if wiring is not None:
        public, _, wired = text.partition(WIRING_MARK)
        # The mark's own line is a comment and was cut in the middle.
        text = "#" + wired if wiring else public
    # The loader in C takes a tenth of the time, and every run waits for it.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}  # noqa: S506 (both are safe loaders)
