"""Clients that take too much are stopped at the edge, and others do not notice."""

import contextlib
import json
import socket
import subprocess
import time

import pytest
from ha import Load
from stack import PROJECT, run

PYTHON = "webstack/python:3.14-debian"
LIMITS = {"body": "100M", "headers": "15K", "connections": 200, "requests": 30}
# What one client of the flood sends per second, and for how long.
FLOOD, SECONDS = 400, 15
START, ATTEMPTS = 2, 5
# What it sends later on, well within the limit.
CALM, CALM_SECONDS = 10, 6
SLOW = 400


@pytest.fixture(scope="module", name="limited")
def stricter_limits(stack):
    settings = ("-e", json.dumps({"edge_limits": LIMITS, "edge_trusted": [gateway(stack)]}))
    stack.playbook("site.yml", *settings)
    yield stack
    stack.playbook("site.yml")


def gateway(stack):
    """Return the address that clients of this machine have for the edge."""
    network = json.loads(run("docker", "network", "inspect", f"{stack.name}_edge").stdout)[0]
    return network["IPAM"]["Config"][0]["Gateway"]


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
    """Send rude clients beside others, and return what came of them.

    The others must get every answer, their 99th percentile at most twice that of quiet. What else the machine has to do may
    spoil a round; rude clients would spoil all of them.
    """
    for _ in range(ATTEMPTS):
        with Load(stack, rate=100) as load:
            with load.event("quiet") as quiet:
                time.sleep(SECONDS)
            with rude(stack, kind, *arguments, SECONDS + 5) as outcome:
                # Starting a container costs this machine more than what is in it does.
                time.sleep(START)
                with load.event(kind) as busy:
                    time.sleep(SECONDS)
        print(f"{quiet.describe()}\n{busy.describe()}\n{outcome}")
        assert not busy.failed
        if busy.percentile(99) <= 2 * quiet.percentile(99):
            return outcome
    pytest.fail(f"{kind} clients slow others down, {ATTEMPTS} times in a row")


@pytest.mark.long
def test_slow_clients_are_borne(limited):
    outcome = borne(limited, "slow", SLOW)
    # Those beyond the limit of one client are hung up on, the others are told after a while.
    assert outcome["found"]["refused"] >= SLOW - LIMITS["connections"]
    assert set(outcome["found"]) <= {"refused", "408"}
    assert outcome["longest"] < 12


@pytest.mark.long
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
