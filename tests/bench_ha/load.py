"""Send requests at a constant rate until stopped, and write a row of CSV for each one that has ended.

The rate does not depend on the answers: whatever is due is sent, even while others wait. Half of the requests go by
https, half by http; of each half, one half keeps its connections and the other opens one for each request. Runs in a
process of its own, because gevent changes how Python's sockets work.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import csv  # noqa: E402
import itertools  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import ClassVar  # noqa: E402
from weakref import WeakKeyDictionary  # noqa: E402

import gevent  # noqa: E402
import gevent.event  # noqa: E402
from geventhttpclient.connectionpool import ConnectionPool  # noqa: E402
from locust import FastHttpUser, task  # noqa: E402
from locust.env import Environment  # noqa: E402

# By https or http, on kept connections or on new ones.
KINDS = 4
COLUMNS = ("start", "kind", "status", "milliseconds", "error")
# Seconds between two requests of a client, longer where fewer than one client of each kind would be enough.
PERIOD = 0.2
# How many requests of a client may wait for an answer at a time.
CONCURRENCY = 300
# Seconds after which a kept connection is not used again, well before the edge closes it (`lb_timeouts.http_keep_alive`):
# a request that crosses the closing gets no answer, of which HTTP leaves it to clients to send it again.
IDLE = 5.0


class Client(FastHttpUser):
    """Sends a request in each period, whether the last one is answered or not."""

    abstract = True
    insecure = True
    concurrency = CONCURRENCY
    connection_timeout = network_timeout = 60.0
    headers: ClassVar[dict[str, str]] = {}
    method = "GET"
    path = "/"
    period = PERIOD
    offsets: Iterator[float]
    stopped = gevent.event.Event()

    def on_start(self) -> None:
        """Take a moment of the period that is this client's own, so that requests come evenly."""
        self.offset = next(self.offsets)
        # The library sends a request again, as often as this says, if its connection is closed without an answer.
        # What the edge loses has to be seen.
        pool = self.client.client.clientpool.get_client(self.host)._connection_pool
        pool.size = -1
        forget_idle(pool)
        gevent.sleep(self.wait_time())

    def wait_time(self) -> float:
        """Return the seconds until the next request is due; never late for good after a pause."""
        now = time.time() - self.offset
        return (round(now / self.period) + 1) * self.period - now

    @task
    def tick(self) -> None:
        """Send a request beside whatever is under way."""
        if not self.stopped.is_set():
            name = type(self).__name__
            gevent.spawn(self.client.request, self.method, self.path, name=name, headers=self.headers, allow_redirects=False)


def forget_idle(pool: ConnectionPool) -> None:
    """Let a pool take connections that have not been used for a while for closed."""
    returned: WeakKeyDictionary[object, float] = WeakKeyDictionary()
    keep, alive = pool.return_socket, pool._is_socket_alive

    def return_socket(sock: object) -> None:
        returned[sock] = time.monotonic()
        keep(sock)

    pool.return_socket = return_socket
    pool._is_socket_alive = lambda sock: time.monotonic() - returned[sock] < IDLE and alive(sock)


def kinds(http: str, https: str, method: str, path: str, clients: int, period: float) -> list[type[Client]]:
    """Return a class of clients for each kind of connection; each client sends a request in so many seconds."""
    closing = {"Connection": "close"}
    offsets = (number / clients * period for number in itertools.count())
    common = {"method": method, "path": path, "period": period, "offsets": offsets}
    return [
        type(f"{scheme} {name}", (Client,), {"host": base, "headers": headers, **common})
        for scheme, base in (("https", https), ("http", http))
        for name, headers in (("kept", {}), ("closed", closing))
    ]


def main() -> None:
    """Send requests until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("http", help="base of the requests by http")
    parser.add_argument("https", help="base of the requests by https")
    parser.add_argument("--rate", type=int, required=True, help="requests per second: a multiple of 20, or fewer than 20")
    parser.add_argument("--method", default="GET", help="how it is asked for")
    parser.add_argument("--path", default="/", help="what is asked for")
    arguments = parser.parse_args()
    rows = csv.writer(sys.stdout)
    rows.writerow(COLUMNS)

    def write(name, response_time, exception, start_time, response, **_) -> None:
        status = getattr(response, "status_code", 0) or 0
        rows.writerow((f"{start_time:.6f}", name, status, f"{response_time:.3f}", str(exception or "").splitlines()[:1]))

    clients = max(KINDS, round(arguments.rate * PERIOD))
    chosen = (arguments.http, arguments.https, arguments.method, arguments.path)
    environment = Environment(user_classes=kinds(*chosen, clients, clients / arguments.rate))
    environment.events.request.add_listener(write)
    runner = environment.create_local_runner()
    runner.start(clients, spawn_rate=100)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, Client.stopped.set)
    while not Client.stopped.wait(0.5):
        sys.stdout.flush()
    environment.runner.greenlet.kill(block=False)
    runner.quit()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
