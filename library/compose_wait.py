#!/usr/bin/python
"""Wait until every container of a Compose project runs and is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_wait
short_description: Wait until every container of a Compose project runs and is healthy
description:
  - A container without a health check is well as soon as it runs.
  - In contrast to C(docker compose up --wait) a container that is unhealthy at the beginning, because it is just
    recovering, is given O(patience) seconds.
options:
  project:
    description: Project name of Compose.
    type: str
    required: true
  timeout:
    description: Seconds to wait at most.
    type: int
    default: 180
  patience:
    description: Seconds that a container may be unhealthy, restarting or stopped before waiting is given up.
    type: int
    default: 45
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode; in check mode it does not wait.
  diff_mode:
    support: none
    description: Changes nothing, so there is nothing to show.
"""

EXAMPLES = r"""
- name: Wait until all of it is healthy
  compose_wait:
    project: webstack
"""

RETURN = r"""
seconds:
  description: How long it waited.
  returned: always
  type: float
containers:
  description: Every container with its name, service, state and what the engine says of it.
  returned: always
  type: list
  elements: dict
troubled:
  description: Those of them that are not well; waiting was given up if there are any.
  returned: always
  type: list
  elements: dict
"""

import subprocess  # noqa: E402
import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_compose import condition, engine_problem, exit_code, hopeless, list_command, read_list  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402

PAUSE = 0.2


def read_containers(project: str) -> list[dict]:
    """Return every container of a project.

    Raises:
        subprocess.CalledProcessError: the engine does not answer.
    """
    return read_list(subprocess.run(list_command(project), capture_output=True, text=True, check=True).stdout)


def wait(project: str, timeout: float, patience: float) -> tuple[list[dict], list[dict]]:
    """Return all containers and those that are not well when waiting ends."""
    begin = time.monotonic()
    trouble_since: dict[str, float] = {}
    while True:
        containers = read_containers(project)
        now = time.monotonic()
        unwell = [container for container in containers if condition(container) != "well"]
        if not unwell:
            return containers, []
        troubled = {container["name"] for container in unwell if condition(container) == "troubled"}
        trouble_since = {name: trouble_since.get(name, now) for name in troubled}
        late = any(now - since > patience for since in trouble_since.values()) or now - begin > timeout
        if late or any(hopeless(container["service"], exit_code(container)) for container in unwell):
            return containers, unwell
        time.sleep(PAUSE)


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 180},
            "patience": {"type": "int", "default": 45},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    timeout = 0 if module.check_mode else parameters["timeout"]
    begin = time.monotonic()
    try:
        containers, troubled = wait(parameters["project"], timeout, parameters["patience"])
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=engine_problem(error.stderr))
    module.exit_json(changed=False, containers=containers, troubled=troubled, seconds=round(time.monotonic() - begin, 1))


if __name__ == "__main__":
    main()
