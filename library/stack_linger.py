#!/usr/bin/python
"""Let what systemd runs for a user go on without a login: an action plugin does it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_linger
short_description: Let what systemd runs for a user go on without a login
description:
  - Asks logind as the user, whom the policy of the host (polkit) may let decide that, and then as root, with V(become) of
    the task. If both are refused, the task fails with a sentence.
options:
  user:
    description: Name of the user.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Let the watchdog go on after the last logout
  stack_linger:
    user: deploy
  become: true
"""

RETURN = r"""#"""
