"""Containers of a Compose project as the engine lists them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

# What the engine tells of a network or volume: its id, its name, and whose it is.
OWNER = (
    '{{{{json .{0}}}}},{{{{json .Name}}}},{{{{json (.Label "com.docker.compose.project")}}}},'
    '{{{{json (.Label "com.docker.stack.namespace")}}}},{{{{json (.Label "webstack.recovery")}}}}'
)
# Setting that limits the containers of a service, of those that are neither load balancers nor part of monitoring; and of
# monitoring's own those that have more.
LIMITS = {"fe": "fe_limits", "be": "be_limits", "db": "database_limits", "db-proxy": "lb_limits"} | dict.fromkeys(
    ("prometheus", "grafana", "cadvisor"), "monitoring_prometheus_limits"
)
# Exit code of the database's start.sh if its data is incomplete (EX_CONFIG of sysexits.h).
HOPELESS = 78


def engine_problem(errors: str) -> str:
    """Return why the engine does not answer and what to do, from what Docker's client says."""
    refused = re.search(r"(?i)permission denied.*unix://(/[^\s:]+)", errors)
    if refused:
        return (
            f"This user may not use the engine ({refused[1]}): run `sudo usermod -aG docker $USER` and log in again, or let"
            " `make up` (playbooks/bootstrap.yml) do it."
        )
    why = (errors.strip().splitlines() or ["no reason given"])[-1]
    return f"The engine does not answer ({why}); start it, or install one with playbooks/bootstrap.yml."


def run(*argv: str) -> str:
    """Return what a command of Docker's client prints (OSError: it failed; the text says why, and what to do)."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(engine_problem(done.stderr))
    return done.stdout


def compose(project: str, root: Path, file: str) -> list[str]:
    """Return the beginning of a command of Compose for a file in the folder of a stack (``-``: standard input)."""
    path = file if file == "-" else str(root / file)
    return ["docker", "compose", "--project-name", project, "--project-directory", str(root), "--file", path]


def listed(project: str) -> list[dict]:
    """Return every container of a project's services, as ``read_list`` does (OSError: see ``run``)."""
    return read_list(run(*list_command(project)))


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
    """Return each container: name, image, state, status, ports; project and its folder, service and its digest."""
    containers = []
    for line in output.splitlines():
        fields = json.loads(line)
        labels = dict(label.partition("=")[::2] for label in fields["Labels"].split(","))
        containers.append(
            {
                "id": fields["ID"],
                "name": fields["Names"],
                "project": labels.get("com.docker.compose.project", ""),
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


def read_ports(text: str) -> list[dict]:
    """Return ``address``, ``port`` and ``protocol`` of what a container publishes, from a column of ``docker ps``."""
    found = []
    # 127.0.0.1:8443->8443/udp, [::1]:80->8080/tcp, :::80->8080/tcp, 0.0.0.0:8080-8081->8080-8081/tcp; not 9000/tcp.
    for item in text.split(", "):
        match = re.fullmatch(r"(.*):(\d+)(?:-(\d+))?->.*/(\w+)", item)
        if match:
            address = match[1].strip("[]")
            ports = range(int(match[2]), int(match[3] or match[2]) + 1)
            found += [{"address": address, "port": port, "protocol": match[4]} for port in ports]
    return found


def read_published(output: str) -> list[dict]:
    """Return what all containers of the engine publish, with ``container``, ``project`` and ``service`` of each.

    Args:
        output: of ``docker ps --format '{{json .}}'``.
    """
    return [
        {"container": item["name"], "project": item["project"], "service": item["service"], **port}
        for item in read_list(output)
        for port in read_ports(item["ports"])
    ]


def owned(output: str, stack: str, names: Collection[str] = ()) -> tuple[list[dict], list[dict]]:
    """Return id, name and project of the networks or volumes of a stack, and of those that only have names like them.

    Args:
        output: of the engine's list in the format ``OWNER``.
        stack: its name.
        names: of networks and volumes that a stack may have, without its own name.
    """
    own, foreign = [], []
    for line in output.splitlines():
        identity, name, *owners = (json.loads(f"[{line}]") + [""] * 5)[:5]
        if stack in owners:
            own.append({"id": identity, "name": name, "project": owners[0]})
        elif name in {f"{stack}_{item}" for item in names}:
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


def killed(service: str, inspected: dict) -> str:
    """Return that a container was killed for memory and which setting gives it that, from ``docker inspect``; or nothing."""
    state, memory = inspected["State"], inspected["HostConfig"].get("Memory", 0)
    setting = LIMITS.get(service, "lb_limits" if service.endswith("-lb") else "monitoring_limits")
    limit = f"{setting}.memory is {written_size(memory)}" if memory else "it has no limit, so the host has no memory left"
    if state.get("OOMKilled"):
        return f"was killed for memory ({limit})"
    # 128 and the number of SIGKILL; not every kernel tells the engine why.
    return f"was killed with exit code 137, most likely for memory ({limit})" if state.get("ExitCode") == 137 else ""


def written_size(number: int) -> str:
    """Return an amount of memory as settings write it (``256M``)."""
    power, unit = next((item for item in ((2**30, "G"), (2**20, "M"), (2**10, "K")) if number >= item[0]), (1, ""))
    return f"{number / power:.4g}{unit}"


def hopeless(service: str, exit_code: int) -> bool:
    """Tell whether a service has ended in a way that no further start can mend: ``start.sh`` of the database says so."""
    return service == "db" and exit_code == HOPELESS


def exit_code(container: dict) -> int:
    """Return the code with which a container of ``read_list`` has ended last; 0 if it runs."""
    match = re.match(r"(?:Restarting|Exited) \((\d+)\)", container["status"])
    return int(match[1]) if match else 0


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
