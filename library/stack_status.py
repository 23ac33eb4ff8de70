#!/usr/bin/python
"""Say how a stack is: containers, what the load balancers see, restarts by the watchdog, releases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_status
short_description: Say how a stack is
description:
  - Asks the engine, the load balancers, the watchdog and the journal of changes. Changes nothing.
options:
  project:
    description: Project name of Compose.
    type: str
    required: true
  path:
    description: Folder of the rendered files.
    type: path
    required: true
  services:
    description: Replicated services with C(name), C(balancer) and its C(socket).
    type: list
    elements: dict
    required: true
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing, so there is nothing to show.
"""

EXAMPLES = r"""
- name: Ask how the stack is
  stack_status:
    project: webstack
    path: ~/.local/share/webstack
    services: [{name: fe, balancer: fe-lb, socket: fe-lb/run/master.sock}]
"""

RETURN = r"""
lines:
  description: The status for people to read.
  returned: always
  type: list
  elements: str
well:
  description: Whether every container runs and is healthy, and every replica gets requests.
  returned: always
  type: bool
watchdog:
  description: Whether it C(runs), and its C(events), the newest last.
  returned: always
  type: dict
"""

import json  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_compose import condition, list_command, read_list  # noqa: E402
from ansible.module_utils.stack_haproxy import Server, ask, read_servers  # noqa: E402
from ansible.module_utils.stack_lock import describe, holder  # noqa: E402
from ansible.module_utils.stack_releases import read_index  # noqa: E402

# Events and releases that are shown.
NEWEST = 5


def moment(seconds: float) -> str:
    """Return a time as people read it on the host."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def read_lines(path: Path) -> list[dict]:
    """Return the objects of a file with one JSON object in each line; empty if there is no such file."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def rotation(server: Server) -> str:
    """Return what a load balancer does with a server."""
    if server.up:
        return "gets requests"
    return "gets no new requests (drained)" if server.draining else "is out"


def report(parameters: dict) -> dict:
    """Return the module's result.

    Raises:
        OSError: the engine cannot be asked.
    """
    root = Path(parameters["path"]).resolve()
    listed = subprocess.run(list_command(parameters["project"]), capture_output=True, text=True, check=False)
    if listed.returncode:
        raise OSError(f"The engine does not answer: {listed.stderr.strip()}")
    containers = sorted(read_list(listed.stdout), key=lambda item: item["name"])
    well = bool(containers) and all(condition(item) == "well" for item in containers)
    lines = [f"{item['name']}: {item['status']}, {item['image']}" for item in containers] or ["Nothing runs."]
    for service in parameters["services"]:
        wanted = sum(item["service"] == service["name"] for item in containers)
        try:
            state = ask(root / service["socket"], f"@1 show servers state {service['name']}", timeout=2)
        except OSError as error:
            lines.append(f"{service['balancer']}: does not answer ({error})")
            well = False
            continue
        servers = [server for server in read_servers(state) if server.address]
        up = sum(server.up for server in servers)
        well = well and up == wanted
        lines.append(f"{service['balancer']}: {up} of {wanted} replicas of {service['name']} get requests")
        lines += [f"  {server.address} {rotation(server)}" for server in servers if not server.up]
    busy = holder(root)
    if busy:
        lines.append(f"Now: {describe(busy)}")
    journal = read_lines(root / "rollout.log")
    if journal:
        last = journal[-1]
        lines.append(f"Last change of containers: {moment(last['time'])} {last['service']}: {last['text']}")
    runs = bool(holder(root / "watchdog"))
    events = read_lines(root / "watchdog" / "events.jsonl")
    lines.append(f"Watchdog: {'runs' if runs else 'does not run'}, {len(events)} events")
    lines += [f"  {moment(e['time'])} {e['container']} {e['what']}: {e['why']}" for e in events[-NEWEST:]]
    index = read_index(root)
    for item in reversed(index[-NEWEST:]):
        images = ", ".join(image["name"] for image in item["images"].values())
        lines.append(
            f"Release {item['number']}{' (the last one)' if item is index[-1] else ''}: {moment(item['time'])}, {images}"
        )
    return {"changed": False, "lines": lines, "well": well, "watchdog": {"runs": runs, "events": events}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "services": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = report(module.params)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
