#!/usr/bin/python
"""Make the networks of a stack across the hosts of a Swarm, and say which address ranges they have."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_networks
short_description: Make overlay networks and return their address ranges
description:
  - Makes the networks that are missing. One that exists with another definition is refused, because it could only be made
    anew without anything on it.
options:
  stack:
    description: Name of the stack, prefix and label of its networks.
    type: str
    required: true
  networks:
    description: For each network whether it is C(internal), and perhaps its C(subnet).
    type: dict
    required: true
  encrypted:
    description: Encrypt what goes from host to host on them.
    type: bool
    default: false
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Makes nothing; of what is missing no range is known then.
  diff_mode:
    support: none
    description: Says which networks it makes.
"""

EXAMPLES = r"""
- name: Make the networks
  swarm_networks:
    stack: webstack
    networks: {frontend: {internal: true}}
"""

RETURN = r"""
subnets:
  description: Address range of each network by its name.
  returned: always
  type: dict
made:
  description: Networks that were missing.
  returned: always
  type: list
  elements: str
"""

import json  # noqa: E402
import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_manager import NAMESPACE  # noqa: E402

# Seconds that the managers may take to find a range for a new network.
PATIENCE = 30


def inspect(module: AnsibleModule, stack: str) -> dict[str, dict]:
    """Return the networks of a stack by their names in it."""
    command = ["docker", "network", "ls", "--quiet", "--filter", f"label={NAMESPACE}={stack}", "--filter", "driver=overlay"]
    ids = module.run_command(command, check_rc=True)[1].split()
    if not ids:
        return {}
    found = json.loads(module.run_command(["docker", "network", "inspect", *ids], check_rc=True)[1])
    return {network["Name"].removeprefix(f"{stack}_"): network for network in found}


def problem(name: str, wanted: dict, found: dict, encrypted: bool) -> str:
    """Return why a network that exists cannot be taken, or nothing."""
    subnets = [config["Subnet"] for config in found["IPAM"]["Config"] or []]
    if wanted.get("subnet") and subnets and subnets != [wanted["subnet"]]:
        return f"network_subnets: {name} has the range {subnets[0]}"
    if encrypted != ("encrypted" in (found["Options"] or {})):
        return f"swarm_encrypted: {name} is {'' if not encrypted else 'not '}encrypted"
    if bool(wanted["internal"]) != found["Internal"]:
        return f"The network {name} is {'' if found['Internal'] else 'not '}internal"
    return ""


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "stack": {"type": "str", "required": True},
            "networks": {"type": "dict", "required": True},
            "encrypted": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    stack, wanted = module.params["stack"], module.params["networks"]
    found = inspect(module, stack)
    for name, details in wanted.items():
        text = name in found and problem(name, details, found[name], module.params["encrypted"])
        if text:
            module.fail_json(
                msg=f"{text}, and a network can only be recreated: take the stack down with playbooks/teardown.yml (its"
                " data stays) and deploy again, or put the setting back."
            )
    missing = [name for name in wanted if name not in found]
    if not module.check_mode:
        for name in missing:
            options = ["--opt", "encrypted"] if module.params["encrypted"] else []
            options += ["--internal"] if wanted[name]["internal"] else []
            options += ["--subnet", wanted[name]["subnet"]] if wanted[name].get("subnet") else []
            command = ["docker", "network", "create", "--driver", "overlay", "--label", f"{NAMESPACE}={stack}", *options]
            code, _, errors = module.run_command([*command, f"{stack}_{name}"])
            if code:
                module.fail_json(msg=f"The network {name} cannot be made: {errors.strip()}")
        deadline = time.monotonic() + PATIENCE
        while not all(name in found and found[name]["IPAM"]["Config"] for name in wanted):
            if time.monotonic() > deadline:
                module.fail_json(msg=f"The managers have found no address range for the networks within {PATIENCE} s.")
            time.sleep(0.2)
            found = inspect(module, stack)
    subnets = {name: found[name]["IPAM"]["Config"][0]["Subnet"] if name in found else "" for name in wanted}
    module.exit_json(changed=bool(missing), made=missing, subnets=subnets)


if __name__ == "__main__":
    main()
