"""Listen on the network of the load balancer, and on no other network of the container.

The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

import fcntl
import socket
import struct

# Asks an interface for its address (ioctl_list(2), Linux).
SIOCGIFADDR = 0x8915
BACKLOG = 2048


def own_addresses() -> set[str]:
    """Return the IPv4 addresses of this container's interfaces."""
    addresses = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
            except OSError:
                # An interface without an address.
                continue
            addresses.add(socket.inet_ntoa(answer[20:24]))
    return addresses


def listening_sockets(port: int, name: str) -> list[socket.socket]:
    """Return sockets that listen on ``port`` of loopback and of this container's address among those of ``name``.

    All replicas of a tier share the name, and only one network resolves it. Without a name: on every address.

    Raises:
        OSError: the name does not resolve, or to no address of this container.
    """
    addresses = ["0.0.0.0"]  # noqa: S104 (no name is set)
    if name:
        known = {item[4][0] for item in socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)}
        own = known & own_addresses()
        if not own:
            raise OSError(f"LISTEN_NAME: {name} stands for no address of this container")
        addresses = ["127.0.0.1", *sorted(own)]
    sockets = [socket.create_server((address, port), backlog=BACKLOG) for address in addresses]
    # Reopened by its descriptor, a socket has its protocol (TCP). Without it asyncio does not set TCP_NODELAY, and each
    # answer on a kept connection waits 40 ms for an acknowledgement.
    return [socket.socket(fileno=server.detach()) for server in sockets]
