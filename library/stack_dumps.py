#!/usr/bin/python
"""Read dumps on the controller, and hand them over as the database takes them: an action plugin does it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_dumps
short_description: Read dumps, and hand them over as the database takes them
description:
  - Reads every dump on the controller, compressed or not. What does not fit the database fails the task with a sentence that
    names file and line; what can be made to fit is, and told in RV(notes).
  - With O(path) they are written there, in UTF-8, compressed with gzip, in their order.
options:
  dumps:
    description: Files on the controller; relative ones start at O(project_dir).
    type: list
    elements: str
    required: true
  project_dir: {type: path, required: true, description: The checkout.}
  database: {type: str, required: true, description: Schema of the application.}
  user: {type: str, required: true, description: Account of the application.}
  path: {type: path, description: "Folder on the host, which is there and empty. Without it the dumps are only read."}
attributes:
  check_mode: {support: full, description: Reads the dumps and writes nothing.}
  diff_mode: {support: none, description: "Dumps are data, which is not shown."}
"""

EXAMPLES = r"""
- name: Check the dumps
  stack_dumps:
    dumps: [data/sql/10-schema.sql]
    project_dir: /srv/webstack
    database: app
    user: app
"""

RETURN = r"""
notes: {type: list, elements: str, description: Sentences that say what was changed in which dump.}
"""
