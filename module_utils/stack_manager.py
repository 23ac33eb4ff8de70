"""What a manager of a Swarm says of a running stack, and of the nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Label by which a Swarm knows what belongs to a stack.
NAMESPACE = "com.docker.stack.namespace"
ENDED = ("failed", "rejected", "orphaned")


@dataclass
class Service:
    """A service of a stack and those of its tasks that the present definition has made, or that shall run."""

    name: str
    image: str
    wanted: int
    tasks: list[dict]
    updating: str
    # No node that answers may run it: the one that keeps its data is lost.
    homeless: bool = False

    @property
    def running(self) -> int:
        """How many tasks of the present definition run on nodes that answer."""
        return sum(task["runs"] and task["current"] for task in self.tasks)

    @property
    def leaving(self) -> int:
        """How many tasks of earlier definitions still run."""
        return sum(task["runs"] and not task["current"] for task in self.tasks)

    @property
    def failed(self) -> list[dict]:
        """The tasks that have ended by themselves, the newest first."""
        return sorted((t for t in self.tasks if t["state"] in ENDED), key=lambda task: task["at"], reverse=True)

    @property
    def rolled_back(self) -> bool:
        """Whether the last change of the service was taken back, or is being taken back."""
        return self.updating.startswith("rollback") or self.updating == "paused"

    @property
    def forgotten(self) -> bool:
        """Whether a task waits for a node that the scheduler looks for no more."""
        return any(task["forgotten"] for task in self.tasks)

    @property
    def without_port(self) -> list[tuple[str, int]]:
        """Addresses and ports of nodes (TCP) that a task shall have and of which the managers do not know."""
        return [place for task in self.tasks if task["runs"] for place in task["lacking"]]


# Parts of a definition that the engine tells of a service alone.
OF_SERVICES = ("Runtime", "StopGracePeriod", "Isolation")


def comparable(spec: Any) -> Any:
    """Return a definition without what is empty or told of services alone: the same of a service and of its tasks."""
    if isinstance(spec, dict):
        found = {key: comparable(value) for key, value in spec.items() if key not in OF_SERVICES}
        return {key: value for key, value in found.items() if value not in (None, {}, [], "", False)}
    return [comparable(item) for item in spec] if isinstance(spec, list) else spec


def node_address(node: dict) -> str:
    """Return the address by which others reach a node."""
    manager = (node.get("ManagerStatus") or {}).get("Addr", "").rpartition(":")[0]
    return manager or node.get("Status", {}).get("Addr", "")


def read_task(task: dict, service: dict, nodes: dict[str, dict]) -> dict:
    """Return what matters of a task."""
    node = nodes.get(task.get("NodeID", ""), {})
    answers = node.get("Status", {}).get("State") == "ready"
    status = task["Status"]
    published = [p for p in service["Spec"].get("EndpointSpec", {}).get("Ports") or [] if p.get("PublishMode") == "host"]
    address = node_address(node)
    has = {port.get("PublishedPort") for port in (status.get("PortStatus") or {}).get("Ports") or []}
    current = comparable(task["Spec"]) == comparable(service["Spec"]["TaskTemplate"])
    waits = status["State"] == "pending" and task["DesiredState"] in ("ready", "running")
    return {
        "id": task["ID"],
        "node": node.get("Description", {}).get("Hostname", ""),
        "state": status["State"],
        "at": status["Timestamp"],
        "error": status.get("Err", ""),
        "runs": status["State"] == "running" and task["DesiredState"] == "running" and answers,
        "current": current,
        # Each deployment gives services another version, and the scheduler tries tasks of the present version alone
        # (noSuitableNode in swarmkit); where nothing else has changed, nobody replaces those of the one before.
        "forgotten": waits and current and task["CreatedAt"].rstrip("Z") < service["UpdatedAt"].rstrip("Z"),
        "lacking": [
            (address, port["PublishedPort"])
            for port in published
            if port["PublishedPort"] not in has and port.get("Protocol") == "tcp"
        ],
    }


def read_services(stack: str, details: list[dict], tasks: list[dict], nodes: dict[str, dict]) -> list[Service]:
    """Return the services of a stack from what ``inspect`` says of them, of their tasks and of all nodes, by id."""
    services = []
    for item in details:
        spec = item["Spec"]
        mine = [read_task(task, item, nodes) for task in tasks if task["ServiceID"] == item["ID"]]
        labels = [text.partition("==") for text in spec["TaskTemplate"].get("Placement", {}).get("Constraints") or []]
        places = sum(node["Status"]["State"] == "ready" and fits(node, labels) for node in nodes.values())
        wanted = places if "Global" in spec["Mode"] else spec["Mode"]["Replicated"]["Replicas"]
        if limit := spec["TaskTemplate"].get("Placement", {}).get("MaxReplicas", 0):
            # Where nodes are lost, those that are left run as many as they can.
            wanted = min(wanted, limit * places)
        services.append(
            Service(
                spec["Name"].removeprefix(f"{stack}_"),
                spec["TaskTemplate"]["ContainerSpec"]["Image"].partition("@")[0],
                wanted,
                mine,
                (item.get("UpdateStatus") or {}).get("State", ""),
                not places,
            )
        )
    return services


def fits(node: dict, labels: list[tuple[str, str, str]]) -> bool:
    """Tell whether a node may run tasks that have constraints on labels of nodes."""
    own = node["Spec"].get("Labels") or {}
    wanted = {name.strip().removeprefix("node.labels."): value.strip() for name, _, value in labels}
    return node["Spec"]["Availability"] == "active" and all(own.get(name) == value for name, value in wanted.items())


def troubles(services: list[Service]) -> list[Service]:
    """Return the services that are not as they shall be."""
    return [s for s in services if s.running != s.wanted or s.leaving or s.updating == "updating"]


def references(details: list[dict]) -> set[str]:
    """Return the names of the configs and secrets that services refer to, or would return to."""
    used = set()
    for item in details:
        for spec in (item["Spec"], item.get("PreviousSpec") or {}):
            container = spec.get("TaskTemplate", {}).get("ContainerSpec", {})
            used |= {entry["ConfigName"] for entry in container.get("Configs") or []}
            used |= {entry["SecretName"] for entry in container.get("Secrets") or []}
    return used


def describe_nodes(nodes: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Return a line for each node, and a sentence for each one that is not there."""
    lines, problems = [], []
    for node in sorted(nodes.values(), key=lambda item: (item["Spec"]["Role"], item["Description"]["Hostname"])):
        name, state, manager = node["Description"]["Hostname"], node["Status"]["State"], node.get("ManagerStatus") or {}
        role = "leader" if manager.get("Leader") else node["Spec"]["Role"]
        labels = sorted(node["Spec"].get("Labels") or {})
        parts = [label.split(".")[1] for label in labels if re.match(r"webstack\.\w+\.", label)]
        has = f", {' and '.join(parts)}" if parts else ""
        lines.append(f"{name}: {role}, {state}, {node['Spec']['Availability']}{has}")
        if state != "ready" or manager.get("Reachability", "reachable") != "reachable":
            how = state if state != "ready" else manager["Reachability"]
            problems.append(f"{name} is {how}: bring it back, or remove it (docs/scaling.md).")
    managers = [node["ManagerStatus"]["Reachability"] for node in nodes.values() if node.get("ManagerStatus")]
    left = managers.count("reachable") - len(managers) // 2 - 1
    if len(managers) > 1 and left < 1:
        problems.append("If one more manager is lost, the Swarm cannot be changed.")
    return lines, problems


def describe_services(services: list[Service]) -> tuple[list[str], list[str]]:
    """Return a line for each service, and a sentence for each one that is not as it shall be."""
    lines, problems = [], []
    for service in services:
        nodes = sorted(task["node"] for task in service.tasks if task["runs"])
        change = f", {service.updating}" if service.updating not in ("", "completed") else ""
        lines.append(f"{service.name}: {service.running} of {service.wanted} on {', '.join(nodes) or 'no node'}{change}")
        if service.running < service.wanted:
            reason = next((f" ({task['error']})" for task in service.failed if task["error"]), "")
            problems.append(f"{service.name}: {service.wanted - service.running} missing{reason}.")
    return lines, problems


# Lines of a task's output that are shown.
LINES = 12


class Manager:
    """Asks a manager about a stack.

    Args:
        run: runs a command given as a list and returns its code, output and errors.
        stack: name of the stack.
    """

    def __init__(self, run: Callable[[list[str]], tuple[int, str, str]], stack: str) -> None:
        """Ask for a stack."""
        self.run, self.stack = run, stack

    def inspect(self, *argv: str) -> list[dict]:
        """Return what ``docker ... inspect`` prints, without what has just gone."""
        output = self.run(["docker", *argv])[1]
        return json.loads(output) if output.startswith("[") else []

    def names(self, kind: str) -> list[str]:
        """Return the names of the stack's objects of a kind."""
        label = f"label={NAMESPACE}={self.stack}"
        return self.run(["docker", kind, "ls", "--filter", label, "--format", "{{.Name}}"])[1].split()

    def nodes(self) -> dict[str, dict]:
        """Return all nodes by their ids."""
        ids = self.run(["docker", "node", "ls", "--quiet"])[1].split()
        return {node["ID"]: node for node in self.inspect("node", "inspect", *ids)} if ids else {}

    def look(self) -> tuple[list[Service], list[dict], dict[str, dict]]:
        """Return the services with their tasks, what the engine says of the services, and all nodes."""
        nodes, names = self.nodes(), self.names("service")
        if not names:
            return [], [], nodes
        details = self.inspect("service", "inspect", *names)
        ids = self.run(["docker", "service", "ps", "--quiet", "--no-trunc", *names])[1].split()
        tasks = self.inspect("inspect", "--type", "task", *ids) if ids else []
        return read_services(self.stack, details, tasks, nodes), details, nodes

    def logs(self, task: str) -> list[str]:
        """Return the last lines that a task has printed."""
        command = ["timeout", "10", "docker", "service", "logs", "--raw", "--tail", str(LINES), task]
        code, output, errors = self.run(command)
        return (output + errors).splitlines()[-LINES:] if code == 0 else []
