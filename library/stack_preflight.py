#!/usr/bin/python
"""Report what on a host matters to a deployment; the action plugin of the same name judges it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_preflight
short_description: Check the settings of a stack and the host it goes to
description:
  - Checks every setting on the controller, then looks at the host, and fails with one sentence for
    each problem before anything is changed.
  - The checks stand in C(module_utils/stack_checks.py), those of the host in C(module_utils/stack_checks_host.py).
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
  stack_name: {type: str, required: true, description: Project name of Compose.}
  stack_dir: {type: path, required: true, description: Folder of the rendered files on the host.}
  engine_minimum: {type: str, required: true, description: Oldest engine version that is accepted.}
  compose_minimum: {type: str, required: true, description: Oldest Compose version that is accepted.}
  settings_only: {type: bool, default: false, description: Check the settings and leave the host alone.}
  lock_only: {type: bool, default: false, description: "Take the stack for the run, and check nothing."}
  lock_timeout: {type: float, default: 180, description: Seconds to wait for another run on the same stack.}
  changes_containers:
    description: Whether the run changes containers, so that the watchdog restarts none meanwhile.
    type: bool
    default: true
  tiers:
    description: Replicated services that have a load balancer of their own, named by the action plugin.
    type: list
    elements: str
    default: []
  run:
    description: The run, found out by the action plugin; empty, as in check mode, takes nothing.
    type: dict
    default: {}
  images: {type: list, elements: str, default: [], description: Names of images to look up on the host.}
  networks:
    description: Networks of the stack to which the engine gives an address range; empty, none are going to be made.
    type: list
    elements: str
    default: []
  asked:
    description:
      - What the action plugin has found in the settings, to look at on the host.
      - C(names) of networks and volumes of a stack, without its own; C(ports) to be published; C(mounts) with C(setting),
        C(source) and C(target); C(tmpfs) with C(setting) and C(target); C(docker_socket), empty for the one that the client
        uses; C(backup_repository), a folder, or empty if backups go elsewhere; C(development), whether to find out whom
        front end and back end shall run as.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: "Changes nothing, and takes no lock."}
  diff_mode: {support: none, description: "Changes nothing, so there is nothing to show."}
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
engine_version: {type: str, description: "Version of the engine; empty if it does not answer, see C(engine_error)."}
compose_version: {type: str, description: Version of Compose v2; empty if it is missing.}
memory: {type: int, description: Memory of the host in bytes.}
cpus: {type: int, description: Processors that the host has.}
uid: {type: int, description: "User that deploys, on the host."}
gid: {type: int, description: "Group that deploys, on the host."}
developer:
  description: In development, whom front end and back end run as, on the host and in their containers; else empty.
  type: dict
missing:
  description: C(path) and C(kind), C(directory) or C(file), of what mounts need on the host and is not there.
  type: list
  elements: dict
mapping:
  description: How the engine maps users of containers to those of the host; C(rootless), C(userns) or empty.
  type: str
seccomp: {type: bool, description: Whether the engine filters the system calls of containers.}
selinux:
  description: Whether the engine labels containers for SELinux, which keeps them from files without a label.
  type: bool
scheduler: {type: str, description: "What starts backups by itself on this host; C(systemd), C(cron) or empty."}
linger:
  description: Name of the user whose units of systemd would end with the last logout; empty if they would not.
  type: str
firewalls: {type: list, elements: str, description: "Firewalls that are on, of C(ufw) and C(firewalld)."}
run_options:
  description: Options of C(docker run) with which a container knows the users of the host.
  type: list
  elements: str
docker_socket: {type: str, description: Path of the engine's socket.}
socket_group:
  description: Number in a container of the group that may use the engine's socket; none if there is no such socket.
  type: int
engine: {type: str, description: "Address of the engine that Docker's client talks to, as C(DOCKER_HOST) takes it."}
folder_problems: {type: list, elements: str, description: Sentences on folders that are somebody else's.}
record: {type: dict, description: What config_tree has recorded in the folder; empty if nothing.}
strangers: {type: list, elements: str, description: Folders of other Compose projects of the same name.}
foreign: {type: list, elements: str, description: Networks and volumes with names of the stack's that are not the stack's.}
stack_dir: {type: str, description: Absolute path of the option O(stack_dir).}
lock:
  description: The C(other) run that has the stack, empty if this one has it; whether it is C(new) that it does, and
    whether the folder was C(made) for that.
  type: dict
state: {type: dict, description: "What the last run left for this one, from C(state.json)."}
mode: {type: str, description: C(app_mode) of what was rendered last; empty if nothing was.}
rendered: {type: bool, description: Whether a Compose file has been written before.}
images: {type: dict, description: "Of each known image its id, user, labels and what it starts, by name."}
released: {type: bool, description: Whether what is rendered is the newest release that was kept.}
release: {type: int, description: Number of the newest release that was kept; 0 if there is none.}
watchdog: {type: str, description: Version of the watchdog that runs; empty if there is none.}
outdated: {type: list, elements: str, description: Services of which a container is not what the last run has rendered.}
containers:
  description: Containers of the project with service, name, image, state, status and ports.
  type: list
  elements: dict
dumps:
  description: Which dumps the database was made from, and which the last run has seen; empty if that is not known.
  type: dict
running: {type: dict, description: "How many containers run of each service, in a Swarm on all nodes together."}
tree: {type: dict, description: "Mode, owner and digest of each rendered file and folder, by its path."}
load_balancers:
  description: For each load balancer C(version) of the configuration that it runs, servers that are C(up), first numbers of
    the definitions that are C(needed) for that, and C(requests) that it has counted so far.
  type: dict
pools: {type: dict, description: Networks that are C(missing) and how many address ranges are C(free) for them.}
networks:
  description: Networks of the project with their options, address ranges and containers, by their name in Compose.
  type: dict
database_volume: {type: bool, description: Whether the data volume exists.}
certificate: {type: str, description: "The deployed certificate, PEM without its key; empty if there is none."}
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_folder import folder_problem  # noqa: E402
from ansible.module_utils.stack_host import closed_folder  # noqa: E402
from ansible.module_utils.stack_lock import claim, running  # noqa: E402
from ansible.module_utils.stack_module import running_module  # noqa: E402
from ansible.module_utils.stack_survey import QueryError, examine  # noqa: E402


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
    options = {
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
        "networks": {"type": "list", "elements": "str", "default": []},
        "tiers": {"type": "list", "elements": "str", "default": []},
        "asked": {"type": "dict", "default": {}},
    }
    with running_module(options, QueryError) as module:
        taken = lock(module, Path(module.params["stack_dir"]).resolve())
        module.exit_json(lock=taken, **examine({**module.params, **module.params["asked"]}))


if __name__ == "__main__":
    main()
