"""Make and change files of every kind; the same on the host and in a container, so that both sides are asked the same.

Called with a list of steps as JSON on standard input, it answers with a list of results.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

TEXT = "made\n"
EDIT = "edited\n"


def write(path: Path, text: str = TEXT) -> None:
    """Write a file."""
    with path.open("w") as file:
        file.write(text)


def make(path: Path, kind: str) -> None:
    """Make a file, a directory, a nested tree, a symbolic link with its target, or a program."""
    path.parent.mkdir(exist_ok=True)
    if kind in ("file", "program"):
        write(path)
    elif kind == "directory":
        path.mkdir()
        write(path / "inner")
    elif kind == "tree":
        (path / "one" / "two").mkdir(parents=True)
        write(path / "one" / "two" / "inner")
        write(path / "one" / "inner")
    elif kind == "link":
        write(path.with_suffix(".target"))
        path.symlink_to(path.with_suffix(".target").name)
    if kind == "program":
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def files_of(path: Path) -> list[Path]:
    """Return the file that this is or leads to, or all files of a directory."""
    return [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]


def act(path: Path, action: str) -> None:
    """Edit, rename, change the mode of, or delete whatever this is."""
    if action == "edit":
        for file in files_of(path):
            with file.open("a") as stream:
                stream.write(EDIT)
        if path.is_dir():
            write(path / "added")
    elif action == "rename":
        for file in files_of(path) if path.is_dir() else []:
            file.rename(file.with_name(f"{file.name}.renamed"))
        path.rename(path.with_name(f"{path.name}.renamed"))
    elif action == "chmod":
        for item in [path, *path.rglob("*")]:
            item.chmod(stat.S_IMODE(item.stat().st_mode) ^ stat.S_IXGRP)
    elif action == "delete":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def describe(path: Path) -> list[list]:
    """Return name, owner, group, mode and content of this and of all that is in it."""
    found = []
    for item in [path, *sorted(path.rglob("*"))] if path.is_symlink() or path.exists() else []:
        state = item.lstat()
        content = item.read_text() if item.is_file() else ""
        found.append([item.name, state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode), content])
    return found


def perform(steps: list[list[str]], root: Path) -> list:
    """Perform each step (``make``, ``describe``, ``whoami`` or an action; path; kind) and return what came of it."""
    results: list = []
    for verb, name, kind in steps:
        try:
            if verb == "whoami":
                results.append([os.geteuid(), os.getegid()])
            elif verb == "describe":
                results.append(describe(root / name))
            elif verb == "make":
                results.append(make(root / name, kind))
            else:
                results.append(act(root / name, verb))
        except OSError as error:
            results.append(str(error))
    return results


if __name__ == "__main__":
    json.dump(perform(json.load(sys.stdin), Path(sys.argv[1])), sys.stdout)
