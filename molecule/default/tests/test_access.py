"""The access matrix: what is not allowed in tests/access_matrix.yml is denied, and what is allowed works."""

import json
import re
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from access import PROBE
from stack import PROJECT, current, run

MATRIX = yaml.safe_load((PROJECT / "tests/access_matrix.yml").read_text())["allowed"]
SERVICES = list(current().model["services"])
HOST, OUTSIDE = "the host", "outside"
# So often a way has to be found open.
TRIES = 3
# Services that get answers from outside.
FREE = {entry["from"] for entry in MATRIX if entry["to"] == OUTSIDE and entry["from"] in SERVICES}
# Services on a network that is not internal.
OPEN = {entry["from"] for entry in MATRIX if entry["to"] == HOST and entry["from"] in SERVICES}


def probe(stack, container, targets=(), addresses=()):
    """Return what the probe says from inside the network of a container."""
    image = stack.containers("fe")[0]["Image"]
    command = ["docker", "run", "--rm", "--interactive", "--pull=never", "--network", f"container:{container['Id']}"]
    command += ["--user=0", "--entrypoint=python", image, "-c", PROBE]
    question = json.dumps({"targets": list(targets), "addresses": list(addresses)})
    done = subprocess.run(command, input=question, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"the probe beside {container['Name']} could not run: {done.stderr}"
    return json.loads(done.stdout)


def networks(container):
    """Return the address of a container on each of its networks."""
    return {name: network["IPAddress"] for name, network in container["NetworkSettings"]["Networks"].items()}


def leads_to_a_bridge(address):
    """Tell whether the host sends what comes for an address to one of Docker's networks."""
    return " dev br-" in run("ip", "route", "get", address).stdout


def declared(stack):
    """Return what the matrix allows: source, target, port and network, ports as this deployment has them."""
    return {
        (e["from"], e["to"], stack.settings.get(e["port"], e["port"]), e["network"])
        for e in MATRIX
        if {e["from"], e["to"]} <= set(SERVICES)
    }


def stays_open(stack, container, target):
    """Tell whether a container reaches a target each time that it tries.

    While a network is made, by whomever, the engine takes its rules between networks away for milliseconds
    (docs/security.md); a way that is open for another reason stays so.
    """
    return all(probe(stack, container, [target])["open"][0] for _ in range(TRIES))


def examine(stack, sources=SERVICES):
    """Try every pair; return the numbers of allowed and denied ones and a sentence for each that is not as declared."""
    containers = {service: stack.containers(service) for service in SERVICES}
    ports = set()
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda service: probe(stack, containers[service][0]), SERVICES):
            ports.update(answer["listening"])
    counts, wrong, allowed = {True: 0, False: 0}, [], declared(stack)

    def attempt(source):
        origin = containers[source][0]
        tries = []
        for target in SERVICES:
            # One replica stands for all, and for its own tier another one.
            others = [c for c in containers[target] if c["Id"] != origin["Id"]][:1]
            for other in others:
                for network, address in networks(other).items():
                    for port in sorted(ports):
                        name = network.removeprefix(f"{stack.name}_")
                        tries.append((target, name, address, port, (source, target, port, name) in allowed))
        return zip(tries, probe(stack, origin, [(address, port) for _, _, address, port, _ in tries])["open"], strict=True)

    # Denied tries wait for an answer that never comes, so several services wait at a time.
    with ThreadPoolExecutor(4) as pool:
        for source, answers in zip(sources, pool.map(attempt, sources), strict=True):
            for (target, network, address, port, wanted), found in answers:
                counts[wanted] += 1
                # Whoever has a way out may meet somebody there who takes every connection; that is not the container.
                if found and not wanted and source in FREE and not leads_to_a_bridge(address):
                    continue
                if found and not wanted and not stays_open(stack, containers[source][0], (address, port)):
                    continue
                if found != wanted:
                    verb = "reaches" if found else "does not reach"
                    wrong.append(f"{source} {verb} {target} on port {port} of {network}")
    return counts, wrong, ports


def test_every_pair_is_as_declared(stack, capsys):
    counts, wrong, ports = examine(stack)
    total = counts[True] + counts[False]
    with capsys.disabled():
        print(f" [{total} tries: {counts[True]} allowed, {counts[False]} denied, ports {sorted(ports)}]", end="")
    assert not wrong, "\n".join(wrong)
    own = {stack.settings[name] for name in ("fe_port", "be_port", "be_lb_port")}
    assert own | {2375, 3306, 8080, 8405, 8443, 9090, 9091, 9104, 9417} <= ports
    # Each declared pair was among them: a typo in the matrix would otherwise allow nothing and pass.
    assert counts[True] == len(declared(stack))


def test_a_service_on_a_network_too_many_is_named(stack):
    front = stack.containers("fe")[0]
    run("docker", "network", "connect", f"{stack.name}_data", front["Id"])
    try:
        _, wrong, _ = examine(stack, ["fe"])
    finally:
        run("docker", "network", "disconnect", f"{stack.name}_data", front["Id"])
    assert "fe reaches db on port 3306 of data" in wrong
    assert not examine(stack, ["fe"])[1]


@pytest.fixture(scope="module")
def service_of_the_host():
    """Return the port of a service that listens on every address of the host."""
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 (what is meant)

        def serve():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def addresses_of_the_host():
    lines = run("ip", "-4", "-oneline", "address", "show").stdout.splitlines()
    return [re.search(r"inet ([0-9.]+)/", line)[1] for line in lines if " lo " not in line]


@pytest.mark.parametrize("service", SERVICES)
def test_services_of_the_host_are_out_of_reach(stack, service, service_of_the_host):
    container = stack.containers(service)[0]
    addresses = addresses_of_the_host()
    found = probe(stack, container, [(address, service_of_the_host) for address in addresses])["open"]
    # Networks of others come and go, and what is no address of the host any more may be somebody's outside.
    lasting = set(addresses) & set(addresses_of_the_host())
    assert lasting
    # That the service answers at all is seen from the host.
    for address in lasting:
        socket.create_connection((address, service_of_the_host), timeout=2).close()
    reached = lasting & {address for address, is_open in zip(addresses, found, strict=True) if is_open}
    # Whoever has one address of the host reaches it by its other addresses as well: it is one machine.
    expected = lasting if service in OPEN else set()
    assert reached == expected, f"{service} reaches services of the host at {sorted(reached) or 'no address'}"


@pytest.mark.parametrize("service", SERVICES)
def test_ports_published_on_loopback_and_the_engine_are_out_of_reach(stack, service):
    container = stack.containers(service)[0]
    gateways = addresses_of_the_host()
    targets = [(stack.address, stack.port("http")), (stack.address, stack.port("https"))]
    ports = (2375, 2376, *(stack.port(name) for name in ("http", "https", "prometheus", "console")))
    targets += [(address, port) for address in gateways for port in ports]
    found = probe(stack, container, targets)["open"]
    lasting = {stack.address, *addresses_of_the_host()}
    reached = [target for target, is_open in zip(targets, found, strict=True) if is_open and target[0] in lasting]
    assert not reached, f"{service} reaches {reached}"


@pytest.mark.parametrize("service", [s for s in SERVICES if s not in OPEN])
def test_no_way_leads_outside(stack, service):
    # An address of the internet and the one where clouds keep credentials; nothing is sent to either.
    container = stack.containers(service)[0]
    assert probe(stack, container, addresses=["203.0.113.1", "169.254.169.254"])["routed"] == [False, False]


@pytest.fixture(scope="module")
def outside():
    """Yield the address and port of a service in a network namespace that stands for another machine."""
    name, link = "webstack-outside", "webstack-out"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", "10.213.0.1/30", "dev", link)
        run("ip", "link", "set", link, "up")
        run("ip", "-n", name, "address", "add", "10.213.0.2/30", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        command = ["ip", "netns", "exec", name, "python3", "-m", "http.server", "8000", "--bind", "10.213.0.2"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                for _ in range(100):
                    try:
                        socket.create_connection(("10.213.0.2", 8000), timeout=1).close()
                        break
                    except OSError:
                        threading.Event().wait(0.1)
                else:
                    raise AssertionError("the service outside does not answer")
                yield ("10.213.0.2", 8000)
            finally:
                server.terminate()
    finally:
        run("ip", "netns", "delete", name)


@pytest.mark.parametrize("service", [s for s in SERVICES if s in OPEN])
def test_only_what_is_declared_gets_an_answer_from_outside(stack, outside, service):
    image = stack.containers("fe")[0]["Image"]
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)"
    # The counter-proof: a container on Docker's default network does get one.
    run("docker", "run", "--rm", "--pull=never", image, "python", "-c", script, outside[0], str(outside[1]))
    expected = service in FREE
    verb = "does not reach" if expected else "reaches"
    assert probe(stack, stack.containers(service)[0], [outside])["open"] == [expected], f"{service} {verb} another machine"
