#!/usr/bin/python
"""Keep what front end and back end were, and write it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_release
short_description: Keep releases of front end and back end, and write one back
description:
  - C(save) keeps the rendered Compose file of a deployment that has succeeded, if front end or back end differ from the
    last one, and removes the oldest ones with the images that only they had.
  - C(restore) puts the front end and back end of an earlier release into the rendered Compose file, as many of each as
    there are now. Nothing that runs is touched; M(compose_rollout) does the rest.
  - C(forget) drops the releases after the one that runs, once it runs.
options:
  path: {type: path, required: true, description: Folder of the rendered files.}
  project: {type: str, required: true, description: Project name of Compose; only images that bear its label are removed.}
  prefix:
    description: Prefix of the names of images that are built for every stack; those without a name are removed.
    type: str
    default: ""
  action: {type: str, choices: [save, restore, forget], required: true, description: What to do.}
  keep: {type: int, default: 5, description: "Releases that are kept, the one that runs included."}
  build_cache:
    description: Bytes of build cache that the engine keeps, where action is C(save); 0 for all of it.
    type: int
    default: 0
  number:
    description: The release to restore, or after which others are forgotten; 0 is the one before what is rendered.
    type: int
    default: 0
  lock_timeout: {type: float, default: 180, description: Seconds to wait for another run on the same stack.}
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: full, description: Shows the Compose file before and after.}
"""

EXAMPLES = r"""
- name: Write the release before this one
  stack_release:
    path: ~/.local/share/webstack
    project: webstack
    action: restore
"""

RETURN = r"""
release:
  description: The release that was saved or restored, with its number, time and images; empty if there was nothing to save.
  type: dict
replicas: {type: dict, returned: when action is restore, description: "Containers that the rendered file wants, by service."}
removed: {type: list, elements: str, returned: when action is save, description: Images that were removed.}
"""

import json  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_files import replace  # noqa: E402
from ansible.module_utils.stack_history import tell  # noqa: E402
from ansible.module_utils.stack_lock import LockError, held  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, difference, running_module  # noqa: E402
from ansible.module_utils.stack_releases import (  # noqa: E402
    FOLDER,
    INDEX,
    digest,
    read_index,
    replicas,
    section,
    splice,
    tiers,
)
from ansible.module_utils.stack_trial import KEYS  # noqa: E402

FILE = "docker-compose.yml"
# Of what is written: no secret.
MODE = 0o644
# The engine counts what images have as well as freed, and stops too early.
CACHE_PASSES = 100


def judged(state: dict) -> dict[str, list[dict]]:
    """Return for each tier the definitions by which load balancers judge replicas; an earlier release wrote one."""
    return {
        service: [{"health_host": "localhost", **found}] if isinstance(found, dict) else found
        for service, found in state.get("tiers", {}).items()
    }


def docker(*argv: str) -> str:
    """Return what Docker's client prints, nothing if it fails."""
    return subprocess.run(["docker", *argv], capture_output=True, text=True, check=False).stdout.strip()


def image_of(text: str, service: str) -> str:
    """Return the image of a service in a rendered Compose file."""
    return re.search(r"^    image: (\S+)$", section(text, service), re.MULTILINE)[1]


def write_index(root: Path, index: list[dict]) -> None:
    """Write which releases there are, and remove the files of others."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    replace(folder / INDEX, json.dumps(index, indent=2) + "\n", MODE)
    known = {str(item["number"]) for item in index}
    for path in folder.iterdir():
        if path.is_dir() and path.name not in known:
            shutil.rmtree(path)


def save(root: Path, parameters: dict, check: bool) -> dict:
    """Keep what is rendered as the newest release."""
    text = (root / FILE).read_text(encoding="utf-8")
    index, identity, release = read_index(root), digest(text), {}
    if not (index and index[-1]["digest"] == identity):
        release = new_release(root, index, text)
        index = [*(item for item in index if item["digest"] != identity), release][-max(1, parameters["keep"]) :]
    if release and not check:
        folder = root / FOLDER / str(release["number"])
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / FILE, text, MODE)
        write_index(root, index)
        told(root, release, "was deployed")
    return {"changed": bool(release), "release": release, "removed": [] if check else tidy(parameters, index)}


def told(root: Path, release: dict, what: str) -> None:
    """Write down what was done with a release."""
    images = ", ".join(f"{service} {image['name']}" for service, image in release["images"].items())
    tell(root, "release", f"Release {release['number']} {what}: {images}", release=release["number"])


def new_release(root: Path, index: list[dict], text: str) -> dict:
    """Return what is kept of a rendered Compose file, under the next number."""
    state = json.loads((root / "state.json").read_text(encoding="utf-8"))
    names = {service: image_of(text, service) for service in tiers(text)}
    return {
        "number": max((item["number"] for item in index), default=0) + 1,
        "time": time.time(),
        "digest": digest(text),
        "images": {
            service: {"name": name, "id": docker("image", "inspect", "--format", "{{.Id}}", name)}
            for service, name in names.items()
        },
        # What replicas of it are judged by; where there is a list, this comes first.
        "tiers": {service: {key: found[0][key] for key in KEYS} for service, found in judged(state).items()},
        "mode": state.get("mode"),
    }


def built_for(stack: str, *options: str) -> list[str]:
    """Return what the engine lists of the images that were built for a stack."""
    return docker("image", "ls", "--no-trunc", f"--filter=label=webstack.stack={stack}", *options).split()


def tidy(parameters: dict, index: list[dict]) -> list[str]:
    """Remove images that are needed no more, then build cache beyond what is kept, and return the images.

    They are those of front end and back end that no kept release has, and those whose name means a newer one by now.
    """
    images = [image for item in index for image in item["images"].values()]
    kept, identities = {image["name"] for image in images}, {image["id"] for image in images}
    wanted = {name.rpartition(":")[0] for name in kept}
    listed = built_for(parameters["project"], "--format={{.Repository}}:{{.Tag}}")
    superfluous = [name for name in listed if name.rpartition(":")[0] in wanted and name not in kept]
    for stack in sorted({parameters["project"], parameters["prefix"]}):
        nameless = built_for(stack, "--quiet", "--filter=dangling=true")
        superfluous += [identity for identity in dict.fromkeys(nameless) if identity not in identities]
    # One that a container still uses is kept by the engine itself.
    removed = [name for name in superfluous if docker("image", "rm", name)]
    for _ in range(CACHE_PASSES if parameters["build_cache"] else 0):
        said = docker("builder", "prune", "--all", "--force", f"--keep-storage={parameters['build_cache']}")
        if not said or said.split()[-1] == "0B":
            break
    return removed


def restore(root: Path, parameters: dict, check: bool) -> dict:
    """Write the front end and back end of an earlier release into the Compose file.

    Raises:
        RefusalError: there is no such release, or it cannot run any more.
    """
    index = read_index(root)
    current = (root / FILE).read_text(encoding="utf-8")
    # What is rendered has not become a release if it could not be deployed; then the newest one is the one to go back to.
    earlier = index[:-1] if index and index[-1]["digest"] == digest(current) else index
    numbers = ", ".join(str(item["number"]) for item in earlier) or "none"
    if parameters["number"]:
        release = next((item for item in index if item["number"] == parameters["number"]), None)
        if not release:
            raise RefusalError(f"rollback_to: there is no release {parameters['number']}; earlier ones are: {numbers}.")
    elif not earlier:
        raise RefusalError("There is no earlier release: the present one is the first.")
    else:
        release = earlier[-1]
    kept = (root / FOLDER / str(release["number"]) / FILE).read_text(encoding="utf-8")
    state = json.loads((root / "state.json").read_text(encoding="utf-8"))
    # Earlier versions of the project have kept none.
    before, now = release.get("mode"), state.get("mode")
    if before and now and before != now:
        raise RefusalError(
            f"app_mode: release {release['number']} was for {before} and the stack is for {now}; run playbooks/site.yml with"
            f" app_mode={before} instead."
        )
    for service in tiers(kept):
        present = judged(state).get(service, [{}])
        kept_by = release["tiers"].get(service, {})
        differing = [
            [(key, value, found.get(key)) for key, value in kept_by.items() if found.get(key) != value] for found in present
        ]
        # After a run that has failed the load balancer may still know the one of before.
        if all(differing):
            key, value, other = differing[0][0]
            raise RefusalError(
                f"{service}_{key}: release {release['number']} had {value!r} and the load balancer is set to"
                f" {other!r}; put the setting back and run playbooks/site.yml instead."
            )
    if gone := set(tiers(kept)) - set(tiers(current)):
        names = ", ".join(sorted(gone))
        raise RefusalError(f"Release {release['number']} has {names}, which is gone; run playbooks/site.yml instead.")
    text = splice(current, kept)
    for service in tiers(kept):
        image = release["images"][service]
        present = docker("image", "inspect", "--format", "{{.Id}}", image["name"])
        if present == image["id"]:
            continue
        # The name means another image by now; the engine may still have the one that was meant.
        if not image["id"] or not docker("image", "inspect", "--format", "{{.Id}}", image["id"]):
            raise RefusalError(
                f"The image {image['name']} of release {release['number']} is no longer on the host; restore the edit"
                " and run playbooks/site.yml instead."
            )
        part = section(text, service)
        text = text.replace(part, part.replace(f"    image: {image['name']}\n", f"    image: {image['id']}\n"))
    if not check:
        with held(root, "writes files", parameters["lock_timeout"]):
            replace(root / FILE, text, MODE)
    return {
        "changed": text != current,
        "release": release,
        "replicas": {service: replicas(text, service) for service in tiers(text)},
        "diff": difference(root / FILE, current, text),
    }


def forget(root: Path, parameters: dict, check: bool) -> dict:
    """Make the restored release the newest one."""
    index = read_index(root)
    position = next(place for place, item in enumerate(index) if item["number"] == parameters["number"])
    if not check:
        write_index(root, index[: position + 1])
        told(root, index[position], "was brought back")
    return {"changed": position + 1 < len(index), "release": index[position]}


def main() -> None:
    """Run the module."""
    actions = {"save": save, "restore": restore, "forget": forget}
    options = {
        "path": {"type": "path", "required": True},
        "project": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": ""},
        "action": {"type": "str", "choices": sorted(actions), "required": True},
        "keep": {"type": "int", "default": 5},
        "build_cache": {"type": "int", "default": 0},
        "number": {"type": "int", "default": 0},
        "lock_timeout": {"type": "float", "default": 180},
    }
    with running_module(options, LockError) as module:
        root = Path(module.params["path"]).resolve()
        module.exit_json(**actions[module.params["action"]](root, module.params, module.check_mode))


if __name__ == "__main__":
    main()
