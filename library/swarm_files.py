#!/usr/bin/python
"""Read files of the stack on a manager, all in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_files
short_description: Read several files
description:
  - Returns what files hold; those that are not there are left out. Some are secrets, so tasks that use it need C(no_log).
options:
  path:
    description: The folder.
    type: path
    required: true
  files:
    description: Paths inside it.
    type: list
    elements: str
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
- name: Read the secrets that are there
  swarm_files:
    path: ~/.local/share/webstack
    files: [secrets/db/database_password]
  register: found
  no_log: true
"""

RETURN = r"""
contents:
  description: Text of each file by its path.
  returned: always
  type: dict
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    contents = {}
    for name in module.params["files"]:
        path = Path(module.params["path"]) / name
        if path.is_file():
            contents[name] = path.read_text(encoding="utf-8")
    module.exit_json(changed=False, contents=contents)


if __name__ == "__main__":
    main()
