"""The stack of one host as a stack of Docker Swarm: pure functions of what the template has rendered.

The template stays the one page that shows the architecture; what differs in a Swarm follows from it by rule, and from what
each service says of itself under ``x-swarm``. A service listens on a name that one of its networks alone knows
(``frontend.fe``). A Swarm tells such a name only once the container is healthy, and then for all replicas together, so here
the container finds its address by the range of the network (``files/task.sh``), and the name in what the service is told
becomes a mark for that address.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.stack_rollout import batch_size
from ansible.module_utils.stack_settings import parse_duration

# Where a container finds the script that starts it.
TASK = "/webstack/task.sh"
TASK_FILE = "swarm/task.sh"
# Networks that no name stands for: traffic from outside comes in through a bridge of each node.
OUTSIDE = "OUTSIDE"
# A Swarm takes no larger object (swarmkit, api/validation: 1000 KiB for configs, 500 KiB for secrets).
LARGEST = {"configs": 1000 * 1024, "secrets": 500 * 1024}
NAME_LENGTH = 64
# What a service of the Compose file says of itself for a Swarm.
EXTENSION = "x-swarm"
LOOPBACK = "127.0.0.1"
# What a Swarm's services do not have, and what becomes of it.
DROPPED = {
    "security_opt": "no-new-privileges and the profile of system calls (seccomp_profile) are the engine's own there:"
    " set them for each engine in its daemon.json",
    "annotations": "a changed profile of system calls reaches no container by itself",
    "userns_mode": "users of containers are those that the engine of the node maps them to",
    "privileged": "a container of a Swarm has no rights beyond those that are listed; cAdvisor tells less without",
    "group_add": "further groups of a container; its first one becomes the group it runs as",
    "bind_address": "published on every address of each node that runs it; only a firewall of the node closes it",
}


class SwarmError(ValueError):
    """It cannot be a stack of a Swarm; the text names the setting and says what to do."""


@dataclass
class Placement:
    """What a service says under ``x-swarm``.

    Args:
        everywhere: one task runs on each node, and a change replaces all of them at once.
        node: it runs on nodes with this label of the stack alone: ``database``, ``edge`` or ``monitoring``.
        per_node: at most so many tasks on one node; 0: any number.
        replicas: how many tasks, instead of ``deploy.replicas``.
        batch: a change starts so many new tasks (number or share) before it ends as many old ones, which first go on serving
            for a while. Empty: the old task ends before the new one starts.
        drains: its program goes on serving for a while by itself before it ends.
        failure: what becomes of a change that fails: ``rollback`` or ``pause``.
        needs: an address that it cannot serve without, in which ``{NAME}`` is a variable of its environment.
        port: port that has to listen before a task counts as healthy, where neither service nor image has a health check.
        loopback: its ports are for loopback of its node, where ``console-proxy-of-node`` publishes them.
        local: folders that it reads on its node, instead of copies as objects of the Swarm.
        environment: variables that it has in a Swarm alone.
        volumes: mounts that it has in a Swarm alone.
        networks_left: networks that it is not on in a Swarm.
    """

    everywhere: bool = False
    node: str = ""
    per_node: int = 0
    replicas: int = 0
    batch: str = ""
    drains: bool = False
    failure: str = "rollback"
    needs: str = ""
    port: int = 0
    loopback: bool = False
    local: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    volumes: list[dict] = field(default_factory=list)
    networks_left: list[str] = field(default_factory=list)


def placement(service: dict) -> Placement:
    """Return what a service says of itself for a Swarm."""
    return Placement(**service.get(EXTENSION) or {})


@dataclass
class SwarmOptions:
    """What the settings say of the Swarm, and what is known of its nodes and images.

    Args:
        stack: name of the stack.
        directory: its folder on each manager.
        subnets: address range of each network.
        images: name in the registry of each image that the Compose file names.
        starts: ``entrypoint`` and ``command`` of each such image, and whether it has a ``healthcheck``.
        drain: seconds that a task goes on serving after it was told to end.
        labels: label of nodes for each value of ``Placement.node``; empty: every node.
        secrets: content of each secret and secret file.
    """

    stack: str
    directory: str
    subnets: dict[str, str]
    images: dict[str, str]
    starts: dict[str, dict]
    drain: int
    labels: dict[str, str]
    secrets: dict[str, str] = field(repr=False, default_factory=dict)


def variable(network: str) -> str:
    """Return the name of the variable that holds a container's address on a network."""
    return re.sub(r"[^A-Z0-9]", "_", network.upper())


def aliases(name: str, service: dict, networks: dict[str, dict]) -> dict[str, str]:
    """Return the names that stand for the service's own addresses, and the variables of those addresses."""
    found = {}
    outside = bool(service.get("ports")) and not placement(service).loopback
    for network, details in (service.get("networks") or {}).items():
        for alias in (details or {}).get("aliases", []):
            if alias == f"{alias.partition('.')[0]}.{name}":
                published = outside and not networks[network].get("internal")
                found[alias] = OUTSIDE if published else variable(network)
    return found


def replaced(value: Any, names: dict[str, str], shape: str) -> Any:
    """Return a value in which each own name is the mark of its address, as ``shape`` writes it."""
    if isinstance(value, str):
        for name, address in names.items():
            value = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", shape.format(address), value)
        return value
    if isinstance(value, list):
        return [replaced(item, names, shape) for item in value]
    if isinstance(value, dict):
        return {key: replaced(item, names, shape) for key, item in value.items()}
    return value


def own_files(files: list[dict], model: dict) -> list[dict]:
    """Return the files as they are written for a Swarm: HAProxy's configurations bind to variables."""
    result = []
    for item in files:
        service = item["path"].partition("/")[0]
        if item["path"].endswith("haproxy.cfg") and service in model["services"]:
            names = aliases(service, model["services"][service], model["networks"])
            item = {**item, "content": replaced(item["content"], names, '"${{{}}}"')}
        result.append(item)
    return result


def object_name(content: str, stack: str, path: str) -> str:
    """Return a name that changes with the content: objects of a Swarm are never changed, only replaced."""
    text = hashlib.sha256(f"{path}\0{content}".encode()).hexdigest()[:12]
    name = f"{stack}_{text}_{re.sub(r'[^A-Za-z0-9.-]', '-', path.rpartition('/')[2])}"
    return name[:NAME_LENGTH].rstrip(".-_")


def needed(address: str, environment: dict[str, str]) -> str:
    """Return host and port of what a replica cannot serve without, or nothing where its environment does not say it."""
    try:
        url = urllib.parse.urlsplit(address.format(**environment))
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    except (KeyError, ValueError):
        return ""
    return f"{url.hostname}:{port}" if url.hostname and port else ""


def pages(model: dict) -> list[dict]:
    """Return the pages that are for loopback: ``name`` and ``port``, and by which ``address`` the stack knows each."""
    found = []
    for name, service in model["services"].items():
        if not placement(service).loopback:
            continue
        known = [alias for details in service["networks"].values() for alias in (details or {}).get("aliases", [])]
        found += [
            {"name": name, "port": int(port["published"]), "address": f"{next(iter(known), name)}:{port['target']}"}
            for port in service.get("ports") or []
        ]
    return found


class Conversion:
    """Turns the model of one host into that of a Swarm."""

    def __init__(self, model: dict, files: list[dict], options: SwarmOptions) -> None:
        """Prepare to convert what the template has rendered; ``files`` are those beside it."""
        self.model, self.files, self.options = model, {item["path"]: item for item in files}, options
        self.objects: dict[str, dict[str, dict]] = {"configs": {}, "secrets": {}}
        self.dropped: dict[str, list[str]] = {}

    def object(self, path: str, target: str) -> tuple[str, dict]:
        """Return the kind of object that a file becomes, and how a service refers to it.

        Raises:
            SwarmError: it is too large for the Swarm.
        """
        item = self.files[path]
        kind = "configs" if item.get("content") is not None else "secrets"
        held = item.get("content")
        if held is None:
            held = item.get("secret_content") or self.options.secrets[item.get("secret") or item["path"]]
        if len(held.encode()) > LARGEST[kind]:
            raise SwarmError(f"{path}: a Swarm takes no file of {len(held.encode()) // 1024} KiB; make it smaller.")
        name = object_name(held, self.options.stack, path)
        self.objects[kind][name] = {"name": name, "file": f"./{path}"}
        mode = int(item.get("mode") or ("0644" if kind == "configs" else "0400"), 8)
        owner, group = (str(item.get(key) or 0) for key in ("owner", "group"))
        return kind, {"source": name, "target": target, "uid": owner, "gid": group, "mode": mode}

    def mounts(self, service: dict) -> Iterator[tuple[str, dict]]:
        """Return what a service mounts: files of the stack as objects, what it writes there in memory."""
        for mount in service.get("volumes") or []:
            source = str(mount.get("source", ""))
            if mount["type"] != "bind" or not source.startswith("./"):
                yield "volumes", {key: value for key, value in mount.items() if key != "bind"}
                continue
            folder = source[2:]
            if not mount.get("read_only"):
                yield "volumes", {"type": "tmpfs", "target": mount["target"]}
            elif source in placement(service).local:
                kept = {"source": f"{self.options.directory}/{folder}", "target": mount["target"], "read_only": True}
                yield "volumes", {"type": "bind", **kept}
            else:
                for path in sorted(path for path in self.files if path.startswith(f"{folder}/")):
                    yield self.object(path, f"{mount['target']}/{path[len(folder) + 1 :]}")
        for folder in service.get("tmpfs") or []:
            yield "volumes", {"type": "tmpfs", "target": str(folder).partition(":")[0]}
        for secret in service.get("secrets") or []:
            yield self.object(self.model["secrets"][secret["source"]]["file"][2:], secret["target"])

    def start(self, service: dict, names: dict[str, str], known: dict) -> dict:
        """Return entry point and command of a service that needs to know its addresses, or waits before it ends.

        Args:
            service: what the Compose file says of it.
            names: its own names, with the variables of their addresses.
            known: what its image starts.
        """
        batch = placement(service).batch
        entrypoint = service.get("entrypoint") or known["entrypoint"]
        # As the engine does it: another entry point leaves the image's command out.
        command = service.get("command") or ([] if service.get("entrypoint") else known["command"])
        # Its configuration binds to its names.
        balancer = command[:2] == ["haproxy", "-S"]
        told = json.dumps([service.get(key) for key in ("command", "entrypoint", "environment", "volumes")])
        if not batch and not any(balancer or name in told for name in names):
            return {}
        if balancer:
            # Nobody reloads it there: another configuration is another container.
            command = [command[0], *command[3:]]
        how = f"drain={self.options.drain}" if batch else "exec"
        return {
            "entrypoint": ["/bin/sh", TASK, how, *(replaced(entrypoint, names, "@{}@"))],
            "command": replaced(command, names, "@{}@"),
        }

    def deploy(self, service: dict) -> dict:
        """Return how a Swarm runs a service: where, how many, and how it changes."""
        swarm, found = placement(service), dict(service.get("deploy") or {})
        found["endpoint_mode"] = "dnsrr"
        found["restart_policy"] = {"condition": "any", "delay": "1s"}
        change: dict[str, Any] = {"order": "stop-first", "failure_action": swarm.failure, "monitor": "5s"}
        if swarm.everywhere:
            change["parallelism"] = 0
            found["mode"] = "global"
            found.pop("replicas", None)
        else:
            found["replicas"] = swarm.replicas or found.get("replicas", 1)
        if swarm.batch:
            change["order"] = "start-first"
            change["parallelism"] = batch_size(swarm.batch, found["replicas"])
        places: dict[str, Any] = {"max_replicas_per_node": swarm.per_node} if swarm.per_node else {}
        if swarm.node and self.options.labels[swarm.node]:
            places["constraints"] = [f"node.labels.{self.options.labels[swarm.node]} == true"]
        if places:
            found["placement"] = places
        found["update_config"] = change
        found["rollback_config"] = {key: value for key, value in change.items() if key in ("order", "parallelism")}
        return found

    def ports(self, name: str, service: dict) -> list[dict]:
        """Return the ports that each node of a service publishes; a Swarm knows no address to publish on."""
        kept = []
        for port in [] if placement(service).loopback else service["ports"]:
            if port.get("host_ip") not in (None, "0.0.0.0"):  # noqa: S104 (is it that?)
                self.dropped.setdefault("bind_address", []).append(name)
            item = {key: value for key, value in port.items() if key != "host_ip"}
            kept.append({**item, "published": int(item["published"])})
        return kept

    def healthcheck(self, service: dict, names: dict[str, str], known: dict) -> dict | None:
        """Return the health check of a service that ``task.sh`` starts; the arguments are those of ``start``."""
        check, port = service.get("healthcheck"), placement(service).port
        if check and check["test"][0] == "CMD" and LOOPBACK not in str(check["test"]):
            return {**check, "test": ["CMD", "/bin/sh", TASK, "exec", *replaced(check["test"][1:], names, "@{}@")]}
        if check or not port or known.get("healthcheck"):
            return check
        # A change goes on when a new replica is healthy, so each has to have a check; whether it serves, the load balancer
        # finds out.
        test = ["CMD", "/bin/sh", TASK, f"listens={port}"]
        return {"test": test, "interval": "15s", "timeout": "5s", "start_period": "60s", "start_interval": "1s"}

    def service(self, name: str, service: dict) -> dict:
        """Return a service as a Swarm has it."""
        swarm = placement(service)
        service = {key: value for key, value in service.items() if key != "restart"}
        service["networks"] = {key: value for key, value in service["networks"].items() if key not in swarm.networks_left}
        service["volumes"] = [*(service.get("volumes") or []), *swarm.volumes]
        service["environment"] = {**(service.get("environment") or {}), **swarm.environment}
        names = aliases(name, service, self.model["networks"])
        if groups := service.get("group_add"):
            service["user"] = f"{str(service['user']).partition(':')[0]}:{groups[0]}"
        known = self.options.starts.get(service["image"]) or {"entrypoint": [], "command": []}
        start = self.start(service, names, known)
        service |= start
        service["image"] = self.options.images.get(service["image"], service["image"])
        environment = replaced(service["environment"], names, "@{}@")
        if start:
            environment["NETWORKS"] = " ".join(f"{variable(key)}={self.options.subnets[key]}" for key in service["networks"])
            if needs := needed(swarm.needs, environment):
                environment["NEEDS"] = needs
            service["healthcheck"] = self.healthcheck(service, names, known)
        service["environment"] = environment
        parts: dict[str, list] = {"volumes": [], "configs": [], "secrets": []}
        for kind, item in [*self.mounts(service), *([self.object(TASK_FILE, TASK)] if start else [])]:
            parts[kind].append(item)
        for key in DROPPED:
            if service.pop(key, None):
                self.dropped.setdefault(key, []).append(name)
        service["deploy"] = self.deploy(service)
        if "ports" in service:
            service["ports"] = self.ports(name, service)
        if swarm.batch or swarm.drains:
            service["stop_grace_period"] = f"{parse_duration(service['stop_grace_period']) + self.options.drain}s"
        for key in ("tmpfs", EXTENSION, *parts):
            service.pop(key, None)
        service |= parts
        return {key: value for key, value in service.items() if value not in ([], {}, None)}

    def result(self) -> dict:
        """Return the file for ``docker stack deploy``."""
        services = {name: self.service(name, service) for name, service in self.model["services"].items()}
        networks = {
            name: network if network.get("external") else {"external": True, "name": f"{self.options.stack}_{name}"}
            for name, network in self.model["networks"].items()
        }
        return {"services": services, "networks": networks, "volumes": self.model.get("volumes") or {}, **self.objects}


def checks(argv: list[str], model: dict) -> list[str]:
    """Return a command that checks a configuration: names that it binds to are variables there."""
    names: dict[str, str] = {}
    for name, service in model["services"].items():
        names |= aliases(name, service, model["networks"])
    result = []
    for argument in argv:
        match = re.fullmatch(r"--add-host=([^:]+):(.*)", argument)
        known = match and names.get(match[1])
        result.append(f"--env={known}={match[2]}" if match and known else argument)
    return result


def losses(dropped: dict[str, list[str]]) -> list[str]:
    """Return a sentence for everything that the Swarm cannot give."""
    return [f"{key} ({', '.join(services)}): {DROPPED[key]}." for key, services in dropped.items()]
