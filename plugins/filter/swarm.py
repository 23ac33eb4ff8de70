"""Filters for the stack of a Swarm, its secrets and its registry."""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils import stack_swarm
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.stack_files import new_secret
from ansible.module_utils.stack_manager import node_address


def swarm_stack(rendered: str, files: list[dict], checks: list[dict], options: dict[str, Any]) -> dict[str, Any]:
    """Return the stack of one host as the stack of a Swarm.

    Args:
        rendered: the Compose file.
        files: those beside it, as the module ``config_tree`` takes them.
        checks: commands that check them.
        options: those of ``stack_swarm.SwarmOptions``.

    Returns:
        ``files`` with the stack file among them, ``checks`` of them, and ``losses``, a sentence for all that a Swarm lacks.
    """
    model = yaml_load(rendered.encode())
    own = stack_swarm.own_files(files, model)
    conversion = stack_swarm.Conversion(model, own, stack_swarm.SwarmOptions(**options))
    try:
        result = conversion.result()
    except stack_swarm.SwarmError as error:
        raise AnsibleFilterError(str(error)) from None
    stack_file = "# Written by the playbook: docker-compose.yml.j2, converted.\n" + yaml.safe_dump(
        json.loads(json.dumps(result)), sort_keys=False, allow_unicode=True, width=1000
    )
    config = {
        "name": "docker-stack.yml",
        "paths": [""],
        "argv": ["docker", "stack", "config", "--compose-file", "{tree}/docker-stack.yml"],
    }
    return {
        "files": [*own, {"path": "docker-stack.yml", "content": stack_file}],
        "checks": [config, *({**check, "argv": stack_swarm.checks(check["argv"], model)} for check in checks)],
        "losses": stack_swarm.losses(conversion.dropped),
    }


def swarm_pages(rendered: str) -> list[dict[str, Any]]:
    """Return the pages of a rendered Compose file for loopback: ``name``, ``port``, and ``address`` in the stack."""
    return stack_swarm.pages(yaml_load(rendered.encode()))


def swarm_object(content: str, stack: str, path: str) -> str:
    """Return the name of a config or secret of a Swarm, which changes with its content."""
    return stack_swarm.object_name(stack, path, content)


def file_contents(lines: list[str]) -> dict[str, str]:
    """Return what files hold, by path, from lines with a path and the content in base64."""
    return {path: base64.b64decode(content).decode() for path, _, content in (line.partition(" ") for line in lines)}


def known_secrets(files: list[dict], secrets: dict[str, str], present: dict[str, str]) -> dict[str, dict]:
    """Return what secret files hold, or shall hold where there is none yet.

    Args:
        files: those of the stack, as the module ``config_tree`` takes them.
        secrets: secrets by name; an empty value means generate one and keep it.
        present: what those that are there hold, by path.

    Returns:
        ``given``, the secrets for ``config_tree``, and ``contents``, what is held by name of a secret or else by path.
    """
    contents: dict[str, str] = {}
    for file in files:
        path, name = file["path"], file.get("secret")
        if name:
            contents[name] = contents.get(name) or present.get(path) or secrets.get(name) or new_secret()
        elif "secret_content" in file:
            contents[path] = file["secret_content"] or present.get(path, "")
    # One that is given is compared with the one that is in use.
    return {"given": {name: secrets[name] or contents[name] for name in secrets}, "contents": contents}


def registry_account(user: str, password: str, known: str) -> str:
    """Return the line of a htpasswd file for an account: the known one if it says the same, since each new one differs."""
    import bcrypt

    name, _, hashed = known.strip().partition(":")
    if name == user and hashed and bcrypt.checkpw(password.encode(), hashed.encode()):
        return known
    # Each question to the registry costs it that time.
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=10)).decode()}\n"


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "file_contents": file_contents,
            "known_secrets": known_secrets,
            "registry_account": registry_account,
            "swarm_address": node_address,
            "swarm_object": swarm_object,
            "swarm_pages": swarm_pages,
            "swarm_stack": swarm_stack,
        }
