#!/usr/bin/python
"""Remove what a stack of Docker Compose has on its host, and nothing of anybody else's."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_removal
short_description: Remove what a stack has on its host
description:
  - Stops and removes the containers and networks of the project. With O(data) its volumes, its images and the files that the
    project has written go as well; what opens the backups stays.
  - Refuses a folder that is somebody else's, and a project of the same name that was started from another folder.
options:
  name: {type: str, required: true, description: Project name of Compose.}
  path: {type: path, required: true, description: Folder of the rendered files.}
  state:
    description: C(checked) only looks whether all of it is the stack's.
    type: str
    choices: [checked, absent]
    default: absent
  data: {type: bool, default: false, description: "Remove volumes, images and files as well."}
attributes:
  check_mode: {support: full, description: Says whether there would be a change.}
  diff_mode: {support: none, description: There is nothing to show.}
"""

EXAMPLES = r"""
- name: Remove the stack with its data
  stack_removal:
    name: webstack
    path: ~/.local/share/webstack
    data: true
"""

RETURN = r"""
removed: {type: list, elements: str, description: "What was removed, by kind and name."}
kept:
  description: What is still there, because it is somebody else's, is in use, or opens the backups.
  type: list
  elements: str
"""

import json  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_compose import OWNER, compose, engine_problem, owned, read_list, strangers  # noqa: E402
from ansible.module_utils.stack_folder import folder_problem, names, remove_written, written  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module  # noqa: E402


def docker(*argv: str, check: bool = True) -> str:
    """Return what Docker's client prints.

    Raises:
        RefusalError: it failed, unless ``check`` is false.
    """
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        if "ermission denied" in done.stderr:
            raise RefusalError(engine_problem(done.stderr))
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RefusalError(f"docker {argv[0]} failed, so the stack may not be removed as a whole: {reason}")
    return done.stdout


def of_project(name: str) -> list[dict]:
    """Return all containers of the project, those of ``docker compose run`` included."""
    label = f"--filter=label=com.docker.compose.project={name}"
    return read_list(docker("ps", "--all", "--no-trunc", "--format", "{{json .}}", label))


def own(name: str, kind: str, column: str, *options: str) -> list[str]:
    """Return id or name (``column``) of the project's networks or volumes."""
    listed = owned(docker(kind, "ls", *options, "--format", OWNER.format(column)), name)[0]
    return [item["id"] for item in listed if item["project"] == name]


def check(name: str, path: Path) -> list[dict]:
    """Return the containers of the project.

    Raises:
        RefusalError: the folder or the project is somebody else's.
    """
    if problem := folder_problem(path, name):
        raise RefusalError(problem)
    containers = of_project(name)
    if others := strangers(containers, path.resolve()):
        raise RefusalError(
            f"stack_name: the Compose project {name} was started from {', '.join(others)}, not from {path.resolve()};"
            " give its stack_dir, or the name of your stack."
        )
    return containers


def own_images(name: str) -> list[str]:
    """Return what ``docker image rm`` takes: the stack's names of its images, and ids of those that have none any more."""
    label = f"--filter=label=webstack.stack={name}"
    ids = sorted(set(docker("images", "--quiet", "--no-trunc", label).split()))
    found = []
    for image in json.loads(docker("image", "inspect", *ids)) if ids else []:
        tags = image["RepoTags"] or []
        # An image that somebody has built on one of the stack's has its label, but a name of its own.
        found += [tag for tag in tags if re.search(rf"(^|/){re.escape(name)}/[^/]+$", tag)]
        if not tags and not image["RepoDigests"]:
            found.append(image["Id"])
    return found


def remove(name: str, path: Path, data: bool, check_mode: bool) -> dict:
    """Remove what the module promises and return its result.

    Raises:
        RefusalError: something is somebody else's, or the engine refuses.
        OSError: a file cannot be removed.
    """
    containers, root = check(name, path), path.resolve()
    networks = own(name, "network", "ID", "--no-trunc")
    volumes = own(name, "volume", "Name") if data else []
    images = own_images(name) if data else []
    files, whole = written(root) if data and root.is_dir() else ([], [])
    removed = [f"container {container['name']}" for container in containers] + [f"network {item}" for item in networks]
    removed += [f"volume {item}" for item in volumes] + [f"image {item}" for item in images]
    removed += [f"file {item.relative_to(root)}" for item in [*files, *whole]]
    kept = []
    if not check_mode:
        if containers and (root / "docker-compose.yml").exists():
            docker(*compose(name, root, "docker-compose.yml")[1:], "down", "--remove-orphans")
        # What the file does not know of.
        if left := [container["id"] for container in of_project(name)]:
            docker("stop", *left)
            docker("rm", "--force", "--volumes", *left)
        if left := own(name, "network", "ID", "--no-trunc"):
            docker("network", "rm", *left)
        if volumes:
            docker("volume", "rm", *volumes)
        for image in images:
            docker("image", "rm", image, check=False)
        if images:
            kept += [f"image {image}" for image in own_images(name)]
        if data and root.is_dir():
            remove_written(root)
    if data and root.is_dir():
        kept += [f"{root}/{item}" for item in names(root)]
    return {"changed": bool(removed), "removed": removed, "kept": kept}


def main() -> None:
    """Run the module."""
    options = {
        "name": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["checked", "absent"], "default": "absent"},
        "data": {"type": "bool", "default": False},
    }
    with running_module(options) as module:
        name, path = module.params["name"], Path(module.params["path"])
        if module.params["state"] == "checked":
            check(name, path)
            module.exit_json(changed=False, removed=[], kept=[])
        module.exit_json(**remove(name, path, module.params["data"], module.check_mode))


if __name__ == "__main__":
    main()
