#!/usr/bin/python
"""Push images to a registry that every node of a Swarm reaches, and say by which digests they are known there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_publish
short_description: Push images and return their digests
description:
  - Tags the images of this host for a registry and pushes those that it does not have.
options:
  registry: {type: str, required: true, description: "The registry, perhaps with a path; without a slash at the end."}
  images: {type: dict, required: true, description: "Names of images on this host, by a name for each."}
  config:
    description: Folder of the client's configuration, which has the account for the registry; empty for the user's own.
    type: path
    default: ""
attributes:
  check_mode: {support: full, description: "Pushes nothing; what the registry does not have keeps its name."}
  diff_mode: {support: none, description: Says what it pushes.}
"""

EXAMPLES = r"""
- name: Push the images
  swarm_publish:
    registry: registry.webstack.internal:5000
    images: {fe: "webstack/fe:0123456789ab"}
    config: ~/.local/share/webstack/swarm
"""

RETURN = r"""
references: {type: dict, description: By which name and digest each image is known to the registry.}
starts: {type: dict, description: "Entry point and command of each image, and whether it has a health check."}
pushed: {type: list, elements: str, description: Images that the registry did not have.}
"""

import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

from ansible.module_utils.basic import AnsibleModule, missing_required_lib  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module  # noqa: E402

try:
    import docker
except ImportError:
    docker = None


def place(registry: str, reference: str) -> str:
    """Return the repository in which a registry keeps an image, and the tag."""
    first, _, rest = reference.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        reference = rest
    return f"{registry}/{reference.partition('@')[0]}"


def digest(image: dict, target: str) -> str:
    """Return by which name and digest an image is known in the repository of a target, or nothing."""
    repository = target if ":" not in target.rpartition("/")[2] else target.rpartition(":")[0]
    return next((item for item in image["RepoDigests"] or [] if item.startswith(f"{repository}@")), "")


def publish(module: AnsibleModule) -> dict:
    """Do what the module promises and return its result (RefusalError: an image cannot be had or pushed)."""
    parameters = module.params
    if docker is None:
        raise RefusalError(missing_required_lib("docker"))
    if parameters["config"]:
        # Docker's client and its library find the account there.
        os.environ["DOCKER_CONFIG"] = parameters["config"]
    try:
        engine = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    except docker.errors.DockerException as error:
        raise RefusalError(f"The engine does not answer: {error}") from error

    def ask(question: Callable[[str], dict], reference: str) -> dict | None:
        """Return what the engine answers about an image, or nothing where it has no answer."""
        try:
            return question(reference)
        except (docker.errors.DockerException, OSError):
            return None

    def look(reference: str) -> tuple[dict | None, str]:
        """Return what the engine knows of an image, and by which digest the registry has it, if it does."""
        image = ask(engine.inspect_image, reference)
        known = digest(image, place(parameters["registry"], reference)) if image else ""
        there = known and ask(engine.inspect_distribution, known) is not None
        return image, known if there else ""

    wanted = parameters["images"]
    with ThreadPoolExecutor() as pool:
        found = dict(zip(wanted, pool.map(look, wanted.values())))
    references, starts, pushed = {}, {}, []
    for name, reference in wanted.items():
        image, known = found[name]
        if image is None:
            if module.check_mode:
                references[name], starts[name] = reference, {"entrypoint": [], "command": [], "healthcheck": True}
                continue
            raise RefusalError(f"The image {reference} is not on this host; run again with all tags.")
        settings = image["Config"] or {}
        starts[name] = {
            "entrypoint": settings.get("Entrypoint") or [],
            "command": settings.get("Cmd") or [],
            "healthcheck": bool(settings.get("Healthcheck")),
        }
        target = place(parameters["registry"], reference)
        if not known:
            pushed.append(reference)
            if module.check_mode:
                references[name] = reference
                continue
            module.run_command(["docker", "tag", reference, target], check_rc=True)
            code, _, errors = module.run_command(["docker", "push", "--quiet", target])
            if code:
                reason = (errors.strip().splitlines() or ["no reason given"])[-1]
                raise RefusalError(
                    f"swarm_registry: {target} cannot be pushed ({reason}); see that the registry can be reached."
                )
            known = digest(ask(engine.inspect_image, reference), target)
        # The tag is for people, the digest decides.
        references[name] = f"{target}@{known.partition('@')[2]}"
    return {"changed": bool(pushed), "references": references, "starts": starts, "pushed": pushed}


def main() -> None:
    """Run the module."""
    options = {
        "registry": {"type": "str", "required": True},
        "images": {"type": "dict", "required": True},
        "config": {"type": "path", "default": ""},
    }
    with running_module(options) as module:
        module.exit_json(**publish(module))


if __name__ == "__main__":
    main()
