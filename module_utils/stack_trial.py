"""How replicas are judged: which definitions a load balancer knows, trying one before it counts, and what came of it.

A definition is the port, the path and the host of a tier's health checks. While one takes the place of another the load
balancer knows both: each has servers of its own, told apart by their numbers, so that old and new replicas are judged by
what each of them serves.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import subprocess
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import quote

from ansible.module_utils.stack_haproxy import ANSWER_SIZE, FIRSTS, first_of, printable

KEYS = ("port", "health_path", "health_host")
# Seconds in which a check that has failed may pass yet; it is repeated every 200 ms.
SECOND_THOUGHT = 1.0
# Beginning of what is said of a check that has got an answer of a wrong status.
ANSWERED = "health checks are answered with"
# What HAProxy calls in its log what its statistics have a code for.
KINDS = {
    "L4CON": "Layer4 connection problem",
    "L4TOUT": "Layer4 timeout",
    "L7TOUT": "Layer7 timeout",
    "L7STS": "Layer7 wrong status",
}
RESULT = re.compile(
    r"Health check for server [^/\s]+/(\S+) (succeeded|failed), reason: ([^,\n]{1,80})(?:, code: ([0-9]{3}))?"
)
ADDRESS = re.compile(r"[^/\s]+/(\S+): IP changed from '[^'\n]*' to '([0-9a-fA-F.:]+)'")
# In a load balancer's container, which alone reaches its servers. It ends with the standard input, and in time.
SCRIPT = 'IFS= read -r -d "" text; timeout "$0" haproxy -f <(printf %s "$text") & read -r _; kill $! 2>/dev/null; wait'


class TrialError(Exception):
    """Nobody knows what the checks would say; the text says why."""


@dataclass(frozen=True)
class Check:
    """What came of a health check: its kind as HAProxy's log calls it, the status of the answer, and who was asked.

    ``first`` is the number of the definition that it was asked by.
    """

    passed: bool
    kind: str
    code: str = ""
    address: str = ""
    first: int = FIRSTS[0]


def check_definitions(wanted: dict, found: list[dict] | dict, balancer: dict) -> list[dict]:
    """Return the definitions that a load balancer has to know: the wanted one, then those that running replicas need.

    Each has the number of its first server as ``first``, which is 0 if there is no place for it.

    Args:
        wanted: port, health_path and health_host.
        found: what the last run has returned; of an earlier release one definition, perhaps without what it did not know.
        balancer: the ``version`` that the load balancer runs, empty if none, and as ``needed`` the first numbers of the
            definitions by which its servers are up.
    """
    known = [{"first": FIRSTS[0], "health_host": "localhost", **found}] if isinstance(found, dict) else found
    known = [definition for definition in known if "port" in definition]
    needed = balancer["needed"] if balancer.get("version") else [item["first"] for item in known[-1:]]
    kept = [item for item in known if item["first"] in needed]
    same = [item["first"] for item in known if all(item[key] == wanted[key] for key in KEYS)]
    taken = [item["first"] for item in kept]
    free = [first for first in FIRSTS if first not in taken]
    first = (same or free or [0])[0]
    return [{**wanted, "first": first}, *(item for item in kept if item["first"] != first)]


def check_field(definitions: list[dict], key: str) -> str:
    """Return an expression of HAProxy that is, of each server, what its definition says under ``key``.

    Everything but letters, digits and a few signs is encoded, so that no value means anything in a configuration.
    """
    parts = [
        f"%[srv_name,field(2,-),div({FIRSTS[1] - 1}),sub({FIRSTS.index(definition['first'])}),not,"
        f"iif({quote(str(definition[key]))},),url_dec]"
        for definition in definitions
    ]
    return "".join(parts)


def trial_configuration(text: str, backend: str) -> str:
    """Return what of a load balancer's configuration judges the servers of a backend, as one that serves nobody."""
    wanted = ("resolvers ", "defaults\n", f"backend {backend}\n")
    sections = [part for part in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if part.startswith(wanted)]
    lines = [
        line
        for line in "".join(sections).splitlines()
        # The servers of the process that serves, pages for people, and what is done with requests.
        if not line.strip().startswith(("load-server-state-from-file", "http-error", "http-re", "acl "))
    ]
    lines.insert(lines.index("defaults") + 1, "    option log-health-checks")
    # A process has to listen somewhere; no one can connect to a random abstract socket.
    own = ["global", "    log stdout format raw local0 info", "    maxconn 100", "    nbthread 1"]
    return "\n".join([*own, *lines, "frontend trial", f"    bind abns@{secrets.token_hex(8)}", ""])


def read_results(output: str) -> list[Check]:
    """Return what came last of the checks of each server, from the log of a HAProxy that tells of each of them."""
    addresses = {found[1]: found[2] for found in ADDRESS.finditer(output)}
    results = {
        found[1]: Check(found[2] == "succeeded", found[3], found[4] or "", addresses.get(found[1], ""), first_of(found[1]))
        for found in RESULT.finditer(output)
    }
    return list(results.values())


def passing(checks: list[Check]) -> set[str]:
    """Return the addresses that pass one of the checks."""
    return {check.address for check in checks if check.passed}


def tried(container: str, configuration: str, firsts: list[int], addresses: set[str], seconds: float) -> list[Check]:
    """Let a second HAProxy in a load balancer's container check its servers, and return what came of it.

    It is the program, the place and the configuration that will judge them.

    Args:
        container: name of the load balancer's container.
        configuration: from ``trial_configuration``.
        firsts: numbers of the definitions that matter; checks of others are left out.
        addresses: of the servers that matter; each has to pass by one of the definitions.
        seconds: how long that may take.

    Raises:
        TrialError: it did not run.
    """
    command = ["docker", "exec", "--interactive", container, "bash", "-c", SCRIPT, str(int(seconds) + 5)]
    deadline = time.monotonic() + seconds
    answer, since = bytearray(), 0.0
    checks: list[Check] = []
    with tempfile.TemporaryFile() as errors, selectors.DefaultSelector() as selector:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdin  # noqa: S101 (a pipe, as was asked for)
        assert process.stdout  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(configuration.encode() + b"\0")
            process.stdin.flush()
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and len(answer) < ANSWER_SIZE and addresses - passing(checks):
            if selector.select(0.1):
                part = os.read(process.stdout.fileno(), 65536)
                if not part:
                    break
                answer += part
                found = read_results(answer.decode(errors="replace"))
                checks = [check for check in found if check.first in firsts and check.address in addresses]
            if len(checks) < len(addresses) * len(firsts):
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > SECOND_THOUGHT:
                break
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        if not answer:
            errors.seek(0)
            why = errors.read(ANSWER_SIZE).decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise TrialError(printable(why[-1]))
    return checks


def brief(kind: str, code: str, tier: str) -> str:
    """Return in a few words why a replica fails a check and what to do, by the code of HAProxy's statistics."""
    if code:
        return (
            f"{ANSWERED} {code}: give {tier}_health_path a path that is open, and {tier}_health_host"
            " a host that the application answers"
        )
    if kind == "L4CON":
        return f"nothing listens on {tier}_port"
    return f"{KINDS.get(kind, kind)}: see {tier}_port, {tier}_health_path and lb_timeouts.check"


def who(failed: int, servers: int, tier: str) -> tuple[str, str]:
    """Return how some of a tier's replicas are called, and the ending of the verb that follows."""
    if servers == 1:
        return f"the only replica of {tier}", "s"
    if failed == servers:
        return f"{'both' if servers == 2 else f'all {servers}'} replicas of {tier}", ""
    return f"{failed} of {servers} replicas of {tier}", "s" if failed == 1 else ""


def reason(check: Check | None, failed: int, servers: int, tier: str, settings: dict) -> tuple[str, str]:
    """Return why replicas do not pass their checks, naming the setting, and a sentence on what to do.

    Args:
        check: what came of one of their checks; None: there was none.
        failed: how many do not pass.
        servers: how many there are.
        tier: its name.
        settings: by which they are judged: port, health_path, health_host, connect, check, interval; as ``changed`` those
            of the first three that differ from what runs.
    """
    them, ending = who(failed, servers, tier)
    path, port = f"{tier}_health_path", f"{tier}_port"
    if check is None:
        return (
            f"the checks of {failed} of {servers} replicas of {tier} came to no result",
            f"Look at the log of {tier}, and at {port} and {path}.",
        )
    if check.kind == KINDS["L7STS"]:
        named = [key for key in ("health_path", "health_host") if key in settings.get("changed", ())] or ["health_path"]
        values = " and ".join(f"{tier}_{key} is {settings[key]}" for key in named)
        return (
            f"{values} and {them} answer{ending} it with {check.code}",
            f"Give {path} a path that is answered with 2xx or 3xx, and {tier}_health_host a host that the application"
            " answers.",
        )
    if check.kind == KINDS["L4TOUT"]:
        return (
            f"lb_timeouts.connect is {settings['connect']}, lb_health_interval is {settings['interval']} and"
            f" {them} take{ending} no connection to port {settings['port']} in that time",
            f"Raise the one that is too short, and see {port}.",
        )
    if check.kind == KINDS["L7TOUT"]:
        return (
            f"lb_timeouts.check is {settings['check']} and {them} answer{ending} no check in that time",
            f"Raise it, or give {path} a path that is answered sooner.",
        )
    listens = f"{port} is {settings['port']} and {them}"
    if check.kind == KINDS["L4CON"]:
        advice = f"Give {port} the port that the application listens on, on all addresses."
        return f"{listens} take{ending} no connection there", advice
    failed_by = f"do{'es' if ending else ''} not pass the checks there ({printable(check.kind)})"
    return f"{listens} {failed_by}", f"See {port} and {path}."
