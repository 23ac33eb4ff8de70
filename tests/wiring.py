"""What the roles hand on: their tasks and templates, rendered as a playbook renders them, without a host.

For settings whose effect no scenario can show: that the value reaches the argument that it is meant for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template
from jinja2 import Environment, nodes

PROJECT = Path(__file__).parents[1]
# What the preflight finds, as far as settings are wired to it.
HOST = {
    "stack_dir": "/srv/web",
    "uid": 0,
    "gid": 0,
    "cpus": 2,
    "mapping": "",
    "run_options": [],
    "developer": {},
    "images": {},
    "state": {},
    "docker_socket": "/var/run/docker.sock",
}
PARSER = Environment()  # noqa: S701 (nothing is rendered)
CONDITIONS = ("when", "that", "until", "changed_when", "failed_when")


@cache
def loader() -> DataLoader:
    """Return Ansible's reader of files, with the project's own filters loaded."""
    init_plugin_loader()
    filter_loader.add_directory(str(PROJECT / "plugins/filter"))
    return DataLoader()


def load(path: str) -> Any:
    """Return what a YAML file of the project says, its templates as such."""
    return loader().load_from_file(str(PROJECT / path), trusted_as_template=True)


def render(value: Any, role: str, **settings: Any) -> Any:
    """Return a value with its templates resolved, for the defaults and some other settings.

    Args:
        value: what was loaded with ``load``.
        role: whose variables and files it uses.
        settings: settings and facts that differ from their defaults.
    """
    return templar(role, settings).template(value)


def holds(condition: Any, role: str, **settings: Any) -> bool:
    """Tell whether the condition of a task holds, for the defaults and some other settings."""
    return templar(role, settings).evaluate_conditional(condition)


def templar(role: str, settings: dict[str, Any]) -> Templar:
    """Return Ansible's own renderer, which knows what a task of a role knows."""
    variables: dict[str, Any] = {"playbook_dir": str(PROJECT / "playbooks"), "_preflight_result": HOST}
    for path in sorted(PROJECT.glob("group_vars/all/*.yml")):
        variables |= load(str(path.relative_to(PROJECT)))
    if (PROJECT / f"roles/{role}/vars/main.yml").exists():
        variables |= load(f"roles/{role}/vars/main.yml")
    variables |= {"ansible_search_path": [str(PROJECT / "roles" / role)], "omit": "(omitted)", **settings}
    return Templar(loader(), variables)


def render_template(name: str, role: str, **settings: Any) -> str:
    """Return a template of a role as the playbook writes it."""
    text = trust_as_template((PROJECT / f"roles/{role}/templates/{name}").read_text(encoding="utf-8"))
    return render(text, role, **settings)


def expressions(value: Any, key: Any = "") -> Iterator[nodes.Template]:
    """Yield what Jinja makes of a text, or of each text that a list or dictionary holds."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from expressions(name)
            yield from expressions(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, key)
    elif isinstance(value, str):
        # A condition stands without braces.
        yield PARSER.parse(f"{{{{ {value} }}}}" if key in CONDITIONS and "{{" not in value else value)


def reads(value: Any) -> Counter:
    """Return how often each variable is read by templates and conditions, with the filter next to it or ""."""
    found: Counter = Counter()
    for tree in expressions(value):
        found.update((node.name, "") for node in tree.find_all(nodes.Name) if node.ctx == "load")
        for node in tree.find_all(nodes.Filter):
            if isinstance(node.node, nodes.Name):
                found[node.node.name, node.name] += 1
                found[node.node.name, ""] -= 1
    return found


def tasks(entries: list[dict]) -> Iterator[dict]:
    """Yield tasks, also those in blocks."""
    for entry in entries:
        yield entry
        for part in ("block", "rescue", "always"):
            yield from tasks(entry.get(part, []))


def task(role: str, file: str, name: str) -> dict:
    """Return a task of a role by its name.

    Raises:
        KeyError: there is none of that name.
    """
    for entry in tasks(load(f"roles/{role}/tasks/{file}")):
        if entry.get("name") == name:
            return entry
    raise KeyError(f"roles/{role}/tasks/{file} has no task '{name}'")
