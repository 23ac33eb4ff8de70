"""What every task needs is loaded before the first one."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FILTER = """import gc, os

LOADED_BY = os.getpid()


class FilterModule:
    def filters(self):
        return {"looked_at": lambda _: [LOADED_BY != os.getpid(), gc.get_threshold()[0], gc.get_freeze_count() > 0]}
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - debug: {msg: "{{ '' | looked_at | to_json }}"}
"""


def seen_by_a_task(tmp_path, **environment):
    """Return what a task sees: filters loaded before it began, garbage looked for after so many objects, some left out."""
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/looked.py").write_text(FILTER)
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    settings = {
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "filters"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_FORCE_COLOR": "0",
        **environment,
    }
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [playbook, "--inventory", "localhost,", "--connection", "local", str(tmp_path / "playbook.yml")]
    output = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True).stdout
    result = output.partition('"msg": ')[2].splitlines()[0]
    return json.loads(json.loads(result))


def test_tasks_find_filters_loaded_and_leave_what_was_there_alone(tmp_path):
    assert seen_by_a_task(tmp_path) == [True, 50_000, True]


def test_they_do_not_without_it(tmp_path):
    assert seen_by_a_task(tmp_path, ANSIBLE_CALLBACK_PLUGINS=os.devnull)[0] is False
