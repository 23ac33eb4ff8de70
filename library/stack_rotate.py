#!/usr/bin/python
"""Give the accounts of a stack's database new passwords, beside the old ones at first."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_rotate
short_description: Give the accounts of a stack's database new passwords, beside the old ones at first
description:
  - C(begin) lets the running server accept a new password of each account beside the present one, and writes the new ones
    into the files of secrets, in place, so that containers see them. It counts the generation of secrets in
    C(state.json), by which M(compose_rollout) knows that containers have to be replaced.
  - C(finish) lets it accept the new ones alone, once everybody has them.
  - A rotation that was interrupted is continued with the passwords that it has begun with.
options:
  path: {type: path, required: true, description: Folder of the rendered files.}
  project: {type: str, required: true, description: Project name of Compose.}
  action: {type: str, choices: [begin, finish], required: true, description: What to do.}
  accounts:
    description: The accounts, each with C(user), C(host), the C(files) of its password in O(path), and C(setting), its name.
    type: list
    elements: dict
    required: true
  given:
    description: Passwords that are given, by the name of the setting; others are generated.
    type: dict
    default: {}
  restart:
    description: Services that read their password at their start and may be away for a moment.
    type: list
    elements: str
    default: []
  lock_timeout: {type: float, default: 180, description: Seconds to wait for another run on the same stack.}
attributes:
  check_mode: {support: full, description: Changes nothing.}
  diff_mode: {support: none, description: Passwords are not shown.}
"""

EXAMPLES = r"""
- name: Let the database accept new passwords
  stack_rotate:
    path: ~/.local/share/webstack
    project: webstack
    action: begin
    accounts:
      - {setting: database_password, user: app, host: "%", files: [secrets/db/database_password]}
"""

RETURN = r"""
generation: {type: int, description: How often the secrets have been replaced.}
"""

import json  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import subprocess  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_compose import listed  # noqa: E402
from ansible.module_utils.stack_files import new_secret, replace  # noqa: E402
from ansible.module_utils.stack_lock import LockError, held  # noqa: E402
from ansible.module_utils.stack_module import RefusalError, running_module  # noqa: E402
from ansible.module_utils.stack_mysql import MysqlError, query, quote  # noqa: E402

# The new passwords, from before the first is accepted until the old ones are not any more.
PLAN = Path("secrets/rotation.json")
STATE = "state.json"
# Whether a password is accepted, asked without showing it: it comes on standard input.
TRY = r"""
read -r password
password=${password//\\/\\\\}
exec mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "${password//\"/\\\"}") --user="$1" "${@:2}" \
    --connect-timeout=5 --execute='SELECT 1'
"""


def write_in_place(path: Path, value: str) -> None:
    """Change the content of a file that stays the same file: one that is mounted is seen in the container only so."""
    with path.open("r+b", buffering=0) as file:
        file.write(value.encode())
        file.truncate()
        os.fsync(file)


def account_name(account: dict) -> str:
    """Return an account as SQL names it."""
    return f"{quote(account['user'])}@{quote(account['host'])}"


def accepted(container: str, account: dict, password: str) -> bool:
    """Tell whether the server accepts a password of an account."""
    # An account of another host than this one is asked for over the network that the server listens on.
    way = [] if account["host"] == "localhost" else ["--protocol=tcp", "--host=127.0.0.1"]
    argv = ["docker", "exec", "--interactive", container, "bash", "-c", TRY, "bash", account["user"], *way]
    return subprocess.run(argv, input=f"{password}\n", capture_output=True, text=True, check=False).returncode == 0


def database(project: str) -> tuple[str, list[dict]]:
    """Return the container of the database, and all containers of the stack (RefusalError: it does not run)."""
    containers = listed(project)
    found = [item["id"] for item in containers if item["service"] == "db" and item["state"] == "running"]
    if not found:
        raise RefusalError(
            "The database does not run, and it has to accept the new passwords first; run playbooks/site.yml."
        )
    return found[0], containers


def make_plan(root: Path, accounts: list[dict], given: dict[str, str], state: dict) -> dict:
    """Return the new passwords and the generation that they are.

    Raises:
        RefusalError: a given password is the one that is in use.
    """
    values = {}
    for account in accounts:
        name = account["setting"]
        present = (root / account["files"][0]).read_text(encoding="utf-8")
        if given.get(name) == present:
            raise RefusalError(f"{name}: the settings give the password that is in use; give a new one and run this again.")
        values[name] = given.get(name) or new_secret()
    return {"generation": state.get("secrets", 0) + 1, "passwords": values}


def begin(root: Path, parameters: dict, check: bool) -> dict:
    """Let old and new passwords be accepted.

    Raises:
        RefusalError, MysqlError: the text says why not; a run that follows continues.
    """
    container, _ = database(parameters["project"])
    state = json.loads((root / STATE).read_text(encoding="utf-8"))
    if (root / PLAN).exists():
        plan = json.loads((root / PLAN).read_text(encoding="utf-8"))
    else:
        plan = make_plan(root, parameters["accounts"], parameters["given"], state)
    if check:
        return {"changed": True, "generation": plan["generation"]}
    replace(root / PLAN, json.dumps(plan), 0o600)
    for account in parameters["accounts"]:
        value = plan["passwords"][account["setting"]]
        # A second time would make the new one the old one.
        if not accepted(container, account, value):
            # A replay of binary logs has its own passwords, those of the files.
            statement = f"ALTER USER {account_name(account)} IDENTIFIED BY {quote(value)} RETAIN CURRENT PASSWORD;"
            query(container, f"SET SESSION sql_log_bin = 0; {statement}")
        for path in account["files"]:
            if (root / path).exists():
                write_in_place(root / path, value)
    if state.get("secrets") != plan["generation"]:
        state["secrets"] = plan["generation"]
        replace(root / STATE, json.dumps(state), stat.S_IMODE((root / STATE).stat().st_mode))
    return {"changed": True, "generation": plan["generation"]}


def finish(root: Path, parameters: dict, check: bool) -> dict:
    """Let the new passwords alone be accepted (RefusalError, MysqlError: the text says why not)."""
    container, containers = database(parameters["project"])
    generation = json.loads((root / STATE).read_text(encoding="utf-8")).get("secrets", 0)
    if check or not (root / PLAN).exists():
        return {"changed": (root / PLAN).exists(), "generation": generation}
    waiting = [item["id"] for item in containers if item["service"] in parameters["restart"]]
    if waiting:
        subprocess.run(["docker", "restart", *waiting], capture_output=True, check=True)
    statements = [f"ALTER USER {account_name(account)} DISCARD OLD PASSWORD;" for account in parameters["accounts"]]
    query(container, " ".join(["SET SESSION sql_log_bin = 0;", *statements]))
    (root / PLAN).unlink()
    return {"changed": True, "generation": generation}


def main() -> None:
    """Run the module."""
    actions = {"begin": begin, "finish": finish}
    options = {
        "path": {"type": "path", "required": True},
        "project": {"type": "str", "required": True},
        "action": {"type": "str", "choices": sorted(actions), "required": True},
        "accounts": {"type": "list", "elements": "dict", "required": True},
        "given": {"type": "dict", "default": {}, "no_log": True},
        "restart": {"type": "list", "elements": "str", "default": []},
        "lock_timeout": {"type": "float", "default": 180},
    }
    with running_module(options, LockError, subprocess.CalledProcessError) as module:
        root = Path(module.params["path"]).resolve()
        try:
            with held(root, "replaces passwords", module.params["lock_timeout"]):
                result = actions[module.params["action"]](root, module.params, module.check_mode)
        except MysqlError as error:
            module.fail_json(msg=f"The database answers: {error}")
        module.exit_json(**result)


if __name__ == "__main__":
    main()
