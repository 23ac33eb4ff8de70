#!/usr/bin/python
"""Wait until the services of a Swarm's stack are what the last deployment says, and remove what it has left over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_converge
short_description: Wait for the services of a stack and clean up
description:
  - Waits until every service has as many running, healthy tasks of its present definition as it shall have.
  - Fails if a service was rolled back or does not get there, with the last lines of what its tasks say.
  - Places tasks anew that wait for a node and that the scheduler has forgotten.
  - Removes configs, secrets and networks of the stack that no service refers to any more, once all is well.
options:
  stack: {type: str, required: true, description: Name of the stack.}
  timeout: {type: float, default: 180, description: Seconds to wait in all.}
  networks: {type: list, elements: str, default: [], description: Networks that the stack has.}
attributes:
  check_mode: {support: none, description: Waits for what only a deployment changes.}
  diff_mode: {support: none, description: Says what it removes.}
"""

EXAMPLES = r"""
- name: Wait for the stack
  swarm_converge:
    stack: webstack
"""

RETURN = r"""
services:
  description: For each service C(running) and C(wanted) tasks, its C(image) and the C(nodes) that run it.
  type: dict
lost:
  description: Services that cannot run because the node that they belong to is lost; the database is waited for instead.
  type: list
  elements: str
removed: {type: list, elements: str, description: Objects that no service referred to.}
"""

import socket  # noqa: E402
import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_manager import Manager, Service, references, troubles  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module  # noqa: E402

# Seconds between two looks.
PAUSE = 0.5
# Seconds that a task without a node, or without its port, is given before it is placed anew.
PATIENCE = 5


def open_to_us(port: tuple[str, int]) -> bool:
    """Tell whether an address and port take a connection."""
    try:
        socket.create_connection(port, timeout=2).close()
    except OSError:
        return False
    return True


def explain(swarm: Manager, services: list[Service], intro: str) -> str:
    """Return a text that says which services are not as they shall be, and what their tasks say."""
    lines = [intro]
    for service in services:
        for task in service.failed[:1]:
            lines.append(f"{service.name} on {task['node']}: {task['error'] or task['state']}; its last lines:")
            lines += [f"  {line}" for line in swarm.logs(task["id"])]
        if not service.failed:
            waiting = "; ".join(sorted({task["error"] for task in service.tasks if task["error"]}))
            lines.append(f"{service.name}: {service.running} of {service.wanted} run{': ' + waiting if waiting else ''}")
    return "\n".join(lines)


def converge(module: AnsibleModule) -> dict:
    """Do what the module promises and return its result (RefusalError: a service does not get there)."""
    swarm = Manager(module.run_command, module.params["stack"])

    def place(service: Service) -> None:
        """Have the tasks of a service made and placed anew, once."""
        if service.name not in placed:
            placed.add(service.name)
            module.run_command(["docker", "service", "update", "--force", "--detach", f"{swarm.stack}_{service.name}"])

    deadline = time.monotonic() + module.params["timeout"]
    begin, placed = time.monotonic(), set()
    while True:
        services, details, _ = swarm.look()
        back = [service for service in services if service.rolled_back]
        if back:
            names = ", ".join(service.name for service in back)
            text = f"{names}: the new release failed and was rolled back; what ran before still runs."
            raise RefusalError(explain(swarm, back, text))
        # A deployment brings no lost node back; without a database there is no stack, though.
        lost = [service.name for service in services if service.homeless and service.name != "db"]
        wrong = [service for service in troubles(services) if service.name not in lost]
        patient = time.monotonic() < begin + PATIENCE
        for service in services:
            # Those of a lost node at once: they wait for it then, instead of for the next deployment after it has come back.
            if service.forgotten and (service.homeless or not patient):
                place(service)
        if not patient:
            # A manager that has just become the leader can hand out a task without it, which then runs unreachable for good.
            unreached = [s for s in services if not all(open_to_us(port) for port in s.without_port)]
            for service in unreached:
                place(service)
            wrong += [service for service in unreached if service not in wrong]
        if services and not wrong:
            break
        if time.monotonic() > deadline:
            names = ", ".join(service.name for service in wrong)
            raise RefusalError(explain(swarm, wrong, f"The stack did not become healthy: {names}."))
        time.sleep(PAUSE)
    removed = []
    used = references(details)
    for kind in ("config", "secret"):
        for name in swarm.names(kind):
            if name not in used and module.run_command(["docker", kind, "rm", name])[0] == 0:
                removed.append(f"{kind} {name}")
    if module.params["networks"]:
        wanted = {f"{swarm.stack}_{name}" for name in module.params["networks"]}
        for name in swarm.names("network"):
            if name not in wanted and module.run_command(["docker", "network", "rm", name])[0] == 0:
                removed.append(f"network {name}")
    return {
        "changed": bool(placed or removed),
        "removed": removed,
        "lost": lost,
        "services": {
            service.name: {
                "running": service.running,
                "wanted": service.wanted,
                "image": service.image,
                "nodes": sorted({task["node"] for task in service.tasks if task["runs"]}),
            }
            for service in services
        },
    }


def main() -> None:
    """Run the module."""
    options = {
        "stack": {"type": "str", "required": True},
        "timeout": {"type": "float", "default": 180},
        "networks": {"type": "list", "elements": "str", "default": []},
    }
    with running_module(options, check_mode=False) as module:
        module.exit_json(**converge(module))


if __name__ == "__main__":
    main()
