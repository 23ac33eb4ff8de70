"""The stack of one host on several: spread, pinned, cleaned up, and described by the same settings."""

import json
import re

import pytest
import yaml
from stack import PROJECT
from swarm import INVENTORY

REPLICATED = ("fe", "be", "be-lb")
# What the scenario says of itself: how to keep apart from other scenarios, and what each machine has.
OF_THE_SCENARIO = {"stack_name", "image_prefix", "image_source", "bind_address", "scenario_images", "swarm_database_host"}


def test_settings_are_those_of_one_host():
    assert (INVENTORY.parent / "group_vars").resolve() == PROJECT / "group_vars"
    groups = yaml.safe_load(INVENTORY.read_text())["all"]["children"].values()
    for settings in (settings for group in groups for settings in group["hosts"].values()):
        own = {name for name in settings if not name.startswith("ansible_")} - OF_THE_SCENARIO
        assert own == {"stack_engine"}


def test_page_is_served_by_two_nodes_of_each_tier(swarm):
    places = {item["Config"]["Hostname"]: machine for machine, found in swarm.running().items() for item in found}
    seen = {"frontend": set(), "backend": set()}
    for edge in swarm.edges():
        for _ in range(20):
            answer = swarm.get(edge)
            assert answer.status == 200
            assert "Ada Lovelace" in answer.text
            for tier, machines in seen.items():
                machines.add(places[answer.element(tier)])
    assert all(len(machines) >= 2 for machines in seen.values()), seen


def test_every_tier_is_on_two_nodes(swarm):
    for service in ("fe-lb", "fe", "be-lb", "be"):
        assert len(set(swarm.places(service))) == 2, service


def test_images_are_pinned_by_digest(swarm):
    for item in swarm.details():
        image = item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        assert re.fullmatch(rf"registry\.{swarm.name}\.internal:5000/\S+@sha256:[0-9a-f]{{64}}", image), image


def test_registry_lets_nobody_in_without_the_account(swarm):
    address = f"https://registry.{swarm.name}.internal:5000/v2/"
    script = (
        "import ssl, sys, urllib.request, urllib.error\n"
        "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        "try: print(urllib.request.urlopen(sys.argv[1], context=context).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    certificate = f"/etc/docker/certs.d/registry.{swarm.name}.internal:5000/ca.crt"
    for machine in swarm.machines:
        assert swarm.on(machine, "python3", "-c", script, address, certificate).stdout.strip() == "401", machine


@pytest.mark.parametrize("service", REPLICATED)
def test_changes_start_new_tasks_first_and_go_back_when_they_fail(swarm, service):
    definition = swarm.definition(service)
    change, template = definition["UpdateConfig"], definition["TaskTemplate"]
    assert (change["Order"], change["FailureAction"]) == ("start-first", "rollback")
    assert change["Monitor"] > 0
    assert definition["EndpointSpec"]["Mode"] == "dnsrr"
    assert template["Resources"]["Limits"]["MemoryBytes"] > template["Resources"]["Reservations"]["MemoryBytes"] > 0


def test_every_replica_has_a_health_check(swarm):
    for machine, containers in swarm.running().items():
        for item in containers:
            service = item["Config"]["Labels"]["com.docker.swarm.service.name"]
            if service.endswith(("_fe", "_be", "_fe-lb", "_be-lb", "_db")):
                assert item["State"].get("Health", {}).get("Status") == "healthy", f"{service} on {machine}"


def test_edge_publishes_on_its_own_nodes_alone(swarm):
    ports = swarm.definition("fe-lb")["EndpointSpec"]["Ports"]
    assert {(port["PublishedPort"], port["PublishMode"]) for port in ports} == {(8080, "host"), (8443, "host")}
    others = [item["Spec"]["Name"] for item in swarm.details() if item["Spec"]["Name"] != f"{swarm.name}_fe-lb"]
    published = {item["Spec"]["Name"] for item in swarm.details() if item["Endpoint"]["Spec"].get("Ports")}
    assert not published & {name for name in others if not name.endswith("_console-proxy-of-node")}


def test_containers_have_the_least_rights(swarm):
    for containers in swarm.running().values():
        for item in containers:
            host, service = item["HostConfig"], item["Config"]["Labels"]["com.docker.swarm.service.name"]
            assert item["Config"]["User"].split(":")[0] not in ("", "0", "root"), service
            assert host["ReadonlyRootfs"], service
            assert host["CapDrop"] == ["ALL"], service
            assert not host["Privileged"], service
            assert host["Memory"], service
            assert host["PidsLimit"], service


def test_nothing_is_left_that_no_service_refers_to(swarm):
    used = {"config": set(), "secret": set()}
    for item in swarm.details():
        for spec in (item["Spec"], item.get("PreviousSpec") or {}):
            container = spec.get("TaskTemplate", {}).get("ContainerSpec", {})
            used["config"] |= {entry["ConfigName"] for entry in container.get("Configs") or []}
            used["secret"] |= {entry["SecretName"] for entry in container.get("Secrets") or []}
    for kind, names in used.items():
        listed = swarm.ask(kind, "ls", "--filter", f"label=com.docker.stack.namespace={swarm.name}", "--format", "{{.Name}}")
        assert set(listed.split()) == names
        assert all(re.match(rf"{swarm.name}_[0-9a-f]{{12}}_", name) for name in names)


def test_every_manager_can_take_over(swarm):
    files = []
    for manager in swarm.groups["managers"]:
        kept = "docker-stack.yml secrets/db/database_root_password fe-lb/config/tls/site.pem.key state.json"
        files.append(swarm.on(manager, "bash", "-c", f"cd {swarm.folder} && cat {kept}").stdout)
        # What runs, and what images of the application are built on.
        swarm.on(manager, "docker", "image", "inspect", "webstack/haproxy:3.2-debian", "webstack/python:3.14-debian")
    assert len(set(files)) == 1


def test_secrets_are_in_no_file_that_a_service_is_described_by(swarm):
    manager = swarm.manager()
    password = swarm.on(manager, "bash", "-c", f"cat {swarm.folder}/secrets/db/database_password").stdout
    assert len(password) > 16
    described = swarm.on(manager, "bash", "-c", f"cat {swarm.folder}/docker-stack.yml").stdout
    assert password not in described + json.dumps(swarm.details())
