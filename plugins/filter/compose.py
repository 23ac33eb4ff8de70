"""Filters for what a service of Compose is given, and for what runs of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.stack_compose import condition
from ansible.module_utils.stack_settings import as_text, mount_source

# Sets the umask, which is its first argument, and becomes the rest.
UMASK = 'umask "$0"; exec "$@"'
# That of every container.
USUAL_UMASK = "0022"


def compose_value(value: Any) -> str:
    """Return ``value`` as YAML of one line in which Compose substitutes nothing.

    JSON is YAML, and a doubled ``$`` is how Compose writes a literal one.
    """
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")


def compose_environment(values: dict[str, Any]) -> str:
    """Return environment variables for Compose, each as text; true and false in lower case."""
    return compose_value({key: as_text(value) for key, value in values.items()})


def within_host(limits: dict[str, Any], cpus: int) -> dict[str, Any]:
    """Return limits that the engine accepts: it refuses a share of more processors than the host has."""
    if float(limits.get("cpus", 0)) <= cpus:
        return limits
    return {**limits, "cpus": f"{cpus:.1f}"}


def stack_mounts(mounts: list[dict[str, Any]], project: str, read_only: bool = True) -> list[dict[str, Any]]:
    """Return bind mounts of Compose, ``read_only`` unless they say otherwise; none is created by the engine."""
    return [
        {
            "type": "bind",
            "source": mount_source(mount["source"], project),
            "target": mount["target"],
            "read_only": bool(mount.get("read_only", read_only)),
            "bind": {"create_host_path": False},
        }
        for mount in mounts
    ]


def application_service(
    settings: dict[str, Any], start: dict[str, list[str]], developer: dict[str, Any], project: str
) -> dict[str, Any]:
    """Return what Compose is told of the service of a tier, beside its image.

    Args:
        settings: ``source`` of the code, empty if none is built, and its ``source_target`` in the image; ``command`` and
            ``user`` instead of the image's own; ``init``, ``read_only``, ``tmpfs``, ``capabilities`` and ``mounts``.
        start: ``entrypoint`` and ``command`` of its image.
        developer: what the module ``stack_preflight`` found; empty if the service is not in development.
        project: the checkout, where relative paths start.

    Returns:
        ``options`` of the service, ``volumes``, and variables that development adds to its ``environment``.
    """
    user, entrypoint, command = settings["user"], [], settings["command"]
    mounts, environment = settings["mounts"], {}
    if developer:
        user = developer["user"]
        # Nobody in the image has that number, so nobody has a home there.
        environment = {"APP_MODE": "development", "HOME": "/tmp"}  # noqa: S108 (in the container)
        if settings["source"] and settings["source_target"]:
            code = {"source": settings["source"], "target": settings["source_target"], "read_only": False}
            mounts = [code, *mounts]
        if start["entrypoint"] + start["command"] and developer["umask"] != USUAL_UMASK:
            entrypoint = ["/bin/sh", "-c", UMASK, developer["umask"], *start["entrypoint"]]
            command = command or start["command"]
    options = {
        "user": user,
        "group_add": [str(group) for group in developer.get("groups", [])],
        "entrypoint": entrypoint,
        "command": command,
        "init": settings["init"] and not is_init(start),
    }
    return {
        "options": {
            **{key: value for key, value in options.items() if value},
            "read_only": settings["read_only"],
            "tmpfs": settings["tmpfs"],
            "cap_add": settings["capabilities"],
        },
        "volumes": stack_mounts(mounts, project, not developer),
        "environment": environment,
    }


def is_init(start: dict[str, Any]) -> bool:
    """Tell whether an image starts an init that has to be process 1 (s6-overlay's /init, systemd).

    Args:
        start: ``entrypoint`` and ``command`` of the image.
    """
    program = next(iter([*start["entrypoint"], *start["command"]]), "")
    return program in ("/init", "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/usr/sbin/init")


def containers_complete(rendered: str, host: dict[str, Any]) -> bool:
    """Tell whether each service has its containers, healthy where that is checked, on its networks and on no other.

    Args:
        rendered: the Compose file.
        host: what the preflight found: containers of the project, and networks with the containers on them.
    """
    stack = yaml_load(rendered.encode())
    wanted = {
        (service, frozenset(definition["networks"])): definition.get("deploy", {}).get("replicas", 1)
        for service, definition in stack["services"].items()
    }
    found = Counter(
        (
            container["service"],
            frozenset(name for name, network in host["networks"].items() if container["name"] in network["containers"]),
        )
        for container in host["containers"]
        if condition(container) == "well"
    )
    return found == wanted and len(host["containers"]) == found.total() and set(host["networks"]) <= set(stack["networks"])


def fewer_replicas(running: dict[str, int], replicas: dict[str, int]) -> list[str]:
    """Return a sentence for each service whose replicas a run removes.

    Args:
        running: how many containers run, by service.
        replicas: how many there shall be, by service.
    """
    return [
        f"{service}_replicas: {running[service]} run, {number} is set: this run removes {running[service] - number}. A value"
        " of -e is for one run; put a lasting one into group_vars or your inventory."
        for service, number in replicas.items()
        if running.get(service, 0) > number
    ]


def as_they_run(services: list[dict[str, Any]], replicas: dict[str, int]) -> list[dict[str, Any]]:
    """Return services for ``compose_rollout`` with as many replicas as there are, judged and listening as they were."""
    return [{**service, "replicas": replicas[service["name"]], "first": 0, "port": 0} for service in services]


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "application_service": application_service,
            "as_they_run": as_they_run,
            "compose_value": compose_value,
            "compose_environment": compose_environment,
            "within_host": within_host,
            "containers_complete": containers_complete,
            "fewer_replicas": fewer_replicas,
        }
