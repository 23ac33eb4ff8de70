"""The access matrix between hosts: what is not allowed is denied, and what is allowed works."""

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import yaml
from access import PROBE
from stack import PROJECT

MATRIX = yaml.safe_load((PROJECT / "tests/access_matrix.yml").read_text())
DENIED = {(entry["from"], entry["to"]) for entry in MATRIX["swarm"]["denied"]}
ALLOWED = [e for e in MATRIX["allowed"] if (e["from"], e["to"]) not in DENIED] + MATRIX["swarm"]["allowed"]
# So often a way has to be found open.
TRIES = 3
THREADS = 4


@dataclass(frozen=True)
class Place:
    """A running container: where it is, and its addresses by network."""

    service: str
    node: str
    id: str
    pid: int
    networks: tuple[tuple[str, str], ...]


def probe(swarm, place, targets=(), addresses=()):
    """Return what the probe says from inside the network of a container."""
    command = ["nsenter", f"--net=/proc/{place.pid}/ns/net", "python3", "-c", PROBE]
    question = json.dumps({"targets": list(targets), "addresses": list(addresses)})
    return json.loads(swarm.on(place.node, *command, input=question, timeout=180).stdout)


@pytest.fixture(scope="module", name="places")
def running(swarm):
    """Return every running container that has a network of its own."""
    found = []
    for node, containers in swarm.running().items():
        for item in containers:
            service = item["Config"]["Labels"]["com.docker.swarm.service.name"].removeprefix(f"{swarm.name}_")
            networks = {
                name.removeprefix(f"{swarm.name}_"): details["IPAddress"]
                for name, details in item["NetworkSettings"]["Networks"].items()
                if details["IPAddress"]
            }
            if networks:
                found.append(Place(service, node, item["Id"], item["State"]["Pid"], tuple(networks.items())))
    return found


def from_outside(swarm, place):
    """Return the address by which a node hands a container what it publishes, if it has one."""
    lines = swarm.on(place.node, "nsenter", f"--net=/proc/{place.pid}/ns/net", "ip", "-4", "-o", "address").stdout
    known = {"127.0.0.1", *dict(place.networks).values()}
    return [address for address in re.findall(r"inet ([0-9.]+)/", lines) if address not in known]


def test_every_pair_is_as_declared(swarm, places, capsys):
    with ThreadPoolExecutor(THREADS) as pool:
        ports = sorted(set(itertools.chain(*pool.map(lambda place: probe(swarm, place)["listening"], places))))
        outside = dict(zip(places, pool.map(lambda place: from_outside(swarm, place), places), strict=True))
    allowed = {(e["from"], e["to"], swarm.settings.get(e["port"], e["port"]), e["network"]) for e in ALLOWED}
    counts, wrong, across, seen = {True: 0, False: 0}, [], set(), set()

    def attempt(origin):
        targets = []
        for place in places:
            if place.id == origin.id:
                continue
            addresses = [*place.networks, *(("outside", address) for address in outside[place] if place.node == origin.node)]
            targets += [(place, network, address, port) for network, address in addresses for port in ports]
        return targets, probe(swarm, origin, [(address, port) for _, _, address, port in targets])["open"]

    with ThreadPoolExecutor(THREADS) as pool:
        for origin, (targets, answers) in zip(places, pool.map(attempt, places), strict=True):
            for (place, network, address, port), found in zip(targets, answers, strict=True):
                wanted = (origin.service, place.service, port, network) in allowed
                counts[wanted] += 1
                if origin.node != place.node:
                    across.add((origin.service, place.service))
                if wanted:
                    seen.add((origin.service, place.service, port, network))
                # Whoever has a way out may meet somebody there who takes every connection; that is not the container.
                if found and not wanted and outside[origin] and network not in {*dict(origin.networks), "outside"}:
                    continue
                if (
                    found
                    and not wanted
                    and not all(probe(swarm, origin, [(address, port)])["open"][0] for _ in range(TRIES))
                ):
                    continue
                if found != wanted:
                    verb = "reaches" if found else "does not reach"
                    wrong.append(
                        f"{origin.service} on {origin.node} {verb} {place.service} on {place.node}, port {port} of {network}"
                    )
    services = {place.service for place in places}
    with capsys.disabled():
        print(
            f" [{sum(counts.values())} tries, {counts[True]} allowed, {len(across)} pairs of services across hosts,"
            f" ports {ports}]",
            end="",
        )
    assert not wrong, "\n".join(sorted(set(wrong)))
    # What is declared was among them, and hosts lay between most pairs.
    assert {entry for entry in allowed if {entry[0], entry[1]} <= services} == seen
    assert len(across) > len(services) ** 2 * 3 / 4


def test_nobody_but_the_edge_has_a_way_out(swarm, places):
    routed = {}
    for place in places:
        routed.setdefault(place.service, set()).update(probe(swarm, place, addresses=["203.0.113.1"])["routed"])
    assert {service for service, ways in routed.items() if ways != {False}} == {"fe-lb"}
