#!/usr/bin/python
"""Write a folder of configuration files as one: stage, check, and only then replace what differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_tree
short_description: Write a folder of configuration files as one
description:
  - Compares all files with what is there. If any differs, the whole folder is staged beside it and
    the checks run on the staged copy. Only if all of them pass are the files that differ replaced,
    each in one step, so that wrong input changes nothing and no reader sees half a file.
  - Secrets are generated where they are missing and kept otherwise. They are never shown.
options:
  path: {type: path, required: true, description: "The folder. Created with mode 0700, because it holds secrets."}
  directories:
    description: Folders inside it that have to exist.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: str, required: true, description: Path inside O(path).}
      mode: {type: str, default: "0755", description: "Mode, octal."}
      owner: {type: int, description: Number of the user. Ignored unless the module runs as root.}
      group: {type: int, description: Number of the group. Ignored unless the module runs as root.}
  files:
    description: Files inside it. One of C(content), C(secret_content) or C(secret) says what each holds.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {type: str, required: true, description: Path inside O(path).}
      content: {type: str, description: "Text of the file, shown in differences."}
      secret_content: {type: str, description: "Text of the file, never shown. Empty keeps what is there."}
      secret: {type: str, description: Key of O(secrets) whose value the file holds.}
      mode: {type: str, default: "0644", description: "Mode, octal."}
      owner: {type: int, description: Number of the user. Ignored unless the module runs as root.}
      group: {type: int, description: Number of the group. Ignored unless the module runs as root.}
  secrets: {type: dict, default: {}, description: Secrets by name; an empty value means generate one and keep it.}
  known:
    description:
      - What the folder held a moment ago, as C(stack_preflight) tells it, with the number of the user who deploys as
        C(uid). If that is as wanted, the host is not asked again, which saves a run without changes much of its time.
    type: dict
    default: {}
  checks:
    description: Commands that must succeed on the staged copy. Run only if one of C(paths) differs.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {type: str, required: true, description: "What is checked, for messages."}
      argv: {type: list, elements: str, required: true, description: "The command; C({tree}) stands for the staged folder."}
      paths: {type: list, elements: str, required: true, description: Beginnings of paths that the command looks at.}
      cause: {type: str, default: "", description: "What marks a line that says what is wrong: the first is shown alone."}
  stack:
    description:
      - Stack whose folder it is. Another stack's folder, and one with files that are not the stack's, is refused. What is
        written is recorded there, and what was recorded under O(part) and is wanted no longer is removed, but for
        generated secrets. Empty leaves the folder without a record.
    type: str
    default: ""
  part:
    description: Name of the list of files. Empty removes nothing that an earlier run has written.
    type: str
    default: ""
  lock_timeout: {type: float, default: 180, description: Seconds to wait for another run on the same stack.}
attributes:
  check_mode: {support: full, description: "Stages and checks, and replaces nothing."}
  diff_mode: {support: full, description: "Shows each file that differs; secrets as such only."}
"""

EXAMPLES = r"""
- name: Write the configuration
  config_tree:
    path: ~/.local/share/webstack
    files:
      - path: fe-lb/config/haproxy.cfg
        content: "{{ lookup('ansible.builtin.template', 'haproxy.cfg.j2') }}"
      - path: secrets/db/database_password
        secret: database_password
        mode: "0600"
    secrets:
      database_password: ""
    checks:
      - name: HAProxy configuration
        paths: [fe-lb/]
        argv: [haproxy, -c, -f, "{tree}/fe-lb/config/haproxy.cfg"]
"""

RETURN = r"""
changed_files: {type: list, elements: str, description: Paths of the files that differed.}
removed_files: {type: list, elements: str, description: Paths of the files that were wanted once and are no longer.}
"""

import os  # noqa: E402
import stat  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_files import new_secret, replace  # noqa: E402
from ansible.module_utils.stack_folder import (  # noqa: E402
    folder_problem,
    next_record,
    no_longer_wanted,
    read_record,
    remove_recorded,
    write_record,
)
from ansible.module_utils.stack_lock import LockError, held  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, difference, running_module  # noqa: E402


@dataclass
class Entry:
    """One file or folder as it shall be."""

    path: str
    content: bytes | None
    shown: bool
    mode: int
    owner: tuple[int, int]


def read_bytes(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def secret_values(root: Path, files: list[dict], given: dict[str, str]) -> dict[str, bytes]:
    """Return each secret: what its first existing file holds, else what is given, else a new one.

    Raises:
        RefusalError: another value is given than the one that is in use.
    """
    values = {}
    for name, value in given.items():
        held = (read_bytes(root / file["path"]) for file in files if file.get("secret") == name)
        existing = next((content for content in held if content is not None), None)
        if existing is not None and value and existing != value.encode():
            raise RefusalError(
                f"{name}: the value differs from the one that is in use; leave it out to keep that one, or let"
                " playbooks/rotate.yml replace it."
            )
        values[name] = existing or (value or new_secret()).encode()
    return values


def entry_of(item: dict, content: bytes | None, shown: bool) -> Entry:
    """Return a file or folder of the parameters as it shall be."""
    return Entry(item["path"], content, shown, int(item["mode"], 8), (item.get("owner") or 0, item.get("group") or 0))


def file_entry(root: Path, file: dict, values: dict[str, bytes]) -> Entry:
    """Return what a file shall hold (RefusalError: it names a secret that is not listed)."""
    shown = file.get("content") is not None
    if shown:
        content: bytes | None = file["content"].encode()
    elif file.get("secret"):
        if file["secret"] not in values:
            raise RefusalError(f"{file['path']}: the secret {file['secret']} is not listed in secrets.")
        content = values[file["secret"]]
    else:
        content = file.get("secret_content", "").encode() or read_bytes(root / file["path"])
    return entry_of(file, content, shown)


def differs(path: Path, entry: Entry, privileged: bool) -> bool:
    """Tell whether content, mode or owner of a file or folder are not as wanted."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    if stat.S_IMODE(found.st_mode) != entry.mode:
        return True
    if privileged and (found.st_uid, found.st_gid) != entry.owner:
        return True
    return entry.content is not None and read_bytes(path) != entry.content


def write(path: Path, entry: Entry, privileged: bool) -> None:
    """Write a file as it shall be."""
    replace(path, entry.content or b"", entry.mode, entry.owner if privileged else None)


def make_directory(path: Path, entry: Entry, privileged: bool) -> None:
    """Create a folder, or correct its mode and owner."""
    path.mkdir(parents=True, exist_ok=True)
    if privileged:
        os.chown(path, *entry.owner)
    path.chmod(entry.mode)


def run_checks(staged: Path, checks: list[dict], changed: list[str]) -> None:
    """Run the checks that concern a changed path (RefusalError: one failed; the text holds what it printed)."""
    for check in checks:
        if not any(path.startswith(tuple(check["paths"])) for path in changed):
            continue
        argv = [argument.replace("{tree}", str(staged)) for argument in check["argv"]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            output = (done.stdout + done.stderr).replace(str(staged), "").strip()
            # The others come of it.
            output = next((line for line in output.splitlines() if check["cause"] and check["cause"] in line), output)
            raise RefusalError(f"{check['name']} is not valid, nothing was changed: {output[-2000:]}")


def shown(path: Path, entry: Entry) -> dict[str, str]:
    """Return what Ansible shows of a file that differs."""
    if not entry.shown:
        return difference(path, "(not shown)\n" if path.exists() else "", "(not shown, changed)\n")
    before = (read_bytes(path) or b"").decode(errors="replace")
    return difference(path, before, (entry.content or b"").decode(errors="replace"))


def converge(parameters: dict, check_mode: bool, privileged: bool) -> dict:
    """Bring the folder to what the parameters say and return the module's result.

    Raises:
        RefusalError: nothing was replaced.
        LockError: another run holds the stack; nothing was replaced.
        OSError: a file could not be written.
    """
    root = Path(parameters["path"]).resolve()
    stack = parameters.get("stack", "")
    if stack and (problem := folder_problem(Path(parameters["path"]), stack)):
        raise RefusalError(problem)
    found = read_record(root)
    record = next_record(found, parameters)
    removed = no_longer_wanted(root, found, record)
    values = secret_values(root, parameters["files"], parameters["secrets"])
    entries = [file_entry(root, file, values) for file in parameters["files"]]
    entries = [entry for entry in entries if entry.content is not None]
    folders = [entry_of(item, None, True) for item in parameters["directories"]]
    changed = [entry for entry in entries if differs(root / entry.path, entry, privileged)]
    changed_folders = [folder for folder in folders if differs(root / folder.path, folder, privileged)]
    result = {
        "changed": bool(changed or changed_folders or removed or (record and record != found)),
        "changed_files": [entry.path for entry in changed],
        "removed_files": removed,
        "diff": [shown(root / entry.path, entry) for entry in changed]
        + [difference(root / path, "(wanted once)\n", "") for path in removed],
    }
    if not result["changed"]:
        return result

    if not check_mode:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever made it before: it holds secrets.
        root.chmod(0o700)
        if record and not found:
            # At once, so that a run that is interrupted leaves a folder that the next one knows.
            write_record(root, {**record, "written": {part: [] for part in record["written"]}})
    # Beside the files, because an engine may not be allowed to see /tmp; there only if need be.
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=root if root.is_dir() else None) as name:
        staged = Path(name)
        staged.chmod(0o755)
        for folder in folders:
            make_directory(staged / folder.path, folder, privileged)
        for entry in entries:
            (staged / entry.path).parent.mkdir(parents=True, exist_ok=True)
            write(staged / entry.path, entry, privileged)
        run_checks(staged, parameters["checks"], result["changed_files"])
    if check_mode:
        return result
    # Not while another run changes containers: it reads these files.
    with held(root, "writes files", parameters["lock_timeout"]):
        if record:
            # Before the files: what is written is known, whatever happens.
            parts = record["written"].items()
            write_record(
                root, {**record, "written": {p: sorted({*w, *found.get("written", {}).get(p, [])}) for p, w in parts}}
            )
        for folder in folders:
            make_directory(root / folder.path, folder, privileged)
        for entry in changed:
            (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
            write(root / entry.path, entry, privileged)
        for path in removed:
            remove_recorded(root, path)
        if record:
            write_record(root, record)
    return result


def main() -> None:
    """Run the module."""
    entry = {"path": {"type": "str", "required": True}, "owner": {"type": "int"}, "group": {"type": "int"}}
    folder = {**entry, "mode": {"type": "str", "default": "0755"}}
    file = {
        **entry,
        "mode": {"type": "str", "default": "0644"},
        "content": {"type": "str"},
        "secret_content": {"type": "str", "no_log": True},
        "secret": {"type": "str", "no_log": False},
    }
    check = {
        "name": {"type": "str", "required": True},
        "argv": {"type": "list", "elements": "str", "required": True},
        "paths": {"type": "list", "elements": "str", "required": True},
        "cause": {"type": "str", "default": ""},
    }
    options = {
        "path": {"type": "path", "required": True},
        "directories": {"type": "list", "elements": "dict", "default": [], "options": folder},
        "files": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": file,
            "required_one_of": [("content", "secret_content", "secret")],
        },
        "known": {"type": "dict", "default": {}},
        "stack": {"type": "str", "default": ""},
        "part": {"type": "str", "default": ""},
        "lock_timeout": {"type": "float", "default": 180},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "checks": {"type": "list", "elements": "dict", "default": [], "options": check},
    }
    with running_module(options, LockError) as module:
        module.exit_json(**converge(module.params, module.check_mode, os.getuid() == 0))


if __name__ == "__main__":
    main()
