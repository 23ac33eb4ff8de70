"""What a host has that matters to a deployment: its user, its folders, its firewalls, and how its engine maps users."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import stat
from pathlib import Path

# The kernel's word on SELinux (selinuxfs).
ENFORCES = Path("/sys/fs/selinux/enforce")


def read_text(path: Path) -> str:
    """Return the content of a file, or nothing if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def read_json(path: Path) -> dict:
    """Return what a file with a JSON object holds, or nothing if there is no such file."""
    try:
        found = json.loads(read_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def closed_folder(path: Path) -> Path | None:
    """Return the folder in which a path would have to be made, or is, if this user may not write there."""
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    return there if there.is_dir() and not os.access(there, os.W_OK | os.X_OK) else None


def closed_without(path: Path, groups: list[int]) -> int | None:
    """Return the one of ``groups`` without which this user could not write in ``path``, or None."""
    state = path.stat()
    if state.st_uid == os.getuid() or state.st_gid not in groups or state.st_mode & stat.S_IWOTH:
        return None
    return state.st_gid if state.st_mode & stat.S_IWGRP else None


def missing_paths(mounts: list[dict], tmpfs: list[dict]) -> list[dict]:
    """Return ``path`` and ``kind`` of what is not there: sources of mounts, and where one is mounted inside another one."""
    missing = {mount["source"]: "directory" for mount in mounts if not Path(mount["source"]).expanduser().exists()}
    for inner in [*mounts, *tmpfs]:
        tier = inner["setting"][:2]
        around = [
            mount for mount in mounts
            if mount["setting"][:2] == tier and inner["target"].startswith(mount["target"].rstrip("/") + "/")
        ]  # fmt: skip
        if around:
            # The engine would make it in the folder of the mount that is around, as root.
            outer = max(around, key=lambda mount: len(mount["target"]))
            point = Path(outer["source"]).expanduser() / inner["target"][len(outer["target"].rstrip("/")) + 1 :]
            if not point.exists():
                missing[str(point)] = "file" if Path(inner.get("source", "/")).expanduser().is_file() else "directory"
    return [{"path": path, "kind": kind} for path, kind in missing.items()]


def repository_problem(path: str) -> str:
    """Return why a folder cannot hold the repository of backups; empty if it can, or if this user may not look."""
    root = Path(path).expanduser().resolve()
    if root in (Path("/"), Path.home().resolve()):
        return f"backup_repository: {path} holds more than backups; give a folder inside it."
    try:
        names = {entry.name for entry in root.iterdir()}
    except (FileNotFoundError, PermissionError):
        return ""
    except OSError as error:
        return f"backup_repository: {path} cannot be used as a folder ({error.strerror}); give another one."
    if not names or {"config", "keys", "data"} <= names:
        return ""
    return (
        f"backup_repository: {path} holds files that are no backups ({', '.join(sorted(names)[:3])}); give an empty folder."
    )


def firewalls() -> list[str]:
    """Return which of the usual firewalls is on, by what everybody may read."""
    found = []
    if re.search(r"^ENABLED=yes", read_text(Path("/etc/ufw/ufw.conf")), re.MULTILINE):
        found.append("ufw")
    if Path("/run/firewalld").exists() or Path("/run/firewalld.pid").exists():
        found.append("firewalld")
    return found


def mapping(options: list[str]) -> str:
    """Return how an engine with these security options maps users: ``rootless``, ``userns``, or nothing if it does not."""
    names = {option.partition("name=")[2].partition(",")[0] for option in options}
    return next((name for name in ("rootless", "userns") if name in names), "")


def selinux(options: list[str]) -> bool:
    """Tell whether containers of an engine with these security options are kept from files without a label for them."""
    return any("name=selinux" in option for option in options) and read_text(ENFORCES).strip() == "1"


def group_of(path: Path, mapping: str) -> int | None:
    """Return the number that a container knows a file's group by, or None if there is no such file."""
    try:
        group = path.stat().st_gid
    except OSError:
        return None
    # A rootless engine calls the group of its user root.
    return 0 if mapping == "rootless" else group


def developer(project: Path, mapping: str) -> dict:
    """Return whom front end and back end shall run as in development.

    It is whoever runs the playbook; where root does, through sudo or not, the owner of the checkout. ``uid``, ``gid`` and
    ``umask`` are those of the host, ``user`` and further ``groups`` those of the container.
    """
    mask = os.umask(0o022)
    os.umask(mask)
    uid, gid, groups = os.getuid(), os.getgid(), os.getgroups()
    if uid == 0 and project.exists() and project.stat().st_uid:
        uid, gid, groups = project.stat().st_uid, project.stat().st_gid, []
        with contextlib.suppress(KeyError):
            account = pwd.getpwuid(uid)
            gid, groups = account.pw_gid, os.getgrouplist(account.pw_name, account.pw_gid)
    further = sorted({*groups} - {gid})
    if mapping == "rootless":
        # Such an engine calls its own user root, and knows of none of the user's further groups.
        return {"uid": uid, "gid": gid, "umask": f"{mask:04o}", "user": "0:0", "groups": [], "lost_groups": further}
    return {"uid": uid, "gid": gid, "umask": f"{mask:04o}", "user": f"{uid}:{gid}", "groups": further, "lost_groups": []}
