"""Filters that say why a user can have no engine in a run, or no services that go on without a login."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.stack_systemd import linger_refusal


def become_reason(result: dict[str, Any]) -> str:
    """Return why a task that was to run as root did not, in the words of what makes somebody root (``sudo``)."""
    lines = str(result.get("module_stderr") or result.get("msg") or "").splitlines()
    said = [line for line in (re.sub(r"^(/\S+: )?([0-9]+|line [0-9]+): ", "", line.strip()) for line in lines) if line]
    return said[-1] if said else "no reason given"


def engine_refusal(
    user: str, groups: list[str], group: str, refused: bool, missing: list[str], packages: list[str], reason: str
) -> str:
    """Return the sentence for a user who can have no engine in this run, or nothing.

    Args:
        user: who runs the playbook, on the host.
        groups: of the user at the next login.
        group: whose members may use the engine.
        refused: whether an engine runs and does not let the user in.
        missing: what has to be installed.
        packages: what has it; empty: not known for this distribution.
        reason: why the user may not become root; empty: the user may.
    """
    if refused and group == "root":
        return (
            "The engine's socket is for root alone: make a group docker (sudo groupadd docker), restart the engine, which"
            " then gives it the socket, and run this again."
        )
    if not reason:
        return ""
    if refused and not missing and group in groups:
        return f"{user} is in group {group}, but this login is older than that: log in again, then run this again."
    problems, steps = [], []
    if refused:
        problems.append(f"{user} may not use the engine, whose socket is for group {group}")
    if missing:
        problems.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        steps.append(f"install {', '.join(packages) or ' and '.join(missing)}")
    if (refused or "engine" in missing) and group not in groups:
        steps.append(f"run `sudo usermod -aG {group} {user}`")
    again = "log in again and run this again" if refused or "engine" in missing else "run this again"
    ask = "give ARGS=--ask-become-pass, or " if "password" in reason else ""
    return (
        f"This user may not become root ({reason}), and {', and '.join(problems)}: {ask}let somebody who may"
        f" {' and '.join(steps)}, then {again}."
    )


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "become_reason": become_reason,
            "engine_refusal": engine_refusal,
            "linger_refusal": linger_refusal,
        }
