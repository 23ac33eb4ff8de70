"""Any number of front ends: found at once, all of them, and nobody else is touched."""

import json
import os
import statistics
import subprocess
import threading
import time
from collections import Counter

import pytest
from browser import chromium, console, examine
from stack import wait_until
from stack_haproxy import ask, read_servers

# A look at a hundred containers takes less than this, in seconds.
SCRAPE = 2
# A new replica shall be in rotation this soon after Docker calls it healthy, in seconds.
DISCOVERY = 2
# What 200 front ends and everything beside them may need, in bytes.
MEMORY_FOR_200 = 16 * 1024**3


class Observer:
    """Sends requests, a few each second, and listens when Docker calls a replica healthy."""

    def __init__(self, stack) -> None:
        self.stack = stack
        self.healthy: dict[str, float] = {}
        self.in_rotation: dict[str, float] = {}
        self.statuses: Counter = Counter()
        self.stop = threading.Event()

    def __enter__(self) -> "Observer":
        """Begin."""
        command = ["docker", "events", "--format", "{{json .}}", "--filter=event=health_status"]
        command += [f"--filter=label=com.docker.compose.project={self.stack.name}"]
        self.events = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=target) for target in (self.listen, self.look, self.send)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        """End, and wait until all threads have noticed."""
        self.stop.set()
        self.events.terminate()
        for thread in self.threads:
            thread.join()

    def listen(self) -> None:
        """Note when a replica becomes healthy."""
        for line in self.events.stdout:
            event = json.loads(line)
            if event["Action"].endswith(": healthy"):
                self.healthy.setdefault(event["Actor"]["ID"], event["timeNano"] / 1e9)

    def send(self) -> None:
        """Send requests and count how they end."""
        port = self.stack.port("http")
        while not self.stop.wait(0.05):
            try:
                self.statuses[self.stack.request(port=port).status] += 1
            except OSError as error:
                self.statuses[str(error)] += 1

    def look(self) -> None:
        """Note when the load balancer first sends requests to each address; its log may lose lines under load."""
        socket = self.stack.directory / "fe-lb/run/master.sock"
        while not self.stop.wait(0.1):
            moment = time.time()
            for server in read_servers(ask(socket, "@1 show servers state fe")):
                if server.up:
                    self.in_rotation.setdefault(server.address, moment)

    def delays(self, containers) -> list[float]:
        """Return the seconds from healthy to in rotation; below 0: the load balancer was faster than Docker."""
        address = {c["Id"]: c["NetworkSettings"]["Networks"][f"{self.stack.name}_frontend"]["IPAddress"] for c in containers}
        return sorted(self.in_rotation[address[c["Id"]]] - self.healthy[c["Id"]] for c in containers)


def front_ends(stack):
    return {c["Config"]["Hostname"] for c in stack.containers("fe")}


def others(stack):
    return {
        name: value for name, value in stack.ids().items() if not name.startswith(f"{stack.name}-fe-") or "-fe-lb-" in name
    }


def seen(stack, names):
    """Return which replicas answer: requests are sent until all have, or more than should be needed."""
    found, port = set(), stack.port("http")
    for _ in range(4 * len(names) + 20):
        found.add(stack.request(port=port).element("frontend"))
        if found >= names:
            break
    return found


def scale(stack, capsys, number):
    """Scale up under requests and check what is promised."""
    untouched, before = others(stack), front_ends(stack)
    begin = time.monotonic()
    with Observer(stack) as observer:
        stack.playbook("site.yml", "-e", f"fe_replicas={number}")
        seconds = time.monotonic() - begin
    names = front_ends(stack)
    assert len(names) == number
    assert before <= names, "a replica that was there has been replaced"
    assert others(stack) == untouched
    # The playbook waits for the load balancer, so nothing has to be waited for here.
    assert seen(stack, names) == names
    delays = observer.delays([c for c in stack.containers("fe") if c["Config"]["Hostname"] not in before])
    with capsys.disabled():
        print(
            f" [{len(before)} -> {number} in {seconds:.1f} s; from healthy to in rotation: median"
            f" {statistics.median(delays):.2f} s, worst {delays[-1]:.2f} s; meanwhile {dict(observer.statuses)}]",
            end="",
        )
    assert delays[-1] <= DISCOVERY
    assert set(observer.statuses) == {200}


def test_5_are_found(stack, capsys):
    scale(stack, capsys, 5)


def test_40_are_found(stack, capsys):
    scale(stack, capsys, 40)


def test_40_stay_in_rotation(stack):
    # A truncated answer of the DNS takes the tier out after half a minute.
    with Observer(stack) as observer:
        observer.stop.wait(45)
    assert set(observer.statuses) == {200}
    assert seen(stack, front_ends(stack)) == front_ends(stack)


def test_40_are_shown_by_the_console(stack):
    for _ in range(100):
        stack.request()
    with chromium() as browser:
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)):
            with console(browser, stack, scheme, width) as page:
                examine(page, stack, f"console-40-{scheme}-{width}")


def test_101st_is_found_as_soon(stack, capsys):
    scale(stack, capsys, 100)
    wait_until(lambda: stack.values("service:containers:running", "service").get("fe") == 100, 30)
    # At first the engine is still busy with what has just been started.
    look = "max_over_time(container_exporter_collect_seconds[20s])"
    wait_until(lambda: stack.values(look, "job")["containers"] < SCRAPE, 60)
    with capsys.disabled():
        seconds = stack.values(look, "job")["containers"]
        print(f" [a look at {len(stack.containers())} containers takes {seconds:.2f} s]", end="")
    scale(stack, capsys, 101)


@pytest.mark.skipif(
    os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < MEMORY_FOR_200,
    reason=f"200 front ends need {MEMORY_FOR_200 // 1024**3} GiB of free memory, which this machine does not have",
)
@pytest.mark.long
def test_200_are_found(stack, capsys):
    scale(stack, capsys, 150)
    scale(stack, capsys, 200)


def test_down_to_2_keeps_the_first_ones_and_touches_nobody_else(stack):
    untouched = others(stack)
    first = {f"{stack.name}-fe-{number}" for number in (1, 2)}
    kept = {name: value for name, value in stack.ids().items() if name in first}
    stack.playbook("site.yml")
    assert {name: value for name, value in stack.ids().items() if name not in untouched} == kept
    assert others(stack) == untouched
    assert stack.names("frontend", 20) == front_ends(stack)


def test_back_ends_are_found_as_well(stack):
    before = stack.ids()
    stack.playbook("site.yml", "-e", "be_replicas=4")
    assert stack.names("backend", 40) == {c["Config"]["Hostname"] for c in stack.containers("be")}
    assert len(stack.containers("be")) == 4
    assert before.items() <= stack.ids().items()
