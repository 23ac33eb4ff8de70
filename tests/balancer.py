"""Servers behind a load balancer and clients before it, for tests/unit/test_balancer.py.

In a container: python balancer.py serve, or python balancer.py FUNCTION JSON, which calls a function of the clients below
with the arguments that the JSON holds and prints what it returns as JSON. Needs no more than the standard library.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import socket
import sys
import threading
import time
import urllib.parse
from collections import Counter

PORT = 8000
# From RFC 6455.
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TIMEOUT = 10
# Seconds after which paths are answered.
PAUSES = {"/slow": 0.2, "/wait": 1}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with its own name and the request as JSON; a path may ask for something else.

    Says as "busy" how many requests it was serving when this one came.

    /own: with headers of the application's own; /drop/NAME: the server of that name closes the connection without an answer;
    /deaf/NAME: the server of that name takes no more connections; /socket: a WebSocket that sends back what it gets;
    /slow: a fifth of a second later; /wait: a second later; /work: when 12 ms of the only worker are free, for which health
    checks wait as well; /odd/NAME: the server of that name pauses for five seconds in each second one;
    /sick and /well: from now on its health check fails, or passes.
    """

    protocol_version = "HTTP/1.1"
    sick = False
    busy = 0
    odd = 0
    lock = threading.Lock()
    worker = threading.Semaphore()

    def do_GET(self) -> None:
        """Serve a request of any method, and count it while it is served."""
        with self.lock:
            type(self).busy += 1
            self.now = self.busy
        try:
            self.serve()
        finally:
            with self.lock:
                type(self).busy -= 1

    def serve(self) -> None:
        """Answer a request, and print it unless it is a health check."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        if path != "/healthz":
            print(json.dumps({"method": self.command, "query": query}), flush=True)
        elif self.sick:
            self.send_error(500)
            return
        elif not self.headers["Host"].partition(":")[0].endswith(".example"):
            # As applications do that serve certain hosts alone.
            self.send_error(400)
            return
        name = socket.gethostname()
        if path in ("/sick", "/well"):
            type(self).sick = path == "/sick"
        time.sleep(PAUSES.get(path, 0))
        if path in ("/work", "/healthz"):
            with self.worker:
                time.sleep(0.012 if path == "/work" else 0)
        if path == f"/odd/{name}":
            type(self).odd += 1
            time.sleep(5 * (self.odd % 2))
        if path == f"/drop/{name}":
            self.close_connection = True
            return
        if path == "/socket":
            self.echo()
            return
        if path == f"/deaf/{name}":
            self.server.shutdown()
            self.server.server_close()
        answer = {
            "name": name,
            "method": self.command,
            "path": self.path,
            "body": len(body),
            "busy": self.now,
            "headers": self.headers.items(),
        }
        content = json.dumps(answer).encode()
        self.send_response_only(200)
        own = {"X-Frame-Options": "SAMEORIGIN", "Server": "own/1.0", "X-Powered-By": "own", "X-Secret": "own"}
        for key, value in (own if path == "/own" else {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 (named by http.server)

    def echo(self) -> None:
        """Upgrade to a WebSocket and send every byte back, until the client closes."""
        key = self.headers["Sec-WebSocket-Key"] + MAGIC
        self.send_response_only(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())  # noqa: S324
        self.end_headers()
        while data := self.rfile.read1(1000):
            self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Say nothing: what is printed are the requests."""


class Server(http.server.ThreadingHTTPServer):
    """A server that many may connect to at once."""

    request_queue_size = 128


def serve(sick: bool) -> None:
    """Serve until the container is removed, also after the server has stopped to listen; ``sick``: its check fails."""
    Handler.sick = sick
    Server(("0.0.0.0", PORT), Handler).serve_forever(poll_interval=0.01)  # noqa: S104 (in a container)
    threading.Event().wait()


def get(url: str, headers: dict[str, str] | None = None) -> list:
    """Return status, headers with names in lower case, and text of an answer to GET."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)) as connection:
        connection.request("GET", parts.path or "/", headers=headers or {})
        answer = connection.getresponse()
        return [answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read().decode()]


def names(url: str, number: int) -> list[str]:
    """Return the names of the servers that answer so many requests, each once."""
    answers = [get(url) for _ in range(number)]
    return sorted({json.loads(text)["name"] for status, _, text in answers if status == 200})


def flood(host: str, port: int, number: int) -> list:
    """Send requests as fast as they are answered.

    Return how many answers had which status, and the headers of the last one.
    """
    found: Counter[int] = Counter()
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=TIMEOUT)) as connection:
        for _ in range(number):
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            found[answer.status] += 1
    return [found, dict(answer.getheaders())]


def hold(host: str, port: int, number: int) -> list[bool]:
    """Open connections one after another and keep them; return of each whether a request on it is answered."""
    answered = []
    with contextlib.ExitStack() as opened:
        for _ in range(number):
            beginning = b""
            # Who is refused may be told while it connects, while it sends, or while it waits.
            with contextlib.suppress(ConnectionError):
                connection = opened.enter_context(socket.create_connection((host, port), timeout=TIMEOUT))
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                beginning = connection.recv(5)
            answered.append(beginning == b"HTTP/")
    return answered


def listening(addresses: list[str], ports: list[int]) -> dict[str, list[int]]:
    """Return on which ports something listens at each address."""
    found: dict[str, list[int]] = {}
    for address in addresses:
        found[address] = []
        for port in ports:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((address, port), timeout=TIMEOUT).close()
                found[address].append(port)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sick="sick" in sys.argv[2:])
    else:
        function = {action.__name__: action for action in (get, names, flood, hold, listening)}[sys.argv[1]]
        print(json.dumps(function(*json.loads(sys.argv[2]))))
