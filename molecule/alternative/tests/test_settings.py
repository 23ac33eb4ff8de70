"""Each setting that differs from its default shows where it belongs.

The marker ``shows`` names the settings that a test looks at; tests/unit/test_every_setting.py sees that none is left out.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from stack import run
from stack_settings import parse_size

OWN = yaml.safe_load((Path(__file__).parents[1] / "inventory/hosts.yml").read_text())["all"]["hosts"]["localhost"]


@pytest.mark.shows("database_dumps", "hsts_max_age", "http3_enabled")
def test_page_comes_from_the_users_dump_over_https(stack):
    answer = stack.request(scheme="https")
    assert answer.status == 200
    assert "Hedy Lamarr" in answer.text
    assert "Ada Lovelace" not in answer.text
    assert answer.headers["Strict-Transport-Security"] == "max-age=600"
    assert answer.headers["Alt-Svc"] == f'h3=":{stack.port("https")}"; ma=86400'


@pytest.mark.shows("https_redirect")
def test_http_is_redirected(stack):
    answer = stack.request(path="/users?x=1", headers={"Host": "shop.example.com"})
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://shop.example.com:{stack.port('https')}/users?x=1"


@pytest.mark.shows("tls_certificate", "tls_private_key")
def test_certificate_is_the_users(stack):
    served = ssl.get_server_certificate(("127.0.0.2", stack.port("https")), timeout=5)
    names = x509.load_pem_x509_certificate(served.encode()).extensions
    names = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example.com"]


@pytest.mark.shows("bind_address")
def test_other_addresses_of_the_host_do_not_answer(stack):
    assert stack.address == "127.0.0.2"
    stack.address = "127.0.0.1"
    try:
        with pytest.raises(ConnectionRefusedError):
            stack.request()
    finally:
        stack.address = "127.0.0.2"


@pytest.mark.shows("fe_replicas", "be_replicas")
@pytest.mark.parametrize(("tier", "number"), [("fe", 3), ("be", 4)])
def test_every_replica_serves(stack, tier, number):
    element = {"fe": "frontend", "be": "backend"}[tier]
    names = {c["Config"]["Hostname"] for c in stack.containers(tier)}
    assert len(names) == number
    assert {stack.request(scheme="https").element(element) for _ in range(40)} == names


@pytest.mark.shows(
    "fe_command",
    "fe_user",
    "fe_stop_grace_period",
    "fe_init",
    "fe_read_only",
    "fe_tmpfs",
    "fe_capabilities",
    "fe_limits",
    "fe_memory_reservation",
    "fe_environment",
    "fe_port",
    "be_command",
    "be_user",
    "be_stop_grace_period",
    "be_init",
    "be_read_only",
    "be_tmpfs",
    "be_capabilities",
    "be_limits",
    "be_memory_reservation",
    "be_environment",
    "be_port",
)
@pytest.mark.parametrize("tier", ["fe", "be"])
def test_containers_of_a_tier_are_as_wanted(stack, tier):
    limits = OWN[f"{tier}_limits"]
    assert len(stack.containers(tier)) == OWN[f"{tier}_replicas"]
    for container in stack.containers(tier):
        host, config = container["HostConfig"], container["Config"]
        assert config["Cmd"] == OWN[f"{tier}_command"]
        assert config["User"] == OWN[f"{tier}_user"]
        assert config["StopTimeout"] == int(OWN[f"{tier}_stop_grace_period"].rstrip("s"))
        # The engine leaves out what was not asked for.
        assert not host.get("Init")
        assert not host["ReadonlyRootfs"]
        assert sorted(host["Tmpfs"]) == sorted(OWN[f"{tier}_tmpfs"])
        assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == OWN[f"{tier}_capabilities"]
        assert host["NanoCpus"] == int(float(limits["cpus"]) * 1e9)
        assert host["Memory"] == parse_size(limits["memory"])
        assert host["PidsLimit"] == limits["pids"]
        assert host["MemoryReservation"] == parse_size(OWN[f"{tier}_memory_reservation"])
        environment = dict(item.split("=", 1) for item in config["Env"])
        assert OWN[f"{tier}_environment"].items() <= environment.items()
        assert environment["PORT"] == str(OWN[f"{tier}_port"])


@pytest.mark.shows("edge_limits", "edge_trusted")
def test_edge_takes_as_much_as_it_is_told(stack):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert stack.request("POST", "/users", scheme="https", body="x" * 9_000, headers=form).status != 413
    assert stack.request("POST", "/users", scheme="https", body="x" * 11_000, headers=form).status == 413
    assert stack.request(scheme="https", headers={"X-Long": "x" * 7_500}).status == 200
    assert stack.request(scheme="https", headers={"X-Long": "x" * 8_500}).status in (400, 431)
    configuration = (stack.directory / "fe-lb/config/haproxy.cfg").read_text()
    assert "sc1_conn_cur gt 50 " in configuration
    assert "sc1_http_req_rate gt 500 " in configuration
    assert "acl trusted src 127.0.0.1/8 127.0.0.2\n" in configuration


@pytest.mark.shows("edge_headers", "edge_hidden_headers")
def test_edge_adds_and_hides_headers(stack):
    headers = stack.request(scheme="https").headers
    assert headers["X-Frame-Options"] == "DENY"
    # That of the application stays, where it says something itself.
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    # One of the defaults is dropped, the one that is not named stays.
    assert headers["Referrer-Policy"] is None
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert stack.request().headers["Content-Security-Policy"] == "default-src 'self'; img-src * data:"


@pytest.mark.shows("seccomp_profile")
def test_system_calls_are_those_of_the_engine(stack):
    for container in stack.containers():
        assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]


@pytest.mark.shows("fe_mounts", "be_mounts")
def test_mounts_are_writable_only_where_wanted(stack):
    assert "shared" in stack.execute("fe", "ls", "/mnt/brought").stdout
    assert stack.execute("fe", "touch", "/mnt/brought/shared/x", check=False).returncode != 0
    stack.execute("be", "touch", "/mnt/shared/x")
    stack.execute("be", "rm", "/mnt/shared/x")


@pytest.mark.shows("be_lb_port", "be_lb_aliases")
def test_front_ends_know_the_internal_load_balancer_by_its_other_names(stack):
    script = "import httpx; print([httpx.get(f'http://{n}:8088/healthz').status_code for n in ('be-lb', 'api', 'api.shop')])"
    assert stack.execute("fe", "python", "-c", script).stdout.strip() == "[200, 200, 200]"


@pytest.mark.shows("database_aliases")
def test_back_ends_know_the_database_by_its_other_name(stack):
    script = "import socket; print(socket.gethostbyname('mysql') == socket.gethostbyname('db'))"
    assert stack.execute("be", "python", "-c", script).stdout.strip() == "True"


@pytest.mark.shows(
    "database_settings",
    "database_name",
    "database_user",
    "database_password",
    "database_limits",
    "database_memory_reservation",
    "database_stop_grace_period",
)
def test_database_is_as_wanted(stack):
    assert stack.mysql("SELECT @@max_connections, @@innodb_buffer_pool_size").split() == ["333", str(64 * 1024 * 1024)]
    assert "GRANT ALL PRIVILEGES ON `shop`.* TO `keeper`@`%`" in stack.mysql("SHOW GRANTS FOR keeper@'%'")
    assert stack.mysql("SELECT CURRENT_USER()", "keeper").startswith("keeper@")
    host = stack.containers("db")[0]["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (parse_size("900M"), 400, 1_500_000_000)
    assert host["MemoryReservation"] == parse_size("400M")
    assert stack.containers("db")[0]["Config"]["StopTimeout"] == 60


@pytest.mark.shows("database_port")
def test_database_is_reached_from_loopback_of_the_host_alone(stack):
    (proxy,) = stack.containers("db-proxy")
    published = [binding for bindings in proxy["HostConfig"]["PortBindings"].values() for binding in bindings]
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(OWN["database_port"])}]
    assert not stack.containers("db")[0]["HostConfig"]["PortBindings"]
    image = stack.containers("db")[0]["Image"]
    client = ["docker", "run", "--rm", "--network=host", "--env=MYSQL_PWD", "--entrypoint=mysql", image]
    login = ["--protocol=tcp", "--host=127.0.0.1", f"--port={OWN['database_port']}", f"--user={OWN['database_user']}"]
    query = ["--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER(), @@hostname"]
    environment = {**os.environ, "MYSQL_PWD": OWN["database_password"]}
    answer = run(*client, *login, OWN["database_name"], *query, env=environment).stdout.split()
    assert answer == ["keeper@%", stack.containers("db")[0]["Config"]["Hostname"]]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((stack.address, OWN["database_port"]), timeout=5)


@pytest.mark.shows(
    "lb_limits",
    "lb_memory_reservation",
    "lb_stop_grace_period",
    "lb_timeouts",
    "lb_max_connections",
    "lb_dns_payload",
    "lb_discovery_interval",
    "lb_slots",
    "lb_health_interval",
    "lb_hard_stop_after",
    "fe_health_path",
    "be_health_path",
    "fe_health_host",
    "be_health_host",
)
@pytest.mark.parametrize("service", ["fe-lb", "be-lb"])
def test_load_balancers_are_as_wanted(stack, service):
    container = stack.containers(service)[0]
    host = container["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (parse_size("300M"), 100, 1_500_000_000)
    assert host["MemoryReservation"] == parse_size("100M")
    assert container["Config"]["StopTimeout"] == 20
    text = (stack.directory / service / "config/haproxy.cfg").read_text()
    timeouts = dict(OWN["lb_timeouts"])
    inside = timeouts.pop("fe_keep_alive")
    if service == "be-lb":
        timeouts["http_keep_alive"] = inside
    for name, value in timeouts.items():
        assert re.search(rf"^ +timeout {name.replace('_', '-')} {value}$", text, re.MULTILINE), name
    for line in ("maxconn 2000", "accepted_payload_size 4096", "timeout resolve 300ms", "hard-stop-after 30m"):
        assert re.search(rf"^ +{line}$", text, re.MULTILINE), line
    assert "1-64 " in text
    assert "check inter 2000ms" in text
    # Front ends have no path, so a connection is enough.
    assert ("option httpchk" in text) == (service == "be-lb")
    assert (f" uri {OWN['be_health_path']} " in text) == (service == "be-lb")
    assert (f" hdr Host {OWN['be_health_host']} " in text) == (service == "be-lb")
    assert OWN["fe_health_host"] not in text


def test_front_ends_may_keep_a_connection_for_longer_than_clients(stack):
    script = """if True:
        import http.client
        connection = http.client.HTTPConnection("be-lb", 8088, timeout=10)
        for _ in range(2):
            connection.request("GET", "/?limit=1")
            answer = connection.getresponse()
            answer.read()
            print(answer.status, answer.will_close, flush=True)
            # It opens another connection by itself otherwise.
            connection.auto_open = 0
            input()
    """
    command = ("docker", "exec", "--interactive", stack.container("fe"), "python", "-c", script)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdout.readline() == "200 False\n"
        with socket.create_connection((stack.address, stack.port("http")), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # To https, as https_redirect says.
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 308 ")
            begin = time.monotonic()
            while client.recv(1 << 16):
                pass
            assert time.monotonic() - begin > 2
        print(file=inside.stdin, flush=True)
        assert inside.stdout.readline() == "200 False\n"


@pytest.mark.shows("network_subnets", "network_driver_options")
@pytest.mark.parametrize("network", ["data", "middle", "edge", "frontend"])
def test_networks_are_as_wanted(stack, network):
    found = json.loads(stack.docker("network", "inspect", f"{stack.name}_{network}").stdout)[0]
    assert found["Options"]["com.docker.network.driver.mtu"] == "1400"
    wanted = OWN["network_subnets"].get(network)
    if wanted:
        assert found["IPAM"]["Config"][0]["Subnet"] == wanted


@pytest.mark.shows("stack_dir", "image_source")
def test_files_are_where_wanted(stack):
    assert stack.directory.name == f"{stack.name} files"
    assert (stack.directory / "docker-compose.yml").exists()
    assert json.loads((stack.directory / "state.json").read_text())["image_source"] == "debian"


@pytest.mark.shows("watchdog_restarts", "watchdog_window")
def test_watchdog_has_its_limits(stack):
    settings = json.loads((stack.directory / "watchdog/settings.json").read_text())
    assert (settings["restarts"], settings["window"]) == (5, 1200)


@pytest.mark.shows("fe_rollout_batch", "fe_drain_timeout", "be_rollout_batch", "be_drain_timeout")
def test_replicas_would_be_changed_in_the_wanted_batches(stack):
    changed = {name: {**OWN[name], "NEW": "1"} for name in ("fe_environment", "be_environment")}
    said = " ".join(stack.playbook("site.yml", "--check", "-e", json.dumps(changed)).stdout.split())
    assert "fe: 3 would start in batches of 2, 3 would be drained, for at most 20 s, and removed." in said
    assert "be: 4 would start in batches of 3, 4 would be drained, for at most 21 s, and removed." in said


@pytest.mark.shows("stack_releases_kept")
def test_releases_beyond_those_that_are_kept_are_gone(stack):
    environment = {**OWN["fe_environment"], "NEW": "1"}
    stack.playbook("site.yml", "-e", json.dumps({"fe_environment": environment}))
    stack.playbook("site.yml")
    assert len(json.loads((stack.directory / "releases/index.json").read_text())) == 1
    assert len(list((stack.directory / "releases").glob("*/docker-compose.yml"))) == 1
