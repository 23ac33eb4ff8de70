"""Trying the new configuration of a load balancer on its running servers, before it is written."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from ansible.module_utils.stack_compose import compose, listed, outdated_services
from ansible.module_utils.stack_haproxy import ask, read_servers, version
from ansible.module_utils.stack_module import RefusalError
from ansible.module_utils.stack_trial import Check, TrialError, passing, reason, trial_configuration, tried


def try_all(parameters: dict) -> dict:
    """Try each new configuration and return the present ones (RefusalError: one of them would lose servers)."""
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


def try_configuration(balancer: dict, root: Path, parameters: dict) -> None:
    """Let the servers that are up be checked by a new configuration (RefusalError: it would lose some)."""
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
        raise RefusalError(
            f"{balancer['name']} cannot try the checks of its new configuration ({error}), so it keeps the one that it runs."
            " Run this again."
        ) from error
    if number:
        why, advice = reason(check, number, len(up), tier, {**balancer["settings"], "changed": changed})
        kept = f"{balancer['name']} keeps the configuration that it runs, with which it serves"
        raise RefusalError(f"{why}; {kept}. {advice}")


def is_replaced(balancer: dict, root: Path, project: str, rendered: str) -> bool:
    """Tell whether a Compose file that is about to be written replaces the containers behind a load balancer."""
    tier = balancer["backend"]
    asked = [*compose(project, root, "-"), "config", "--hash", tier]
    wanted = subprocess.run(asked, input=rendered, capture_output=True, text=True, check=False)
    if wanted.returncode:
        # It is not valid, which is said when it would be written.
        return True
    containers = [container for container in listed(project) if container["service"] == tier]
    return tier in outdated_services(containers, wanted.stdout)


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
