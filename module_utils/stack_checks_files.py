"""What stands against the files that settings name on the controller.

Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.stack_certificates import CertificateError, pair
from ansible.module_utils.stack_settings import tiers

DUMP_SUFFIXES = (".sql", ".sql.gz", ".sql.bz2", ".sql.xz", ".sql.zst")


def check_files(values: dict, project: Path) -> list[str]:
    """Check the files that settings name on the controller: sources, dumps, certificate and key."""
    problems = []
    for tier in tiers(values):
        name = f"{tier}_source"
        if values.get(f"{tier}_image") or name not in values:
            continue
        source = _path(values[name], project)
        missing = _missing(source, stat.S_ISDIR)
        if missing:
            problems.append(f"{name}: the folder {source} {missing}; correct the path or set {tier}_image.")
        elif _missing(source / "Dockerfile", stat.S_ISREG):
            problems.append(f"{name}: {source} has no Dockerfile; add one or set {tier}_image.")
    for dump in values.get("database_dumps") or []:
        path = _path(dump, project)
        missing = _missing(path, stat.S_ISREG)
        if missing:
            problems.append(f"database_dumps: the file {path} {missing}; correct the path or leave it out.")
        elif not path.name.endswith(DUMP_SUFFIXES):
            problems.append(f"database_dumps: {path} is no dump; its name must end with {', '.join(DUMP_SUFFIXES)}.")
    if values.get("seccomp_profile"):
        problems += _check_seccomp(_path(values["seccomp_profile"], project))
    return problems + check_certificate(values, project)


def _missing(path: Path, wanted: Callable[[int], bool]) -> str:
    """Return what stands against a path that has to be a file or a folder (``wanted`` tells by its mode); empty: nothing."""
    try:
        return "" if wanted(path.stat().st_mode) else "does not exist"
    # A zero byte in a path is a ValueError.
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


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
    if not key or not certificate:
        missing, given = ("tls_certificate", "tls_private_key") if key else ("tls_private_key", "tls_certificate")
        return [f"{missing}: missing beside {given}; give both or neither."]
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
        said = str(error).replace("{certificate}", f"tls_certificate {certificate}")
        return [f"{error.setting}: {values[error.setting]} {said}."]
    return []


def _path(value: Any, project: Path) -> Path:
    """Return the path of a file that a setting names; relative ones start at the checkout."""
    try:
        return project / Path(str(value)).expanduser()
    except RuntimeError:
        # The home of a user who does not exist; so the file is not there either, which is said.
        return project / str(value)
