"""What is found on a host before a deployment: the engine's answers, and what the runs before have left."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections import Counter
from pathlib import Path

from ansible.module_utils import stack_compose, stack_haproxy, stack_host
from ansible.module_utils.stack_certificates import certificates_only
from ansible.module_utils.stack_folder import folder_problem, read_record
from ansible.module_utils.stack_lock import holder
from ansible.module_utils.stack_pools import free_ranges, read_pools, read_ranges, read_routes
from ansible.module_utils.stack_ports import port_problem
from ansible.module_utils.stack_releases import is_saved, read_index
from ansible.module_utils.stack_run import user
from ansible.module_utils.stack_systemd import available, lingers, scheduler

# States of containers that are there to serve.
RUNS = ("running", "paused", "restarting")
# The kernel's table of routes (proc(5)).
ROUTES = Path("/proc/net/route")
# Prints what each network of the engine is configured with.
RANGES = "set -o pipefail; docker network ls --quiet | xargs docker network inspect --format '{{json .IPAM.Config}}'"
SECRETS = ("database_password", "database_root_password")


class QueryError(Exception):
    """The engine answers some questions and not others; the text is for the person."""


class Commands:
    """Runs commands beside each other: most of their time is spent waiting for the engine."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen | OSError] = {}

    def start(self, name: str, *argv: str) -> None:
        """Start a command; its result is fetched by ``name``."""
        try:
            self._running[name] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            self._running[name] = error

    def output(self, name: str, absent: str = "") -> str:
        """Return the output of a command that must succeed; it may only fail for ``absent`` things, as its errors call them.

        Raises:
            QueryError: it failed, so what is there is unknown.
        """
        code, output, errors = self.result(name)
        lines = [line for line in errors.splitlines() if line.strip()]
        if code and not (absent and lines and all(absent in line for line in lines)):
            why = (lines or [f"exit code {code}"])[-1]
            raise QueryError(
                f"The engine does not say which {name} there are ({why}); nothing was changed. Run this again"
                " when docker answers."
            )
        return output

    def result(self, name: str, timeout: float = 30) -> tuple[int, str, str]:
        """Return exit code, output and errors; 127 if the program is missing, 124 after ``timeout`` seconds."""
        process = self._running[name]
        if isinstance(process, OSError):
            return 127, "", f"{process.filename}: {process.strerror}"
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return 124, "", f"no answer within {timeout:g} s"
        return process.returncode, output, errors


def examine(parameters: dict) -> dict:
    """Return what the module promises to tell of the host (QueryError: the engine answers, but not every question)."""
    name = parameters["stack_name"]
    stack_dir = Path(parameters["stack_dir"]).resolve()
    swarm = parameters["stack_engine"] == "swarm"
    file = stack_dir / ("docker-stack.yml" if swarm else "docker-compose.yml")
    commands = questions(parameters, file)
    code, output, errors = commands.result("engine")
    engine_version, security = json.loads(output) if code == 0 else ("", [])
    mapped = stack_host.mapping(security or [])
    engine = commands.result("context")[1].strip()
    scheme, _, path = engine.partition("://")
    docker_socket = parameters["docker_socket"] or (path if scheme == "unix" else "/var/run/docker.sock")
    # Where no engine answers, nothing else does either, and that is what is said.
    ask = commands.output if engine_version else lambda name, _absent="": commands.result(name)[1]
    result = {
        "changed": False,
        # Some clients do not fail where no engine answers, and fill in nothing.
        "engine_version": engine_version or None,
        "engine_error": (errors.strip().splitlines() or [f"docker exited with {code}"])[-1],
        # In bytes.
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpus": os.cpu_count() or 1,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "stack_dir": str(stack_dir),
        "mapping": mapped,
        "seccomp": any("name=seccomp" in option for option in security or []),
        "selinux": stack_host.selinux(security or []),
        "scheduler": scheduler(),
        "linger": user() if available() and not lingers() else "",
        "firewalls": stack_host.firewalls(),
        "run_options": ["--userns=host"] if mapped == "userns" else [],
        "engine": engine,
        "docker_socket": docker_socket,
        "socket_group": stack_host.group_of(Path(docker_socket), mapped),
        "developer": stack_host.developer(Path(parameters["project_dir"]), mapped) if parameters["development"] else {},
    }
    if swarm:
        result |= nodes_together(json.loads(ask("nodes") or "[]"))
    code, output, _ = commands.result("compose")
    result["compose_version"] = output.strip() if code == 0 else None

    labelled, foreign_networks = stack_compose.owned(ask("networks"), name, parameters["names"])
    networks = [item["id"] for item in labelled if item["project"] == name]
    volumes, foreign_volumes = stack_compose.owned(ask("volumes"), name, parameters["names"])
    there = {item["name"] for item in labelled if item["project"] == name}
    missing = [network for network in parameters["networks"] if f"{name}_{network}" not in there]
    if missing:
        commands.start("pools", "docker", "info", "--format", "{{json .DefaultAddressPools}}")
        commands.start("address ranges", "bash", "-c", RANGES)
    if networks:
        commands.start("network details", "docker", "network", "inspect", *networks)

    result["containers"] = stack_compose.read_list(ask("containers"))
    if swarm:
        result["running"] = running_tasks(commands.result("services")[1], name)
    else:
        result["running"] = dict(Counter(item["service"] for item in result["containers"] if item["state"] in RUNS))
    result["strangers"] = stack_compose.strangers(result["containers"], stack_dir)
    # What a stack that is deployed already uses, it has been given on purpose.
    foreign = [("network", foreign_networks), ("volume", foreign_volumes)] if not result["containers"] else []
    result["foreign"] = [f"{kind} {item['name']}" for kind, items in foreign for item in items]
    result["database_volume"] = f"{name}_database" in [volume["name"] for volume in volumes]
    result["images"] = stack_compose.read_images(ask("images", "No such") or "[]") if parameters["images"] else {}

    found = json.loads(ask("network details", "not found") or "[]") if networks else []
    result["networks"] = {
        network["Labels"].get("com.docker.compose.network", ""): {
            "name": network["Name"],
            "internal": network["Internal"],
            "options": network["Options"] or {},
            "subnets": [config["Subnet"] for config in network["IPAM"]["Config"] or []],
            "containers": sorted(container["Name"] for container in network["Containers"].values()),
        }
        for network in found
    }

    result["pools"] = {"missing": missing, "free": len(missing)}
    if missing and engine_version:
        taken = read_ranges(ask("address ranges", "not found"))
        # A rootless engine is on no network of the host.
        routes = [] if mapped == "rootless" else read_routes(stack_host.read_text(ROUTES))
        pools = read_pools(commands.result("pools")[1].strip())
        result["pools"]["free"] = free_ranges(pools, taken + routes, len(missing))

    published = stack_compose.read_published(commands.result("published")[1])
    for port in parameters["ports"]:
        port["problem"] = port_problem(port, name, published, rootless=mapped == "rootless")
    lost = result["developer"].get("lost_groups", [])
    for mount in parameters["mounts"]:
        source = Path(mount["source"]).expanduser()
        mount["exists"] = source.exists()
        mount["lost_group"] = stack_host.closed_without(source, lost) if mount["exists"] else None
    result["ports"], result["mounts"] = parameters["ports"], parameters["mounts"]
    result["missing"] = stack_host.missing_paths(parameters["mounts"], parameters["tmpfs"])

    result |= read_folder(parameters, stack_dir)
    result["rendered"] = file.exists()
    result["mode"] = rendered_mode(result["state"], stack_host.read_text(file))
    result["outdated"] = []
    if file.exists() and not swarm:
        result["outdated"] = stack_compose.outdated_services(result["containers"], commands.result("digests")[1])
    return result


def questions(parameters: dict, file: Path) -> Commands:
    """Ask the engine what is known to be asked, about the stack whose Compose or stack ``file`` it is."""
    name, swarm = parameters["stack_name"], parameters["stack_engine"] == "swarm"
    commands = Commands()
    commands.start("engine", "docker", "info", "--format", "[{{json .ServerVersion}}, {{json .SecurityOptions}}]")
    commands.start("compose", "docker", "compose", "version", "--short")
    commands.start("containers", *stack_compose.list_command(name))
    commands.start("published", "docker", "ps", "--no-trunc", "--format", "{{json .}}")
    commands.start("context", "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    commands.start("networks", "docker", "network", "ls", "--no-trunc", "--format", stack_compose.OWNER.format("ID"))
    commands.start("volumes", "docker", "volume", "ls", "--format", stack_compose.OWNER.format("Name"))
    if swarm:
        options = ("--filter", f"label=com.docker.stack.namespace={name}", "--format", "{{.Name}} {{.Replicas}}")
        commands.start("services", "docker", "service", "ls", *options)
        commands.start("nodes", "bash", "-c", "set -o pipefail; docker node ls --quiet | xargs docker node inspect")
    if file.exists() and not swarm:
        commands.start("digests", "docker", "compose", "--project-name", name, "--file", str(file), "config", "--hash", "*")
    if parameters["images"]:
        commands.start("images", "docker", "image", "inspect", *parameters["images"])
    return commands


def read_folder(parameters: dict, stack_dir: Path) -> dict:
    """Return what the runs before have left in the folder of the stack, and whether it is the stack's."""
    certificate = stack_dir / "fe-lb" / "config" / "tls" / "site.pem"
    problem = folder_problem(Path(parameters["stack_dir"]), parameters["stack_name"])
    repository = parameters["backup_repository"]
    problems = [problem, stack_host.repository_problem(repository) if repository else ""]
    return {
        "state": stack_host.read_json(stack_dir / "state.json"),
        "dumps": stack_host.read_json(stack_dir / "db" / "dumps.json"),
        "secrets_complete": all((stack_dir / "secrets" / "db" / secret).exists() for secret in SECRETS),
        "certificate": certificates_only(stack_host.read_text(certificate)) if Path(f"{certificate}.key").exists() else "",
        "load_balancers": {
            f"{tier}-lb": balancer_state(stack_dir / f"{tier}-lb/run/master.sock", tier) for tier in parameters["tiers"]
        },
        "folder_problems": [text for text in problems if text],
        "record": read_record(stack_dir),
        "tree": {} if problem else read_tree(stack_dir),
        "released": is_saved(stack_dir),
        "release": max((item["number"] for item in read_index(stack_dir)), default=0),
        "watchdog": holder(stack_dir / "watchdog").get("doing", ""),
    }


def balancer_state(socket_path: Path, backend: str) -> dict:
    """Return which configuration a load balancer runs, how many servers it has up, by which definitions, and its requests.

    Nothing if it is away.
    """
    try:
        # Statistics are asked of the worker, whose number is 1 counted from the newest.
        statistics = stack_haproxy.ask(socket_path, "@1 show stat", timeout=2)
        servers = stack_haproxy.read_servers(stack_haproxy.ask(socket_path, f"@1 show servers state {backend}", timeout=2))
        return {
            "version": stack_haproxy.version(stack_haproxy.ask(socket_path, "@1 show info", timeout=2)),
            "up": stack_haproxy.servers_up(statistics, backend),
            "needed": stack_haproxy.definitions_needed(servers),
            "requests": stack_haproxy.read_counts(statistics).get("FRONTEND", {}),
        }
    except OSError:
        return {"version": "", "up": 0, "needed": [], "requests": {}}


def read_tree(root: Path) -> dict[str, dict]:
    """Return mode, owner and content of what is rendered, by path; config_tree compares it.

    The content is told as a digest; that of a secret only as a number that equal ones share.
    """
    tree: dict[str, dict] = {}
    secrets: dict[bytes, int] = {}
    # Dumps can be large and are not compared; sockets are HAProxy's, the cache is restic's, with folders of its own.
    for folder, folders, files in os.walk(root):
        base = Path(folder).relative_to(root)
        if str(base) in ("db/dumps", "backup/cache") or base.match("*-lb/run"):
            folders.clear()
            files = []
        for name in [*folders, *files]:
            path = Path(folder) / name
            try:
                state = path.lstat()
                content = path.read_bytes() if name in files and stat.S_ISREG(state.st_mode) else b""
            except OSError:
                # Not there any more, or not for this user: then config_tree has to look itself.
                continue
            secret = base.parts[:1] == ("secrets",) or path.suffix == ".key"
            tree[str(base / name)] = {
                "mode": stat.S_IMODE(state.st_mode),
                "uid": state.st_uid,
                "gid": state.st_gid,
                "secret": secrets.setdefault(content, len(secrets)) if secret else None,
                "digest": None if secret else hashlib.sha256(content).hexdigest(),
            }
    return tree


def nodes_together(nodes: list[dict]) -> dict:
    """Return the memory in bytes that all ready nodes of a Swarm have together, and the processors of the smallest."""
    able = [node for node in nodes if node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"]
    resources = [node["Description"]["Resources"] for node in able]
    return {
        "memory": sum(resource["MemoryBytes"] for resource in resources),
        "cpus": min((resource["NanoCPUs"] // 10**9 for resource in resources), default=1),
    }


def running_tasks(output: str, stack: str) -> dict[str, int]:
    """Return how many tasks of each service of a Swarm's stack run, from ``docker service ls`` (``web_fe 2/2``)."""
    found = re.findall(rf"^{re.escape(stack)}_(\S+) (\d+)/", output, re.MULTILINE)
    return {service: int(number) for service, number in found}


def rendered_mode(state: dict, compose: str) -> str:
    """Return the ``app_mode`` of a rendered Compose file; a state of an earlier version of the project does not tell it."""
    if not compose:
        return ""
    return state.get("mode") or ("development" if '"APP_MODE": "development"' in compose else "production")
