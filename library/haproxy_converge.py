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
  project:
    description: Project name of Compose.
    type: str
    required: true
  path:
    description: Folder that the other paths start from.
    type: path
    required: true
  action:
    description: What to do.
    type: str
    choices: [try, reload, wait]
    default: wait
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
      file:
        description: Its configuration.
        type: str
        required: true
      version:
        description: Digest that the configuration on the disk bears as its C(description).
        type: str
        required: true
      configuration:
        description: The configuration, to try it.
        type: str
        default: ""
      transition:
        description: Configuration that comes before it, while old and new servers are there; to try it.
        type: str
        default: ""
      before:
        description: Configuration to go back to; empty, there is none.
        type: str
        default: ""
      backend:
        description: Backend whose servers are counted.
        type: str
        required: true
      servers:
        description: Servers that shall be up.
        type: int
        required: true
      definitions:
        description: By what servers are judged, the wanted definition first, each with C(first) and C(port).
        type: list
        elements: dict
        required: true
      patience:
        description: Seconds in which each server has been checked.
        type: float
        default: 5
      settings:
        description: Values of the settings by which servers are judged, for messages.
        type: dict
        default: {}
  compose:
    description: Compose file that is about to be written, which says whether containers are replaced.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for servers.
    type: int
    default: 60
author:
  - The webstack authors
attributes:
  check_mode:
    support: full
    description: Tries, tells which process would reload, and waits for nothing.
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
      - name: fe-lb
        socket: fe-lb/run/master.sock
        file: fe-lb/config/haproxy.cfg
        version: 0123456789abcdef
        backend: fe
        servers: 2
        definitions: [{first: 1, port: 8000}]
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

import contextlib  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TypeVar  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.stack_compose import list_command, outdated_services, read_list  # noqa: E402
from ansible.module_utils.stack_environment import clean_environment  # noqa: E402
from ansible.module_utils.stack_files import replace  # noqa: E402
from ansible.module_utils.stack_haproxy import (  # noqa: E402
    addresses_passing,
    ask,
    drop_state,
    failed_checks,
    frontend_counts,
    printable,
    read_servers,
    save_state,
    version,
)
from ansible.module_utils.stack_trial import (  # noqa: E402
    KINDS,
    Check,
    TrialError,
    passing,
    reason,
    trial_configuration,
    tried,
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


def running_version(master: Path) -> str:
    """Return the digest of what a process runs, empty if it does not answer."""
    try:
        return version(ask(master, "@1 show info"))
    except OSError:
        return ""


def addresses_up(balancer: dict, master: Path) -> set[str]:
    """Return the addresses that get requests."""
    servers = read_servers(ask(master, f"@1 show servers state {balancer['backend']}"))
    return {server.address for server in servers if server.up}


def is_replaced(balancer: dict, root: Path, project: str, compose: str) -> bool:
    """Tell whether a Compose file that is about to be written replaces the containers behind a load balancer."""
    tier = balancer["backend"]
    command = ["docker", "compose", "--project-name", project, "--project-directory", str(root), "--file", "-"]
    asked = [*command, "config", "--hash", tier]
    wanted = subprocess.run(asked, input=compose, capture_output=True, text=True, check=False)
    if wanted.returncode:
        # It is not valid, which is said when it would be written.
        return True
    listed = subprocess.run(list_command(project), capture_output=True, text=True, check=False).stdout
    containers = [container for container in read_list(listed) if container["service"] == tier]
    return tier in outdated_services(containers, wanted.stdout)


def try_configuration(balancer: dict, root: Path, parameters: dict) -> None:
    """Let the servers that are up be checked by a new configuration.

    Raises:
        ConvergeError: it would lose some.
    """
    master, tier = root / balancer["socket"], balancer["backend"]
    up = addresses_up(balancer, master)
    if not up:
        # Nothing serves, so nothing is lost; it may well be what helps.
        return

    def lost(configuration: str, definitions: list[dict]) -> tuple[int, Check | None]:
        """Return how many servers pass by none of some definitions, and what came of a check of one of them."""
        container = f"{parameters['project']}-{balancer['name']}-1"
        firsts = [definition["first"] for definition in definitions]
        checks = tried(container, trial_configuration(configuration, tier), firsts, up, balancer["patience"])
        missing = up - passing(checks)
        failed = [check for check in checks if check.address in missing]
        # What a server says that runs is asked by a definition of before, if there is one.
        return len(missing), max(failed, key=lambda check: check.first != firsts[0], default=None)

    definitions = balancer["definitions"]
    try:
        number, check = lost(balancer["configuration"], definitions[:1])
        changed = {key for key in definitions[0] if len({item.get(key) for item in definitions}) > 1}
        if number and changed and is_replaced(balancer, root, parameters["project"], parameters["compose"]):
            # New containers are judged by the new definition; here it is about those that run.
            number, check = lost(balancer["transition"], definitions)
            changed = set()
    except TrialError as error:
        raise ConvergeError(
            f"{balancer['name']} cannot try the checks of its new configuration ({error}), so it keeps the one that it runs."
            " Run this again."
        ) from error
    if number:
        why, advice = reason(check, number, len(up), tier, {**balancer["settings"], "changed": changed})
        kept = f"{balancer['name']} keeps the configuration that it runs, with which it serves"
        raise ConvergeError(f"{why}; {kept}. {advice}")


def try_all(parameters: dict) -> dict:
    """Try each new configuration and return the present ones.

    Raises:
        ConvergeError: one of them would lose servers.
    """
    root = Path(parameters["path"]).resolve()
    before = {}
    for balancer in parameters["load_balancers"]:
        runs = running_version(root / balancer["socket"])
        if runs in ("", balancer["version"]):
            continue
        try_configuration(balancer, root, parameters)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (root / balancer["file"]).read_text(encoding="utf-8")
            if version(text) == runs:
                before[balancer["name"]] = text
    return {"changed": False, "reloaded": [], "rotation": {}, "before": before}


def why_lost(balancer: dict, master: Path, failed: int, servers: int) -> tuple[str, str]:
    """Return why servers do not pass their checks, by the statistics of the process, and what to do."""
    checks = failed_checks(ask(master, "@1 show stat"), balancer["backend"], balancer["definitions"][0]["first"])
    check = next((Check(False, KINDS.get(kind, kind), code) for kind, code in checks), None)
    return reason(check, failed, servers, balancer["backend"], balancer["settings"])


def reload_process(balancer: dict, root: Path, deadline: float) -> None:
    """Save the state of the servers and let one process read its configuration again.

    Raises:
        ConvergeError: it refused it, or lost servers by it; the configuration of before is back, on the disk as well.
    """
    master, name = root / balancer["socket"], balancer["name"]
    up = len(addresses_up(balancer, master))
    save_state(master, balancer["definitions"])
    try:
        answer = ask(master, "reload", timeout=60)
        if "Success=1" not in answer:
            put_back(balancer, root)
            raise ConvergeError(f"{name} refused its new configuration and keeps the old one: {printable(answer)}")
        until(
            deadline,
            lambda: version(ask(master, "@1 show info")) == balancer["version"],
            f"{name} has reloaded, but does not run its new configuration.",
        )
        end = time.monotonic() + balancer["patience"]
        try:
            until(end, lambda: len(addresses_passing(ask(master, "@1 show stat"), balancer["backend"])) >= up, "")
        except ConvergeError as error:
            found = len(addresses_passing(ask(master, "@1 show stat"), balancer["backend"]))
            why, advice = why_lost(balancer, master, up - found, up)
            # The servers as they were before are still in the file, so that they get requests at once.
            back = put_back(balancer, root) and "Success=1" in ask(master, "reload", timeout=60)
            what = "is back at the configuration of before, with which it serves" if back else "has nothing to go back to"
            raise ConvergeError(f"{why}; {name} {what}. {advice}") from error
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
        ConvergeError: it has another number at ``deadline`` (monotonic seconds), or will have, for all that is seen.
    """
    name, wanted = balancer["backend"], balancer["servers"]
    watch = Watch(name, balancer["definitions"][0]["port"])

    def settled() -> bool:
        if len(addresses_passing(ask(master, "@1 show stat"), name)) == wanted:
            return True
        watch.look(partial(containers_of, project, name))
        if watch.final():
            raise ConvergeError("")
        return False

    try:
        until(deadline, settled, "")
    except ConvergeError as error:
        found = len(addresses_passing(ask(master, "@1 show stat"), name))
        why = f"there are more than the settings say; see docker ps, and the log of {balancer['name']}."
        if found < wanted:
            why = ". ".join(why_lost(balancer, master, wanted - found, wanted))
        if known := watch.known(settled=0):
            why = f"a container of {name} {next(iter(known.values()))}."
        raise ConvergeError(
            f"{balancer['name']} has {found} servers of {name} in rotation instead of {wanted}: {why}"
        ) from error
    return wanted


def converge(parameters: dict, check_mode: bool) -> dict:
    """Do what the module promises and return its result.

    Raises:
        ConvergeError: something did not happen in time.
    """
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
            result["diff"].append(
                {"before_header": header, "after_header": header, "before": running + "\n", "after": wanted + "\n"}
            )
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
    clean_environment()
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "action": {"type": "str", "choices": ["try", "reload", "wait"], "default": "wait"},
            "compose": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
            "load_balancers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
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
