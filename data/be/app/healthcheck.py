"""Exit 0 if this container's own /healthz answers 200, else 1.

It uses sockets, because it runs every few seconds in every replica, and an HTTP client takes longer
to import than the check takes.
The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

import os
import socket
import sys


def healthy(port: int, timeout: float = 2.0) -> bool:
    """Tell whether ``GET /healthz`` on ``port`` of this container answers 200 within ``timeout`` seconds."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(int(os.environ.get("PORT", "8000"))) else 1)
