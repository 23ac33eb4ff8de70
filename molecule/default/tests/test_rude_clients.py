"""Clients that take too much are stopped at the edge, and others get every answer."""

import contextlib
import ipaddress
import json
import socket
import subprocess
import time

import ha
import pytest
from stack import PROJECT, run

PYTHON = "webstack/python:3.14-debian"
LIMITS = {"body": "100M", "headers": "15K", "connections": 200, "requests": 30}
# Requests per second of the others; the flood takes its share of the same processors.
RATE = min(40, ha.RATE)
# Seconds that a client may take for the headers of a request.
HEADERS_WITHIN = 5
# Connections of the slow client, requests per second of the flood, and for how many seconds others are watched meanwhile.
SLOW, FLOOD, SECONDS = 400, 400, 5
# Requests per second that the client of the flood sends later on, well within the limit, and for how long.
CALM, CALM_SECONDS = 10, 5


@pytest.fixture(scope="module", name="limited")
def stricter_limits(stack):
    timeouts = {**stack.settings["lb_timeouts"], "http_request": f"{HEADERS_WITHIN}s"}
    settings = {"edge_limits": LIMITS, "edge_trusted": [gateway(stack)], "lb_timeouts": timeouts}
    stack.playbook("site.yml", "-e", json.dumps(settings))
    yield stack
    stack.playbook("site.yml")


def gateway(stack):
    """Return the address that clients of this machine have for the edge."""
    network = json.loads(run("docker", "network", "inspect", f"{stack.name}_edge").stdout)[0]
    configuration = network["IPAM"]["Config"][0]
    # Where the range was given, the engine takes its first address and does not say so.
    return configuration.get("Gateway") or str(next(ipaddress.ip_network(configuration["Subnet"]).hosts()))


def raw(stack, data, seconds=20):
    """Send bytes and return the status of the answer and how long it took."""
    begin = time.monotonic()
    with socket.create_connection((stack.address, stack.port("http")), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        answer = connection.recv(1000)
    return (int(answer.split()[1]) if answer else 0), time.monotonic() - begin


@contextlib.contextmanager
def rude(stack, *arguments):
    """Run clients of another address; yield, once they have begun, a dictionary that in the end holds what came of them."""
    container = [f"--network={stack.name}_edge", f"--volume={PROJECT}/tests/rude.py:/rude.py:ro", "--entrypoint=python"]
    command = ["docker", "run", "--rm", *container, PYTHON, "/rude.py", "edge.fe-lb", "8080", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    outcome = {}
    try:
        process.stdout.readline()
        yield outcome
    finally:
        outcome.update(json.loads(process.communicate(timeout=120)[0]))


def test_body_that_is_too_large_is_refused(stack):
    status, seconds = raw(stack, b"POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\nname=")
    assert status == 413
    assert seconds < 2
    assert stack.request().status == 200


def test_headers_that_are_too_large_are_refused(stack):
    fits = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 14000 + b"\r\n\r\n"
    assert raw(stack, fits)[0] == 200
    assert raw(stack, fits.replace(b"a" * 14000, b"a" * 20000))[0] in (400, 431)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nname=",
    ],
    ids=["headers", "body"],
)
def test_client_that_stops_amid_a_request_is_not_waited_for(stack, data):
    status, seconds = raw(stack, data)
    assert status == 408
    assert seconds < 12


def borne(stack, kind, *arguments):
    """Send rude clients beside others, who have to get every answer, and return what came of the rude ones."""
    with ha.Load(stack, rate=RATE) as load, rude(stack, kind, *arguments, 2 * SECONDS) as outcome, load.event(kind) as busy:
        time.sleep(SECONDS)
    print(f"{busy.describe()}\n{outcome}")
    assert len(busy.requests) > RATE * SECONDS / 2
    assert not busy.failed, busy.describe()
    return outcome


def test_slow_clients_are_borne(limited):
    outcome = borne(limited, "slow", SLOW)
    # Those beyond the limit of one client are hung up on, the others are told after a while.
    assert outcome["found"]["refused"] >= SLOW - LIMITS["connections"]
    assert set(outcome["found"]) <= {"refused", "408"}
    assert outcome["longest"] < HEADERS_WITHIN + 3


def test_flood_is_borne(limited):
    outcome = borne(limited, "flood", FLOOD)
    assert outcome["found"]["429"] > FLOOD * SECONDS / 2
    # Who slows down is served again.
    with rude(limited, "flood", CALM, CALM_SECONDS) as later:
        pass
    # The load balancer counts by seconds: for up to two of them the flood is not forgotten.
    assert later["found"].get("429", 0) <= 2 * CALM
    assert later["found"]["200"] >= (CALM_SECONDS - 3) * CALM


def test_answers_are_protected_and_tell_nothing(stack):
    headers = stack.request(scheme="https").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    # The sample sends its own, which stays.
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Server"] is None
    assert headers["X-Powered-By"] is None
