"""Filters for the stack of a Swarm, its secrets and its registry, and for the nodes, their labels and their networks."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils import stack_swarm
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.stack_files import new_secret
from ansible.module_utils.stack_manager import node_address

# What the engine of a manager says whose Swarm has lost too many managers.
WITHOUT_QUORUM = re.compile("leader|quorum|deadline")
# Exit code of timeout(1).
TIMEOUT = 124


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


def nodes_by_host(nodes: list[dict]) -> dict[str, dict]:
    """Return nodes by their names in the inventory, or by their ids where it has none for them."""
    return {(node["Spec"].get("Labels") or {}).get("webstack.host", node["ID"]): node for node in nodes}


def label_holders(nodes: dict[str, dict]) -> dict[str, list[str]]:
    """Return the hosts that have each label.

    Args:
        nodes: from ``nodes_by_host``.
    """
    holders: dict[str, list[str]] = {}
    for host, node in nodes.items():
        for label in node["Spec"].get("Labels") or {}:
            holders.setdefault(label, []).append(host)
    return holders


def labels_wrong(places: dict[str, list], holders: dict[str, list], nodes: dict[str, dict]) -> list[dict[str, Any]]:
    """Return ``host``, ``node`` and ``label`` of each label that a node lacks (``present`` is true) or has wrongly.

    Args:
        places: hosts that shall have each label.
        holders: from ``label_holders``.
        nodes: from ``nodes_by_host``.
    """
    wrong = []
    for label, hosts in places.items():
        found = holders.get(label, [])
        for present, differing in (
            (True, [h for h in hosts if h not in found]),
            (False, [h for h in found if h not in hosts]),
        ):
            wrong += [{"host": host, "node": nodes[host]["ID"], "label": label, "present": present} for host in differing]
    return wrong


def nodes_labelled(holders: dict[str, list], labels: list[str]) -> list[list[str]]:
    """Return a host and a label for each host that has one of ``labels``; ``holders`` are from ``label_holders``."""
    return [[host, label] for label in labels for host in holders.get(label, [])]


def swarm_formed(asked: list[dict]) -> bool:
    """Tell whether managers belong to a Swarm, even one that has lost its quorum, from what they said of their nodes.

    Args:
        asked: results of a command, empty ones of managers that could not be asked.
    """
    return any(item.get("rc") in (0, TIMEOUT) or WITHOUT_QUORUM.search(item.get("stderr", "")) for item in asked)


def swarm_controllers(hosts: list[str], answers: list[str]) -> list[str]:
    """Return the hosts whose engine can change the Swarm; ``answers`` are theirs to ``docker info``, or empty."""
    told = (json.loads(answer or "{}") for answer in answers)
    return [host for host, swarm in zip(hosts, told, strict=True) if swarm.get("ControlAvailable")]


def network_ranges(found: list[dict], stack: str) -> dict[str, str]:
    """Return the address range of each network of a stack that has one; ``found`` is what the engine tells of them."""
    return {
        network["Name"].removeprefix(f"{stack}_"): network["IPAM"]["Config"][0]["Subnet"]
        for network in found
        if network["IPAM"]["Config"]
    }


def networks_refused(
    found: list[dict], stack: str, definitions: dict[str, dict], subnets: dict[str, str], encrypted: bool
) -> list[str]:
    """Return in what networks that exist differ from what is wanted.

    Args:
        found: what the engine tells of them.
        stack: whose they are.
        definitions: by name, whether they are ``internal``.
        subnets: the ranges that are given, by name.
        encrypted: whether what goes from host to host is.
    """
    problems, ranges = [], network_ranges(found, stack)
    for network in found:
        name = network["Name"].removeprefix(f"{stack}_")
        if name not in definitions:
            continue
        if subnets.get(name) and ranges.get(name, subnets[name]) != subnets[name]:
            problems.append(f"network_subnets: {name} has the range {ranges[name]}")
        if encrypted != ("encrypted" in (network["Options"] or {})):
            problems.append(f"swarm_encrypted: {name} is {'not ' if encrypted else ''}encrypted")
        if bool(definitions[name]["internal"]) != network["Internal"]:
            problems.append(f"The network {name} is {'' if network['Internal'] else 'not '}internal")
    return problems


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "file_contents": file_contents,
            "known_secrets": known_secrets,
            "label_holders": label_holders,
            "labels_wrong": labels_wrong,
            "network_ranges": network_ranges,
            "networks_refused": networks_refused,
            "nodes_by_host": nodes_by_host,
            "nodes_labelled": nodes_labelled,
            "registry_account": registry_account,
            "swarm_address": node_address,
            "swarm_controllers": swarm_controllers,
            "swarm_formed": swarm_formed,
            "swarm_object": stack_swarm.object_name,
            "swarm_pages": swarm_pages,
            "swarm_stack": swarm_stack,
        }
