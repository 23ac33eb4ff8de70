"""What the playbook writes for the settings of the scenario alternative, of which nearly every one differs from its default.

That an engine and its programs take what stands there is shown by the scenario.
"""

import json
import os
import re
import sys
from pathlib import Path

import certificates_filters
import pytest
import yaml
from stack import PROJECT, run

INVENTORIES = [PROJECT / f"molecule/{name}/inventory/hosts.yml" for name in ("shared", "alternative")]
OWN = yaml.safe_load(INVENTORIES[-1].read_text())["all"]["hosts"]["localhost"]
MONITORING = ["console", "container-exporter", "docker-api", "mysql-exporter", "alertmanager"]


@pytest.fixture(scope="module", name="files")
def rendered(tmp_path_factory):
    """Render once, without an engine; return the text of each file by its path."""
    brought, folder = tmp_path_factory.mktemp("brought"), tmp_path_factory.mktemp("with a blank") / "rendered"
    pair = certificates_filters.self_signed_certificate(["shop.example.com"])
    for name, text in (("site.pem", pair["certificate"]), ("site.key", pair["key"]), ("shop.sql", "SELECT 1;\n")):
        (brought / name).write_text(text)
    (brought / "shared").mkdir()
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *(f"--inventory={path}" for path in INVENTORIES)]
    variables = {"own_files": str(brought), "render_dir": str(folder)}
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock", "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    environment = {**os.environ, **nowhere, "MOLECULE_SCENARIO_NAME": "alternative"}
    run(*command, str(PROJECT / "playbooks/render.yml"), "--extra-vars", json.dumps(variables), env=environment)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="model")
def compose_file(files):
    return yaml.safe_load(files["docker-compose.yml"])


def resources(service):
    """Return limits and reserved memory of a service."""
    found = service["deploy"]["resources"]
    return found["limits"], found.get("reservations", {}).get("memory")


def wanted(setting):
    """Return limits and reserved memory of what the names of some settings begin with."""
    return OWN[f"{setting}_limits"], OWN[f"{setting}_memory_reservation"]


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_replicas_are_as_wanted(model, tier):
    service = model["services"][tier]
    for key, setting in {
        "command": "command",
        "user": "user",
        "stop_grace_period": "stop_grace_period",
        "read_only": "read_only",
        "tmpfs": "tmpfs",
        "cap_add": "capabilities",
    }.items():
        assert service[key] == OWN[f"{tier}_{setting}"], key
    assert service.get("init", False) is OWN[f"{tier}_init"]
    assert service["deploy"]["replicas"] == OWN[f"{tier}_replicas"]
    assert resources(service) == wanted(tier)
    # Compose takes two of them for one.
    environment = {name: value.replace("$$", "$") for name, value in service["environment"].items()}
    assert {**OWN[f"{tier}_environment"], "PORT": str(OWN[f"{tier}_port"])}.items() <= environment.items()


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_mounts_are_writable_only_where_wanted(model, tier):
    (mount,) = model["services"][tier]["volumes"]
    (own,) = OWN[f"{tier}_mounts"]
    assert (mount["target"], mount["read_only"]) == (own["target"], own.get("read_only", True))


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_load_balancers_are_as_wanted(files, model, tier):
    service = model["services"][f"{tier}-lb"]
    assert resources(service) == wanted("lb")
    assert service["stop_grace_period"] == OWN["lb_stop_grace_period"]
    text = files[f"{tier}-lb/config/haproxy.cfg"]
    timeouts = dict(OWN["lb_timeouts"])
    inside = timeouts.pop("fe_keep_alive")
    if tier == "be":
        timeouts["http_keep_alive"] = inside
    lines = [f"timeout {name.replace('_', '-')} {value}" for name, value in timeouts.items()]
    lines += [
        f"maxconn {OWN['lb_max_connections']}",
        f"accepted_payload_size {OWN['lb_dns_payload']}",
        f"timeout resolve {1000 * OWN['lb_discovery_interval']:.0f}ms",
        f"hard-stop-after {OWN['lb_hard_stop_after']}",
    ]
    for line in lines:
        assert re.search(rf"^ +{line}$", text, re.MULTILINE), line
    assert f"1-{OWN['lb_slots']} " in text
    assert f"check inter {1000 * OWN['lb_health_interval']}ms" in text
    # Front ends have no path, so a connection is enough.
    path, host = OWN[f"{tier}_health_path"], OWN[f"{tier}_health_host"]
    asked = (f" uri {path} " in text, f" hdr Host {host} " in text, "option httpchk" in text)
    assert asked == (bool(path), bool(path), bool(path))


def test_each_knows_the_next_by_its_other_names(model):
    assert set(OWN["be_lb_aliases"]) < set(model["services"]["be-lb"]["networks"]["middle"]["aliases"])
    assert model["services"]["db"]["networks"]["data"]["aliases"] == OWN["database_aliases"]
    assert model["services"]["fe"]["environment"]["BACKEND_URL"] == f"http://be-lb:{OWN['be_lb_port']}"


def test_database_is_as_wanted(files, model):
    service = model["services"]["db"]
    assert resources(service) == wanted("database")
    assert service["stop_grace_period"] == OWN["database_stop_grace_period"]
    for tier, names in (("db", ["NAME", "USER"]), ("be", ["NAME", "USER"])):
        for name in names:
            assert model["services"][tier]["environment"][f"DATABASE_{name}"] == OWN[f"database_{name.lower()}"]
    for name, value in OWN["database_settings"].items():
        assert re.search(rf"^{name} *= *{value}$", files["db/config/webstack.cnf"], re.MULTILINE), name


def test_networks_are_as_wanted(model):
    assert {name: network["ipam"]["config"] for name, network in model["networks"].items()} == {
        name: [{"subnet": subnet}] for name, subnet in OWN["network_subnets"].items()
    }
    for network in model["networks"].values():
        assert OWN["network_driver_options"].items() <= network["driver_opts"].items()


def test_ports_are_published_on_the_wanted_address_alone(model):
    published = {
        name: {port["host_ip"] for port in service["ports"]}
        for name, service in model["services"].items()
        if "ports" in service
    }
    loopback = {"127.0.0.1"}
    assert published == {
        "fe-lb": {OWN["bind_address"]},
        "db-proxy": loopback,
        "prometheus": loopback,
        "console": loopback,
    }


def test_monitoring_is_as_wanted(files, model):
    prometheus = model["services"]["prometheus"]
    assert resources(prometheus)[0] == OWN["monitoring_prometheus_limits"]
    for option, setting in (("time", "retention"), ("size", "retention_size")):
        assert f"--storage.tsdb.retention.{option}={OWN[f'monitoring_{setting}']}" in prometheus["command"]
    assert f"scrape_interval: {OWN['monitoring_interval']}s" in files["prometheus/prometheus.yml"]
    assert json.loads(files["container-exporter/deployment.json"])["thresholds"] == OWN["monitoring_alert_thresholds"]
    sources = {mount["target"]: mount["source"] for mount in model["services"]["docker-api"]["volumes"]}
    assert sources["/var/run/docker.sock"] == OWN["monitoring_docker_socket"]


@pytest.mark.parametrize("service", MONITORING)
def test_the_others_have_their_limits(model, service):
    assert resources(model["services"][service])[0] == OWN["monitoring_limits"]


def test_no_profile_is_that_of_the_engine(model):
    assert {str(service["security_opt"]) for service in model["services"].values()} == {"['no-new-privileges:true']"}


def test_no_secret_is_written(files):
    """Neither a password nor the address of the receiver, of whom nobody else has to know."""
    assert not [path for path in files if "secrets/" in path]
    for setting in ("database_password", "monitoring_alert_webhook_url"):
        assert not [path for path, text in files.items() if OWN[setting] in text], setting
