#!/usr/bin/python
"""Let the engine of a node know the registry of its Swarm: the address of its name, and its certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_node
short_description: Let an engine know a registry
description:
  - Names the address of a registry in C(/etc/hosts), and writes its certificate where the engine looks for it. The engine
    reads both anew whenever it is asked for an image.
  - In check mode it says whether there is something to do, which needs no rights.
options:
  name:
    description: Name of the registry.
    type: str
    required: true
  port:
    description: Port of the registry.
    type: int
    required: true
  address:
    description: Address that the name stands for.
    type: str
    required: true
  certificate:
    description: Certificate of the registry, PEM.
    type: str
    required: true
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Says whether it would change something.
  diff_mode:
    support: none
    description: Says what it writes.
"""

EXAMPLES = r"""
- name: Let the engine know the registry
  swarm_node:
    name: registry.webstack.internal
    port: 5000
    address: 10.0.0.11
    certificate: "{{ certificate }}"
"""

RETURN = r"""
written:
  description: Files that were not as wanted.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_files import replace  # noqa: E402

HOSTS = Path("/etc/hosts")
CERTIFICATES = Path("/etc/docker/certs.d")


def with_name(text: str, name: str, address: str) -> str:
    """Return a file of hosts in which a name stands for an address, and for that alone."""
    lines = [line for line in text.splitlines() if name not in line.partition("#")[0].split()[1:]]
    return "\n".join([*lines, f"{address} {name}"]) + "\n"


def read(path: Path) -> str:
    """Return the text of a file, or nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "address": {"type": "str", "required": True},
            "certificate": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    hosts = read(HOSTS)
    named = f"{wanted['address']} {wanted['name']}" in hosts.splitlines()
    certificate = CERTIFICATES / f"{wanted['name']}:{wanted['port']}" / "ca.crt"
    trusted = read(certificate) == wanted["certificate"]
    written = [str(path) for path, good in ((HOSTS, named), (certificate, trusted)) if not good]
    if not module.check_mode:
        try:
            if not trusted:
                certificate.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                replace(certificate, wanted["certificate"], 0o644)
            if not named:
                # Not replaced as a whole: in a container it is a mount.
                HOSTS.write_text(with_name(hosts, wanted["name"], wanted["address"]), encoding="utf-8")
        except OSError as error:
            module.fail_json(
                msg=f"{error.filename} cannot be written ({error.strerror}); run the playbook as a user who may become root."
            )
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
