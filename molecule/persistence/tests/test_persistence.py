"""Rows and containers outlive whatever happens to containers, engine and machine."""

import json
import uuid

import pytest
from stack import changed, run, wait_until

MACHINE = "webstack-test-persistence-engine"


@pytest.fixture(autouse=True)
def machine(stack):
    """Use the address that the machine has now."""
    stack.address = address()


def address():
    return json.loads(run("docker", "inspect", MACHINE).stdout)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]


def engine_process():
    return run("docker", "exec", MACHINE, "pgrep", "-x", "dockerd").stdout.strip()


def rows(stack):
    """Return every user with its number, as the database has them."""
    return stack.mysql("SELECT id, email FROM app.users ORDER BY id").splitlines()


def add(stack):
    """Add a user, and return all rows."""
    email = f"{uuid.uuid4().hex}@example.com"
    assert stack.post_user("Somebody", email).status == 303
    found = rows(stack)
    assert any(row.endswith(email) for row in found)
    return found


def served(stack):
    try:
        return stack.request().status == 200
    except OSError:
        return False


def test_rerun(stack):
    before, ids = add(stack), stack.ids()
    output = stack.playbook("site.yml").stdout
    assert changed(output) == 0
    assert (rows(stack), stack.ids()) == (before, ids)
    # Each run says so again: not only the one that has published the ports.
    assert stack.settings["bind_address"] == "0.0.0.0"  # noqa: S104 (is it that?)
    said = " ".join(output.split())
    ports = f"bind_address: ports {stack.port('http')} and {stack.port('https')} are open on 0.0.0.0 to everybody"
    assert ports in said
    assert "Docker accepts connections before a firewall like ufw or firewalld is asked" in said


def test_change_goes_through_piece_by_piece(stack):
    before = {c["Id"] for c in stack.containers("fe")}
    others = {name: value for name, value in stack.ids().items() if value not in before}
    settings = ("-e", json.dumps({"fe_environment": {"NEW": "1"}}))
    output = stack.playbook("site.yml", *settings).stdout
    # What is said meanwhile comes through the connection to the machine.
    assert output.count("waiting for fe-lb to send requests to") == 2
    assert not before & {c["Id"] for c in stack.containers("fe")}
    assert others.items() <= stack.ids().items()
    assert changed(stack.playbook("site.yml", *settings).stdout) == 0
    stack.playbook("site.yml")


def test_down_and_up(stack):
    before = add(stack)
    stack.playbook("teardown.yml")
    assert not stack.ids()
    stack.playbook("site.yml")
    assert rows(stack) == before


@pytest.mark.parametrize("how", [("rm", "--force"), ("kill",)], ids=["removed", "killed"])
def test_container_of_the_database_is_lost(stack, how):
    before, others = add(stack), {name: value for name, value in stack.ids().items() if "-db-" not in name}
    stack.docker(*how, stack.container("db"))
    stack.playbook("site.yml")
    assert rows(stack) == before
    assert others.items() <= stack.ids().items()
    wait_until(lambda: served(stack))


def test_every_container_is_lost(stack):
    before = add(stack)
    stack.docker("rm", "--force", *stack.ids().values())
    stack.playbook("site.yml")
    assert rows(stack) == before


# Docker alone has to bring the stack back; the playbook then finds nothing to do.
@pytest.mark.parametrize("signal", [pytest.param("TERM", marks=pytest.mark.long), "KILL"])
def test_engine_ends(stack, signal):
    before, ids, process = add(stack), stack.ids(), engine_process()
    run("docker", "exec", MACHINE, "kill", f"-{signal}", process)
    wait_until(lambda: run("docker", "exec", MACHINE, "docker", "version", check=False).returncode == 0)
    assert engine_process() != process
    wait_until(lambda: served(stack), 120)
    assert (rows(stack), stack.ids()) == (before, ids)
    assert changed(stack.playbook("site.yml").stdout) == 0


@pytest.mark.parametrize("how", [pytest.param("restart", marks=pytest.mark.long), "kill"])
def test_machine_ends(stack, how):
    before, ids = add(stack), stack.ids()
    if how == "kill":
        run("docker", "kill", MACHINE)
        run("docker", "start", MACHINE)
    else:
        run("docker", "restart", "--time", "60", MACHINE)
    stack.address = address()
    wait_until(lambda: run("docker", "exec", MACHINE, "docker", "version", check=False).returncode == 0)
    wait_until(lambda: served(stack), 120)
    assert (rows(stack), stack.ids()) == (before, ids)
    # Without systemd the watchdog is the one thing that does not come back by itself.
    assert changed(stack.playbook("site.yml").stdout) == 1
    assert "Watchdog: runs" in stack.playbook("status.yml").stdout
    assert stack.ids() == ids


def test_engine_keeps_itself_off_internal_networks(stack):
    """Engines from 28 on isolate a bridge themselves; that of the other scenarios may be older."""
    version = stack.docker("version", "--format", "{{.Server.Version}}").stdout
    assert int(version.split(".")[0]) >= 28
    for name, network in stack.model["networks"].items():
        found = json.loads(stack.docker("network", "inspect", network["name"]).stdout)[0]
        isolated = found["Options"].get("com.docker.network.bridge.gateway_mode_ipv4") == "isolated"
        assert isolated == found["Internal"], name
        shown = run("docker", "exec", MACHINE, "ip", "-4", "-oneline", "address", "show", f"br-{found['Id'][:12]}").stdout
        assert bool(shown.strip()) != isolated, name
