#!/usr/bin/python
"""Say how a stack in a Swarm is: nodes, services and what is wrong."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_status
short_description: Say how a stack in a Swarm is
description:
  - Asks the Swarm for its nodes and the services of a stack. Changes nothing.
options:
  stack:
    description: Name of the stack.
    type: str
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
- name: Ask the Swarm
  swarm_status:
    stack: webstack
"""

RETURN = r"""
lines:
  description: How everything is, for people.
  returned: always
  type: list
  elements: str
problems:
  description: A sentence for each thing that is wrong.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_manager import Manager, describe_nodes, describe_services  # noqa: E402


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(argument_spec={"stack": {"type": "str", "required": True}}, supports_check_mode=True)
    services, _, nodes = Manager(module.run_command, module.params["stack"]).look()
    lines, problems = [], []
    for describe in (describe_nodes(nodes), describe_services(services)):
        lines += describe[0]
        problems += describe[1]
    if not services:
        problems.append(f"{module.params['stack']} is not deployed; run playbooks/site.yml.")
    module.exit_json(changed=False, lines=lines, problems=problems)


if __name__ == "__main__":
    main()
