"""A stack on Docker Swarm as tests see it: machines that are containers here, each with an engine of its own."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cached_property
from pathlib import Path

import yaml
from ha import Load
from stack import GATE, PROJECT, Answer, Stack, run, wait_until
from stack_manager import NAMESPACE, Manager, Service, troubles

SCENARIO = PROJECT / "molecule/swarm"
# As in molecule.yml: which machines there are.
INVENTORY = SCENARIO / "inventory" / os.environ.get("SWARM_INVENTORY", "hosts.yml")
# Requests per second: machines, stack and load share a few processors, in the gate with another scenario.
RATE = 10 if GATE else 20


class Edge(Stack):
    """The edge of one machine, which can be asked like a stack on a single host."""

    def __init__(self, name: str, address: str) -> None:
        """Ask at the address of a machine."""
        super().__init__(name, [INVENTORY])
        self.address = address

    def port(self, scheme: str) -> int:
        """Return the published port of http or https."""
        return {"http": 8080, "https": 8443}[scheme]


class Swarm(Stack):
    """The deployment of the scenario."""

    def __init__(self, inventory: Path = INVENTORY) -> None:
        """Look at it by the scenario's inventory, or by another one."""
        super().__init__("webstack-test-swarm", [inventory])

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The machines of each group of the inventory."""
        children = yaml.safe_load(INVENTORY.read_text())["all"]["children"]
        return {name: list(group["hosts"]) for name, group in children.items()}

    @property
    def folder(self) -> str:
        """Where the files of the stack are on a manager, for a shell."""
        return f"~/.local/share/{self.name}"

    @property
    def machines(self) -> list[str]:
        """Every machine."""
        return self.groups["managers"] + self.groups["workers"]

    def on(self, machine: str, *argv: str, check: bool = True, **options):
        """Run a command on a machine."""
        command = ("docker", "exec", *(("--interactive",) if "input" in options else ()), f"{self.name}-{machine}")
        return run(*command, *argv, check=check, **options)

    def ip(self, machine: str) -> str:
        """Return the address of a machine."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAMConfig.IPv4Address}}{{end}}"
        return run("docker", "inspect", "--format", template, f"{self.name}-{machine}").stdout.strip()

    def up(self, machine: str) -> bool:
        """Tell whether a machine is switched on."""
        return run("docker", "inspect", "--format", "{{.State.Running}}", f"{self.name}-{machine}").stdout.strip() == "true"

    def manager(self) -> str:
        """Return a manager that can tell about the others."""
        for machine in self.groups["managers"]:
            if self.up(machine) and self.on(machine, "timeout", "10", "docker", "node", "ls", check=False).returncode == 0:
                return machine
        raise AssertionError("no manager answers")

    def ask(self, *argv: str) -> str:
        """Return what the Swarm answers to a command of the client."""
        return self.on(self.manager(), "docker", *argv).stdout

    def nodes(self) -> dict[str, dict]:
        """Return what the Swarm knows of every node, by its id."""
        return {node["ID"]: node for node in json.loads(self.ask("node", "inspect", *self.ask("node", "ls", "-q").split()))}

    def leader(self) -> str:
        """Return the machine that leads."""
        nodes = self.nodes().values()
        return next(node["Description"]["Hostname"] for node in nodes if (node.get("ManagerStatus") or {}).get("Leader"))

    def details(self) -> list[dict]:
        """Return the definitions of the services."""
        names = self.ask("service", "ls", "--quiet", "--filter", f"label={NAMESPACE}={self.name}").split()
        return json.loads(self.ask("service", "inspect", *names))

    def definition(self, service: str) -> dict:
        """Return the definition of a service."""
        return next(item["Spec"] for item in self.details() if item["Spec"]["Name"] == f"{self.name}_{service}")

    def services(self) -> dict[str, Service]:
        """Return the services with their tasks."""
        manager = self.manager()

        def ask(argv: list[str]) -> tuple[int, str, str]:
            done = self.on(manager, *argv, check=False)
            return done.returncode, done.stdout, done.stderr

        return {service.name: service for service in Manager(ask, self.name).look()[0]}

    def places(self, service: str) -> list[str]:
        """Return the machines on which tasks of a service run, one for each task."""
        return sorted(task["node"] for task in self.services()[service].tasks if task["runs"])

    def running(self) -> dict[str, list[dict]]:
        """Return what each engine says of the stack's running containers, by machine."""
        found = {}
        for machine in filter(self.up, self.machines):
            ids = self.on(machine, "docker", "ps", "--quiet", "--filter", f"label={NAMESPACE}={self.name}").stdout.split()
            found[machine] = json.loads(self.on(machine, "docker", "inspect", *ids).stdout) if ids else []
        return found

    def edges(self, *without: str) -> list[str]:
        """Return the machines that serve the application, but some."""
        return [machine for machine in self.places("fe-lb") if machine not in without]

    def edge(self, machine: str) -> Edge:
        """Return the edge of a machine."""
        return Edge(self.name, self.ip(machine))

    def get(self, machine: str, path: str = "/") -> Answer:
        """Send one request to the edge of a machine."""
        return self.edge(machine).request(path=path)

    def load(self, *edges: str) -> Load:
        """Return a load on the edges of some machines, by http on the first and by https on the last."""
        return self.load_on(self.ip(edges[0]), self.ip(edges[-1]))

    def load_on(self, first: str, last: str) -> Load:
        """Return a load on two addresses, by http on the first and by https on the last."""
        return Load(self, RATE, bases=[f"http://{first}:8080", f"https://{last}:8443"])

    def execute(self, service: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the first container of a service, on whichever machine it is."""
        for machine, containers in self.running().items():
            for item in containers:
                if item["Config"]["Labels"]["com.docker.swarm.service.name"] == f"{self.name}_{service}":
                    return self.on(machine, "docker", "exec", item["Id"], *argv, check=check)
        raise AssertionError(f"{service} runs nowhere")

    def page(self, port: int, path: str) -> dict:
        """Return what a page of monitoring answers on loopback of its machine, as JSON."""
        script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
        machine = self.places("prometheus")[0]
        return json.loads(self.on(machine, "python3", "-c", script, f"http://127.0.0.1:{port}{path}").stdout)

    def deploy(self, *arguments: str, check: bool = True):
        """Run the playbook."""
        return self.playbook("site.yml", *arguments, check=check)

    def changed(self, folder: Path, **groups: list[str]) -> Swarm:
        """Return the deployment by an inventory with other machines in some groups; those of no group are left out."""
        described = yaml.safe_load(INVENTORY.read_text())["all"]["children"]
        hosts = {name: settings for group in described.values() for name, settings in group["hosts"].items()}
        wanted = {**self.groups, **groups}
        moved = {name for names in groups.values() for name in names}
        members = {
            group: [name for name in names if group in groups or name not in moved] for group, names in wanted.items()
        }
        children = {group: {"hosts": {name: hosts[name] for name in names}} for group, names in members.items()}
        (folder / "group_vars").symlink_to(PROJECT / "group_vars")
        path = folder / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"children": children}}))
        return Swarm(path)

    def kill(self, *machines: str) -> None:
        """Switch machines off as a power cut does: no process closes a connection, as it would if it were killed."""
        names = [f"{self.name}-{machine}" for machine in machines]
        for process in run("docker", "inspect", "--format={{.State.Pid}}", *names).stdout.split():
            run("nsenter", f"--target={process}", "--net", "ip", "link", "set", "dev", "eth0", "down")
        run("docker", "kill", *names)

    def start(self, *machines: str) -> None:
        """Switch machines on and wait until all nodes are ready, run what they shall run and reach each other."""
        run("docker", "start", *(f"{self.name}-{machine}" for machine in machines))
        wait_until(lambda: self.whole() and self.settled() and self.reached(), 240)

    def settled(self) -> bool:
        """Tell whether all services are as they shall be, and what managers believe to run is what engines run.

        They go on believing for a while after a machine was lost.
        """
        try:
            services, containers = list(self.services().values()), self.running().values()
        except AssertionError:
            return False
        believed = {task["id"] for service in services for task in service.tasks if task["runs"]}
        found = {item["Config"]["Labels"]["com.docker.swarm.task.id"] for items in containers for item in items}
        return not troubles(services) and believed == found

    def reached(self) -> bool:
        """Tell whether every load balancer sends requests to every replica, as Prometheus saw last.

        Of machines that come back together, engines find some containers on each other only about a minute later.
        """
        try:
            found = self.page(9090, "/api/v1/query?query=service:replicas:serving")["data"]["result"]
            services = self.services()
        except (AssertionError, IndexError):
            return False
        serving = {row["metric"]["service"]: int(row["value"][1]) for row in found}
        return serving == {name: services[name].wanted for name in ("fe", "be")}

    def whole(self) -> bool:
        """Tell whether every node is ready and every manager can be reached."""
        try:
            nodes = self.nodes().values()
        except AssertionError:
            return False
        managers = [node["ManagerStatus"]["Reachability"] for node in nodes if node["Spec"]["Role"] == "manager"]
        return all(node["Status"]["State"] == "ready" for node in nodes) and set(managers) == {"reachable"}
