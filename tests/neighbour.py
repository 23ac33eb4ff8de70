"""Another Compose project that runs beside the tests and has to be untouched at their end.

``COMPOSE_PROJECT_NAME`` says its name to everything that the tests start, as in the shell of somebody who works on it.
"""

from __future__ import annotations

import json

from stack import run

NAME = "neighbour"
# As the tests' own platform builds it.
IMAGE = "webstack/python:3.14-debian"
CONTENT = "what somebody else has stored"
PROJECT = f"""
name: {NAME}
services:
  app:
    image: {IMAGE}
    command: [sleep, infinity]
    init: true
    volumes: ["data:/data"]
    networks: [inner]
volumes: {{data: }}
networks: {{inner: }}
"""


def start() -> dict[str, object]:
    """Start the project, which stores something in its volume; return its state."""
    compose("up", "--detach", "--wait")
    compose("exec", "--no-TTY", "app", "sh", "-c", f"echo {CONTENT} >/data/file")
    return state()


def compose(*argv: str) -> str:
    """Run Compose on the project; return what it printed."""
    return run("docker", "compose", "--project-name", NAME, "--file", "-", *argv, input=PROJECT).stdout


def state() -> dict[str, object]:
    """Return when each of the project's containers was started, its volumes and networks, and what it has stored.

    Without containers nobody can tell what is stored, so that is empty.
    """
    own = f"label=com.docker.compose.project={NAME}"
    found: dict[str, object] = {}
    for kind, key in (("container", "Id"), ("volume", "CreatedAt"), ("network", "Id")):
        listed = run("docker", kind, "ls", *(["--all"] if kind == "container" else []), "--quiet", "--filter", own).stdout
        items = json.loads(run("docker", kind, "inspect", *listed.split()).stdout) if listed else []
        found[kind] = sorted((item["Name"], item[key], item.get("State", {}).get("StartedAt", "")) for item in items)
    found["stored"] = compose("exec", "--no-TTY", "app", "cat", "/data/file") if found["container"] else ""
    return found


def remove() -> None:
    """Remove the project with all that it has."""
    compose("down", "--volumes", "--timeout", "0")
