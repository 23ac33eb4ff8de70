"""Containers of a Compose project as the engine lists them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

# What the engine tells of a network or volume: its id, its name, and whose it is.
OWNER = (
    '{{{{json .{0}}}}},{{{{json .Name}}}},{{{{json (.Label "com.docker.compose.project")}}}},'
    '{{{{json (.Label "com.docker.stack.namespace")}}}},{{{{json (.Label "webstack.recovery")}}}}'
)
# Networks and volumes of the template, without the stack's name.
NAMES = (
    *(
        "database",
        "metrics",
        "grafana",
        "alerts",
        "edge",
        "frontend",
        "middle",
        "backend",
        "data",
        "db-exporter",
        "monitoring",
    ),
    *("fe-lb-metrics", "be-lb-metrics", "db-metrics", "container-metrics", "docker-api"),
)


def filters(project: str) -> list[str]:
    """Return the options of ``docker ps`` for the containers of a project's services.

    Those that somebody has started with ``docker compose run`` are that person's.
    """
    labels = (f"project={project}", "oneoff=False")
    return [f"--filter=label=com.docker.compose.{label}" for label in labels]


def list_command(project: str) -> list[str]:
    """Return the command that lists every container of a project's services; ``read_list`` reads its output."""
    return ["docker", "ps", "--all", "--no-trunc", "--format", "{{json .}}", *filters(project)]


def read_list(output: str) -> list[dict]:
    """Return each container: name, service, image, project's folder, digest of the configuration, state, status, ports."""
    containers = []
    for line in output.splitlines():
        fields = json.loads(line)
        labels = dict(label.partition("=")[::2] for label in fields["Labels"].split(","))
        containers.append(
            {
                "id": fields["ID"],
                "name": fields["Names"],
                "service": labels.get("com.docker.compose.service", ""),
                "image": fields["Image"],
                "directory": labels.get("com.docker.compose.project.working_dir", ""),
                "hash": labels.get("com.docker.compose.config-hash", ""),
                "state": fields["State"],
                "status": fields["Status"],
                "ports": fields["Ports"],
            }
        )
    return containers


def owned(output: str, stack: str) -> tuple[list[dict], list[dict]]:
    """Return id, name and project of the networks or volumes of a stack, and of those that only have names like them."""
    own, foreign = [], []
    for line in output.splitlines():
        identity, name, *owners = (json.loads(f"[{line}]") + [""] * 5)[:5]
        if stack in owners:
            own.append({"id": identity, "name": name, "project": owners[0]})
        elif name.removeprefix(f"{stack}_") in NAMES and name.startswith(f"{stack}_"):
            foreign.append({"id": identity, "name": name, "project": owners[0]})
    return own, foreign


def strangers(containers: list[dict], stack_dir: Path) -> list[str]:
    """Return the folders from which other projects of the same name have started containers."""
    # The engine's list separates labels by commas, so that of a folder with one in its name the beginning is told.
    mine = str(stack_dir).partition(",")[0]
    folders = {container["directory"] for container in containers} - {"", mine}
    return sorted(folder for folder in folders if os.path.realpath(folder) != mine)


def read_images(output: str) -> dict[str, dict]:
    """Return id, user, labels, entry point and command of images by each of their names, from ``docker image inspect``."""
    images = {}
    for image in json.loads(output):
        settings = image["Config"] or {}
        for reference in (image["RepoTags"] or []) + (image["RepoDigests"] or []):
            images[reference] = {
                "id": image["Id"],
                "user": settings.get("User") or "",
                "labels": settings.get("Labels") or {},
                "entrypoint": settings.get("Entrypoint") or [],
                "command": settings.get("Cmd") or [],
            }
    return images


def condition(container: dict) -> str:
    """Return whether a container of ``read_list`` is ``well`` (as far as that is checked), ``starting`` or ``troubled``."""
    if container["state"] == "running":
        if "(health: starting)" in container["status"]:
            return "starting"
        return "troubled" if "(unhealthy)" in container["status"] else "well"
    return "starting" if container["state"] == "created" else "troubled"


def outdated_services(containers: list[dict], digests: str) -> list[str]:
    """Return the services of which a container is not what is rendered.

    Args:
        containers: from ``read_list``.
        digests: output of ``docker compose config --hash *`` for the rendered file.
    """
    wanted = dict(line.split() for line in digests.splitlines() if line.strip())
    # The engine lists a container by its image's id once the image's name has gone over to another one.
    moved = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
    return sorted({c["service"] for c in containers if wanted.get(c["service"]) != c["hash"] or moved.fullmatch(c["image"])})
