"""Containers of a Compose project as the engine lists them."""

from __future__ import annotations

import json


def list_command(project: str) -> list[str]:
    """Return the command that lists every container of a project; ``read_list`` reads its output."""
    return [
        *("docker", "ps", "--all", "--no-trunc", "--format", "{{json .}}"),
        *("--filter", f"label=com.docker.compose.project={project}"),
    ]


def read_list(output: str) -> list[dict]:
    """Return name, service, image, state, status and published ports of each container in a list."""
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
                "state": fields["State"],
                "status": fields["Status"],
                "ports": fields["Ports"],
            }
        )
    return containers
