"""Talking to HAProxy over its master socket."""

from __future__ import annotations

import contextlib
import csv
import ipaddress
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Bits of srv_admin_state and srv_check_state, and values of srv_op_state (HAProxy's management guide, "show servers state").
FORCED_MAINTENANCE, FORCED_DRAIN = 0x01, 0x08
CHECKS_CONFIGURED, CHECKS_ENABLED = 0x02, 0x04
MAINTENANCE = FORCED_MAINTENANCE | 0x02 | 0x04 | 0x20 | 0x40
STOPPED, RUNNING = 0, 2
# The address of a slot that holds no server.
EMPTY = "0.0.0.0"  # noqa: S104 (nothing listens there)
# Codes of a check that has passed.
PASSED = ("L4OK", "L6OK", "L7OK", "L7OKC")
# The numbers with which the servers of a definition begin (stack_trial.py): more than lb_slots apart.
FIRSTS = (1, 10001)
# What the names of a tier's backends end with: the one that requests go to, the one for streams, and the one without checks
# of the application (haproxy.cfg.j2). Each has its own slots.
SUFFIXES = ("", "-streams", "-open")
# What a state file says of a check that has not been made yet: HCHK_STATUS_INI and CHK_RES_UNKNOWN of HAProxy's sources.
UNCHECKED = {"srv_check_status": "1", "srv_check_result": "0"}
# Bytes that an answer may have: some thousand servers with a line of statistics each.
ANSWER_SIZE = 8 << 20
# Characters of an answer that are shown to a person.
SHOWN = 500
# File with the state of the servers, which HAProxy's configuration names.
STATE = "state"
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
NUMBER = re.compile(r"[0-9]{1,20}")
# Answers that a server has given; those of 5xx may be the load balancer's own.
ANSWERS = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx")
NUMBERS = {*ANSWERS, "act", "rate", "scur", "stot", "req_tot", "hrsp_5xx", "econ", "eresp"}


class AnswerError(OSError):
    """What answers is not HAProxy, or not in the form that it has."""


def ask(path: Path, command: str, timeout: float = 10) -> str:
    """Return the answer of a master socket to one command.

    The socket lies in a folder of the container, so neither it nor what answers is trusted: a link is not followed, the
    answer has an end in time and size, and whoever reads it takes what it has the form of, and nothing else.

    Raises:
        OSError: no whole answer comes within ``timeout`` seconds (``AnswerError``: what comes is no answer).
    """
    deadline = time.monotonic() + timeout
    with opened(path.parent) as folder:
        found = os.open(path.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise AnswerError(f"{path} is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            # By its descriptor (proc(5)): its name may mean something else by now, and holds 108 bytes at most.
            connection.connect(f"/proc/self/fd/{found}")
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while True:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
                if len(answer) > ANSWER_SIZE:
                    raise AnswerError(f"{path} answers more than {ANSWER_SIZE} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} does not come to an end")
    finally:
        os.close(found)
    return answer.decode(errors="replace")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Yield a descriptor of a folder that is no link; what is done by it happens there, whatever its name means."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def printable(answer: str) -> str:
    """Return the beginning of an answer as it may be shown to a person: one line without control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in answer).split())[:SHOWN]


def version(text: str) -> str:
    """Return the digest in a configuration or in an answer to ``show info``; empty if there is none."""
    match = re.search(r"^[ \t]*description:?[ \t]+([0-9a-f]{1,64})$", text, re.MULTILINE)
    return match[1] if match else ""


def read_rows(statistics: str) -> Iterator[dict[str, str]]:
    """Return the rows of an answer to ``show stat``, by the names of their columns (management guide, 9.1).

    Raises:
        AnswerError: a row has not the form that HAProxy gives it.
    """
    try:
        for row in csv.DictReader(statistics.lstrip("# ").splitlines(), strict=True):
            named = all(NAME.fullmatch(row[column] or "") for column in ("pxname", "svname"))
            counted = all(NUMBER.fullmatch(row[column] or "0") for column in NUMBERS & row.keys())
            if not (named and counted) or row.get("status", "") is None:
                raise AnswerError("the statistics of the load balancer are not in HAProxy's form")
            yield row
    except (KeyError, csv.Error) as error:
        raise AnswerError("the statistics of the load balancer are not in HAProxy's form") from error


def servers_up(statistics: str, backend: str) -> int:
    """Return how many servers of a backend pass their checks, from an answer to ``show stat``."""
    # "UP", and "UP 1/2" while a check has just failed; "no check" does not occur here.
    return sum(row["status"].startswith("UP") for row in server_rows(statistics, backend))


def server_rows(statistics: str, backend: str) -> Iterator[dict[str, str]]:
    """Return the rows of the servers of a backend in an answer to ``show stat``."""
    return (r for r in read_rows(statistics) if r["pxname"] == backend and r["svname"] not in ("FRONTEND", "BACKEND"))


def addresses_passing(statistics: str, backend: str) -> set[str]:
    """Return the addresses of a backend that are up by a check of this very process, from an answer to ``show stat``.

    After a reload a server is up because it was, until the first check has come back; ``save_state`` sees to it that the
    check of the process before is not taken for one.
    """
    rows = server_rows(statistics, backend)
    passing = [row for row in rows if row["status"].startswith("UP") and row["check_status"].lstrip("* ") in PASSED]
    return {address_of(row) for row in passing}


@dataclass(frozen=True)
class Server:
    """One slot of a backend: its name, the address in it (empty: none), and its state in HAProxy's numbers."""

    name: str
    address: str
    operation: int
    administration: int
    backend: str = ""
    checks: int = CHECKS_CONFIGURED | CHECKS_ENABLED

    @property
    def path(self) -> str:
        """Return what HAProxy's commands call it."""
        return f"{self.backend}/{self.name}"

    @property
    def up(self) -> bool:
        """Whether it gets requests."""
        return bool(self.address) and self.operation == RUNNING and self.administration == 0

    @property
    def draining(self) -> bool:
        """Whether somebody has said that it shall get no new requests."""
        return bool(self.administration & FORCED_DRAIN)

    @property
    def kept_out(self) -> bool:
        """Whether somebody has said that it shall get no requests at all."""
        return bool(self.administration & FORCED_MAINTENANCE)

    @property
    def unchecked(self) -> bool:
        """Whether somebody has switched its checks off."""
        return bool(self.checks & CHECKS_CONFIGURED) and not self.checks & CHECKS_ENABLED


def read_servers(state: str) -> list[Server]:
    """Return the slots in an answer to ``show servers state``.

    Raises:
        AnswerError: a slot has not the form that HAProxy gives it.
    """
    lines = state.splitlines()
    header = next((line for line in lines if line.startswith("# ")), "").lstrip("# ").split()
    servers = []
    for line in lines:
        values = line.split()
        if line.startswith("#") or len(values) < len(header) or not header:
            continue
        fields = dict(zip(header, values))
        try:
            administration, operation = int(fields["srv_admin_state"]), int(fields["srv_op_state"])
            # In maintenance, because its name has no such address any more, a slot still shows the last one.
            address = "" if fields["srv_addr"] == "-" or administration & MAINTENANCE else fields["srv_addr"]
            if address:
                ipaddress.ip_address(address)
            name, backend, checks = fields["srv_name"], fields["be_name"], int(fields.get("srv_check_state", Server.checks))
        except (KeyError, ValueError) as error:
            raise AnswerError("the servers of the load balancer are not in HAProxy's form") from error
        if not NAME.fullmatch(name) or not NAME.fullmatch(backend):
            raise AnswerError("the servers of the load balancer are not in HAProxy's form")
        servers.append(Server(name, address, operation, administration, backend, checks))
    return servers


def by_address(servers: list[Server]) -> list[Server]:
    """Return one slot for each address: where there are two, because it is judged in two ways, one that is up."""
    return list({server.address: server for server in sorted(servers, key=lambda item: item.up) if server.address}.values())


def definitions_needed(servers: list[Server]) -> list[int]:
    """Return the first numbers of the definitions by which the servers are up; one of them if it is enough."""
    found: dict[int, set[str]] = {}
    for server in servers:
        if server.up:
            found.setdefault(first_of(server.name), set()).add(server.address)
    everything = set().union(*found.values())
    enough = [first for first, addresses in sorted(found.items()) if addresses == everything]
    return enough[:1] or sorted(found)


def number(server: str) -> int:
    """Return the number in the name of a server."""
    digits = server.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def first_of(server: str) -> int:
    """Return the first number of the definition that a server belongs to."""
    return max((first for first in FIRSTS if first <= number(server)), default=FIRSTS[0])


def backends(tier: str) -> list[str]:
    """Return the names that the backends of a tier may have; the first is the one that its requests go to."""
    return [f"{tier}{suffix}" for suffix in SUFFIXES]


def tier_servers(state: str, tier: str) -> list[Server]:
    """Return the slots of every backend of a tier, from an answer to ``show servers state``."""
    return [server for server in read_servers(state) if server.backend in backends(tier)]


def read_sessions(statistics: str) -> dict[str, int]:
    """Return how many requests each server is serving, by its path (``Server.path``), from an answer to ``show stat``."""
    return {f"{row['pxname']}/{row['svname']}": int(row["scur"] or 0) for row in read_rows(statistics)}


def address_of(row: dict[str, str]) -> str:
    """Return the address of the server in a row of ``show stat``, without its port; empty if there is none."""
    address = (row.get("addr") or "").rpartition(":")[0]
    return "" if address == EMPTY else address


def read_counts(statistics: str) -> dict[str, dict[str, int]]:
    """Return what a process has counted of each address and of the application's frontend, from an answer to ``show stat``.

    That is ``requests``, and ``failed`` ones, which ended with a status of 5xx or without an answer.
    """
    found: dict[str, dict[str, int]] = {}
    for row in read_rows(statistics):
        number = {key: int(row[key] or 0) for key in ("stot", "req_tot", "hrsp_5xx", "econ", "eresp")}
        if row["type"] == "0" and row["pxname"] == "application":
            found["FRONTEND"] = {"requests": number["req_tot"], "failed": number["hrsp_5xx"]}
        elif row["type"] == "2":
            known = found.setdefault(address_of(row), {"requests": 0, "failed": 0})
            known["requests"] += number["stot"]
            known["failed"] += number["hrsp_5xx"] + number["econ"] + number["eresp"]
    return found


def fails_open(statistics: str, tier: str) -> bool:
    """Tell from an answer to ``show stat`` whether requests go to servers whatever their checks say (``lb_panic_share``)."""
    rows = {row["pxname"]: row for row in read_rows(statistics) if row["svname"] == "BACKEND"}
    judged, rest = (rows.get(name, {}) for name in (tier, f"{tier}{SUFFIXES[-1]}"))
    return int(rest.get("rate") or 0) > 0 or (int(judged.get("act") or 0) == 0 and int(rest.get("act") or 0) > 0)


def frontend_counts(master: Path) -> dict[str, int]:
    """Return ``requests`` and ``failed`` ones of the application since a process has started; nothing if none answers."""
    try:
        return read_counts(ask(master, "@1 show stat")).get("FRONTEND", {})
    except OSError:
        return {}


def read_answers(statistics: str) -> dict[str, int]:
    """Return how many requests each address has answered, in all backends, from an answer to ``show stat``."""
    found: dict[str, int] = {}
    for row in read_rows(statistics):
        if address := address_of(row):
            found[address] = found.get(address, 0) + sum(int(row.get(column) or 0) for column in ANSWERS)
    return found


def read_checks(statistics: str, backend: str) -> dict[str, str]:
    """Return the code of each server's last check (``L7OK``, ``L7TOUT`` …), from an answer to ``show stat``."""
    return {row["svname"]: row["check_status"].lstrip("* ") for row in server_rows(statistics, backend)}


def failed_checks(statistics: str, backend: str, first: int = 0, servers: set[str] | None = None) -> list[tuple[str, str]]:
    """Return code (``L7STS``) and status (``404``, or nothing) of each failed check, from an answer to ``show stat``.

    Args:
        statistics: the answer.
        backend: whose servers are looked at.
        first: number of the definition that is looked at; 0: all.
        servers: some of them; None: all.
    """
    found = []
    for row in read_rows(statistics):
        if row["pxname"] != backend or (servers is not None and row["svname"] not in servers):
            continue
        kind = row["check_status"].lstrip("* ")
        if (first and first_of(row["svname"]) != first) or not re.fullmatch("L[467][A-Z]+", kind) or kind in PASSED:
            continue
        code = row.get("check_code") or ""
        found.append((kind, code if re.fullmatch("[0-9]{3}", code) else ""))
    return found


def save_state(master: Path, definitions: list[dict]) -> None:
    """Write what the process behind a master socket knows of its servers, for the one that follows.

    What its checks have said is left out: the next process asks other things, perhaps. So are slots whose name has no such
    address any more: another container may have got it, and two slots would contend for it.

    Args:
        master: its socket.
        definitions: those that the next process knows, by ``first`` and ``port``. Servers on another port are left out: a
            port in the file would outdo that of the configuration.

    Raises:
        OSError: nothing answers.
    """
    lines = ask(master, "@1 show servers state").splitlines()
    header = next((line for line in lines if line.startswith("# ")), "# srv_port").lstrip("# ").split()
    if not {"be_name", "srv_name", "srv_port"} <= set(header):
        raise AnswerError("the servers of the load balancer are not in HAProxy's form")
    ports = {int(definition["first"]): str(definition["port"]) for definition in definitions}
    kept: list[str] = []
    free: dict[tuple[str, int], int] = {}
    for line in lines:
        fields = line.split()
        if line.startswith("#") or len(fields) < len(header):
            kept.append(line)
            continue
        values = dict(zip(header, fields))
        try:
            away = int(values["srv_admin_state"]) & MAINTENANCE
        except (KeyError, ValueError) as error:
            raise AnswerError("the servers of the load balancer are not in HAProxy's form") from error
        first = first_of(values["srv_name"])
        if not away and values["srv_port"] == ports.get(first):
            # One after the other: an empty slot before it would take its address with the first answer of the DNS.
            place = free.setdefault((values["be_name"], first), first)
            values["srv_name"] = f"{values['srv_name'].rpartition('-')[0]}-{place}"
            free[values["be_name"], first] += 1
            kept.append(" ".join({**values, **{key: UNCHECKED[key] for key in UNCHECKED if key in values}}.values()))
    with opened(master.parent) as folder:
        put_state(folder, "\n".join(kept) + "\n")


def put_state(folder: int, text: str) -> None:
    """Write the file ``STATE``, readable to all, in a folder that others can write to.

    It is a new one of a random name, so that nothing that lies there is opened, and takes its place in one step, which
    follows no link.

    Args:
        folder: descriptor of the folder.
        text: what it shall hold.

    Raises:
        OSError: it could not be written.
    """
    temporary = f".{STATE}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(descriptor, 0o644)
        os.replace(temporary, STATE, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def drop_state(master: Path) -> None:
    """Remove what ``save_state`` has written; a link is removed, not followed.

    Raises:
        OSError: something that is no file is in its place.
    """
    with contextlib.suppress(FileNotFoundError), opened(master.parent) as folder:
        os.unlink(STATE, dir_fd=folder)
