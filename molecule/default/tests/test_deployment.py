"""The containers, networks, secrets and files of a deployment."""

import json
import os
import re
import signal
import ssl
import stat
import urllib.request
from datetime import datetime

import least_access
import pytest
import testinfra
from stack import current, run, wait_until


@pytest.fixture(scope="module")
def secrets(stack):
    return {path.name: path.read_text() for path in (stack.directory / "secrets/db").iterdir()}


@pytest.fixture(scope="module")
def again(stack):
    """Return what another run without changes says, in all its detail."""
    # Further secrets, which this deployment does not use, so that they change nothing.
    planted = {name: f"planted-{name}" for name in ("monitoring_grafana_password", "swarm_registry_password")}
    planted["image_pip_index"] = "https://user:planted-token@index.example.com/simple"
    return stack.playbook("site.yml", "--diff", "-vvv", "-e", json.dumps(planted)).stdout


@pytest.mark.parametrize("service", current().model["services"])
def test_service_has_least_access(stack, service):
    containers = stack.containers(service)
    assert containers
    wrong = [sentence for container in containers for sentence in least_access.violations(container, stack.settings)]
    assert not wrong, "; ".join(wrong)
    for container in containers:
        # From inside, whatever user the image has: not root.
        user = testinfra.get_host(f"docker://{container['Id']}").check_output("id -u")
        assert user != "0", f"{container['Name']} runs as root"


def test_internal_networks_have_no_address_of_the_host(stack):
    for name, network in stack.model["networks"].items():
        found = json.loads(run("docker", "network", "inspect", network["name"]).stdout)[0]
        assert found["Internal"] == (name not in least_access.OPEN), name
        if found["Internal"]:
            bridge = f"br-{found['Id'][:12]}"
            assert "inet " not in run("ip", "-4", "addr", "show", bridge).stdout, name


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
    assert set(secrets) == {"database_password", "database_root_password", "database_exporter_password"}
    assert len(set(secrets.values())) == 3
    for path in (stack.directory / "secrets").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert path.read_text() in secrets.values()
    assert stat.S_IMODE(stack.directory.stat().st_mode) == 0o700


def test_run_prints_addresses_that_answer(stack, again):
    (application,) = re.findall(rf"^ *{stack.name} runs at (.+)$", again, re.MULTILINE)
    (console,) = re.findall(r"^ *Console: +(\S+)$", again, re.MULTILINE)
    addresses = application.split()
    assert [address.partition(":")[0] for address in addresses] == ["http", "https"]
    # The certificate is nobody's whom this machine knows.
    context = ssl._create_unverified_context()  # noqa: S323
    for address, shown in ((addresses[0], 'id="frontend"'), (addresses[1], 'id="frontend"'), (console, "<html")):
        with urllib.request.urlopen(address, timeout=10, context=context) as answer:  # noqa: S310 (printed by the playbook)
            assert answer.status == 200, address
            assert shown in answer.read().decode(), address


def test_secrets_show_nowhere_else(stack, secrets, again):
    key = (stack.directory / "fe-lb/config/tls/site.pem.key").read_text().splitlines()[1]
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
    assert "planted-" not in again


def test_application_account_has_rights_on_its_schema_only(stack):
    grants = stack.mysql("SHOW GRANTS FOR app@'%'")
    assert grants.splitlines() == ["GRANT USAGE ON *.* TO `app`@`%`", "GRANT ALL PRIVILEGES ON `app`.* TO `app`@`%`"]
    assert stack.mysql("SELECT host FROM mysql.user WHERE user = 'root'").split() == ["localhost"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("innodb_flush_log_at_trx_commit", "1"),
        ("sync_binlog", "1"),
        ("log_bin", "1"),
        # Three days.
        ("binlog_expire_logs_seconds", "259200"),
        ("local_infile", "0"),
    ],
)
def test_database_is_durable(stack, variable, value):
    assert stack.mysql(f"SELECT @@{variable}").strip() == value


def test_plain_compose_agrees_with_what_runs(stack):
    before = stack.ids()
    file = str(stack.directory / "docker-compose.yml")
    run("docker", "compose", "--file", file, "up", "--detach", "--wait")
    assert stack.ids() == before


# Seconds within which the engine starts again what has ended.
AGAIN = 3


@pytest.mark.parametrize("name", ["fe-lb", "be-lb"])
def test_load_balancer_that_ends_is_started_again(stack, name):
    (before,) = stack.containers(name)
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    def state():
        return stack.containers(name)[0]["State"]

    wait_until(lambda: state()["Status"] == "running" and state()["Pid"] != before["State"]["Pid"], 30)
    # By the engine's clock, which a busy machine that looks late does not falsify.
    ended, started = (
        datetime.fromisoformat(state()[key][:26].rstrip("Z") + "+00:00") for key in ("FinishedAt", "StartedAt")
    )
    assert 0 < (started - ended).total_seconds() < AGAIN
    assert stack.containers(name)[0]["Id"] == before["Id"]

    def served():
        try:
            return stack.request().status == 200
        except OSError:
            return False

    wait_until(served, 30)
