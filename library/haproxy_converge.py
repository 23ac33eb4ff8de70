#!/usr/bin/python
"""Bring running load balancers to their rendered configuration and wait for their servers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_converge
short_description: Bring running HAProxy processes to their configuration and wait for their servers
description:
  - Asks each process over its master socket which configuration it has read (the global keyword
    C(description) holds a digest of it). If that is not the one on the disk, the state of the servers is
    saved and the process reloads in place; no connection is lost and no container is replaced.
  - An interrupted run leaves nothing behind that the next one would not notice.
  - O(action=try) comes before the configuration is written. A second HAProxy in the container of the first checks the
    running servers by the new configuration, and serves nobody. If fewer pass than are up, the module fails, unless the
    containers are replaced and O(load_balancers[].transition) judges them by what they serve.
  - O(action=reload) reloads. If fewer servers then pass their checks than were up, the configuration of before is put
    back and read again, and the module fails.
  - O(action=wait) does so as well, then waits until each backend has exactly the wanted number of servers that pass the
    checks of the process that runs now.
options:
  project: {type: str, required: true, description: Project name of Compose.}
  path: {type: path, required: true, description: Folder that the other paths start from.}
  action: {type: str, choices: [try, reload, wait], default: wait, description: What to do.}
  load_balancers:
    description: The processes.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: Name for messages.}
      socket: {type: str, required: true, description: Master socket.}
      file: {type: str, required: true, description: Its configuration.}
      version:
        description: Digest that the configuration on the disk bears as its C(description).
        type: str
        required: true
      configuration: {type: str, default: "", description: "The configuration, to try it."}
      transition:
        description: Configuration that comes before it, while old and new servers are there; to try it.
        type: str
        default: ""
      before: {type: str, default: "", description: "Configuration to go back to; empty, there is none."}
      backend: {type: str, required: true, description: Backend whose servers are counted.}
      servers: {type: int, required: true, description: Servers that shall be up.}
      definitions:
        description: By what servers are judged, the wanted definition first, each with C(first) and C(port).
        type: list
        elements: dict
        required: true
      patience: {type: float, default: 5, description: Seconds in which each server has been checked.}
      settings: {type: dict, default: {}, description: "Values of the settings by which servers are judged, for messages."}
  compose:
    description: Compose file that is about to be written, which says whether containers are replaced.
    type: str
    default: ""
  timeout: {type: int, default: 60, description: Seconds to wait for servers.}
attributes:
  check_mode: {support: full, description: "Tries, tells which process would reload, and waits for nothing."}
  diff_mode: {support: full, description: Shows the digests of the configurations.}
"""

EXAMPLES = r"""
- name: Reload what has a new configuration and wait for the servers
  haproxy_converge:
    project: webstack
    path: ~/.local/share/webstack
    load_balancers:
      - name: fe-lb
        socket: fe-lb/run/master.sock
        file: fe-lb/config/haproxy.cfg
        version: 0123456789abcdef
        backend: fe
        servers: 2
        definitions: [{first: 1, port: 8000}]
"""

RETURN = r"""
reloaded: {type: list, elements: str, description: Names of the load balancers that reloaded.}
rotation: {type: dict, description: "Servers that are up, by load balancer."}
requests:
  description: C(requests) and C(failed) ones that each load balancer counts at the end.
  returned: when action is wait
  type: dict
ended:
  description: The same of each process that has ended because of a reload.
  returned: when action is reload or wait
  type: list
  elements: dict
before:
  description: Configuration that each load balancer runs, as far as it is the one on the disk.
  returned: when action is try
  type: dict
"""

import time  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.stack_files import replace  # noqa: E402
from ansible.module_utils.stack_haproxy import (  # noqa: E402
    addresses_passing,
    ask,
    drop_state,
    failed_checks,
    frontend_counts,
    printable,
    save_state,
    version,
)
from ansible.module_utils.stack_module import RefusalError, difference, running_module, until  # noqa: E402
from ansible.module_utils.stack_rehearsal import addresses_up, running_version, try_all  # noqa: E402
from ansible.module_utils.stack_trial import KINDS, Check, reason  # noqa: E402
from ansible.module_utils.stack_trouble import Watch, containers_of  # noqa: E402


def why_lost(balancer: dict, master: Path, failed: int, servers: int) -> tuple[str, str]:
    """Return why servers do not pass their checks, by the statistics of the process, and what to do."""
    checks = failed_checks(ask(master, "@1 show stat"), balancer["backend"], balancer["definitions"][0]["first"])
    check = next((Check(False, KINDS.get(kind, kind), code) for kind, code in checks), None)
    return reason(check, failed, servers, balancer["backend"], balancer["settings"])


def reload_process(balancer: dict, root: Path, deadline: float) -> None:
    """Save the state of the servers and let one process read its configuration again.

    Raises:
        RefusalError: it refused it, or lost servers by it; the configuration of before is back, on the disk as well.
    """
    master, name = root / balancer["socket"], balancer["name"]
    up = len(addresses_up(balancer, master))
    save_state(master, balancer["definitions"])
    try:
        answer = ask(master, "reload", timeout=60)
        if "Success=1" not in answer:
            put_back(balancer, root)
            raise RefusalError(f"{name} refused its new configuration and keeps the old one: {printable(answer)}")
        until(
            deadline,
            lambda: version(ask(master, "@1 show info")) == balancer["version"],
            f"{name} has reloaded, but does not run its new configuration.",
        )
        end = time.monotonic() + balancer["patience"]
        try:
            until(end, lambda: len(addresses_passing(ask(master, "@1 show stat"), balancer["backend"])) >= up, "")
        except RefusalError as error:
            found = len(addresses_passing(ask(master, "@1 show stat"), balancer["backend"]))
            why, advice = why_lost(balancer, master, up - found, up)
            # The servers as they were before are still in the file, so that they get requests at once.
            back = put_back(balancer, root) and "Success=1" in ask(master, "reload", timeout=60)
            what = (
                "was put back to the previous configuration, with which it serves"
                if back
                else "has no previous configuration"
            )
            raise RefusalError(f"{why}; {name} {what}. {advice}") from error
    finally:
        # A process that starts later, after other containers, must not take the addresses of today for its own.
        drop_state(master)


def put_back(balancer: dict, root: Path) -> bool:
    """Write the configuration of before, if there is one, and tell whether there is."""
    if balancer["before"]:
        file = root / balancer["file"]
        found = file.stat()
        replace(file, balancer["before"], found.st_mode & 0o777, (found.st_uid, found.st_gid))
    return bool(balancer["before"])


def wait_for_servers(balancer: dict, master: Path, project: str, deadline: float) -> int:
    """Wait until a backend has exactly the wanted number of servers up, and return it.

    Raises:
        RefusalError: it has another number at ``deadline`` (monotonic seconds), or will have, for all that is seen.
    """
    name, wanted = balancer["backend"], balancer["servers"]
    watch = Watch(name, balancer["definitions"][0]["port"])

    def settled() -> bool:
        if len(addresses_passing(ask(master, "@1 show stat"), name)) == wanted:
            return True
        watch.look(partial(containers_of, project, name))
        if watch.final():
            raise RefusalError("")
        return False

    try:
        until(deadline, settled, "")
    except RefusalError as error:
        found = len(addresses_passing(ask(master, "@1 show stat"), name))
        why = f"there are more than the settings say; see docker ps, and the log of {balancer['name']}."
        if found < wanted:
            why = ". ".join(why_lost(balancer, master, wanted - found, wanted))
        if known := watch.known(settled=0):
            why = f"a container of {name} {next(iter(known.values()))}."
        raise RefusalError(
            f"{balancer['name']} has {found} servers of {name} in rotation instead of {wanted}: {why}"
        ) from error
    return wanted


def converge(parameters: dict, check_mode: bool) -> dict:
    """Do what the module promises and return its result (RefusalError: something did not happen in time)."""
    if parameters["action"] == "try":
        return try_all(parameters)
    root = Path(parameters["path"]).resolve()
    deadline = time.monotonic() + parameters["timeout"]
    result: dict = {"changed": False, "reloaded": [], "rotation": {}, "requests": {}, "ended": [], "diff": []}
    for balancer in parameters["load_balancers"]:
        master = root / balancer["socket"]
        wanted = balancer["version"]
        running = running_version(master)
        if not running and not check_mode:
            running = until(
                deadline,
                lambda master=master: version(ask(master, "@1 show info")),
                f"{balancer['name']} does not answer on {balancer['socket']}.",
            )
        if running != wanted:
            result["changed"] = True
            result["reloaded"].append(balancer["name"])
            header = f"{balancer['name']}: configuration of the running process"
            result["diff"].append(difference(header, f"{running}\n", f"{wanted}\n"))
            if not check_mode:
                result["ended"].append({balancer["name"]: frontend_counts(master)})
                reload_process(balancer, root, deadline)
    if check_mode or parameters["action"] != "wait":
        return result
    for balancer in parameters["load_balancers"]:
        master = root / balancer["socket"]
        result["rotation"][balancer["name"]] = wait_for_servers(balancer, master, parameters["project"], deadline)
        result["requests"][balancer["name"]] = frontend_counts(master)
    return result


def main() -> None:
    """Run the module."""
    balancer = {
        "name": {"type": "str", "required": True},
        "socket": {"type": "str", "required": True},
        "file": {"type": "str", "required": True},
        "version": {"type": "str", "required": True},
        "configuration": {"type": "str", "default": ""},
        "transition": {"type": "str", "default": ""},
        "before": {"type": "str", "default": ""},
        "backend": {"type": "str", "required": True},
        "servers": {"type": "int", "required": True},
        "definitions": {"type": "list", "elements": "dict", "required": True},
        "patience": {"type": "float", "default": 5},
        "settings": {"type": "dict", "default": {}},
    }
    options = {
        "project": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "action": {"type": "str", "choices": ["try", "reload", "wait"], "default": "wait"},
        "compose": {"type": "str", "default": ""},
        "timeout": {"type": "int", "default": 60},
        "load_balancers": {"type": "list", "elements": "dict", "required": True, "options": balancer},
    }
    with running_module(options) as module:
        module.exit_json(**converge(module.params, module.check_mode))


if __name__ == "__main__":
    main()
