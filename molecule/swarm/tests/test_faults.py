"""Lost machines: what runs goes on, what was lost starts elsewhere, and any manager can deploy."""

import json
import re
import time

import pytest
from stack import GATE, run, wait_until

# Seconds within which what a lost machine ran has to run elsewhere.
ELSEWHERE = 60
# Milliseconds that a GET on a lost machine takes at most: two seconds of silence, and some on a busy machine.
WORST = 6000


def show(window, capsys):
    with capsys.disabled():
        print(f" [{window.describe()}]", end="")


def slow(swarm):
    """Return what load balancers have logged of requests that failed or took longer than three seconds, for a message."""
    found = []
    for service in ("fe-lb", "be-lb"):
        command = ("timeout", "20", "docker", "service", "logs", "--raw", "--tail", "3000", f"{swarm.name}_{service}")
        lines = swarm.on(swarm.manager(), *command, check=False).stdout.splitlines()
        wrong = re.compile('"total_ms": ?([3-9][0-9]{3}|[0-9]{5})|"status": ?5')
        found += [f"{service}: {line}" for line in lines if wrong.search(line)]
    return "\n".join(found)


@pytest.fixture(autouse=True)
def whole(swarm):
    """Bring lost machines back after each test, with everything that is to run on them; in the gate no test follows."""
    yield
    lost = [machine for machine in swarm.machines if not swarm.up(machine)]
    if lost and not GATE:
        swarm.start(*lost)


def has_left(swarm, machine):
    """Let a machine leave the Swarm, and tell whether it has: the engine may give up where no other manager answers."""
    swarm.on(machine, "docker", "swarm", "leave", "--force", check=False)
    return swarm.on(machine, "docker", "info", "--format", "{{.Swarm.LocalNodeState}}").stdout.strip() == "inactive"


def database(swarm):
    return swarm.places("db")[0]


def well(swarm, *services):
    """Tell whether services have all their tasks on machines that are there; no manager knows while they elect a leader."""
    try:
        found = swarm.services()
    except AssertionError:
        return False
    return all(found[name].running == found[name].wanted for name in services)


def test_a_lost_node_loses_no_request_elsewhere(swarm, capsys):
    # A worker where there are some.
    lost = next(machine for machine in swarm.machines[::-1] if machine not in (database(swarm), swarm.leader()))
    # So many that it has some of each.
    swarm.deploy("-e", json.dumps({"fe_replicas": 5, "be_replicas": 5}))
    assert lost in swarm.places("fe")
    assert lost in swarm.places("be")
    with swarm.load(*swarm.edges(lost)) as load, load.event(f"{lost} lost") as window:
        begin = time.monotonic()
        swarm.kill(lost)
        wait_until(lambda: lost not in swarm.places("fe") + swarm.places("be"), ELSEWHERE)
        wait_until(lambda: well(swarm, "fe", "be", "be-lb", "fe-lb"), ELSEWHERE)
        seconds = time.monotonic() - begin
    show(window, capsys)
    with capsys.disabled():
        print(f" [all replicas elsewhere after {seconds:.1f} s]", end="")
    assert window.requests
    assert not window.failed, f"{window.describe()}\n{slow(swarm)}"
    assert window.worst < WORST, slow(swarm)


def test_a_lost_leader_stops_no_request_and_another_manager_deploys(swarm, capsys):
    leader = swarm.leader()
    edges = swarm.edges(leader)
    assert leader != database(swarm)
    with swarm.load(*edges) as load:
        with load.event(f"leader {leader} lost") as window:
            swarm.kill(leader)
            wait_until(lambda: well(swarm, "fe", "be", "fe-lb", "be-lb"), ELSEWHERE * 2)
        with load.event("a change by another manager") as change:
            done = swarm.deploy("-e", json.dumps({"fe_environment": {"RELEASE": "without leader"}}))
    show(window, capsys)
    show(change, capsys)
    assert not window.failed, f"{window.describe()}\n{slow(swarm)}"
    assert not change.failed, f"{change.describe()}\n{slow(swarm)}"
    assert swarm.manager() != leader
    assert f"{swarm.manager()} " in done.stdout.partition("PLAY RECAP")[2]
    environment = swarm.definition("fe")["TaskTemplate"]["ContainerSpec"]["Env"]
    assert "RELEASE=without leader" in environment


@pytest.mark.long
def test_a_lost_quorum_is_refused_in_a_sentence_and_the_page_stays(swarm):
    managers = [machine for machine in swarm.groups["managers"] if machine != database(swarm)][:2]
    left = next(machine for machine in swarm.groups["managers"] if machine not in managers)
    edges = [edge for edge in swarm.edges() if edge not in managers]
    # One edge at least has to be on a machine that stays.
    if not edges:
        swarm.deploy("-e", json.dumps({"swarm_edge_hosts": [left, *swarm.groups["workers"]]}))
        edges = swarm.edges(*managers)
    swarm.kill(*managers)
    done = swarm.deploy(check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode
    assert "The Swarm has lost its quorum:" in text
    assert "What runs goes on running." in text
    wait_until(lambda: swarm.get(edges[0]).status == 200, 30)


def test_an_even_number_of_managers_is_refused(swarm, tmp_path):
    done = swarm.changed(tmp_path, managers=swarm.groups["managers"][:2]).playbook("bootstrap.yml", check=False)
    assert done.returncode
    assert "managers: 2 managers go on working when 0 of them are lost, as many as with 1;" in " ".join(done.stdout.split())


@pytest.mark.long
def test_a_node_is_drained_before_it_leaves_and_comes_back(swarm, tmp_path, capsys):
    worker = next(machine for machine in swarm.groups["workers"] if machine != database(swarm))
    without = swarm.changed(tmp_path, removed=[worker])
    with swarm.load(*swarm.edges(worker)) as load, load.event(f"{worker} leaves") as window:
        without.playbook("bootstrap.yml")
    show(window, capsys)
    assert not window.failed, window.describe()
    assert worker not in {node["Description"]["Hostname"] for node in swarm.nodes().values()}
    swarm.playbook("bootstrap.yml")
    assert swarm.whole()
    assert worker in {node["Description"]["Hostname"] for node in swarm.nodes().values()}


@pytest.mark.long
def test_the_node_of_the_database_is_not_let_go(swarm, tmp_path):
    done = swarm.changed(tmp_path, removed=[database(swarm)]).playbook("bootstrap.yml", check=False)
    assert done.returncode
    assert f"removed: {database(swarm)} keeps the database of {swarm.name}; move it first" in " ".join(done.stdout.split())
    assert swarm.whole()


def roles(swarm):
    """Return whether each machine is a manager or a worker, as the Swarm says."""
    return {node["Description"]["Hostname"]: node["Spec"]["Role"] for node in swarm.nodes().values()}


@pytest.mark.long
def test_a_worker_becomes_a_manager_and_a_manager_a_worker(swarm, tmp_path, capsys):
    worker = next(machine for machine in swarm.groups["workers"] if machine != database(swarm))
    manager = next(machine for machine in swarm.groups["managers"] if machine not in (database(swarm), swarm.leader()))
    exchanged = {worker: "manager", manager: "worker"}
    assert {roles(swarm)[machine] for machine in exchanged} == {"manager", "worker"}
    groups = {
        "managers": [worker if machine == manager else machine for machine in swarm.groups["managers"]],
        "workers": [manager if machine == worker else machine for machine in swarm.groups["workers"]],
    }
    with swarm.load(*swarm.edges()) as load, load.event(f"{worker} and {manager} exchanged") as window:
        swarm.changed(tmp_path, **groups).playbook("bootstrap.yml")
        wait_until(lambda: exchanged.items() <= roles(swarm).items())
    show(window, capsys)
    assert not window.failed, window.describe()
    # And the other way round.
    swarm.playbook("bootstrap.yml")
    back = {worker: "worker", manager: "manager"}
    wait_until(lambda: swarm.whole() and back.items() <= roles(swarm).items())
    swarm.deploy()


@pytest.mark.long
def test_after_managers_were_lost_for_good_a_swarm_is_formed_anew_from_one_that_is_left(swarm, tmp_path):
    """As docs/scaling.md says it; the node of the database is not among the lost ones."""
    managers = swarm.groups["managers"]
    left = database(swarm) if database(swarm) in managers else managers[0]
    lost = [machine for machine in managers if machine != left]
    swarm.kill(*lost)
    try:
        swarm.on(left, "docker", "swarm", "init", "--force-new-cluster", "--advertise-addr", swarm.ip(left))
        rest = swarm.changed(tmp_path, managers=[left])
        rest.playbook("bootstrap.yml")
        rest.deploy()
        assert swarm.leader() == left
        # Edges are on some of the machines only.
        wait_until(lambda: any(swarm.get(edge).status == 200 for edge in swarm.edges()))
    finally:
        # They come back as members of nothing, so that the tests that follow find them.
        run("docker", "start", *(f"{swarm.name}-{machine}" for machine in lost))
        for machine in lost:
            wait_until(lambda machine=machine: swarm.on(machine, "docker", "version", check=False).returncode == 0)
            wait_until(lambda machine=machine: has_left(swarm, machine), 120)
        for number, node in swarm.nodes().items():
            if node["Description"]["Hostname"] in lost:
                # The new Swarm refuses it where its managers know nothing of this one any more.
                swarm.on(left, "docker", "node", "demote", number, check=False)
                swarm.on(left, "docker", "node", "rm", "--force", number)
        swarm.playbook("bootstrap.yml")
    wait_until(swarm.whole, 240)
    swarm.deploy()
