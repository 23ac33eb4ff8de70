"""A stack that is stopped keeps its data, takes images from a registry of the user's, and leaves nothing when removed."""

import json
import time

import bcrypt
import pytest
from bench_lb import certificate
from stack import run, wait_until

pytestmark = pytest.mark.long
USER, PASSWORD = "shop", "an account of the test"
KINDS = ("service", "config", "secret", "network")


def objects(swarm):
    """Return what the Swarm has of the stack and of its registry."""
    labels = [f"label=com.docker.stack.namespace={name}" for name in (swarm.name, f"{swarm.name}-registry")]
    return [
        f"{kind} {name}"
        for kind in KINDS
        for label in labels
        for name in swarm.ask(kind, "ls", "--filter", label, "--format", "{{.Name}}").split()
    ]


def volumes(swarm, machine):
    return swarm.on(machine, "docker", "volume", "ls", "--quiet", "--filter", f"name={swarm.name}").stdout.split()


@pytest.fixture(scope="module", name="registry")
def elsewhere(swarm, tmp_path_factory):
    """Run a registry beside the machines, with TLS and an account; return what a user says of it."""
    name, folder = f"{swarm.name}-registry", tmp_path_factory.mktemp("registry")
    certificate(folder, name)
    (folder / "htpasswd").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds=4)).decode()}\n")
    environment = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": "/given/site.pem",
        "REGISTRY_HTTP_TLS_KEY": "/given/site.pem.key",
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "registry",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/given/htpasswd",
    }
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    options = [f"--name={name}", f"--network={swarm.name}", f"--volume={folder}:/given:ro", *variables]
    run("docker", "run", "--detach", *options, "webstack/registry:2-debian")
    for machine in swarm.machines:
        # As its owner would have told the engines.
        script = 'mkdir -p "$0" && cat >"$0/ca.crt"'
        folder_there = f"/etc/docker/certs.d/{name}:5000"
        swarm.on(machine, "sh", "-c", script, folder_there, input=(folder / "site.pem").read_text())
    yield {"swarm_registry": f"{name}:5000/shop", "swarm_registry_user": USER, "swarm_registry_password": PASSWORD}
    run("docker", "rm", "--force", "--volumes", name)


@pytest.fixture(scope="module", name="settings")
def others(swarm, registry):
    """Return settings of a Swarm that differ from their defaults."""
    places = {"swarm_edge_hosts": swarm.machines[-3:], "swarm_monitoring_host": swarm.machines[1]}
    return {**registry, **places, "fe_lb_replicas": 3, "be_lb_replicas": 3, "swarm_drain_delay": 2}


def test_a_stopped_stack_keeps_its_data_and_comes_back_with_other_settings(swarm, settings):
    home = swarm.places("db")[0]
    name = f"kept-{time.time():.0f}@example.com"
    assert swarm.edge(swarm.edges()[0]).post_user("Kept", name).status == 303
    swarm.playbook("teardown.yml")
    assert not objects(swarm)
    assert f"{swarm.name}_database" in volumes(swarm, home)

    swarm.deploy("-e", json.dumps(settings))
    assert swarm.places("db") == [home]
    assert swarm.places("fe-lb") == sorted(settings["swarm_edge_hosts"])
    assert len(swarm.places("be-lb")) == 3
    assert swarm.places("console") == [settings["swarm_monitoring_host"]]
    assert "drain=2" in swarm.definition("fe")["TaskTemplate"]["ContainerSpec"]["Command"]
    assert name in swarm.mysql("SELECT email FROM app.users").split()
    for item in swarm.details():
        image = item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        assert image.startswith(f"{settings['swarm_registry']}/"), image
        assert "@sha256:" in image
    assert not [item for item in objects(swarm) if f"{swarm.name}-registry" in item]
    wait_until(lambda: swarm.get(swarm.edges()[0]).status == 200, 30)


def test_a_wrong_password_of_the_registry_is_told_before_anything_changes(swarm, settings):
    before = {item["ID"]: item["Version"] for item in swarm.details()}
    wrong = {**settings, "swarm_registry": settings["swarm_registry"] + "/other", "swarm_registry_password": "wrong"}
    done = swarm.deploy("-e", json.dumps(wrong), check=False)
    assert done.returncode
    assert "swarm_registry: " in done.stdout
    assert "cannot be pushed" in done.stdout
    assert {item["ID"]: item["Version"] for item in swarm.details()} == before


def test_removed_with_its_data_it_leaves_nothing(swarm, settings):
    swarm.playbook("teardown.yml", "-e", json.dumps({**settings, "remove_data": True}))
    assert not objects(swarm)
    labels = [label for node in swarm.nodes().values() for label in node["Spec"].get("Labels") or {}]
    assert not [label for label in labels if label.endswith(f".{swarm.name}")]
    for machine in swarm.machines:
        assert not volumes(swarm, machine), machine
        assert not swarm.on(machine, "docker", "ps", "--all", "--quiet").stdout.split(), machine
        images = swarm.on(machine, "docker", "images", "--format", "{{.Repository}}").stdout.split()
        assert not [name for name in images if name.startswith((settings["swarm_registry"], "registry."))], machine
        left = f"ls {swarm.folder}/docker-stack.yml {swarm.folder}/state.json; grep registry[.]{swarm.name} /etc/hosts"
        assert not swarm.on(machine, "bash", "-c", left, check=False).stdout.strip(), machine
