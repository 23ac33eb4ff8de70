"""More requests than the stack can serve, and checks that fail although the application serves."""

import asyncio
import time
import urllib.request
from collections import Counter

import pytest
import yaml
from ha import RATE, Events, Load, reload_balancer
from stack import PROJECT, changed, wait_until
from stack_haproxy import address_of, ask, backends, read_servers, server_rows

# A stack that takes its servers out, answers 503 and comes back now and then answers far less than this share of what it can
# serve. How close to all of it a quiet machine comes is measured by `make bench-overload`.
LEAST = 0.3
SECONDS = 5
# Requests each second: so few that those of one address that wait are fewer than edge_limits.connections.
MOST = 450
# Within so many seconds after the load everything is answered again.
RECOVERY = 2
GONE = "/gone-by-mistake"
# While something changes: the share of the capacity that is asked for, replicas of each tier, and the seconds that a request
# takes: so long that what the machine adds hardly counts, and so many that the others can do the work of one.
SHARE, REPLICAS, DELAY = 0.9, 16, 0.85
EVENTS = {
    "roll fe and be": lambda events: events.roll("fe", "be"),
    "scale fe up": lambda events: events.scale(REPLICAS + 4),
    "scale fe down": lambda events: events.scale(REPLICAS),
    "reload": lambda events: events.reload(1),
    "kill -9 of an fe": lambda events: events.kill("fe"),
    "kill -9 of a be": lambda events: events.kill("be"),
    "hanging fe": lambda events: events.pause("fe"),
    "hanging be": lambda events: events.pause("be"),
}


async def ask_once(port, found):
    """Send one request on a connection of its own; add its status (0: no answer)."""
    status = 0
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = int((await reader.readline()).split()[1])
            while await reader.read(65536):
                pass
            writer.close()
    except (OSError, IndexError, ValueError, TimeoutError):
        pass
    found.append((status, time.monotonic()))


async def offer(port, rate, seconds):
    """Send so many requests each second, whatever is answered; return their statuses with the moments of their ends."""
    found, begun, begin = [], [], time.monotonic()
    while time.monotonic() < begin + seconds:
        due = int((time.monotonic() - begin) * rate) - len(begun)
        begun += [asyncio.create_task(ask_once(port, found)) for _ in range(due)]
        await asyncio.sleep(0.01)
    await asyncio.gather(*begun)
    return found


async def serve(port, clients, seconds):
    """Return how many requests each second are answered if clients wait for each answer."""
    found, end = [], time.monotonic() + seconds

    async def client():
        while time.monotonic() < end:
            await ask_once(port, found)

    await asyncio.gather(*(client() for _ in range(clients)))
    return sum(status == 200 for status, _ in found) / seconds


def test_more_than_can_be_served_is_refused_and_the_rest_is_answered(stack):
    port = stack.port("http")
    capacity = asyncio.run(serve(port, 16, 3))
    found = asyncio.run(offer(port, min(4 * capacity, MOST), SECONDS))
    end = time.monotonic()
    statuses = Counter(status for status, _ in found)
    assert set(statuses) <= {200, 503}, statuses
    answered = sum(status == 200 for status, _ in found)
    assert answered > LEAST * capacity * SECONDS, f"{statuses}, {capacity:.0f} requests/s before"
    while (since := time.monotonic() - end) < RECOVERY:
        assert stack.request().status == 200, f"{since:.1f} s after the load"


def test_changes_and_faults_at_nine_tenths_of_the_capacity_lose_nothing(stack, tmp_path, capsys):
    """The limits leave places for so many requests, so the capacity does not depend on the machine."""
    places = max(1, round(RATE / SHARE * DELAY / REPLICAS))
    names = ("fe_environment", "be_environment")
    limits = dict.fromkeys(("fe_max_requests", "be_max_requests"), places)
    settings = {name: stack.settings[name] for name in names} | {"fe_replicas": REPLICAS, "be_replicas": REPLICAS} | limits
    events = Events(stack, settings, tmp_path)
    try:
        events.apply()
        events.until_all_serve()
        rows = server_rows(ask(stack.directory / "be-lb/run/master.sock", "@1 show stat"), "be")
        assert {row["slim"] for row in rows if address_of(row)} == {str(places)}
        windows = []
        with Load(stack, path=f"/?delay={DELAY}") as load:
            # The generator starts its clients a hundred at once, which for a moment is more than the capacity.
            events.quiet()
            for name, event in EVENTS.items():
                with load.event(name) as window:
                    event(events)
                windows.append(window)
    finally:
        stack.playbook("site.yml")
    with capsys.disabled():
        print(f" [{'; '.join(window.describe() for window in windows)}]", end="")
    assert {window.name: window.failed for window in windows if window.failed} == {}


@pytest.fixture
def unhealthy(stack):
    """Let fe-lb ask its servers for a path that they do not have, as after a release that has lost it."""
    folder, master = stack.directory / "fe-lb", stack.directory / "fe-lb/run/master.sock"
    file = folder / "config/haproxy.cfg"
    path = yaml.safe_load((PROJECT / "group_vars/all/frontend.yml").read_text())["fe_health_path"]
    text = file.read_text()
    assert f" uri {path} " in text

    def lose():
        file.write_text(text.replace(f" uri {path} ", f" uri {GONE} ").replace("    description ", "    description 0bad"))
        reload_balancer(master, stack.settings["fe_port"])

    yield lose
    assert changed(stack.playbook("site.yml").stdout)


def test_tier_whose_checks_all_fail_by_mistake_goes_on_serving_and_says_so(stack, unhealthy):
    socket = stack.directory / "fe-lb/run/master.sock"

    def up():
        servers = read_servers(ask(socket, "@1 show servers state"))
        return {name: sum(server.up for server in servers if server.backend == name) for name in backends("fe")}

    before = up()
    assert before["fe"] == before["fe-open"] == 2
    with Load(stack, rate=20) as load:
        unhealthy()
        wait_until(lambda: up()["fe"] == 0, 30)
        wait_until(lambda: {"fe"} == {name["metric"]["service"] for name in alerts(stack, "TierFailsOpen")}, 90)
        status = " ".join(stack.playbook("status.yml", check=False).stdout.split())
        assert "fe-lb sends requests to replicas of fe that fail their checks, because too few pass them" in status
        assert up()["fe-open"] == 2
        told = urllib.request.urlopen(f"http://127.0.0.1:{stack.port('console')}/api/state", timeout=10).read().decode()
        assert "HTTP 404" in told
        assert "still receives requests" in told
    assert load.requests
    assert [request for request in load.requests if not request.good] == []
    # No other alert says the contrary.
    assert not alerts(stack, "TierDown")


def alerts(stack, name):
    """Return the alerts of a name that fire."""
    return stack.query(f'ALERTS{{alertname="{name}", alertstate="firing"}}')
