"""Which ports of a host are free to be published.

An address and a port belong together: that a stack has port 8080 of one address says nothing of another one.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.stack_host import read_text


def port_problem(wanted: dict, project: str, published: list[dict], rootless: bool = False) -> str | None:
    """Return why a port of this host cannot be published, or None.

    Args:
        wanted: ``address``, ``port``, ``protocol``, and the ``service`` that shall publish it.
        project: the stack that it belongs to.
        published: what containers publish, from ``stack_compose.read_published``.
        rootless: whether the engine has no more rights than this user.
    """
    address, port, protocol = wanted["address"], int(wanted["port"]), wanted["protocol"]
    near = [item for item in published if (item["port"], item["protocol"]) == (port, protocol)]
    # The container that has them is replaced by the one that shall, and one that stays has them already.
    own = [item for item in near if (item["project"], item["service"]) == (project, wanted["service"])]
    others = [item for item in near if item not in own]
    if any(item["address"] == address for item in own):
        return None
    for item in [item for item in others if overlap(address, item["address"])]:
        if item["project"] == project:
            return (
                f"port {port} of {address} is taken by the container {item['container']} of this stack; choose another one,"
                " or give that container another one in a run before this one"
            )
        return f"port {port} of {address} is taken by {container(item)}; stop that or choose another port"
    if rootless and port < unprivileged() and not may_bind():
        return (
            f"port {port} is below {unprivileged()}, which a rootless engine may not publish; choose a higher one, or set"
            f" net.ipv4.ip_unprivileged_port_start to {port} on the host"
        )
    return bind_problem(address, port, protocol, {item["address"] for item in own}, others)


def bind_problem(address: str, port: int, protocol: str, own: set[str], others: Sequence[dict] = ()) -> str | None:
    """Return why this host does not give a port, or None.

    Args:
        address: of this host.
        port: a number.
        protocol: ``tcp`` or ``udp``.
        own: addresses of that port that the stack itself has, which are no obstacle.
        others: what other containers publish of that port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if protocol == "tcp":
            # Binding alone succeeds beside a listener that allows it; listening does not.
            socket.create_server((address, port), family=family).close()
        else:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                if family == socket.AF_INET6:
                    # As the engine does it: IPv4 is not concerned.
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            inodes = {inode for found, inode in listeners(port, protocol) if found not in own and overlap(address, found)}
            if own and not inodes:
                return None
            # The engine's proxy may have an address that its list does not show.
            by = f" by {container(others[0])}" if others else owner(inodes)
            return f"port {port} of {address} is taken{by}; stop that or choose another port"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"bind_address {address} is no address of this host; give one of its own, or 0.0.0.0"
        # The engine may bind where this user may not (ports below 1024).
        if error.errno not in (errno.EACCES, errno.EPERM):
            return f"port {port} of {address} cannot be used ({os.strerror(error.errno)}); choose another"
    return None


def container(item: dict) -> str:
    """Return what a message calls a container of ``stack_compose.read_published``."""
    return f"the container {item['container']}{' of the project ' * bool(item['project'])}{item['project']}"


def overlap(one: str, other: str) -> bool:
    """Tell whether whoever listens on one address keeps others from the other one."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first == second:
        return True
    if first.version != second.version:
        return False
    return first.is_unspecified or second.is_unspecified


def listeners(port: int, protocol: str) -> list[tuple[str, str]]:
    """Return address and inode of each socket of this host that takes connections or datagrams on a port, from proc(5)."""
    texts = [read_text(Path("/proc/net", table)) for table in (protocol, f"{protocol}6")]
    found = [item for text in texts for item in read_listeners(text, protocol)]
    return [(address, inode) for address, number, inode in found if number == port]


def read_listeners(table: str, protocol: str) -> list[tuple[str, int, str]]:
    """Return address, port and inode of each socket in a table of proc(5) that takes connections or datagrams."""
    found = []
    for line in table.splitlines():
        # Local address, state (0A: TCP listens, 07: UDP is open), inode of the socket; a line of headings has another form.
        fields = line.split()
        if not fields or not fields[0].endswith(":") or fields[3] != ("0A" if protocol == "tcp" else "07"):
            continue
        words, number = fields[1].split(":")
        packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
        address = ipaddress.ip_address(packed)
        mapped = getattr(address, "ipv4_mapped", None)
        found.append((str(mapped or address), int(number, 16), fields[9]))
        if address == ipaddress.ip_address("::"):
            # Most programs take IPv4 on it as well.
            found.append(("0.0.0.0", int(number, 16), fields[9]))  # noqa: S104 (read, not bound)
    return found


def owner(inodes: set[str]) -> str:
    """Return `` by NAME (process N)`` for the process that has one of some sockets, as far as it may be seen."""
    names = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) in names for entry in (process / "fd").iterdir()):
                return f" by {(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return ""


def unprivileged() -> int:
    """Return the first port that any user may bind."""
    return int(read_text(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")) or 1024)


def may_bind() -> bool:
    """Tell whether the program by which a rootless engine publishes has a capability, as its manual tells to give it one."""
    program = shutil.which("rootlesskit")
    try:
        return bool(program and os.getxattr(program, "security.capability"))
    except OSError:
        return False
