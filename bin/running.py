"""Commands of the Makefile that look into a deployment on this machine: logs, shell, mysql, app-test, debug.

``running.py COMMAND SERVICE FOLDER [argument ...]``: which deployment it is, the arguments of `make up` say (ARGS).
FOLDER, that of the rendered files, may be empty: the settings say it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml
from ansible.errors import AnsibleError

PROJECT = Path(__file__).resolve().parents[1]
ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))
from ansible.module_utils import stack_debug  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402

SETTINGS = ("stack_name", "stack_dir", "stack_engine", "debug_port")
# The client of the database as the application's user, who alone needs no password of a person.
MYSQL = 'MYSQL_PWD=$(</run/secrets/database_password) mysql --user="$DATABASE_USER" "$DATABASE_NAME"'
TESTS = ["python", "-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", "."]


def settings(arguments: list[str]) -> dict[str, Any]:
    """Return what the arguments of a playbook make of some settings, and how its only host is reached."""
    from ansible.cli.playbook import PlaybookCLI
    from ansible.plugins.loader import init_plugin_loader
    from ansible.template import Templar

    playbook = PlaybookCLI(["ansible-playbook", "playbooks/site.yml", *arguments])
    playbook.parse()
    init_plugin_loader()
    try:
        loader, inventory, manager = playbook._play_prereqs()
        found = playbook.get_host_list(inventory, ansible.context.CLIARGS["subset"])
        variables = manager.get_vars(host=found[0])
        if len(found) != 1:
            sys.exit(f"The inventory has {len(found)} hosts; give ARGS that name one (--limit {found[0]}).")
        if "stack_name" not in variables:
            sys.exit(f"The settings are not loaded; put a link group_vars -> {PROJECT}/group_vars beside your inventory.")
        templar = Templar(loader, variables)
        values = {name: templar.template(variables[name]) for name in SETTINGS}
        local = templar.template(variables.get("ansible_connection", "")) == "local"
    except AnsibleError as error:
        sys.exit(str(error))
    return {**values, "host": "" if local else found[0].name}


def compose(command: str, folder: Path, host: str) -> tuple[list[str], dict]:
    """Return how Compose is called for the deployment in a folder, and what its file says."""
    file = folder / "docker-compose.yml"
    if host:
        sys.exit(
            f"make {command} is for a stack on this machine, and this one runs on {host}: log in there, and run it there."
        )
    try:
        rendered = yaml.safe_load(file.read_text(encoding="utf-8"))
        name = str(rendered["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        sys.exit(f"There is no deployment in {folder}: run make up, or give make {command} the same ARGS as make up.")
    return ["docker", "compose", "--project-name", name, "--file", str(file)], rendered


def main(command: str, service: str, folder: str, *arguments: str) -> None:
    """Run a command; does not return where it becomes one of Docker's."""
    values = settings(list(arguments))
    if values["stack_engine"] == "swarm":
        sys.exit(f"make {command} is for a single host; in a Swarm use docker service logs {values['stack_name']}_fe.")
    path = Path(folder or values["stack_dir"]).expanduser()
    client, rendered = compose(command, path, values["host"])
    services = list(rendered["services"])
    if service and service not in services:
        sys.exit(f"SERVICE={service} is no service of {rendered['name']}; there are {', '.join(services)}.")
    clean_environment()
    # Compose takes a terminal for granted: echo 'SELECT 1' | make mysql
    terminal = [] if os.isatty(0) else ["--no-TTY"]
    tiers = [name for name in services if f"{name}-lb" in services]
    if command in ("app-test", "debug"):
        if service and service not in tiers:
            sys.exit(f"make {command} is for the application: give {' or '.join(f'SERVICE={name}' for name in tiers)}.")
        if rendered["services"]["fe"]["environment"].get("APP_MODE") != "development":
            sys.exit(f"make {command} needs the code as it is on the disk, so it is for development: run make dev first.")
    if command == "debug":
        sys.exit(stack_debug.debug(client, rendered, path, service or "be", int(values["debug_port"])))
    if command == "app-test":
        run = [*client, "run", "--rm", "--no-deps", "--no-TTY"]
        sys.exit(max(subprocess.call([*run, tier, *TESTS]) for tier in ([service] if service else tiers)))
    umask = os.umask(0o022)
    become = {
        "logs": ["logs", "--follow", "--tail", "50", *([service] if service else [])],
        "shell": ["exec", *terminal, service or "fe", "sh", "-c", f"umask {umask:04o}; exec sh"],
        "mysql": ["exec", *terminal, "db", "bash", "-c", MYSQL],
    }[command]
    os.execvp("docker", [*client, *become])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    os.chdir(PROJECT)
    main(*sys.argv[1:])
