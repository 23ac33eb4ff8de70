#!/usr/bin/python
"""Bring replicated services of a Compose project from what runs to what is rendered, without losing a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_rollout
short_description: Replace, add and remove replicas of Compose services behind HAProxy without losing a request
description:
  - New containers start beside the old ones, a batch at a time. Once the engine says that they are healthy and every
    load balancer in front of them says that their addresses are up, as many old ones are drained in the load balancers,
    waited for until they serve no request any more, stopped and removed.
  - If a new container does not get that far, the batch is removed, the old ones go on serving, and the module fails
    with the last log lines.
  - Everything is read from the engine and from the load balancers, nothing is remembered. A run that was interrupted is
    finished by the next one.
  - Other services that differ are replaced first, one after the other. What that means for requests is said before. A load
    balancer that does not come up gives its place back to the old one, and the module fails.
  - A service without running containers is left to C(docker compose up).
  - While it works it writes a line for each step to C(rollout.log) in O(path); the action plugin of the same name shows
    them. Only one run at a time works on a stack.
options:
  project: {type: str, required: true, description: Project name of Compose.}
  path: {type: path, required: true, description: Folder of the rendered files.}
  file: {type: path, default: docker-compose.yml, description: "The Compose file, in O(path)."}
  services:
    description: Replicated services, in the order in which they are changed.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: Name of the service.}
      replicas: {type: int, required: true, description: How many containers there shall be.}
      batch:
        description: Containers started at a time, as a number or as a share of the replicas (C(25%)); at least one, and of a
          share at most five for each processor.
        type: str
        default: 25%
      drain:
        description: Seconds that a drained container may take to finish its requests before it is stopped.
        type: float
        default: 30
      port: {type: int, default: 0, description: "Port that each container listens on; 0, and that is not looked at."}
      memory: {type: int, default: 0, description: Bytes of memory that one container reserves.}
      load_balancers:
        description: Those that stand before it, each with its C(name) and its master C(socket) in O(path).
        type: list
        elements: dict
        required: true
      first:
        description: Number of the first server of the definition by which load balancers judge new containers, where they
          know several; 0 means any.
        type: int
        default: 0
  others:
    description: Other services in the order in which they are replaced, each with C(name) and C(gap), load balancers with
      C(socket) and the C(definitions) by which they judge their servers as well.
    type: list
    elements: dict
    default: []
  timeout: {type: float, default: 180, description: Seconds that a batch may take to be healthy and in rotation.}
  lock_timeout: {type: float, default: 180, description: Seconds to wait for another run on the same stack.}
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: full, description: "Shows each service's containers before and after, by image and configuration."}
"""

EXAMPLES = r"""
- name: Change the replicas piece by piece
  compose_rollout:
    project: webstack
    path: ~/.local/share/webstack
    services:
      - name: fe
        replicas: 4
        load_balancers: [{name: fe-lb, socket: fe-lb/run/master.sock}]
"""

RETURN = r"""
ended:
  description: C(requests) and C(failed) ones that a load balancer had counted when it was replaced, by its name.
  type: list
  elements: dict
steps: {type: list, elements: str, description: "What was done, a sentence each; in check mode what would be done."}
"""

import json  # noqa: E402
import time  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_history import tell  # noqa: E402
from ansible.module_utils.stack_lock import LockError, held  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, difference, running_module  # noqa: E402
from ansible.module_utils.stack_project import Container, RolloutError, Stack, names  # noqa: E402
from ansible.module_utils.stack_replicas import Rollout  # noqa: E402
from ansible.module_utils.stack_singles import replace_others  # noqa: E402

JOURNAL = "rollout.log"
JOURNAL_SIZE = 1 << 20


def outcome(before: list[Container], after: list[Container], service: str) -> str:
    """Return what a rollout has made of a service, in one sentence; empty if its containers are the same."""
    old, new = ([item for item in some if item.service == service] for some in (before, after))
    kept = {item.id for item in old} & {item.id for item in new}
    come, gone = ([item for item in some if item.id not in kept] for some in (new, old))
    scaled = f"scaled from {len(old)} to {len(new)}" if len(old) != len(new) else ""
    rolled = f"rolled: {names(come)} instead of {names(gone)}" if come and gone else ""
    return f"{service} was {' and '.join(filter(None, (scaled, rolled)))}" if scaled or rolled else ""


def describe(containers: list[Container], service: str) -> str:
    """Return a line for each container of a service: name, image and digest of its configuration."""
    return "".join(f"{c.name} {c.image_name} {c.hash[:12]}\n" for c in containers if c.service == service)


def converge(parameters: dict, check: bool, descriptor: int | None) -> dict:
    """Do what the module promises and return its result (RolloutError: see there)."""
    stack = Stack(parameters, descriptor)
    journal = stack.path / JOURNAL

    def say(service: str, gate: str, text: str) -> None:
        line = {"time": round(time.time(), 3), "service": service, "gate": gate, "text": text}
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        tell(stack.path, "step", f"{service}: {text}", service=service)

    model = stack.model()
    ids = {image: stack.image_id(image) for image in {service["image"] for service in model.values()}}
    for name, service in model.items():
        service["id"] = ids[service["image"]]
        if not service["id"] and not check:
            raise RolloutError(f"{name}: the image {service['image']} is not on the host; nothing was changed.")
    before = stack.containers()
    steps = replace_others(stack, parameters, model, say, check)
    for service in parameters["services"]:
        progress = partial(say, service["name"])
        rollout = Rollout(stack, service, model[service["name"]], parameters["timeout"], progress)
        plan = rollout.plan()
        steps += plan
        if check:
            continue
        try:
            rollout.run()
        except RolloutError as error:
            progress("failed", str(error).splitlines()[-1].removeprefix(f"{service['name']}: "))
            raise
        if plan:
            progress("done", "done")
            if text := outcome(before, stack.containers(), service["name"]):
                tell(stack.path, "rollout", text, service=service["name"])
    after = before if check else stack.containers()
    diff = []
    for name in (service["name"] for service in parameters["services"] + parameters["others"]):
        old, new = describe(before, name), describe(after, name)
        if check and any(step.startswith(f"{name}: ") for step in steps):
            new = old + "".join(f"{step}\n" for step in steps if step.startswith(f"{name}: "))
        if old != new:
            diff.append(difference(f"containers of {name}", old, new))
    if not check and journal.exists() and journal.stat().st_size > JOURNAL_SIZE:
        journal.write_bytes(journal.read_bytes()[-JOURNAL_SIZE // 2 :].partition(b"\n")[2])
    return {"changed": bool(steps), "steps": steps, "ended": stack.ended, "diff": diff}


def main() -> None:
    """Run the module."""
    service = {
        "name": {"type": "str", "required": True},
        "replicas": {"type": "int", "required": True},
        "batch": {"type": "str", "default": "25%"},
        "drain": {"type": "float", "default": 30},
        "port": {"type": "int", "default": 0},
        "memory": {"type": "int", "default": 0},
        "load_balancers": {"type": "list", "elements": "dict", "required": True},
        "first": {"type": "int", "default": 0},
    }
    options = {
        "project": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "file": {"type": "path", "default": "docker-compose.yml"},
        "services": {"type": "list", "elements": "dict", "required": True, "options": service},
        "others": {"type": "list", "elements": "dict", "default": []},
        "timeout": {"type": "float", "default": 180},
        "lock_timeout": {"type": "float", "default": 180},
    }
    with running_module(options, RolloutError, LockError) as module:
        parameters, root = module.params, Path(module.params["path"])
        if not parameters["services"]:
            # Nothing to do would look like done.
            raise RefusalError("services: none is named.")
        if module.check_mode:
            module.exit_json(**converge(parameters, True, None))
        try:
            with held(root, "changes containers", parameters["lock_timeout"]) as descriptor:
                result = converge(parameters, False, descriptor)
        except (RolloutError, LockError, OSError) as error:
            tell(root, "failed", f"A rollout failed: {str(error).splitlines()[0]}")
            raise
        module.exit_json(**result)


if __name__ == "__main__":
    main()
