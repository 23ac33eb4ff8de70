#!/usr/bin/python
"""Say how a stack is: a table of its services and containers, restarts by the watchdog, releases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_status
short_description: Say how a stack is
description:
  - Asks the engine, the load balancers, the watchdog and the journal of changes. Changes nothing.
  - Looks twice, about two seconds apart, because rates and CPU can only be told of a time.
options:
  project: {type: str, required: true, description: Project name of Compose.}
  path: {type: path, required: true, description: Folder of the rendered files.}
  services:
    description: Tiers with C(name) and the C(socket) of the load balancer before each, in the order of the sketch.
    type: list
    elements: dict
    default: []
  swarm: {type: bool, default: false, description: Ask a manager for the nodes and services of a Swarm instead.}
attributes:
  check_mode: {support: full, description: Changes nothing in any mode.}
  diff_mode: {support: none, description: "Changes nothing, so there is nothing to show."}
"""

EXAMPLES = r"""
- name: Ask how the stack is
  stack_status:
    project: webstack
    path: ~/.local/share/webstack
    services: [{name: fe, socket: fe-lb/run/master.sock}]
"""

RETURN = r"""
lines: {type: list, elements: str, description: The status for people to read.}
problems: {type: list, elements: str, description: A sentence for everything that is wrong; none if all is well.}
watchdog: {type: dict, description: "Whether it C(runs), and its C(events), the newest last."}
"""

import contextlib  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from datetime import datetime  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils import stack_history  # noqa: E402
from ansible.module_utils import stack_systemd as systemd  # noqa: E402
from ansible.module_utils.stack_compose import compose, condition, listed, run  # noqa: E402
from ansible.module_utils.stack_haproxy import Server, ask, by_address, fails_open, read_counts, read_servers  # noqa: E402
from ansible.module_utils.stack_lock import describe, holder, running  # noqa: E402
from ansible.module_utils.stack_manager import Manager, describe_nodes, describe_services  # noqa: E402
from ansible.module_utils.stack_module import running_module  # noqa: E402
from ansible.module_utils.stack_releases import read_index  # noqa: E402

# Events and releases that are shown.
NEWEST = 5
# Containers of a service that are listed: those in trouble, then the busiest.
LISTED = 10
HEADER = ("SERVICE", "WANTED", "HEALTHY", "SERVING", "AGE", "RESTARTS", "CPU", "MEMORY", "REQ/S", "FAILED/S", "IMAGE")
UNITS = {"B": 1, "kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20, "GB": 1e9, "GiB": 2**30}


@dataclass
class Row:
    """One container, or a service as the sum of its containers."""

    name: str
    image: str = ""
    wanted: int | None = None
    healthy: int = 0
    # None: no load balancer sends it requests.
    serving: int | None = None
    started: float = 0.0
    restarts: int = 0
    # Processors, and bytes.
    cpu: float = 0.0
    memory: float = 0.0
    # Requests, and those that failed, per second; None: nobody counts them.
    rate: float | None = None
    failed: float | None = None
    trouble: str = ""

    def count(self, number: int | None) -> str:
        """Return how many of a service's containers, yes or no of one, ``-`` if nobody says."""
        if number is None:
            return "-"
        return ("yes" if number else "no") if self.wanted is None else str(number)

    def cells(self, now: float, indent: str = "") -> tuple[str, ...]:
        """Return what the table shows."""
        return (
            indent + self.name,
            "" if self.wanted is None else str(self.wanted),
            self.count(self.healthy),
            self.count(self.serving),
            duration(now - self.started) if self.started else "-",
            str(self.restarts),
            f"{self.cpu * 100:.0f} %",
            f"{self.memory / 2**20:.0f} MiB",
            amount(self.rate),
            amount(self.failed),
            self.trouble or self.image,
        )


@dataclass
class Service:
    """A service: how many containers it shall have, and those it has."""

    name: str
    wanted: int
    rows: list[Row] = field(default_factory=list)

    def total(self) -> Row:
        """Return the row of the service itself."""
        images = sorted({row.image for row in self.rows})
        serving = [row.serving for row in self.rows if row.serving is not None]
        rates = [row.rate for row in self.rows if row.rate is not None]
        failed = [row.failed for row in self.rows if row.failed is not None]
        return Row(
            self.name,
            ", ".join(images),
            self.wanted,
            sum(row.healthy for row in self.rows),
            sum(serving) if serving else None,
            min((row.started for row in self.rows if row.started), default=0.0),
            sum(row.restarts for row in self.rows),
            sum(row.cpu for row in self.rows),
            sum(row.memory for row in self.rows),
            sum(rates) if rates else None,
            sum(failed) if failed else None,
        )

    def listed(self) -> list[Row]:
        """Return the containers that are worth a line: of several, those in trouble first, then the busiest."""
        if len(self.rows) < 2 and not any(row.trouble for row in self.rows):
            return []
        return sorted(self.rows, key=lambda row: (not row.trouble, -row.cpu))[:LISTED]


def moment(seconds: float) -> str:
    """Return a time as people read it on the host."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Return so many seconds in the largest unit that they fill."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def amount(value: float | None) -> str:
    """Return a rate, ``-`` if there is none."""
    return "-" if value is None else f"{value:.1f}"


def size(text: str) -> float:
    """Return the bytes of an amount as ``docker stats`` writes it (``12.5MiB``); 0 if it says nothing."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text.strip())
    return float(match[1]) * UNITS.get(match[2], 1) if match else 0.0


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return lines with columns one under the other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def trouble(container: dict) -> str:
    """Return why a container is not well, as far as the engine knows; nothing if it is."""
    found = condition(container)
    if found == "well":
        return ""
    if container["state"] == "running":
        return "starting" if found == "starting" else "unhealthy"
    return container["status"].lower() if container["state"] == "exited" else container["state"]


def usage() -> dict[str, tuple[float, float]]:
    """Return processors and bytes that each container of the host uses, by its name; takes about two seconds."""
    # A container that ends meanwhile makes the command fail after it has told all others.
    argv = ["docker", "stats", "--no-stream", "--format", "{{json .}}"]
    found = {}
    for line in subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines():
        item = json.loads(line)
        cpu = item["CPUPerc"].rstrip("%")
        found[item["Name"]] = (float(cpu) / 100 if cpu != "--" else 0.0, size(item["MemUsage"].partition("/")[0]))
    return found


def wanted(project: str, root: Path) -> dict[str, int]:
    """Return how many containers each service of the rendered file shall have; empty if there is no such file.

    Raises:
        OSError: Compose cannot read it.
    """
    if not (root / "docker-compose.yml").exists():
        return {}
    model = json.loads(run(*compose(project, root, "docker-compose.yml"), "config", "--format", "json"))
    return {name: item.get("deploy", {}).get("replicas", 1) for name, item in model["services"].items()}


@dataclass
class Balancer:
    """What a load balancer says of the servers behind it, at one moment."""

    time: float
    servers: list[Server]
    counts: dict[str, dict[str, int]]
    # Whether it sends requests to servers whatever their checks say.
    open: bool = False


def look(root: Path, services: list[dict]) -> tuple[dict[str, Balancer], list[str]]:
    """Return what each load balancer says, by the service behind it, and a sentence for each that says nothing."""
    found, problems = {}, []
    for service in services:
        try:
            state = ask(root / service["socket"], f"@1 show servers state {service['name']}", timeout=2)
            statistics = ask(root / service["socket"], "@1 show stat", timeout=2)
        except OSError as error:
            problems.append(f"{service['name']}-lb does not answer ({error}).")
            continue
        servers = by_address(read_servers(state))
        found[service["name"]] = Balancer(
            time.monotonic(), servers, read_counts(statistics), fails_open(statistics, service["name"])
        )
    return found, problems


def rates(before: Balancer, after: Balancer, server: str) -> tuple[float, float]:
    """Return requests and failed ones per second between two looks; a process that started anew has counted from 0."""
    seconds = max(after.time - before.time, 0.1)
    nothing = {"requests": 0, "failed": 0}
    old, new = before.counts.get(server, nothing), after.counts.get(server, nothing)
    if new["requests"] < old["requests"]:
        old = nothing
    return (new["requests"] - old["requests"]) / seconds, max(0, new["failed"] - old["failed"]) / seconds


def examine(parameters: dict, root: Path, events: list[dict]) -> tuple[list[Service], list[str]]:
    """Return every service with its containers, and what is wrong; ``events`` are what the watchdog has done.

    Raises:
        OSError: the engine cannot be asked.
    """
    if not listed(parameters["project"]):
        return [], ["Nothing runs."]
    before, _ = look(root, parameters["services"])
    used = usage()
    after, problems = look(root, parameters["services"])
    # Last, so that it goes with what the load balancers have just said.
    containers = listed(parameters["project"])
    numbers = wanted(parameters["project"], root)
    ids = [container["id"] for container in containers]
    details = {item["Id"]: item for item in json.loads(run("docker", "inspect", *ids))} if ids else {}
    restarted = [event["id"] for event in events if event["what"] == "restarted"]
    balancers = {f"{service['name']}-lb": service["name"] for service in parameters["services"]}
    services = {name: Service(name, number) for name, number in numbers.items()}
    for container in sorted(containers, key=lambda item: item["name"]):
        service = services.setdefault(container["service"], Service(container["service"], 0))
        detail, (cpu, memory) = details[container["id"]], used.get(container["name"], (0.0, 0.0))
        row = Row(container["name"], container["image"], cpu=cpu, memory=memory, trouble=trouble(container))
        row.healthy = int(not row.trouble)
        started = detail["State"]["StartedAt"].partition(".")[0].rstrip("Z")
        row.started = datetime.fromisoformat(f"{started}+00:00").timestamp() if not started.startswith("0001") else 0.0
        row.restarts = detail["RestartCount"] + restarted.count(container["id"])
        addresses = {network["IPAddress"] for network in detail["NetworkSettings"]["Networks"].values()}
        if behind := after.get(container["service"]):
            server = next((item for item in behind.servers if item.address in addresses), None)
            row.serving = int(bool(server and server.up))
            if server and (first := before.get(container["service"])):
                row.rate, row.failed = rates(first, behind, server.address)
            if not row.serving and not row.trouble:
                kept = "fails its checks and gets requests" if behind.open else "gets no requests"
                row.trouble = "drained" if server and server.draining else kept
        elif (tier := balancers.get(container["service"])) in after and tier in before:
            row.rate, row.failed = rates(before[tier], after[tier], "FRONTEND")
        service.rows.append(row)
    for balancer, tier in balancers.items():
        if tier in after and after[tier].open:
            problems.append(
                f"{balancer} sends requests to replicas of {tier} that fail their checks, because too few pass them"
                f" (lb_panic_share): look at {tier}_health_path and at how busy they are."
            )
    for service in services.values():
        if len(service.rows) < service.wanted:
            problems.append(f"{service.name}: {len(service.rows)} of {service.wanted} containers are there.")
        problems += [f"{row.name}: {row.trouble}." for row in service.rows if row.trouble]
    # The order in which a request comes to the services; others follow.
    sketch = [*(name for pair in balancers.items() for name in pair), "db"]
    shown = sorted(services.values(), key=lambda item: sketch.index(item.name) if item.name in sketch else len(sketch))
    return shown, problems


def report(parameters: dict) -> dict:
    """Return the module's result (OSError: the engine cannot be asked)."""
    root, now = Path(parameters["path"]).resolve(), time.time()
    events = stack_history.read(root / "watchdog" / "events.jsonl")
    services, problems = examine(parameters, root, events)
    rows = [HEADER]
    for service in services:
        rows.append(service.total().cells(now))
        listed = service.listed()
        alike = len({row.image for row in service.rows}) == 1
        for row in listed:
            # Said once, in the line of the service.
            row.image = "" if alike else row.image
            rows.append(row.cells(now, "  "))
        if listed and len(service.rows) > len(listed):
            more = f"  and {len(service.rows) - len(listed)} more"
            rows.append((more, *[""] * (len(HEADER) - 1)))
    lines = table(rows) if len(rows) > 1 else []
    lines.append("")
    holds = running(root) or holder(root)
    if holds:
        lines.append(f"Now: {describe(holds)}")
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines.append(f"Mode: {json.loads((root / 'state.json').read_text(encoding='utf-8'))['mode']}")
    journal = stack_history.read(root / "rollout.log")
    if journal:
        last = journal[-1]
        lines.append(f"Last change of containers: {moment(last['time'])} {last['service']}: {last['text']}")
    runs = bool(holder(root / "watchdog"))
    lines.append(f"Watchdog: {'runs' if runs else 'does not run'}, {len(events)} events")
    units = (f"{parameters['project']}-watchdog.service", f"{parameters['project']}-backup.timer")
    if any((systemd.folder() / unit).exists() for unit in units) and not systemd.lingers():
        problems.append(
            f"The watchdog and scheduled backups end with the last logout of {systemd.user()}; run"
            f" `sudo loginctl enable-linger {systemd.user()}`."
        )
    lines += [f"  {moment(e['time'])} {e['container']} {e['what']}: {e['why']}" for e in events[-NEWEST:]]
    index = read_index(root)
    for item in reversed(index[-NEWEST:]):
        images = ", ".join(image["name"] for image in item["images"].values())
        lines.append(
            f"Release {item['number']}{' (the last one)' if item is index[-1] else ''}: {moment(item['time'])}, {images}"
        )
    return {"changed": False, "lines": lines, "problems": problems, "watchdog": {"runs": runs, "events": events}}


def report_swarm(manager: Manager) -> dict:
    """Return the module's result for the stack of a Swarm."""
    services, _, nodes = manager.look()
    parts = describe_nodes(nodes), describe_services(services)
    problems = [text for _, texts in parts for text in texts]
    if not services:
        problems.append(f"{manager.stack} is not deployed; run playbooks/site.yml.")
    return {"changed": False, "lines": [line for lines, _ in parts for line in lines], "problems": problems}


def main() -> None:
    """Run the module."""
    options = {
        "project": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "services": {"type": "list", "elements": "dict", "default": []},
        "swarm": {"type": "bool", "default": False},
    }
    with running_module(options) as module:
        if module.params["swarm"]:
            module.exit_json(**report_swarm(Manager(module.run_command, module.params["project"])))
        module.exit_json(**report(module.params))


if __name__ == "__main__":
    main()
