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
  - Before that it asks a server for the health path of the new configuration. One that answers with 4xx would be taken
    out, and with it all others, so the process keeps its configuration and the module fails.
  - Then waits until each backend has exactly the wanted number of servers that pass the checks of the process that runs now.
options:
  project:
    description: Project name of Compose.
    type: str
    required: true
  path:
    description: Folder that the other paths start from.
    type: path
    required: true
  load_balancers:
    description: The processes.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name for messages.
        type: str
        required: true
      socket:
        description: Master socket.
        type: str
        required: true
      version:
        description: Digest that the configuration on the disk bears as its C(description).
        type: str
        required: true
      backend:
        description: Backend whose servers are counted.
        type: str
        required: true
      servers:
        description: Servers that shall be up.
        type: int
        required: true
      port:
        description: Port of the servers.
        type: int
        required: true
      health_path:
        description: Path of their checks; empty, a connection is enough.
        type: str
        default: ""
      health_host:
        description: Host that their checks name.
        type: str
        default: localhost
  rotation:
    description: Wait for the servers; false before containers change, so that they are met by the new configuration.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for servers.
    type: int
    default: 60
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Tells which process would reload, and waits for nothing.
  diff_mode:
    support: full
    description: Shows the digests of the configurations.
"""

EXAMPLES = r"""
- name: Reload what has a new configuration and wait for the servers
  haproxy_converge:
    project: webstack
    path: ~/.local/share/webstack
    load_balancers:
      - {name: fe-lb, socket: fe-lb/run/master.sock, version: 0123456789abcdef, backend: fe, servers: 2, port: 8000}
"""

RETURN = r"""
reloaded:
  description: Names of the load balancers that reloaded.
  returned: always
  type: list
  elements: str
rotation:
  description: Servers that are up, by load balancer.
  returned: always
  type: dict
requests:
  description: C(requests) and C(failed) ones that each load balancer counts at the end; empty without O(rotation).
  returned: always
  type: dict
ended:
  description: The same of each process that has ended because of a reload.
  returned: always
  type: list
  elements: dict
"""

import contextlib  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TypeVar  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_haproxy import (  # noqa: E402
    ask,
    drop_state,
    frontend_counts,
    printable,
    read_servers,
    refused_advice,
    refused_checks,
    save_state,
    servers_passing,
    version,
)
from ansible.module_utils.stack_trouble import Watch, containers_of  # noqa: E402

T = TypeVar("T")
PAUSE = 0.2


class ConvergeError(Exception):
    """The text says what did not happen."""


def until(deadline: float, condition: Callable[[], T], what: str) -> T:
    """Return the first true value of ``condition``, asked again until ``deadline`` (monotonic seconds).

    Raises:
        ConvergeError: the time is over; the text says ``what`` did not happen.
    """
    while True:
        last = None
        try:
            value = condition()
        except OSError as error:
            value, last = None, error
        if value:
            return value
        if time.monotonic() > deadline:
            raise ConvergeError(what + (f" ({last})" if last else ""))
        time.sleep(PAUSE)


def reload_process(balancer: dict, root: Path, deadline: float) -> None:
    """Save the state of the servers and let one process read its configuration again.

    Raises:
        ConvergeError: it refused, and goes on with the configuration that it had.
    """
    master = root / balancer["socket"]
    save_state(master, balancer["port"])
    answer = ask(master, "reload", timeout=60)
    if "Success=1" not in answer:
        raise ConvergeError(f"{balancer['name']} refused its new configuration and keeps the old one: {printable(answer)}")
    until(
        deadline,
        lambda: version(ask(master, "@1 show info")) == balancer["version"],
        f"{balancer['name']} has reloaded, but does not run its new configuration.",
    )
    # A process that starts later, after other containers, must not take the addresses of today for its own.
    drop_state(master)


# Run in a load balancer's container, which alone reaches its servers; prints the status of an answer.
ASK = (
    'exec 3<>"/dev/tcp/$0/$1" || exit; '
    r"""printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$3" >&3; """
    'read -r -t 5 -u 3 _ status _; echo "$status"'
)


def try_checks(balancer: dict, root: Path, project: str) -> None:
    """Ask one of the servers that are up what a new configuration will ask all of them.

    Raises:
        ConvergeError: it answers with 4xx.
    """
    name = balancer["backend"]
    if not balancer["health_path"]:
        return
    servers = read_servers(ask(root / balancer["socket"], f"@1 show servers state {name}"))
    address = next((server.address for server in servers if server.up), "")
    if not address:
        return
    arguments = [address, str(balancer["port"]), balancer["health_path"], balancer["health_host"]]
    command = ["docker", "exec", f"{project}-{balancer['name']}-1", "timeout", "10", "bash", "-c", ASK, *arguments]
    # Whatever else goes wrong here says nothing of the configuration.
    code = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if code[:1] == "4":
        raise ConvergeError(
            f"{balancer['name']} keeps the configuration that it runs, with which it serves: {refused_advice(code, name)}."
        )


def wait_for_servers(balancer: dict, master: Path, project: str, deadline: float) -> int:
    """Wait until a backend has exactly the wanted number of servers up, and return it.

    Raises:
        ConvergeError: it has another number at ``deadline`` (monotonic seconds), or will have, for all that is seen.
    """
    name, wanted = balancer["backend"], balancer["servers"]
    watch = Watch(name, balancer["port"])

    def settled() -> bool:
        if servers_passing(ask(master, "@1 show stat"), name) == wanted:
            return True
        watch.look(partial(containers_of, project, name))
        if watch.final():
            raise ConvergeError("")
        return False

    try:
        until(deadline, settled, "")
    except ConvergeError as error:
        statistics = ask(master, "@1 show stat")
        code = refused_checks(statistics, name)
        found = servers_passing(statistics, name)
        why = (
            f"see the logs of {name}, and whether its port and health path ({name}_port, {name}_health_path) are what the"
            " application serves"
        )
        if code:
            why = refused_advice(code, name)
        if known := watch.known(settled=0):
            why = f"a container of {name} {next(iter(known.values()))}"
        raise ConvergeError(
            f"{balancer['name']} has {found} servers of {name} in rotation instead of {wanted}: {why}."
        ) from error
    return wanted


def converge(parameters: dict, check_mode: bool) -> dict:
    """Do what the module promises and return its result.

    Raises:
        ConvergeError: something did not happen in time.
    """
    root = Path(parameters["path"]).resolve()
    deadline = time.monotonic() + parameters["timeout"]
    result: dict = {"changed": False, "reloaded": [], "rotation": {}, "requests": {}, "ended": [], "diff": []}
    for balancer in parameters["load_balancers"]:
        master = root / balancer["socket"]
        wanted = balancer["version"]
        running = ""
        with contextlib.suppress(OSError):
            running = version(ask(master, "@1 show info"))
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
            result["diff"].append(
                {"before_header": header, "after_header": header, "before": running + "\n", "after": wanted + "\n"}
            )
            if not check_mode:
                if running:
                    try_checks(balancer, root, parameters["project"])
                    result["ended"].append({balancer["name"]: frontend_counts(master)})
                reload_process(balancer, root, deadline)
    if check_mode or not parameters["rotation"]:
        return result
    for balancer in parameters["load_balancers"]:
        master = root / balancer["socket"]
        result["rotation"][balancer["name"]] = wait_for_servers(balancer, master, parameters["project"], deadline)
        result["requests"][balancer["name"]] = frontend_counts(master)
    return result


def main() -> None:
    """Run the module."""
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "rotation": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
            "load_balancers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "socket": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "backend": {"type": "str", "required": True},
                    "servers": {"type": "int", "required": True},
                    "port": {"type": "int", "required": True},
                    "health_path": {"type": "str", "default": ""},
                    "health_host": {"type": "str", "default": "localhost"},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        result = converge(module.params, module.check_mode)
    except (ConvergeError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
