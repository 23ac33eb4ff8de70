#!/usr/bin/python
"""Report what on a host matters to a deployment; the action plugin of the same name judges it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_preflight
short_description: Check the settings of a stack and the host it goes to
description:
  - Checks every setting on the controller, then looks at the host, and fails with one sentence for
    each problem before anything is changed.
  - The checks stand in C(module_utils/stack_checks.py).
  - Before it looks at the host it takes the stack for the run, which has it until C(ansible-playbook) ends, however that
    comes. Another run waits for O(lock_timeout) seconds, and is told who has it. Nothing else is changed.
options:
  project_dir:
    description: The checkout, on the controller. Relative paths in settings start there.
    type: path
    required: true
  stack_engine:
    description: C(compose), or C(swarm), where the host is a manager and what it has counts for all nodes together.
    type: str
    default: compose
  stack_name:
    description: Project name of Compose.
    type: str
    required: true
  stack_dir:
    description: Folder of the rendered files on the host.
    type: path
    required: true
  engine_minimum:
    description: Oldest engine version that is accepted.
    type: str
    required: true
  compose_minimum:
    description: Oldest Compose version that is accepted.
    type: str
    required: true
  settings_only:
    description: Check the settings and leave the host alone.
    type: bool
    default: false
  lock_only:
    description: Take the stack for the run, and check nothing.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for another run on the same stack.
    type: float
    default: 180
  changes_containers:
    description: Whether the run changes containers, so that the watchdog restarts none meanwhile.
    type: bool
    default: true
  run:
    description: The run, found out by the action plugin; empty, as in check mode, takes nothing.
    type: dict
    default: {}
  images:
    description: Names of images to look up on the host.
    type: list
    elements: str
    default: []
  names:
    description: Names of networks and volumes of a stack, without its own, found out by the action plugin.
    type: list
    elements: str
    default: []
  networks:
    description: Networks of the stack to which the engine gives an address range; empty, none are going to be made.
    type: list
    elements: str
    default: []
  ports:
    description: Ports of the host to be published, found out by the action plugin.
    type: list
    elements: dict
    default: []
  docker_socket:
    description: The engine's socket; empty for the one that the client uses.
    type: str
    default: ""
  backup_repository:
    description: Folder of the backups on the host; empty if they go elsewhere.
    type: str
    default: ""
  development:
    description: Find out whom front end and back end shall run as.
    type: bool
    default: false
  mounts:
    description: Bind mounts with C(setting), C(source) and C(target), found out by the action plugin.
    type: list
    elements: dict
    default: []
  tmpfs:
    description: File systems in memory with C(setting) and C(target), found out by the action plugin.
    type: list
    elements: dict
    default: []
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Changes nothing, and takes no lock.
  diff_mode:
    support: none
    description: Changes nothing, so there is nothing to show.
"""

EXAMPLES = r"""
- name: Check the settings and the host
  stack_preflight:
    project_dir: "{{ playbook_dir }}/.."
    stack_name: webstack
    stack_dir: ~/.local/share/webstack
    engine_minimum: "25.0.0"
    compose_minimum: "2.26.0"
"""

RETURN = r"""
engine_version:
  description: Version of the engine; empty if it does not answer, see C(engine_error).
  returned: always
  type: str
compose_version:
  description: Version of Compose v2; empty if it is missing.
  returned: always
  type: str
memory:
  description: Memory of the host in bytes.
  returned: always
  type: int
cpus:
  description: Processors that the host has.
  returned: always
  type: int
uid:
  description: User that deploys, on the host.
  returned: always
  type: int
gid:
  description: Group that deploys, on the host.
  returned: always
  type: int
developer:
  description: In development, whom front end and back end run as, on the host and in their containers; else empty.
  returned: always
  type: dict
missing:
  description: C(path) and C(kind), C(directory) or C(file), of what mounts need on the host and is not there.
  returned: always
  type: list
  elements: dict
mapping:
  description: How the engine maps users of containers to those of the host; C(rootless), C(userns) or empty.
  returned: always
  type: str
seccomp:
  description: Whether the engine filters the system calls of containers.
  returned: always
  type: bool
selinux:
  description: Whether the engine labels containers for SELinux, which keeps them from files without a label.
  returned: always
  type: bool
scheduler:
  description: What starts backups by itself on this host; C(systemd), C(cron) or empty.
  returned: always
  type: str
linger:
  description: Name of the user whose units of systemd would end with the last logout; empty if they would not.
  returned: always
  type: str
firewalls:
  description: Firewalls that are on, of C(ufw) and C(firewalld).
  returned: always
  type: list
  elements: str
run_options:
  description: Options of C(docker run) with which a container knows the users of the host.
  returned: always
  type: list
  elements: str
docker_socket:
  description: Path of the engine's socket.
  returned: always
  type: str
socket_group:
  description: Number in a container of the group that may use the engine's socket; none if there is no such socket.
  returned: always
  type: int
engine:
  description: Address of the engine that Docker's client talks to, as C(DOCKER_HOST) takes it.
  returned: always
  type: str
folder_problems:
  description: Sentences on folders that are somebody else's.
  returned: always
  type: list
  elements: str
record:
  description: What config_tree has recorded in the folder; empty if nothing.
  returned: always
  type: dict
strangers:
  description: Folders of other Compose projects of the same name.
  returned: always
  type: list
  elements: str
foreign:
  description: Networks and volumes with names of the stack's that are not the stack's.
  returned: always
  type: list
  elements: str
stack_dir:
  description: Absolute path of the option O(stack_dir).
  returned: always
  type: str
lock:
  description: The C(other) run that has the stack, empty if this one has it; whether it is C(new) that it does, and
    whether the folder was C(made) for that.
  returned: always
  type: dict
state:
  description: What the last run left for this one, from C(state.json).
  returned: always
  type: dict
mode:
  description: C(app_mode) of what was rendered last; empty if nothing was.
  returned: always
  type: str
rendered:
  description: Whether a Compose file has been written before.
  returned: always
  type: bool
images:
  description: Of each known image its id, user, labels and what it starts, by name.
  returned: always
  type: dict
released:
  description: Whether what is rendered is the newest release that was kept.
  returned: always
  type: bool
release:
  description: Number of the newest release that was kept; 0 if there is none.
  returned: always
  type: int
watchdog:
  description: Version of the watchdog that runs; empty if there is none.
  returned: always
  type: str
outdated:
  description: Services of which a container is not what the last run has rendered.
  returned: always
  type: list
  elements: str
containers:
  description: Containers of the project with service, name, image, state, status and ports.
  returned: always
  type: list
  elements: dict
dumps:
  description: Which dumps the database was made from, and which the last run has seen; empty if that is not known.
  returned: always
  type: dict
running:
  description: How many containers run of each service, in a Swarm on all nodes together.
  returned: always
  type: dict
tree:
  description: Mode, owner and digest of each rendered file and folder, by its path.
  returned: always
  type: dict
load_balancers:
  description: For each load balancer C(version) of the configuration that it runs, servers that are C(up), first numbers of
    the definitions that are C(needed) for that, and C(requests) that it has counted so far.
  returned: always
  type: dict
pools:
  description: Networks that are C(missing) and how many address ranges are C(free) for them.
  returned: always
  type: dict
networks:
  description: Networks of the project with their options, address ranges and containers, by their name in Compose.
  returned: always
  type: dict
database_volume:
  description: Whether the data volume exists.
  returned: always
  type: bool
certificate:
  description: The deployed certificate, PEM without its key; empty if there is none.
  returned: always
  type: str
"""

import contextlib  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import pwd  # noqa: E402
import re  # noqa: E402
import stat  # noqa: E402
import subprocess  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_certificates import certificates_only  # noqa: E402
from ansible.module_utils.stack_compose import (  # noqa: E402
    OWNER,
    list_command,
    outdated_services,
    owned,
    read_images,
    read_list,
    read_published,
    strangers,
)
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_folder import folder_problem, read_record  # noqa: E402
from ansible.module_utils.stack_haproxy import (  # noqa: E402
    ask,
    definitions_needed,
    read_servers,
    requests_of,
    servers_up,
    version,
)
from ansible.module_utils.stack_lock import claim, holder, running  # noqa: E402
from ansible.module_utils.stack_pools import free_ranges, read_pools, read_ranges, read_routes  # noqa: E402
from ansible.module_utils.stack_ports import port_problem  # noqa: E402
from ansible.module_utils.stack_releases import is_saved, read_index  # noqa: E402
from ansible.module_utils.stack_run import user  # noqa: E402
from ansible.module_utils.stack_systemd import available, lingers, scheduler  # noqa: E402

# The kernel's word on SELinux (selinuxfs).
ENFORCES = Path("/sys/fs/selinux/enforce")
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
            QueryError: it failed, so nobody knows what is there.
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


def host_memory() -> int:
    """Return the host's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def balancer_state(socket_path: Path, backend: str) -> dict:
    """Return which configuration a load balancer runs, how many servers it has up, by which definitions, and its requests.

    Nothing if it is away.
    """
    try:
        # Statistics are asked of the worker, whose number is 1 counted from the newest.
        statistics = ask(socket_path, "@1 show stat", timeout=2)
        return {
            "version": version(ask(socket_path, "@1 show info", timeout=2)),
            "up": servers_up(statistics, backend),
            "needed": definitions_needed(read_servers(ask(socket_path, f"@1 show servers state {backend}", timeout=2))),
            "requests": requests_of(statistics),
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
        if str(base) in ("db/dumps", "fe-lb/run", "be-lb/run", "backup/cache"):
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


def group_of(path: Path, mapping: str) -> int | None:
    """Return the number that a container knows a file's group by, or None if there is no such file."""
    try:
        group = path.stat().st_gid
    except OSError:
        return None
    # A rootless engine calls the group of its user root.
    return 0 if mapping == "rootless" else group


def developer(project: Path, mapping: str) -> dict:
    """Return whom front end and back end shall run as in development.

    It is whoever runs the playbook; where root does, through sudo or not, the owner of the checkout. ``uid``, ``gid`` and
    ``umask`` are those of the host, ``user`` and further ``groups`` those of the container.
    """
    mask = os.umask(0o022)
    os.umask(mask)
    uid, gid, groups = os.getuid(), os.getgid(), os.getgroups()
    if uid == 0 and project.exists() and project.stat().st_uid:
        uid, gid, groups = project.stat().st_uid, project.stat().st_gid, []
        with contextlib.suppress(KeyError):
            account = pwd.getpwuid(uid)
            gid, groups = account.pw_gid, os.getgrouplist(account.pw_name, account.pw_gid)
    further = sorted({*groups} - {gid})
    if mapping == "rootless":
        # Such an engine calls its own user root, and knows of none of the user's further groups.
        return {"uid": uid, "gid": gid, "umask": f"{mask:04o}", "user": "0:0", "groups": [], "lost_groups": further}
    return {"uid": uid, "gid": gid, "umask": f"{mask:04o}", "user": f"{uid}:{gid}", "groups": further, "lost_groups": []}


def mapping(options: list[str]) -> str:
    """Return how an engine with these security options maps users: ``rootless``, ``userns``, or nothing if it does not."""
    names = {option.partition("name=")[2].partition(",")[0] for option in options}
    return next((name for name in ("rootless", "userns") if name in names), "")


def selinux(options: list[str]) -> bool:
    """Tell whether containers of an engine with these security options are kept from files without a label for them."""
    return any("name=selinux" in option for option in options) and read_text(ENFORCES).strip() == "1"


def closed_without(path: Path, groups: list[int]) -> int | None:
    """Return the one of ``groups`` without which this user could not write in ``path``, or None."""
    state = path.stat()
    if state.st_uid == os.getuid() or state.st_gid not in groups or state.st_mode & stat.S_IWOTH:
        return None
    return state.st_gid if state.st_mode & stat.S_IWGRP else None


def missing_paths(mounts: list[dict], tmpfs: list[dict]) -> list[dict]:
    """Return ``path`` and ``kind`` of what is not there: sources of mounts, and where one is mounted inside another one."""
    missing = {mount["source"]: "directory" for mount in mounts if not Path(mount["source"]).expanduser().exists()}
    for inner in [*mounts, *tmpfs]:
        tier = inner["setting"][:2]
        around = [
            mount for mount in mounts
            if mount["setting"][:2] == tier and inner["target"].startswith(mount["target"].rstrip("/") + "/")
        ]  # fmt: skip
        if around:
            # The engine would make it in the folder of the mount that is around, as root.
            outer = max(around, key=lambda mount: len(mount["target"]))
            point = Path(outer["source"]).expanduser() / inner["target"][len(outer["target"].rstrip("/")) + 1 :]
            if not point.exists():
                missing[str(point)] = "file" if Path(inner.get("source", "/")).expanduser().is_file() else "directory"
    return [{"path": path, "kind": kind} for path, kind in missing.items()]


def repository_problem(path: str) -> str:
    """Return why a folder cannot hold the repository of backups; empty if it can, or if this user may not look."""
    root = Path(path).expanduser().resolve()
    if root in (Path("/"), Path.home().resolve()):
        return f"backup_repository: {path} is not for backups alone; give a folder inside."
    try:
        names = {entry.name for entry in root.iterdir()}
    except (FileNotFoundError, PermissionError):
        return ""
    except OSError as error:
        return f"backup_repository: {path} cannot be used as a folder ({error.strerror}); give another one."
    if not names or {"config", "keys", "data"} <= names:
        return ""
    return (
        f"backup_repository: {path} holds files that are no backups ({', '.join(sorted(names)[:3])}); give an empty folder."
    )


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


def firewalls() -> list[str]:
    """Return which of the usual firewalls is on, by what everybody may read."""
    found = []
    if re.search(r"^ENABLED=yes", read_text(Path("/etc/ufw/ufw.conf")), re.MULTILINE):
        found.append("ufw")
    if Path("/run/firewalld").exists() or Path("/run/firewalld.pid").exists():
        found.append("firewalld")
    return found


def rendered_mode(state: dict, compose: str) -> str:
    """Return the ``app_mode`` of a rendered Compose file; a state of an earlier version of the project does not tell it."""
    if not compose:
        return ""
    return state.get("mode") or ("development" if '"APP_MODE": "development"' in compose else "production")


def read_json(path: Path) -> dict:
    """Return what a file with a JSON object holds, or nothing if there is no such file."""
    try:
        found = json.loads(read_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: Path) -> str:
    """Return the content of a file, or nothing if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def closed_folder(path: Path) -> Path | None:
    """Return the folder in which a path would have to be made, or is, if this user may not write there."""
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    return there if there.is_dir() and not os.access(there, os.W_OK | os.X_OK) else None


def lock(module: AnsibleModule, stack_dir: Path) -> dict:
    """Take the stack for the run and return what came of it, as ``lock`` above; the module ends here if that is nothing."""
    parameters = module.params
    found = {"other": {}, "new": False, "made": False}
    closed = closed_folder(stack_dir)
    if closed:
        why = f"{stack_dir} cannot be written (this user may not write in {closed})"
        module.fail_json(msg=f"stack_dir: {why}; make that this user's own, or name another folder.")
    # Nothing is written into somebody else's folder, which is refused.
    if parameters["run"] and not folder_problem(Path(parameters["stack_dir"]), parameters["stack_name"]):
        found |= {"made": not stack_dir.exists(), "new": running(stack_dir).get("id") != parameters["run"]["id"]}
        try:
            found["other"] = claim(stack_dir, parameters["run"], parameters["lock_timeout"])
        except OSError as error:
            why = f"{stack_dir} cannot be written ({error.strerror})"
            module.fail_json(msg=f"stack_dir: {why}; make it this user's own, or name another one.")
    if found["other"] or parameters["lock_only"]:
        module.exit_json(changed=False, stack_dir=str(stack_dir), lock=found)
    return found


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "project_dir": {"type": "path", "required": True},
            "stack_engine": {"type": "str", "default": "compose"},
            "stack_name": {"type": "str", "required": True},
            "stack_dir": {"type": "path", "required": True},
            "engine_minimum": {"type": "str", "required": True},
            "compose_minimum": {"type": "str", "required": True},
            "settings_only": {"type": "bool", "default": False},
            "lock_only": {"type": "bool", "default": False},
            "lock_timeout": {"type": "float", "default": 180},
            "changes_containers": {"type": "bool", "default": True},
            "run": {"type": "dict", "default": {}},
            "images": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "docker_socket": {"type": "str", "default": ""},
            "development": {"type": "bool", "default": False},
            "networks": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "dict", "default": []},
            "backup_repository": {"type": "str", "default": ""},
            "mounts": {"type": "list", "elements": "dict", "default": []},
            "tmpfs": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    taken = lock(module, Path(module.params["stack_dir"]).resolve())
    try:
        module.exit_json(lock=taken, **examine(module.params))
    except QueryError as error:
        module.fail_json(msg=str(error))


def examine(parameters: dict) -> dict:
    """Return what the module promises to tell of the host.

    Raises:
        QueryError: the engine answers, but not every question.
    """
    name = parameters["stack_name"]
    stack_dir = Path(parameters["stack_dir"]).resolve()
    commands = Commands()
    commands.start("engine", "docker", "info", "--format", "[{{json .ServerVersion}}, {{json .SecurityOptions}}]")
    commands.start("compose", "docker", "compose", "version", "--short")
    commands.start("containers", *list_command(name))
    commands.start("published", "docker", "ps", "--no-trunc", "--format", "{{json .}}")
    commands.start("context", "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    commands.start("networks", "docker", "network", "ls", "--no-trunc", "--format", OWNER.format("ID"))
    commands.start("volumes", "docker", "volume", "ls", "--format", OWNER.format("Name"))
    swarm = parameters["stack_engine"] == "swarm"
    if swarm:
        options = ("--filter", f"label=com.docker.stack.namespace={name}", "--format", "{{.Name}} {{.Replicas}}")
        commands.start("services", "docker", "service", "ls", *options)
        commands.start("nodes", "bash", "-c", "set -o pipefail; docker node ls --quiet | xargs docker node inspect")
    file = stack_dir / ("docker-stack.yml" if swarm else "docker-compose.yml")
    if file.exists() and not swarm:
        commands.start("digests", "docker", "compose", "--project-name", name, "--file", str(file), "config", "--hash", "*")
    if parameters["images"]:
        commands.start("images", "docker", "image", "inspect", *parameters["images"])

    code, output, errors = commands.result("engine")
    engine_version, security = json.loads(output) if code == 0 else ("", [])
    mapped = mapping(security or [])
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
        "memory": host_memory(),
        "cpus": os.cpu_count() or 1,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "stack_dir": str(stack_dir),
        "mapping": mapped,
        "seccomp": any("name=seccomp" in option for option in security or []),
        "selinux": selinux(security or []),
        "scheduler": scheduler(),
        "linger": user() if available() and not lingers() else "",
        "firewalls": firewalls(),
        "run_options": ["--userns=host"] if mapped == "userns" else [],
        "engine": engine,
        "docker_socket": docker_socket,
        "socket_group": group_of(Path(docker_socket), mapped),
        "developer": developer(Path(parameters["project_dir"]), mapped) if parameters["development"] else {},
    }
    if swarm:
        result |= nodes_together(json.loads(ask("nodes") or "[]"))
    code, output, _ = commands.result("compose")
    result["compose_version"] = output.strip() if code == 0 else None

    labelled, foreign_networks = owned(ask("networks"), name, parameters["names"])
    networks = [item["id"] for item in labelled if item["project"] == name]
    volumes, foreign_volumes = owned(ask("volumes"), name, parameters["names"])
    there = {item["name"] for item in labelled if item["project"] == name}
    missing = [network for network in parameters["networks"] if f"{name}_{network}" not in there]
    if missing:
        commands.start("pools", "docker", "info", "--format", "{{json .DefaultAddressPools}}")
        commands.start("address ranges", "bash", "-c", RANGES)
    if networks:
        commands.start("network details", "docker", "network", "inspect", *networks)

    result["containers"] = read_list(ask("containers"))
    if swarm:
        result["running"] = running_tasks(commands.result("services")[1], name)
    else:
        result["running"] = dict(Counter(item["service"] for item in result["containers"] if item["state"] in RUNS))
    result["strangers"] = strangers(result["containers"], stack_dir)
    # What a stack that is deployed already uses, it has been given on purpose.
    foreign = [("network", foreign_networks), ("volume", foreign_volumes)] if not result["containers"] else []
    result["foreign"] = [f"{kind} {item['name']}" for kind, items in foreign for item in items]
    result["database_volume"] = f"{name}_database" in [volume["name"] for volume in volumes]
    result["images"] = read_images(ask("images", "No such") or "[]") if parameters["images"] else {}

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
        routes = [] if mapped == "rootless" else read_routes(read_text(ROUTES))
        pools = read_pools(commands.result("pools")[1].strip())
        result["pools"]["free"] = free_ranges(pools, taken + routes, len(missing))

    published = read_published(commands.result("published")[1])
    for port in parameters["ports"]:
        port["problem"] = port_problem(port, name, published, rootless=mapped == "rootless")
    for mount in parameters["mounts"]:
        source = Path(mount["source"]).expanduser()
        mount["exists"] = source.exists()
        mount["lost_group"] = closed_without(source, result["developer"].get("lost_groups", [])) if mount["exists"] else None
    result["ports"], result["mounts"] = parameters["ports"], parameters["mounts"]
    result["missing"] = missing_paths(parameters["mounts"], parameters["tmpfs"])

    result["state"] = read_json(stack_dir / "state.json")
    result["dumps"] = read_json(stack_dir / "db" / "dumps.json")
    result["secrets_complete"] = all((stack_dir / "secrets" / "db" / secret).exists() for secret in SECRETS)
    certificate = stack_dir / "fe-lb" / "config" / "tls" / "site.pem"
    result["certificate"] = certificates_only(read_text(certificate)) if Path(f"{certificate}.key").exists() else ""
    result["load_balancers"] = {
        f"{tier}-lb": balancer_state(stack_dir / f"{tier}-lb" / "run" / "master.sock", tier) for tier in ("fe", "be")
    }
    problems = [folder_problem(Path(parameters["stack_dir"]), name)]
    if parameters["backup_repository"]:
        problems.append(repository_problem(parameters["backup_repository"]))
    result["folder_problems"] = [problem for problem in problems if problem]
    result["record"] = read_record(stack_dir)
    result["tree"] = {} if problems[0] else read_tree(stack_dir)
    result["released"] = is_saved(stack_dir)
    result["release"] = max((item["number"] for item in read_index(stack_dir)), default=0)
    result["watchdog"] = holder(stack_dir / "watchdog").get("doing", "")
    result["rendered"] = file.exists()
    result["mode"] = rendered_mode(result["state"], read_text(file))
    result["outdated"] = (
        outdated_services(result["containers"], commands.result("digests")[1]) if file.exists() and not swarm else []
    )
    return result


if __name__ == "__main__":
    main()
