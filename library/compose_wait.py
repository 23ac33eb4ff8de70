#!/usr/bin/python
"""Wait until every container of a Compose project runs and is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_wait
short_description: Wait until every container of a Compose project runs and is healthy
description:
  - A container without a health check is well as soon as it runs.
  - Fails if one is not, with the last lines of its log and, as far as that can be known, the reason. It may have been
    killed for memory, or listen where no other container reaches it, which ends the waiting at once.
  - In contrast to C(docker compose up --wait) a container that is unhealthy at the beginning, because it is just
    recovering, is given 45 seconds.
options:
  project: {type: str, required: true, description: Project name of Compose.}
  timeout: {type: int, default: 180, description: Seconds to wait at most.}
  ports: {type: dict, default: {}, description: "Port that each container of a service listens on, by the service."}
attributes:
  check_mode: {support: full, description: "Changes nothing in any mode; in check mode it does not wait."}
  diff_mode: {support: none, description: "Changes nothing, so there is nothing to show."}
"""

EXAMPLES = r"""
- name: Wait until all containers are healthy
  compose_wait:
    project: webstack
"""

RETURN = r"""
seconds: {type: float, description: How long it waited.}
containers:
  description: Every container with its name, service, state and what the engine says of it.
  type: list
  elements: dict
"""

import json  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from functools import partial  # noqa: E402

from ansible.module_utils.stack_compose import condition, exit_code, hopeless, killed, listed  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module  # noqa: E402
from ansible.module_utils.stack_trouble import Watch, containers_of  # noqa: E402

PAUSE = 0.2
# Seconds that a container may be unhealthy, restarting or stopped before waiting is given up.
PATIENCE = 45
LOG_LINES = 12


def wait(
    project: str, timeout: float, patience: float, watches: dict[str, Watch] | None = None
) -> tuple[list[dict], list[dict]]:
    """Return all containers and those that are not well when waiting ends.

    Args:
        project: name of Compose.
        timeout: seconds to wait at most.
        patience: seconds that a container may be in trouble.
        watches: by the services that have one.
    """
    begin = time.monotonic()
    trouble_since: dict[str, float] = {}
    while True:
        containers = listed(project)
        now = time.monotonic()
        unwell = [container for container in containers if condition(container) != "well"]
        if not unwell:
            return containers, []
        troubled = {container["name"] for container in unwell if condition(container) == "troubled"}
        trouble_since = {name: trouble_since.get(name, now) for name in troubled}
        late = any(now - since > patience for since in trouble_since.values()) or now - begin > timeout
        final: set[str] = set()
        for watch in (watches or {}).values():
            watch.look(partial(containers_of, project, watch.service))
            final |= set(watch.final())
        # One without a health check is well for the engine, wherever it listens.
        unwell += [item for item in containers if final and item["id"] in final and item not in unwell]
        if late or final or any(hopeless(container["service"], exit_code(container)) for container in unwell):
            return containers, unwell
        time.sleep(PAUSE)


def explain(troubled: list[dict], watches: dict[str, Watch]) -> str:
    """Return the last lines of what containers have said, and then a sentence on why they are not well."""
    texts, reasons = [], []
    argv = ["docker", "inspect", "--type=container", *(item["id"] for item in troubled)]
    inspected = subprocess.run(argv, capture_output=True, text=True, check=False)
    details = {item["Id"]: item for item in json.loads(inspected.stdout or "[]")}
    for item in troubled:
        argv = ["docker", "logs", "--tail", str(LOG_LINES), item["name"]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()[-LOG_LINES:]
        texts += [f"The last lines of {item['name']}:", *(f"  {line}" for line in lines)]
        known = watches[item["service"]].known(settled=0) if item["service"] in watches else {}
        why = known.get(item["id"]) or (killed(item["service"], details[item["id"]]) if item["id"] in details else "")
        reasons.append(f"{item['name']} {why}" if why else f"{item['name']}: {item['status'] or item['state']}")
    return "\n".join([*texts, f"The stack did not become healthy: {'; '.join(reasons)}."])


def main() -> None:
    """Run the module."""
    options = {
        "project": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 180},
        "ports": {"type": "dict", "default": {}},
    }
    with running_module(options) as module:
        parameters = module.params
        timeout = 0 if module.check_mode else parameters["timeout"]
        watches = {name: Watch(name, int(port)) for name, port in parameters["ports"].items()}
        begin = time.monotonic()
        containers, troubled = wait(parameters["project"], timeout, PATIENCE, watches)
        if troubled and not module.check_mode:
            raise RefusalError(explain(troubled, watches))
        module.exit_json(changed=False, containers=containers, seconds=round(time.monotonic() - begin, 1))


if __name__ == "__main__":
    main()
