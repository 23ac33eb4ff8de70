"""Make the project's Python importable the way Ansible does it."""

import importlib.util
import sys
from pathlib import Path

import ansible.module_utils
from hypothesis import settings

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

PROJECT = Path(__file__).parents[2]
ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))
FOLDERS = ("library", "module_utils", "tests", "files/images/monitoring", "roles/watchdog/files", "roles/backup/files")
sys.path[:0] = [str(PROJECT / folder) for folder in FOLDERS]
from stack import pytest_configure  # noqa: E402, F401 (the markers)

# Plugins have names that others have too, so they are loaded under ones of their own.
PLUGINS = {
    **{f"{path.stem}_filters": path for path in PROJECT.glob("plugins/filter/*.py")},
    "config_tree_action": "plugins/action/config_tree.py",
    "preflight_action": "plugins/action/stack_preflight.py",
    "output": "plugins/callback/webstack.py",
    "webstack_inventory": "plugins/inventory/webstack.py",
    "running": "bin/running.py",
}
for name, path in PLUGINS.items():
    specification = importlib.util.spec_from_file_location(name, PROJECT / path)
    sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(sys.modules[name])
