"""Read the public settings of a stack, and what follows from them: ports, mounts, memory, room for replicas.

Its default stands in group_vars; type, choices and the keys of a dictionary in the argument specs of roles.
``stack_forms`` and ``stack_checks`` say what else the values may be.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import ArgumentTypeError, ArgumentValueError

# Size of the fixed parts of a DNS answer in bytes: header (RFC 1035, 4.1.1) and the EDNS0 record
# (RFC 6891, 6.1.2); and of one A record whose name is compressed to a pointer.
DNS_HEADER = 12
DNS_EDNS = 11
DNS_RECORD = 16
# Line in a file of group_vars after which no setting follows, but what is computed from settings.
WIRING_MARK = "# --- wiring"

UNITS = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}
# Settings that are ports of 127.0.0.1.
MONITORING_PORTS = ("monitoring_console_port", "monitoring_prometheus_port", "monitoring_grafana_port")

# Values with which a default is dropped, where that makes sense.
DROPPING: dict[str, tuple] = {"edge_headers": ("", None), "backup_keep": (0, "0", "")}
# Dictionaries and lists whose values are text to whoever gets them; numbers and true or false may stand there as well.
TEXTS = (
    *("fe_environment", "be_environment", "backup_environment", "edge_headers", "database_settings"),
    *("network_driver_options", "fe_command", "be_command"),
)
# Texts that are plain numbers for many.
NUMBERS = ("fe_user", "be_user", "fe_rollout_batch", "be_rollout_batch", "image_build_cache")

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a dictionary",
    "str": "a text",
    "path": "a path",
}


@dataclass
class Setting:
    """One public setting: its default, and what the argument spec says of it."""

    name: str
    default: Any
    spec: dict[str, Any]

    @property
    def type(self) -> str:
        """The type of its value."""
        return self.spec["type"]


def read_settings(project: Path) -> dict[str, Setting]:
    """Return every public setting by name: what group_vars sets above the wiring and the roles' argument specs describe.

    Args:
        project: the checkout.
    """
    options: dict[str, dict] = {}
    for path in sorted(project.glob("roles/*/meta/argument_specs.yml")):
        options |= _read_yaml(path)["argument_specs"]["main"].get("options", {})
    return {name: Setting(name, default, options[name]) for name, default in _public(project).items() if name in options}


def defaults(name: str) -> dict[str, Any]:
    """Return the default of a dictionary, with which it is merged, from the checkout that this file is in."""
    return _public(Path(__file__).resolve().parents[1])[name]


@lru_cache
def _public(project: Path) -> dict[str, Any]:
    """Return the default of each setting by name."""
    found = [_read_yaml(path, False) for path in sorted(project.glob("group_vars/all/*.yml"))]
    return {name: default for file in found for name, default in file.items()}


def networks_of(project: Path) -> list[str]:
    """Return the name of each network that a deployment may have."""
    wiring = _read_yaml(project / "group_vars/all/network.yml", True)
    return [name for value in wiring.values() if isinstance(value, dict) for name in value]


def volumes_of(project: Path) -> list[str]:
    """Return the name of each volume that a deployment may have, from the template."""
    template = (project / "docker-compose.yml.j2").read_text(encoding="utf-8")
    return re.findall(r"^  ([a-z]+):$", template.partition("\nvolumes:\n")[2].partition("\n\n")[0], re.MULTILINE)


def known_names(project: Path) -> set[str]:
    """Return every variable that the project reads: settings, role options, and what wiring refers to."""
    names = set(read_settings(project))
    for path in project.glob("roles/*/meta/argument_specs.yml"):
        for spec in _read_yaml(path)["argument_specs"].values():
            names.update(spec.get("options", {}))
    for path in project.glob("group_vars/all/*.yml"):
        wiring = _read_yaml(path, True)
        names.update(wiring)
        for expression in re.findall(r"\{\{(.*?)\}\}", str(list(wiring.values()))):
            names.update(re.findall(r"\b[a-z][a-z0-9_]+\b", expression))
    return names


def unknown_settings(names: set[str], known: set[str], settings: set[str]) -> list[str]:
    """Return a sentence for each of ``names`` that looks like a setting and is none.

    A name is taken for a mistaken setting if it differs little from one; other variables of the user's inventory, which may
    be about a database or monitoring of somebody else, are left alone.
    """
    problems = []
    for name in sorted(names - known):
        # "environment" is Ansible's own, like those with its prefix.
        if name == "environment" or name.startswith(("_", "ansible_", "molecule_")):
            continue
        alike = difflib.get_close_matches(name, sorted(settings), n=1, cutoff=0.85)
        if alike:
            problems.append(f"{name} is no setting of this stack: did you mean {alike[0]}?")
    return problems


def shown(name: str, value: Any) -> str:
    """Return a value as messages quote it; a secret is not quoted, nor an environment, which may hold one."""
    return "what is given" if name.endswith(("password", "private_key", "webhook_url", "environment")) else repr(value)


def with_defaults(given: dict[str, Any], name: str, **others: Any) -> dict[str, Any]:
    """Return the dictionary of a setting with its default for each key that is not given; empty values drop some.

    Args:
        given: what the setting says.
        name: of the setting.
        others: what stands in for a default that is as in group_vars.
    """
    usual = defaults(name)
    given = {key: value for key, value in given.items() if key not in others or value != usual[key]}
    # To a browser the name of a header is the same in any case; other keys are refused if they are not known.
    same = {str(key).lower(): key for key in given}
    # What is given keeps its order before that of the defaults: a changed order is a changed file.
    merged = {same.get(key.lower(), key): value for key, value in {**usual, **others}.items()} | given
    dropping = DROPPING.get(name, ())
    return {key: value for key, value in merged.items() if isinstance(value, bool) or value not in dropping}


def as_text(value: Any) -> str:
    """Return a value as containers, headers and files get it: true and false in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_texts(name: str, value: Any, sources: Any) -> list[str]:
    """Return a sentence for each part of a setting that YAML has read as something else than text."""
    problems = []
    counts = name in TEXTS
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                problems.append(f"{name}: YAML reads one of the names as {key!r}; put that name in quotes.")
                continue
            dropped = item in DROPPING.get(name, ()) and not isinstance(item, bool)
            if isinstance(item, (dict, list)):
                problems.append(f"{name}: {key} is a {type(item).__name__}; give a text or a number.")
            elif not dropped and _not_text(item, sources and sources.written(item, key), counts):
                problems.append(f"{name}.{key}: YAML reads the value as {_kind(item)}; put it in quotes.")
    else:
        for number, item in enumerate(value, 1):
            # Of true and false it is not known how they were written in a list.
            if isinstance(item, bool) or _not_text(item, sources and sources.written(item), counts):
                problems.append(f"{name}: YAML reads element {number} as {_kind(item)}; put it in quotes.")
    return problems


def _kind(value: Any) -> str:
    """Return what YAML made of a value, which is not quoted: it may be a secret."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a dictionary"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "a date")


def _not_text(value: Any, written: str | None, counts: bool = True) -> bool:
    """Tell whether a value is no text and, if it ``counts``, nothing that was written like the text that it becomes.

    How it stands in its file (``written``) is None if that is not known, as for JSON on the command line.
    """
    if isinstance(value, str):
        return False
    if not counts or not isinstance(value, (bool, int, float)):
        return True
    # 1.1 may have been 1.10.
    return isinstance(value, float) if written is None else written != as_text(value)


def _typed(setting: Setting, value: Any) -> tuple[Any, str]:
    """Return a value in its declared type, and a sentence if it has another one or is none of the choices."""
    name, kind, choices = setting.name, setting.type, setting.spec.get("choices")
    if kind in ("list", "dict"):
        # Neither is made from text or a number: "a,b" and "a=b" are mostly mistakes.
        fits = isinstance(value, {"list": list, "dict": dict}[kind])
        hint = f"on the command line write it as JSON: -e '{{\"{name}\": {'[...]' if kind == 'list' else '{...}'}}}'"
    else:
        # True is an int to Python, None the text "None" to Ansible; to a user they are neither.
        fits = value is not None and not isinstance(value, (list, dict)) and (kind == "bool" or not isinstance(value, bool))
        hint = f"correct the value of {name}"
    try:
        result = ArgumentSpecValidator({name: {"type": kind, "choices": choices}}).validate({name: value})
        wrong = [type(error) for error in result.errors.errors]
    # int() of an infinite number.
    except OverflowError:
        fits = False
    if not fits or ArgumentTypeError in wrong:
        return value, f"{name}: {shown(name, value)} is not {TYPES[kind]}; {hint}."
    if ArgumentValueError in wrong:
        return value, f"{name}: {value!r} is not known; use one of {', '.join(map(str, choices))}."
    return result.validated_parameters[name], ""


def convert(settings: dict[str, Setting], values: dict[str, Any], sources: Any = None) -> tuple[dict[str, Any], list[str]]:
    """Return the values in their declared types, dictionaries with their defaults, and a sentence for each wrong type.

    Args:
        settings: what ``read_settings`` returned.
        values: by name.
        sources: a ``stack_written.Sources``, which tells how values were written.
    """
    converted: dict[str, Any] = {}
    problems = []
    for name, setting in settings.items():
        if name not in values:
            continue
        value = values[name]
        written = sources.written(value, name) if sources else None
        counts = (name in NUMBERS or name.endswith("_memory_reservation")) and not isinstance(value, bool)
        if setting.type in ("str", "path") and not isinstance(value, (list, dict)) and _not_text(value, written, counts):
            problems.append(f'{name}: {shown(name, value)} is not a text; put it in quotes, or write "" for none.')
            continue
        if setting.type == "int" and isinstance(value, int) and written and _not_text(value, written):
            problems.append(f"{name}: YAML reads {written} as {value!r}; write it as a whole number in decimal.")
            continue
        typed, problem = _typed(setting, value)
        texts = name in (*TEXTS, "network_subnets") or setting.spec.get("elements") == "str"
        wrong = [problem] if problem else _not_texts(name, value, sources) if texts else []
        problems += wrong
        if not wrong:
            merged = setting.type == "dict" and (setting.default or "options" in setting.spec)
            converted[name] = with_defaults(typed, name) if merged else typed
    return converted, problems


def monitoring_ports(values: dict) -> list[str]:
    """Return the settings of those ports that monitoring publishes."""
    if not values.get("monitoring_enabled", True):
        return []
    return [name for name in MONITORING_PORTS if values.get("monitoring_grafana") or name != "monitoring_grafana_port"]


def publishers(project: Path) -> dict[str, str]:
    """Return the service that publishes each port that a setting names, from the template."""
    template = (project / "docker-compose.yml.j2").read_text(encoding="utf-8")
    services = [part.partition(":") for part in re.split(r"^  (?=[a-z])", template, flags=re.MULTILINE)]
    return {setting: name for name, _, text in services for setting in re.findall(r'published: "\{\{ (\w+)', text)}


def tiers(values: dict) -> list[str]:
    """Return the names of the tiers: what has replicas, and a load balancer of its own."""
    names = [name.removesuffix("_replicas") for name in values if name.endswith("_replicas")]
    return [name for name in names if f"{name}_lb_replicas" in values]


def published_ports(values: dict) -> list[tuple[str, str, str]]:
    """Return the ports of the host that a deployment publishes: setting, address and protocol."""
    ports = [(name, values["bind_address"], "tcp") for name in ("http_port", "https_port")]
    if values["http3_enabled"]:
        ports.append(("https_port", values["bind_address"], "udp"))
    own = ["database_port"] if values["database_port"] else []
    return ports + [(name, "127.0.0.1", "tcp") for name in [*own, *monitoring_ports(values)]]


def mounts(values: dict) -> list[dict]:
    """Return what is mounted from the host: the ``setting`` that says so, ``source`` and ``target``."""
    found = []
    for tier in tiers(values):
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
    return {f"{tier}-lb": values[f"{tier}_lb_replicas"] or usual for tier in tiers(values)}


def memory_needed(values: dict) -> int:
    """Return the bytes of memory that all containers reserve."""
    return (
        sum(values[f"{tier}_replicas"] * parse_size(values[f"{tier}_memory_reservation"]) for tier in tiers(values))
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
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)([bkmg]?b?)", str(text).strip().lower())
    if not match or match[2] not in UNITS or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no size")
    return int(float(match[1]) * UNITS[match[2]])


def parse_duration(text: Any) -> int:
    """Return the seconds of a duration of one unit such as ``30s``, ``2m``, ``1h`` (ValueError: it is none)."""
    match = re.fullmatch(r"([0-9]{1,9})([hms])", str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is no duration")
    return int(match[1]) * {"h": 3600, "m": 60, "s": 1}[match[2]]


def milliseconds(text: Any) -> float:
    """Return the milliseconds of a duration in HAProxy's notation (``500ms``, ``30s``; without a unit, milliseconds).

    Raises:
        ValueError: ``text`` is no such duration.
    """
    match = re.fullmatch(r"([0-9]{1,15})(us|ms|s|m|h|d)?", str(text))
    if not match:
        raise ValueError(f"{text!r} is no duration")
    units = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    return int(match[1]) * units[match[2] or "ms"]


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
