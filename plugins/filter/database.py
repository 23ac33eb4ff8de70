"""Filters for the dumps that a database is made from, and for what its data volume holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.stack_settings import parse_version

# Stand in a data volume from the first byte until the image, and then the dumps, are through.
UNFINISHED = {".initialization-incomplete", ".dumps-incomplete"}


def dumps_seen(dumps: list[str], project: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return which dumps a database was made from, and which a run has seen last, as the next run has to know it.

    Args:
        dumps: the setting; relative paths start at ``project``.
        project: the checkout.
        record: what this function returned in an earlier run; empty in the first one.
    """
    before = {(item["name"], item["size"], item["modified"]): item["digest"] for item in record.get("seen", [])}
    seen = []
    for name in dumps:
        path = Path(project) / Path(name).expanduser()
        state = path.stat()
        key = (name, state.st_size, state.st_mtime_ns)
        if key not in before:
            with path.open("rb") as file:
                before[key] = hashlib.file_digest(file, "sha256").hexdigest()
        seen.append({"name": name, "size": key[1], "modified": key[2], "digest": before[key]})
    return {"loaded": record.get("loaded", [item["digest"] for item in seen]), "seen": seen}


def dumps_without_effect(seen: dict[str, Any], record: dict[str, Any]) -> str:
    """Return a sentence on dumps that have changed since the last run saw them, and are not those of the database.

    Args:
        seen: what ``dumps_seen`` returned in this run.
        record: what it returned in an earlier one.
    """
    digests, last = ([item["digest"] for item in found.get("seen", [])] for found in (seen, record))
    if not record or digests in (last, seen["loaded"]):
        return ""
    names = [item["name"] for item in seen["seen"] if item["digest"] not in seen["loaded"]]
    return (
        f"database_dumps: {', '.join(names) or 'the list'} has changed since the database was made, and a database that has"
        " data takes no dumps: the change is without effect. Load what is new by hand (make mysql < FILE), or begin anew"
        " without the data (make down ARGS='-e remove_data=true')."
    )


def data_volume_names(report: str) -> list[str]:
    """Return the names of what is in a data volume, from the report that ``data_volume_problem`` reads."""
    names = report.partition("\n\n")[2].partition("\n\n")[0].split("\n")
    return sorted(set(names) - {"", "lost+found"})


def data_volume_unfinished(report: str) -> bool:
    """Tell whether a data volume holds a database whose first start has failed or was interrupted, so that it never served.

    Args:
        report: as for ``data_volume_problem``.
    """
    return not UNFINISHED.isdisjoint(data_volume_names(report))


def data_volume_problem(report: str, volume: str) -> str:
    """Return why a server must not open a data volume, or nothing.

    Args:
        report: three parts with empty lines between them: the server's version, the names in the
            volume, and MySQL's own history of it.
        volume: its name, for the sentence.
    """
    names = data_volume_names(report)
    keep = "its data is untouched; deploy under another stack_name, or remove the volume if its data may be lost"
    if not names:
        return ""
    for mark, engine in (
        ("PG_VERSION", "PostgreSQL"),
        ("aria_log_control", "MariaDB"),
        ("mariadb_upgrade_info", "MariaDB"),
        ("WiredTiger", "MongoDB"),
    ):
        if mark in names:
            return f"The volume {volume} holds a {engine} database and the stack's is MySQL; {keep}."
    if not UNFINISHED.isdisjoint(names):
        return (
            f"The volume {volume} is only half initialised, because its first start was interrupted;"
            f" remove it with 'docker volume rm {volume}' and run again."
        )
    if ".restore-incomplete" in names:
        return f"The restore into the volume {volume} was interrupted; run playbooks/restore.yml again."
    if "mysql.ibd" not in names:
        return f"The volume {volume} holds something else than a MySQL database; {keep}."
    written, own = _releases(report)
    if written and own and parse_version(written) > parse_version(own):
        return (
            f"The volume {volume} was written by MySQL {written} and the server of this deployment is {own},"
            " which cannot read it; take an image of that version or later."
        )
    return ""


def data_volume_upgrade(report: str) -> dict[str, str]:
    """Return the releases ``before`` and ``after`` if the server is newer than what wrote a data volume, else nothing.

    Args:
        report: as for ``data_volume_problem``.
    """
    written, own = _releases(report)
    if not written or not own or parse_version(own) <= parse_version(written):
        return {}
    return {"before": written, "after": own}


def _releases(report: str) -> tuple[str, str]:
    """Return the release that last wrote a data volume and that of the server, empty where the report has none."""
    written = re.findall(r'"version":\s*"([0-9.]+)', report)
    own = re.search(r"Ver ([0-9.]+)", report.partition("\n\n")[0])
    return written[-1] if written else "", own[1] if own else ""


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "dumps_seen": dumps_seen,
            "dumps_without_effect": dumps_without_effect,
            "data_volume_names": data_volume_names,
            "data_volume_unfinished": data_volume_unfinished,
            "data_volume_problem": data_volume_problem,
            "data_volume_upgrade": data_volume_upgrade,
        }
