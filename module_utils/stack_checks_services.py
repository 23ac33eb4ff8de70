"""What the database, load balancers, backups and a Swarm may be told, beyond the form of a value.

Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

import difflib
import re

from ansible.module_utils.stack_forms import valid
from ansible.module_utils.stack_settings import defaults, parse_size

# Kinds of places that restic reaches with environment variables alone: its container has no keys, no files and no programs.
REPOSITORIES = ("rest", "s3", "b2", "azure", "gs", "swift")

# Server variables that only the stack may choose, and why.
FIXED = {
    **dict.fromkeys(("bind_address", "port", "skip_networking", "socket"), "the stack reaches its server by it"),
    **dict.fromkeys(("datadir", "pid_file", "user"), "the container is made for it"),
    **dict.fromkeys(("init_file", "skip_grant_tables"), "the accounts of the stack come and are asked for by it"),
    **dict.fromkeys(("disable_log_bin", "log_bin", "skip_log_bin"), "backups need the binary log"),
}
# What a Swarm cannot do, by the setting that asks for it.
NOT_IN_SWARM = {
    "database_port": "a Swarm publishes ports on every address of its hosts, and the database's is for loopback alone; set"
    " it to 0, and use the client in the container of the database.",
    "app_mode": "development is for the machine that has the code, and a Swarm runs replicas on any of its hosts; set"
    " stack_engine=compose for it.",
    "network_driver_options": "they are for bridges of one host and a Swarm has networks across hosts; leave it empty.",
    "backup_schedule": "no host of a Swarm takes backups by itself; leave it empty and run playbooks/backup.yml.",
}
# MySQL copies the data for a backup only with packets of this size (bytes).
PACKET = 2 * 2**20


def check_database(values: dict) -> list[str]:
    """Check the accounts, and server variables that MySQL would accept although the stack does not work with them."""
    problems = []
    own = {"root": "the server's own account", "exporter": "the account of monitoring"}
    if (user := values.get("database_user")) in own:
        problems.append(f"database_user: {user} is {own[user]}; give the application another name.")
    for name, value in (values.get("database_settings") or {}).items():
        # MySQL takes a dash for an underscore, and ignores after loose- what it does not know.
        plain = str(name).lower().replace("-", "_").removeprefix("loose_")
        if not re.fullmatch(r"[a-z][a-z0-9_.]*", plain) or re.search(r"[\r\n]", str(value)):
            problems.append(f"database_settings: {name!r} is no server variable with a value of one line; correct it.")
        elif plain in FIXED:
            problems.append(f"database_settings: {name} stays as it is, because {FIXED[plain]}; leave it out.")
        elif plain == "max_allowed_packet" and valid(lambda given: parse_size(given) < PACKET, value):
            problems.append(f"database_settings.{name}: {value} is too small for backups; give 2M or more, or leave it out.")
    return problems


def check_headers(values: dict) -> list[str]:
    """Check that headers which look like those of the defaults are those."""
    problems = []
    usual = {name.lower(): name for name in defaults("edge_headers")}
    for name in values.get("edge_headers") or {}:
        # Any other header may be given, but hardly one that looks like these.
        alike = difflib.get_close_matches(str(name).lower(), usual, n=1, cutoff=0.9)
        if alike and str(name).lower() not in usual:
            problems.append(f"edge_headers: {name!r} is no header that browsers know; did you mean {usual[alike[0]]}?")
    return problems


def check_backup(values: dict) -> list[str]:
    """Check where backups go, and that some are kept."""
    problems = _check_repository(values)
    if "backup_keep" in values and not values["backup_keep"]:
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
    if values.get("stack_engine") != "swarm":
        return [
            f"{name}: {values[name]} load balancers of a tier need several hosts; give 0, or set stack_engine=swarm."
            for name in values
            if name.endswith("_lb_replicas") and values[name] > 1
        ]
    given = {**values, "app_mode": values.get("app_mode") == "development"}
    return [f"{name}: {why}" for name, why in NOT_IN_SWARM.items() if given.get(name)]
