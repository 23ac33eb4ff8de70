"""The containers, networks, secrets and files of a deployment."""

import json
import re
import stat

import pytest
import testinfra
from stack import run

NETWORKS = {
    "fe-lb": {"edge", "frontend", "fe-lb-metrics"},
    "fe": {"frontend", "middle"},
    "be-lb": {"middle", "backend", "be-lb-metrics"},
    "be": {"backend", "data"},
    "db": {"data"},
}


@pytest.fixture(scope="module")
def secrets(stack):
    return {path.name: path.read_text() for path in (stack.directory / "secrets/db").iterdir()}


@pytest.mark.parametrize("service", NETWORKS)
def test_service_has_least_access(stack, service):
    for container in stack.containers(service):
        host, config = container["HostConfig"], container["Config"]
        assert {n.removeprefix(f"{stack.name}_") for n in container["NetworkSettings"]["Networks"]} == NETWORKS[service]
        assert config["User"].split(":")[0] not in ("", "0", "root") or service == "fe"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"])
        # From inside, whatever user the image has: not root.
        assert testinfra.get_host(f"docker://{container['Id']}").check_output("id -u") != "0"


def test_only_the_edge_publishes_and_on_loopback_alone(stack):
    for container in stack.containers():
        bindings = container["HostConfig"]["PortBindings"] or {}
        if container["Config"]["Labels"]["com.docker.compose.service"] == "fe-lb":
            assert {b["HostIp"] for port in bindings.values() for b in port} == {"127.0.0.1"}
        else:
            assert not bindings


def test_internal_networks_have_no_address_of_the_host(stack):
    for name, network in stack.model["networks"].items():
        found = json.loads(run("docker", "network", "inspect", network["name"]).stdout)[0]
        assert found["Internal"] == (name != "edge"), name
        if found["Internal"]:
            bridge = f"br-{found['Id'][:12]}"
            assert "inet " not in run("ip", "-4", "addr", "show", bridge).stdout, name


def connects(stack, service, address, port):
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"
    return stack.execute(service, "python", "-c", script, address, str(port), check=False).returncode == 0


def address(stack, service, network):
    return stack.containers(service)[0]["NetworkSettings"]["Networks"][f"{stack.name}_{network}"]["IPAddress"]


def test_ports_of_a_load_balancer_answer_on_their_network_alone(stack):
    # The counter-proof first: this is how a port that answers looks.
    assert connects(stack, "fe", address(stack, "be-lb", "middle"), 80)
    assert not connects(stack, "fe", address(stack, "be-lb", "middle"), 8405)
    assert not connects(stack, "be", address(stack, "be-lb", "backend"), 80)
    assert not connects(stack, "be", address(stack, "be-lb", "backend"), 8405)
    assert not connects(stack, "fe", address(stack, "fe-lb", "frontend"), 8080)
    assert not connects(stack, "fe", address(stack, "fe-lb", "frontend"), 8405)


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_metrics_and_statistics_answer_on_the_metrics_network(stack, tier):
    image = stack.containers("fe")[0]["Image"]
    script = "import httpx, sys; r = httpx.get(sys.argv[1]); r.raise_for_status(); print(r.text)"
    probe = (
        "docker",
        "run",
        "--rm",
        "--pull=never",
        f"--network={stack.name}_{tier}-lb-metrics",
        image,
        "python",
        "-c",
        script,
    )
    metrics = run(*probe, f"http://metrics.{tier}-lb:8405/metrics").stdout
    assert re.search(rf'^haproxy_backend_status{{proxy="{tier}",state="UP"}} 1$', metrics, re.MULTILINE)
    assert "Statistics Report" in run(*probe, f"http://metrics.{tier}-lb:8405/").stdout


def test_secrets_are_files_of_their_readers(stack, secrets):
    assert set(secrets) == {"database_password", "database_root_password"}
    assert len(set(secrets.values())) == 2
    for path in (stack.directory / "secrets").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert path.read_text() == secrets[path.name]
    assert stat.S_IMODE(stack.directory.stat().st_mode) == 0o700


def test_secrets_show_nowhere_else(stack, secrets):
    key = (stack.directory / "fe-lb/config/tls/site.pem.key").read_text().splitlines()[1]
    again = stack.playbook("site.yml", "--diff", "-vvv").stdout
    places = {
        "Compose file": (stack.directory / "docker-compose.yml").read_text(),
        "output of the playbook": again,
        "docker inspect": json.dumps(stack.containers()),
        "logs": "".join(
            run("docker", "logs", c["Id"]).stdout + run("docker", "logs", c["Id"]).stderr for c in stack.containers()
        ),
        "process lists": "".join(run("docker", "top", c["Id"], "-eo", "pid,args").stdout for c in stack.containers()),
    }
    for place, text in places.items():
        assert text, place
        for name, value in {**secrets, "key of the certificate": key}.items():
            assert value not in text, f"{name} shows in {place}"


def test_application_account_has_rights_on_its_schema_only(stack):
    grants = stack.mysql("SHOW GRANTS FOR app@'%'")
    assert grants.splitlines() == ["GRANT USAGE ON *.* TO `app`@`%`", "GRANT ALL PRIVILEGES ON `app`.* TO `app`@`%`"]
    assert stack.mysql("SELECT host FROM mysql.user WHERE user = 'root'").split() == ["localhost"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("innodb_flush_log_at_trx_commit", "1"), ("sync_binlog", "1"), ("log_bin", "1"), ("local_infile", "0")],
)
def test_database_is_durable(stack, variable, value):
    assert stack.mysql(f"SELECT @@{variable}").strip() == value


def test_database_has_its_data_in_a_named_volume(stack):
    mounts = {m["Destination"]: m for m in stack.containers("db")[0]["Mounts"]}
    assert mounts["/var/lib/mysql"]["Type"] == "volume"
    assert mounts["/var/lib/mysql"]["Name"] == f"{stack.name}_database"


def test_plain_compose_agrees_with_what_runs(stack):
    before = stack.ids()
    file = str(stack.directory / "docker-compose.yml")
    run("docker", "compose", "--file", file, "up", "--detach", "--wait")
    assert stack.ids() == before
