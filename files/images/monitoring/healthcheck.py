"""Exit 0 if this container's own server answers 200 for the path that is given, else 1.

Uses sockets alone: it runs every half minute, and an HTTP client would take longer to import than the check itself.
"""

import os
import socket
import sys


def answers(name: str, port: int, path: str, timeout: float = 3.0) -> bool:
    """Tell whether ``GET path`` at ``name`` and ``port`` is answered with 200 within ``timeout`` seconds."""
    try:
        with socket.create_connection((name, port), timeout=timeout) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if answers(os.environ["LISTEN_NAME"], int(os.environ["PORT"]), sys.argv[1]) else 1)
