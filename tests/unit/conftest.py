"""Make the project's Python importable the way Ansible does it."""

import importlib.util
import sys
from pathlib import Path

import ansible.module_utils

PROJECT = Path(__file__).parents[2]
ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))
sys.path[:0] = [str(PROJECT / "library"), str(PROJECT / "module_utils")]

# The plugin's name is common, so it is loaded under one of its own.
specification = importlib.util.spec_from_file_location("stack_filters", PROJECT / "plugins/filter/stack.py")
sys.modules["stack_filters"] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(sys.modules["stack_filters"])
