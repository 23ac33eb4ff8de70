"""Refuse what is no YAML in one sentence, before Ansible reads it with each of its inventory plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import ansible.module_utils
from ansible import context
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display

# Plugins do not find the project's module_utils by themselves, as modules do. This one is loaded before all others.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
from ansible.module_utils import stack_written  # noqa: E402

DOCUMENTATION = """
name: webstack
short_description: Refuses what is no YAML in one sentence
description:
  - Looks at the inventory, the C(group_vars) and C(host_vars) beside it and what C(-e) gives. Where that is no YAML, it ends
    the run with file, line and reason.
  - It is the first plugin that is asked whether it reads an inventory, and never does, so the others follow.
"""
# Ansible's own exit code for what cannot be parsed.
EXIT = 4
SUFFIXES = (".yml", ".yaml", ".json")


class InventoryModule(BaseInventoryPlugin):
    """Documented above."""

    NAME = "webstack"

    def verify_file(self, path: str) -> bool:
        """Return False: this plugin reads no inventory."""
        # Of the very type: paths take no string that Ansible has marked.
        inventory = str(path)
        problems = self._variables()
        if not Path(inventory).exists() and "," not in inventory:
            problems.append(f"-i {inventory}: there is no such file; correct the path.")
        problems += [
            problem for name, text in self._sources(inventory) if (problem := stack_written.yaml_problem(name, text))
        ]
        if problems:
            Display().display("\n".join(problems), color="red", stderr=True)
            # No exception of Ansible's: those are taken for a plugin that cannot read the file.
            sys.exit(EXIT)
        return False

    @staticmethod
    def _variables() -> list[str]:
        """Return what is wrong with what ``-e`` gives."""
        problems = []
        for option in map(str, context.CLIARGS.get("extra_vars") or ()):
            try:
                text = Path(option[1:]).expanduser().read_text(encoding="utf-8") if option.startswith("@") else option
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                problems.append(f"-e {option}: the file cannot be read ({reason}); correct the path.")
                continue
            if option[:1] in ("@", "{", "["):
                problems.append(stack_written.yaml_problem(option[1:] if option[0] == "@" else "-e", text, mapping=True))
            elif option[:1] in ("/", "."):
                problems.append(f"-e {option}: a file of variables is given as -e @{option}.")
        return [problem for problem in problems if problem]

    @staticmethod
    def _sources(path: str) -> Iterator[tuple[str, str]]:
        """Return name and text of an inventory and of the files of variables beside it, as far as they should be YAML."""
        inventory = Path(path)
        files = [inventory]
        for folder in ("group_vars", "host_vars"):
            files += sorted((inventory.parent / folder).glob("**/*"))
            # Not every release of Python follows a link with **.
            for link in (item for item in (inventory.parent / folder).glob("*") if item.is_symlink() and item.is_dir()):
                files += sorted(link.glob("**/*"))
        for file in dict.fromkeys(files):
            try:
                if file.suffix in SUFFIXES and file.is_file():
                    yield str(file), file.read_text(encoding="utf-8")
            except (OSError, ValueError):
                # Ansible says so itself.
                continue
