"""The stack of one host as a stack of Docker Swarm: pure functions of what the template has rendered.

The template stays the one page that shows the architecture; what differs in a Swarm follows from it by rule. A service
listens on a name that one of its networks alone knows (``frontend.fe``). A Swarm tells such a name only once the container
is healthy, and then for all replicas together, so here the container finds its address by the range of the network
(``files/task.sh``), and the name in what the service is told becomes a mark for that address.
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
# The user of the image haproxy.
HAPROXY = 99
# Services whose replicas a change replaces without downtime: new ones first, and each waits before it ends.
DRAINED = ("fe", "be", "be-lb")
# What such a replica cannot serve without, by the variable that tells it where that is.
NEEDS = {"fe": "{BACKEND_URL}", "be": "tcp://{DATABASE_HOST}:{DATABASE_PORT}"}
# One on every node.
EVERYWHERE = ("docker-api", "container-exporter", "cadvisor")
# They keep data or publish a port on loopback: always on the node with the label.
MONITORING = ("prometheus", "console", "alertmanager", "grafana", "door", "door-of-node")
# What a Swarm's services do not have, and what becomes of it.
DROPPED = {
    "security_opt": "no-new-privileges and the profile of system calls (seccomp_profile) are the engine's own there:"
    " set them for each engine in its daemon.json",
    "annotations": "a changed profile of system calls reaches no container by itself",
    "userns_mode": "users of containers are those that the engine of the node maps them to",
    "privileged": "a container of a Swarm has no rights beyond those that are listed; cAdvisor tells less without",
    "group_add": "further groups of a container; its first one becomes the group it runs as",
}


class SwarmError(ValueError):
    """It cannot be a stack of a Swarm; the text names the setting and says what to do."""


@dataclass
class Wishes:
    """What the settings say of the Swarm."""

    stack: str
    directory: str
    subnets: dict[str, str]
    images: dict[str, str]
    drain: int
    batches: dict[str, str]
    starts: dict[str, dict]
    edge_label: str
    database_label: str
    monitoring_label: str
    replicas: dict[str, int]
    ports: dict[str, int]
    secrets: dict[str, str] = field(repr=False, default_factory=dict)


def variable(network: str) -> str:
    """Return the name of the variable that holds a container's address on a network."""
    return re.sub(r"[^A-Z0-9]", "_", network.upper())


def aliases(name: str, service: dict, networks: dict[str, dict]) -> dict[str, str]:
    """Return the names that stand for the service's own addresses, and the variables of those addresses."""
    found = {}
    outside = bool(service.get("ports")) and name not in MONITORING
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


def object_name(stack: str, path: str, content: str) -> str:
    """Return a name that changes with the content: objects of a Swarm are never changed, only replaced."""
    text = hashlib.sha256(f"{path}\0{content}".encode()).hexdigest()[:12]
    name = f"{stack}_{text}_{re.sub(r'[^A-Za-z0-9.-]', '-', path.rpartition('/')[2])}"
    return name[:NAME_LENGTH].rstrip(".-_")


def needed(name: str, environment: dict[str, str]) -> str:
    """Return host and port of what a replica cannot serve without, or nothing where its environment does not say it."""
    try:
        address = urllib.parse.urlsplit(NEEDS.get(name, "").format(**environment))
        port = address.port or {"http": 80, "https": 443}.get(address.scheme)
    except (KeyError, ValueError):
        return ""
    return f"{address.hostname}:{port}" if address.hostname and port else ""


class Conversion:
    """Turns the model of one host into that of a Swarm."""

    def __init__(self, model: dict, files: list[dict], wishes: Wishes) -> None:
        """Prepare to convert what the template has rendered; ``files`` are those beside it."""
        self.model, self.files, self.wishes = model, {item["path"]: item for item in files}, wishes
        self.objects: dict[str, dict[str, dict]] = {"configs": {}, "secrets": {}}
        self.dropped: dict[str, list[str]] = {}

    def content(self, item: dict) -> tuple[str, str]:
        """Return the kind of object that a file becomes, and what it holds.

        Raises:
            SwarmError: it is too large for the Swarm.
        """
        kind = "configs" if item.get("content") is not None else "secrets"
        held = item.get("content")
        if held is None:
            held = item.get("secret_content") or self.wishes.secrets[item.get("secret") or item["path"]]
        if len(held.encode()) > LARGEST[kind]:
            raise SwarmError(f"{item['path']}: a Swarm takes no file of {len(held.encode()) // 1024} KiB; make it smaller.")
        return kind, held

    def object(self, path: str, target: str) -> tuple[str, dict]:
        """Return the kind of object that a file becomes, and how a service refers to it."""
        item = self.files[path]
        kind, held = self.content(item)
        name = object_name(self.wishes.stack, path, held)
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
            elif folder == "db/dumps":
                # They can be large, and only the node of the database needs them.
                yield (
                    "volumes",
                    {
                        "type": "bind",
                        "source": f"{self.wishes.directory}/{folder}",
                        "target": mount["target"],
                        "read_only": True,
                    },
                )
            else:
                for path in sorted(path for path in self.files if path.startswith(f"{folder}/")):
                    yield self.object(path, f"{mount['target']}/{path[len(folder) + 1 :]}")
        for folder in service.get("tmpfs") or []:
            yield "volumes", {"type": "tmpfs", "target": str(folder).partition(":")[0]}
        for secret in service.get("secrets") or []:
            file = self.model["secrets"][secret["source"]]["file"][2:]
            yield self.object(file, secret["target"])

    def start(self, name: str, service: dict, names: dict[str, str]) -> dict:
        """Return entry point and command of a service that needs to know its addresses, or waits before it ends."""
        drained = name in DRAINED
        told = json.dumps([service.get(key) for key in ("command", "entrypoint", "environment", "volumes")])
        needs = drained or any(alias in told for alias in names) or name in ("fe-lb", "be-lb")
        if not needs or not (names or drained):
            return {}
        known = self.wishes.starts.get(name) or {"entrypoint": [], "command": []}
        entrypoint = service.get("entrypoint") or known["entrypoint"]
        # As the engine does it: another entry point leaves the image's command out.
        command = service.get("command") or ([] if service.get("entrypoint") else known["command"])
        if "-S" in command and name in ("fe-lb", "be-lb"):
            # Nobody reloads it there: another configuration is another container.
            place = command.index("-S")
            command = command[:place] + command[place + 2 :]
        how = f"drain={self.wishes.drain}" if drained else "exec"
        return {
            "entrypoint": ["/bin/sh", TASK, how, *(replaced(entrypoint, names, "@{}@"))],
            "command": replaced(command, names, "@{}@"),
        }

    def deploy(self, name: str, service: dict) -> dict:
        """Return how a Swarm runs a service: where, how many, and how it changes."""
        wishes, found = self.wishes, dict(service.get("deploy") or {})
        found["endpoint_mode"] = "dnsrr"
        found["restart_policy"] = {"condition": "any", "delay": "1s"}
        replicas = wishes.replicas.get(name, found.get("replicas", 1))
        constraints = []
        change: dict[str, Any] = {"order": "stop-first", "failure_action": "rollback", "monitor": "5s"}
        if name in EVERYWHERE:
            # All at once: nobody waits for them.
            change["parallelism"] = 0
            found["mode"] = "global"
            found.pop("replicas", None)
        else:
            found["replicas"] = replicas
        if name in DRAINED:
            change["order"] = "start-first"
            change["parallelism"] = batch_size(wishes.batches.get(name, "1"), replicas)
        if name == "fe-lb":
            # A port of a node is there once.
            found["placement"] = {"max_replicas_per_node": 1}
            if wishes.edge_label:
                constraints.append(wishes.edge_label)
        if name == "db":
            constraints.append(wishes.database_label)
            # An older server may not open what a newer one has written.
            change["failure_action"] = "pause"
        if name in MONITORING:
            constraints.append(wishes.monitoring_label)
        if constraints:
            found.setdefault("placement", {})["constraints"] = [f"node.labels.{label} == true" for label in constraints]
        found["update_config"] = change
        found["rollback_config"] = {key: value for key, value in change.items() if key in ("order", "parallelism")}
        return found

    def drop(self, name: str, service: dict) -> None:
        """Note what a service loses in a Swarm."""
        for key in DROPPED:
            if service.pop(key, None):
                self.dropped.setdefault(key, []).append(name)

    def ports(self, name: str, service: dict) -> list[dict]:
        """Return the ports that each node of a service publishes; a Swarm knows no address to publish on."""
        kept = []
        for port in service.get("ports") or []:
            address = port.get("host_ip")
            if address == "127.0.0.1" and name in MONITORING:
                # What leads there from loopback is the service door-of-node.
                continue
            if address not in (None, "0.0.0.0"):  # noqa: S104 (is it that?)
                self.dropped.setdefault("bind_address", []).append(name)
            item = {key: value for key, value in port.items() if key != "host_ip"}
            kept.append({**item, "published": int(item["published"])})
        return kept

    def service(self, name: str, service: dict) -> dict:
        """Return a service as a Swarm has it."""
        service = {key: value for key, value in service.items() if key not in ("restart",)}
        names = aliases(name, service, self.model["networks"])
        if groups := service.get("group_add"):
            service["user"] = f"{str(service['user']).partition(':')[0]}:{groups[0]}"
        service |= self.start(name, service, names)
        service["image"] = self.wishes.images.get(service["image"], service["image"])
        environment = replaced(service.get("environment") or {}, names, "@{}@")
        wrapped = TASK in (service.get("entrypoint") or [])
        if wrapped:
            subnets = self.wishes.subnets
            environment["NETWORKS"] = " ".join(f"{variable(key)}={subnets[key]}" for key in service["networks"])
            if needs := needed(name, environment):
                environment["NEEDS"] = needs
        if environment:
            service["environment"] = environment
        check = service.get("healthcheck")
        if wrapped and check and check["test"][0] == "CMD" and "127.0.0.1" not in str(check["test"]):
            test = ["CMD", "/bin/sh", TASK, "exec", *replaced(check["test"][1:], names, "@{}@")]
            service["healthcheck"] = {**check, "test": test}
        elif wrapped and not check and name in self.wishes.ports and not self.wishes.starts[name].get("healthcheck"):
            # A change goes on when a new replica is healthy, so each has to have a check; whether it serves, the load
            # balancer finds out.
            test = ["CMD", "/bin/sh", TASK, f"listens={self.wishes.ports[name]}"]
            service["healthcheck"] = {
                "test": test,
                "interval": "15s",
                "timeout": "5s",
                "start_period": "60s",
                "start_interval": "1s",
            }
        parts: dict[str, list] = {"volumes": [], "configs": [], "secrets": []}
        for kind, item in self.mounts(service):
            parts[kind].append(item)
        if wrapped:
            kind, item = self.object(TASK_FILE, TASK)
            parts[kind].append(item)
        self.drop(name, service)
        service["deploy"] = self.deploy(name, service)
        if "ports" in service:
            service["ports"] = self.ports(name, service)
        if name in (*DRAINED, "fe-lb"):
            # The edge waits by itself (grace of HAProxy), the others in front of their program.
            service["stop_grace_period"] = f"{parse_duration(service['stop_grace_period']) + self.wishes.drain}s"
        for key in ("tmpfs", *parts):
            service.pop(key, None)
        service |= parts
        return {key: value for key, value in service.items() if value not in ([], {}, None)}

    def monitored(self) -> dict[str, dict]:
        """Return the services of one host with what monitoring needs on several: a way to each engine, and to loopback."""
        services = {name: dict(service) for name, service in self.model["services"].items()}
        if "console" not in services:
            return services
        interface, exporter = services["docker-api"], services["container-exporter"]
        shared = {"type": "volume", "source": "docker-api", "target": "/run/docker-api"}
        interface["volumes"] = [*interface["volumes"], shared]
        exporter["volumes"] = [*exporter["volumes"], {**shared, "read_only": True}]
        address = {"NODE": "{{.Node.Hostname}}", "DOCKER_HOST": "unix:///run/docker-api/api.sock"}
        exporter["environment"] = {**exporter["environment"], **address}
        # It needs no network for that any more.
        exporter["networks"] = {key: value for key, value in exporter["networks"].items() if key != "docker-api"}
        common = {key: interface[key] for key in ("image", "user", "read_only", "cap_drop", "logging", "command", "deploy")}
        ports = [p["published"] for name in MONITORING if name in services for p in services[name].get("ports") or []]
        for door, networks in (("door", {"monitoring": None}), ("door-of-node", {"host": None})):
            config = {"type": "bind", "source": f"./{door}", "target": "/usr/local/etc/haproxy", "read_only": True}
            volume = {"type": "volume", "source": "door", "target": "/run/door"}
            services[door] = {**common, "networks": networks, "volumes": [config, volume]}
        probe = " && ".join(f"(: </dev/tcp/127.0.0.1/{port})" for port in ports)
        services["door-of-node"]["healthcheck"] = {
            "test": ["CMD", "bash", "-c", probe],
            "interval": "15s",
            "timeout": "3s",
            "start_period": "30s",
            "start_interval": "1s",
        }
        return services

    def result(self) -> dict:
        """Return the file for ``docker stack deploy``."""
        services = {name: self.service(name, service) for name, service in self.monitored().items()}
        networks = {
            name: network if network.get("external") else {"external": True, "name": f"{self.wishes.stack}_{name}"}
            for name, network in self.model["networks"].items()
        }
        volumes = dict(self.model.get("volumes") or {})
        if "door" in services:
            # Sockets in memory that containers of one node share.
            memory = {"type": "tmpfs", "device": "tmpfs", "o": f"size=1m,uid={HAPROXY},gid={HAPROXY},mode=0711"}
            volumes |= {name: {"driver": "local", "driver_opts": memory} for name in ("docker-api", "door")}
            networks["host"] = {"external": True, "name": "host"}
        return {"services": services, "networks": networks, "volumes": volumes, **self.objects}


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
    lines = []
    for key, services in dropped.items():
        text = DROPPED.get(
            key, "published on every address of each node that runs it; only a firewall of the node closes it"
        )
        lines.append(f"{key} ({', '.join(services)}): {text}.")
    return lines
