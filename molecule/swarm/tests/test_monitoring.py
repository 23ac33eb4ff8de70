"""Metrics of all nodes meet in one place, and say where each container is."""

import pytest
from stack import wait_until

CONSOLE, PROMETHEUS = 9091, 9090


@pytest.fixture(name="containers")
def shown(swarm):
    """Return the containers that the console shows, by service, once they are those that run."""
    found = {}

    def complete():
        services = swarm.page(CONSOLE, "/api/state")["services"]
        found.update({item["service"]: item["containers"] for item in services})
        return all(
            sorted(item["node"] for item in found[name]) == swarm.places(name)
            for name in ("fe-lb", "fe", "be-lb", "be", "db", "container-exporter")
        )

    # Engines tell each other of what a node that came back runs within half a minute.
    wait_until(complete, 90)
    return found


def test_console_shows_every_container_on_its_node(swarm, containers):
    assert {item["node"] for item in containers["container-exporter"]} == set(swarm.machines)
    for tier in ("fe", "be"):
        assert all(item["words"] == "gets requests" for item in containers[tier]), containers[tier]


def test_prometheus_asks_every_exporter_and_every_load_balancer(swarm):
    def targets():
        found = swarm.page(PROMETHEUS, "/api/v1/targets?state=active")["data"]["activeTargets"]
        return [(item["labels"]["job"], item["health"]) for item in found]

    wait_until(lambda: {health for _, health in targets()} == {"up"}, 60)
    jobs = [job for job, _ in targets()]
    assert jobs.count("containers") == len(swarm.machines)
    assert jobs.count("fe-lb") == len(swarm.places("fe-lb"))
    assert jobs.count("be-lb") == len(swarm.places("be-lb"))


def test_every_engine_answers_each_question(swarm):
    def least():
        found = swarm.page(PROMETHEUS, "/api/v1/query?query=min_over_time(container_exporter_engine_up[30s])")
        return {item["metric"]["node"]: item["value"][1] for item in found["data"]["result"]}

    wait_until(lambda: least() == dict.fromkeys(swarm.machines, "1"), 60)


def test_pages_are_reached_on_loopback_alone(swarm):
    machine = swarm.places("prometheus")[0]
    for port in (CONSOLE, PROMETHEUS):
        script = f"exec 3<>/dev/tcp/{swarm.ip(machine)}/{port}"
        assert swarm.on(swarm.machines[-1], "bash", "-c", script, check=False).returncode, port


def test_status_names_nodes_and_services(swarm):
    text = swarm.playbook("status.yml").stdout
    for machine in swarm.machines:
        assert f"{machine}: " in text
    assert f"{swarm.leader()}: leader, ready, active" in text
    places = swarm.places("fe")
    assert f"fe: {len(places)} of {len(places)} on {', '.join(places)}" in text
    assert "All is well." in text
