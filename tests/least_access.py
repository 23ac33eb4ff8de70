"""The rule of least access, as a list of what breaks it: for tests and for the audit.

A rule looks at what ``docker inspect`` says of a container; the exceptions are those that a setting of the
deployment declares (``fe_read_only``, ``be_capabilities``, ``bind_address`` …).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# Which networks a service is on, and nobody else is; and the ports that it publishes, but for those of the application on
# loopback whatever the settings say. Beside the access matrix, which says who may talk to whom there.
_SERVICES = yaml.safe_load(Path(__file__).with_name("access_matrix.yml").read_text(encoding="utf-8"))["services"]
NETWORKS = {name: set(service["networks"]) for name, service in _SERVICES.items()}
PUBLISHED = {name: set(service["published"]) for name, service in _SERVICES.items() if "published" in service}
# Networks that are not internal: three publish ports, and from one alerts are sent.
OPEN = {"edge", "db-proxy", "monitoring", "alerts"}
LOOPBACK = "127.0.0.1"


def identity(container: dict) -> tuple[str, str]:
    """Return the project and the service of a container."""
    labels = container["Config"]["Labels"]
    return labels["com.docker.compose.project"], labels["com.docker.compose.service"]


def user(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say whether it runs as root."""
    name = container["Config"]["User"].split(":")[0]
    if name in ("", "0", "root"):
        yield f"runs as root (user '{name}')"


def file_system(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say whether its root file system is writable, unless a setting says so."""
    if not container["HostConfig"]["ReadonlyRootfs"] and settings.get(f"{identity(container)[1]}_read_only", True):
        yield "has a writable root file system"


def capabilities(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say which capabilities it has beyond those of the settings, and whether it may gain any."""
    host = container["HostConfig"]
    if host["Privileged"]:
        yield "is privileged"
    if host["CapDrop"] != ["ALL"]:
        yield f"keeps capabilities (drops only {host['CapDrop']})"
    allowed = {name.removeprefix("CAP_") for name in settings.get(f"{identity(container)[1]}_capabilities", [])}
    for name in sorted({name.removeprefix("CAP_") for name in host["CapAdd"] or []} - allowed):
        yield f"has the capability {name}"
    options = host["SecurityOpt"] or []
    if "no-new-privileges:true" not in options:
        yield "may gain privileges (no-new-privileges is not set)"
    own = settings.get("seccomp_profile", "") != ""
    if "seccomp=unconfined" in options or (own and not any(option.startswith("seccomp={") for option in options)):
        yield "may make system calls beyond seccomp_profile"


def limits(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say which limits are missing."""
    host = container["HostConfig"]
    for name, value in (("memory", host["Memory"]), ("CPU", host["NanoCpus"]), ("process", host["PidsLimit"])):
        if not value or value < 0:
            yield f"has no {name} limit"
    if host["LogConfig"]["Config"].get("max-size") is None:
        yield "has a log without a limit"


def namespaces(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say which namespaces of the host or of others it shares."""
    host = container["HostConfig"]
    for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode", "NetworkMode"):
        if host[name].startswith(("host", "container:")):
            yield f"shares a namespace: {name} {host[name]}"


def mounts(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say what is mounted that must not be: the engine's socket, and writable folders that are not its own."""
    service = identity(container)[1]
    own = {"/run/haproxy"} if service in ("fe-lb", "be-lb") else set()
    own |= {mount["target"] for mount in settings.get(f"{service}_mounts", []) if not mount.get("read_only", True)}
    for mount in container["Mounts"]:
        if mount["Source"].rpartition("/")[2] in ("docker.sock", "containerd.sock"):
            if service != "docker-api":
                yield f"mounts the engine's socket {mount['Source']}"
        elif mount["Type"] == "bind" and mount["RW"] and mount["Destination"] not in own:
            yield f"can write to {mount['Source']} of the host"
    if service == "db":
        volumes = [m["Name"] for m in container["Mounts"] if m["Destination"] == "/var/lib/mysql" and m["Type"] == "volume"]
        if volumes != [f"{identity(container)[0]}_database"]:
            yield f"keeps its data in {volumes or 'no volume'}, not in the volume {identity(container)[0]}_database"


def networks(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say on which networks it is too many, or is not."""
    project, service = identity(container)
    found = {name.removeprefix(f"{project}_") for name in container["NetworkSettings"]["Networks"]}
    for name in sorted(found - NETWORKS[service]):
        yield f"is on the network {name} as well"
    for name in sorted(NETWORKS[service] - found):
        yield f"is not on the network {name}"


def published(container: dict, settings: dict[str, Any]) -> Iterator[str]:
    """Say which ports it publishes that it must not, or on which other address than bind_address."""
    service = identity(container)[1]
    wanted = PUBLISHED.get(service, set())
    address = settings["bind_address"] if service == "fe-lb" else LOOPBACK
    for port, bindings in (container["HostConfig"]["PortBindings"] or {}).items():
        for binding in bindings or []:
            if port not in wanted:
                yield f"publishes port {port}"
            elif binding["HostIp"] != address:
                yield f"publishes port {port} on {binding['HostIp'] or 'every address'}, not on {address}"


RULES = {
    "runs as an ordinary user": user,
    "has a read-only root file system": file_system,
    "has no capabilities and can gain none": capabilities,
    "is limited in memory, CPU, processes and log": limits,
    "shares no namespace with the host": namespaces,
    "mounts only what it needs": mounts,
    "is on its own networks alone": networks,
    "publishes only what it has to": published,
}


def violations(container: dict, settings: dict[str, Any]) -> list[str]:
    """Return a sentence for everything by which a container has more access than it needs."""
    name = container["Name"].lstrip("/")
    return [f"{name} {sentence}" for rule in RULES.values() for sentence in rule(container, settings)]
