"""Whose a folder is, and what the project has written in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath

from ansible.module_utils.stack_files import replace

# The mark of a stack, and the list of what was written.
RECORD = ".webstack.json"
# What is there before there is a mark, or is recreated where it is missing.
TRIFLES = (".lock", ".run", RECORD)
# What programs of the project write beside the files that the playbook renders, as patterns.
RUNTIME = (
    "db/dumps.json",
    "db/dumps/[0-9][0-9][0-9]-*",
    "rollout.log",
    "secrets/rotation.json",
    "releases/index.json",
    "releases/[0-9]*/docker-compose.yml",
    "history/events.jsonl",
    "watchdog/.lock",
    "watchdog/events.jsonl",
    "watchdog/errors.log",
    "backup/.lock",
    "backup/*.log",
    "backup/status.json",
    "container-exporter/backup.json",
    ".preview-*.yml",
)
# Folders in which all is the project's: sockets, caches, compiled programs.
WHOLE = (
    "*-lb/run",
    "backup/cache",
    # Of a run that was killed; there are secrets in it.
    ".staged-*",
    "watchdog/__pycache__",
    "backup/__pycache__",
    "backup/recovery/__pycache__",
)
# What versions without a record have written.
EARLIER = (
    *("docker-compose.yml", "docker-stack.yml", "state.json", "seccomp.json", "swarm/*", "registry/*"),
    *("[fb]e-lb/config/*", "fe-lb/config/tls/*", "db/config/*", "db/init/*", "docker-api/*"),
    *("prometheus/*", "prometheus/rules/*", "container-exporter/*", "alertmanager/*", "grafana/*", "grafana/*/*"),
    *("watchdog/*.py", "watchdog/settings.json", "backup/*.py", "backup/settings.json", "backup/recovery/*.py"),
    *(f"secrets/{reader}/*" for reader in ("be", "db", "mysql-exporter", "grafana", "registry")),
)
# Bytes that are read of a file.
LIMIT = 1 << 24
# What opens the backups outlives the stack.
SPARED = "secrets/backup/"


def read_bytes(path: Path) -> bytes:
    """Return the beginning of a regular file, at most ``LIMIT`` bytes; links are not followed.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
        return file.read(LIMIT)


def inside(name: object) -> bool:
    """Tell whether this is a path that stays inside of the folder that it starts from."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    return bool(parts) and parts[0] != "/" and ".." not in parts


def read_record(root: Path) -> dict:
    """Return ``stack``, ``written`` (paths by the list that they are of), ``kept`` and ``directories``; empty: no record."""
    try:
        found = json.loads(read_bytes(root / RECORD))
        record = {"stack": str(found["stack"]), "written": dict(found["written"])}
        record |= {key: list(found[key]) for key in ("kept", "directories")}
        paths = [*record["kept"], *record["directories"], *(path for paths in record["written"].values() for path in paths)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return record if all(map(inside, paths)) else {}


def names(root: Path) -> list[str]:
    """Return what is in a folder, without what says nothing of whose it is.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    return sorted({path.name for path in root.iterdir()} - set(TRIFLES))


def is_earlier(root: Path, stack: str) -> bool:
    """Tell whether a version without a record has rendered ``stack`` here, or has left what opens its backups."""
    if names(root) == ["secrets"] and not (root / "secrets").is_symlink():
        return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()} <= {
            *TRIFLES,
            f"{SPARED}password",
            f"{SPARED}environment",
        }
    try:
        state = json.loads(read_bytes(root / "state.json"))
        name = "docker-compose.yml" if (root / "docker-compose.yml").exists() else "docker-stack.yml"
        text = read_bytes(root / name).decode()
    except (OSError, ValueError):
        return False
    if not isinstance(state, dict) or not {"image_source", "certificate", "tiers"} <= set(state):
        return False
    if name == "docker-stack.yml":
        return f"{stack}_" in text or f"{stack}/" in text
    return (
        re.search(rf"^name: {re.escape(stack)}$", text, re.MULTILINE) is not None and "# The whole stack on one page" in text
    )


def folder_problem(path: Path, stack: str) -> str:
    """Return why a folder cannot be that of ``stack``, in one sentence; empty if it can."""
    root = path.resolve()
    if root in (Path("/"), Path.home().resolve()):
        return f"stack_dir: {path} holds more than the stack; give a folder inside it."
    try:
        found = names(root)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"stack_dir: {path} cannot be used as a folder ({error.strerror}); give another one."
    record = read_record(root)
    if record and record["stack"] != stack:
        return f"stack_dir: {path} is the folder of the stack {record['stack']}; give {stack} another one."
    if record or not found or is_earlier(root, stack):
        return ""
    return (
        f"stack_dir: {path} holds files that are not the stack's ({', '.join(found[:3])}{' …' if found[3:] else ''});"
        " give an empty folder, or one that does not exist yet."
    )


def next_record(found: dict, parameters: dict) -> dict:
    """Return the record of a folder after this run; generated secrets stay in it, because data may depend on them."""
    stack, part = parameters.get("stack", ""), parameters.get("part", "")
    if not stack:
        return {}
    listed = {file["path"] for file in parameters["files"] if not file.get("secret")}
    generated = {file["path"] for file in parameters["files"] if file.get("secret")}
    others = found.get("written", {})
    if not part:
        listed |= set(others.get("", []))
    folders = {folder["path"] for folder in parameters["directories"]}
    return {
        "stack": stack,
        "written": {**others, part: sorted(listed)},
        "kept": sorted({*found.get("kept", []), *generated}),
        "directories": sorted({*found.get("directories", []), *folders}),
    }


def no_longer_wanted(root: Path, found: dict, record: dict) -> list[str]:
    """Return the paths that only the record before knows, as far as they are there."""
    named = {path for paths in record.get("written", {}).values() for path in paths} | {*record.get("kept", [])}
    before = {path for paths in found.get("written", {}).values() for path in paths}
    return sorted(path for path in before - named if record and os.path.lexists(root / path))


def write_record(root: Path, record: dict) -> None:
    """Write the record of a folder, for its owner alone."""
    replace(root / RECORD, json.dumps(record, indent=1) + "\n", 0o600)


def remove_recorded(root: Path, path: str) -> None:
    """Remove a file of the record; one in a folder that is a link by now is somebody else's."""
    place = root / path
    if place.parent.resolve() == place.parent and (place.is_symlink() or not place.is_dir()):
        place.unlink(missing_ok=True)


def written(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files, and the folders that are removed whole, of what the project has written in a folder."""
    record = read_record(root)
    listed = [*record["kept"], *(path for paths in record["written"].values() for path in paths)] if record else []
    found = {root / path for path in listed}
    for pattern in RUNTIME if record else (*RUNTIME, *EARLIER):
        found |= set(root.glob(pattern))
    # A folder on the way that somebody has replaced with a link leads elsewhere.
    real = root.resolve()
    own = [path for path in found if path.parent.resolve() == real / path.parent.relative_to(root)]
    files = [path for path in own if os.path.lexists(path) and (path.is_symlink() or not path.is_dir())]
    folders = [path for pattern in WHOLE for path in root.glob(pattern)]
    whole = [path for path in folders if path.is_dir() and path.resolve() == real / path.relative_to(root)]
    return sorted(path for path in files if not str(path.relative_to(root)).startswith(SPARED)), whole


def remove_written(root: Path) -> None:
    """Remove what the project has written in a folder, and the folders that are empty then; what opens backups stays.

    Raises:
        OSError: something could not be removed.
    """
    directories = read_record(root).get("directories", [])
    files, whole = written(root)
    for path in files:
        path.unlink()
    for path in whole:
        shutil.rmtree(path)
    emptied = {root / name for name in directories} | {parent for path in [*files, *whole] for parent in path.parents}
    emptied = {path for path in emptied if root in path.parents}
    for path in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    # With somebody else's files in it, or what opens the backups, it goes on being known as the stack's.
    if not names(root):
        for name in TRIFLES:
            (root / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            root.rmdir()
