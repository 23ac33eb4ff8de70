"""The floating address: it is on one edge that serves, moves before that one ends, and after its machine was lost."""

import ipaddress
import itertools
import json

import pytest
from stack import run, wait_until

pytestmark = pytest.mark.long
# Seconds within which the address has to be elsewhere after its machine was lost.
MOVED = 10


@pytest.fixture(scope="module", name="floating")
def deployed(swarm):
    """Let an address of the machines' network float; return it and the settings, and take it away again."""
    template = "{{(index .IPAM.Config 0).Subnet}}"
    network = ipaddress.ip_network(run("docker", "network", "inspect", "--format", template, swarm.name).stdout.strip())
    address = str(network.network_address + 100)
    settings = {"swarm_floating_address": f"{address}/{network.prefixlen}", "swarm_floating_number": 77}
    swarm.deploy("-e", json.dumps(settings))
    yield address, settings
    swarm.deploy()
    assert not holders(swarm, address)
    assert not [machine for machine in swarm.machines if keepalived(swarm, machine)]


def holders(swarm, address):
    """Return the machines that have an address."""
    machines = filter(swarm.up, swarm.machines)
    return [m for m in machines if swarm.on(m, "ip", "-4", "-oneline", "address", "show", "to", address).stdout.strip()]


def keepalived(swarm, machine):
    """Return what is left on a machine of what moves addresses."""
    command = "pidof keepalived; ls /etc/keepalived/keepalived.conf /etc/keepalived/webstack-edge.sh"
    return swarm.on(machine, "sh", "-c", command, check=False).stdout.strip()


def holder(swarm, address):
    """Wait until one machine has the address, which has to have an edge, and return it."""
    wait_until(lambda: len(holders(swarm, address)) == 1, 30)
    machine = holders(swarm, address)[0]
    assert machine in swarm.edges()
    return machine


def test_the_address_is_on_an_edge_that_serves(swarm, floating):
    address, _ = floating
    machine = holder(swarm, address)
    assert swarm.get(machine, "/.well-known/edge").status == 200
    assert "virtual_router_id 77\n" in swarm.on(machine, "cat", "/etc/keepalived/keepalived.conf").stdout
    with swarm.load_on(address, address) as load:
        pass
    assert load.requests
    assert all(request.good for request in load.requests)


def test_another_configuration_of_the_edges_loses_no_request_on_the_address(swarm, floating, capsys):
    address, settings = floating
    holder(swarm, address)
    before = swarm.definition("fe-lb")["TaskTemplate"]
    with swarm.load_on(address, address) as load, load.event("another configuration of the edges") as window:
        swarm.deploy("-e", json.dumps({**settings, "hsts_max_age": 60}))
    with capsys.disabled():
        print(f" [{window.describe()}]", end="")
    assert swarm.definition("fe-lb")["TaskTemplate"] != before
    assert window.requests
    assert not window.failed, window.describe()


def test_the_address_leaves_a_lost_machine(swarm, floating, capsys):
    address, _ = floating
    lost = holder(swarm, address)
    with swarm.load_on(address, address) as load, load.event(f"{lost} lost, which had the address") as window:
        swarm.kill(lost)
        wait_until(lambda: holders(swarm, address), MOVED)
    swarm.start(lost)
    good = [request.begin for request in window.requests if request.good]
    gap = max(later - earlier for earlier, later in itertools.pairwise(good))
    with capsys.disabled():
        print(f" [{window.describe()}; longest time without an answer {gap:.1f} s]", end="")
    assert gap < MOVED
