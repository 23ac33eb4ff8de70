"""From a container that hangs to the console, the status and the receiver of alerts; and which settings get there."""

import json
import re

import pytest
from stack import current, run, wait_until
from stack_settings import parse_size

# Seconds within which a person shall see which container it is.
SEEN = 15
RECEIVER = """
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("", 8000), Receiver).serve_forever()
"""


@pytest.fixture(scope="module")
def receiver(stack):
    """Run what the webhook reaches, and return the alerts that it has got so far."""
    image = stack.containers("fe")[0]["Config"]["Image"]
    options = ("--detach", "--rm", "--pull=never", f"--network={stack.name}_alerts", "--network-alias=receiver")
    identity = run("docker", "run", *options, image, "python", "-c", RECEIVER).stdout.strip()

    def received():
        lines = run("docker", "logs", identity).stdout.splitlines()
        return [alert for line in lines if line for alert in json.loads(line)["alerts"]]

    yield received
    run("docker", "rm", "--force", identity)


@pytest.fixture(scope="module")
def unwatched(stack):
    """Switch the watchdog off, which would restart what hangs before anybody sees it."""
    stack.playbook("site.yml", "-e", "watchdog_enabled=false")
    yield
    stack.playbook("site.yml")


def ask(stack, path):
    """Return what the console answers."""
    script = "import httpx, sys; print(httpx.get(sys.argv[1], headers={'Host': 'localhost'}).text)"
    return stack.execute("console", "python", "-c", script, f"http://monitoring.console:9091{path}").stdout


def shown(stack):
    """Return what the console says of each container, by its name."""
    answer = ask(stack, "/api/state")
    return {item["name"]: item for service in json.loads(answer)["services"] for item in service["containers"]}


@pytest.mark.shows("monitoring_alert_webhook_url")
@pytest.mark.usefixtures("unwatched")
def test_hanging_container_is_shown_and_an_alert_is_sent(stack, receiver):
    # Front ends have no health path here, and the kernel goes on taking connections for a container that is paused.
    container = stack.containers("be")[-1]
    name = container["Name"].lstrip("/")
    assert shown(stack)[name]["level"] == "well"
    run("docker", "pause", container["Id"])
    try:
        wait_until(lambda: shown(stack)[name]["level"] == "bad", SEEN)
        assert shown(stack)[name]["words"] == "paused"
        status = stack.playbook("status.yml", check=False)
        assert status.returncode
        assert f"{name}: paused." in " ".join(status.stdout.split())

        def alerts(status):
            return {
                a["labels"]["alertname"] for a in receiver() if a["status"] == status and a["labels"].get("name") == name
            }

        wait_until(lambda: "ReplicaOutOfRotation" in alerts("firing"), 120)
        missing = [a for a in receiver() if a["labels"]["alertname"] == "ContainerMissing"]
        assert {a["labels"]["service"] for a in missing} == {"be"}
        assert missing[0]["annotations"]["summary"] == "Fewer than 4 containers of be run."
    finally:
        run("docker", "unpause", container["Id"])
    wait_until(lambda: "ReplicaOutOfRotation" in alerts("resolved"), 120)
    # Docker's own check comes every half minute.
    wait_until(lambda: stack.playbook("status.yml", check=False).returncode == 0, 60)


def test_load_is_shown_where_it_is(stack):
    name, *others = [item["Name"].lstrip("/") for item in stack.containers("be")]
    run("docker", "exec", "--detach", name, "timeout", "60", "python", "-c", "while True: pass")

    def is_shown():
        shares = {item["name"]: item["cpu_share"] or 0 for item in shown(stack).values()}
        # How much of a processor it gets depends on what else the machine does; the others of its tier do next to nothing.
        return shares[name] > max(0.1, *(3 * shares[other] for other in others))

    wait_until(is_shown, SEEN)
    lines = stack.playbook("status.yml").stdout.splitlines()
    busiest = next(lines[place + 1] for place, line in enumerate(lines) if re.match(r" *be  ", line))
    assert busiest.split()[0] == name


@pytest.mark.shows(
    "monitoring_prometheus_limits",
    "monitoring_retention",
    "monitoring_retention_size",
    "monitoring_interval",
    "monitoring_alert_thresholds",
)
def test_prometheus_is_as_wanted(stack):
    container = stack.containers("prometheus")[0]
    host = container["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (parse_size("400M"), 120, 900_000_000)
    flags = stack.query("prometheus_tsdb_retention_limit_seconds")[0]["value"][1]
    assert float(flags) == 3 * 86400
    assert float(stack.query("prometheus_tsdb_retention_limit_bytes")[0]["value"][1]) == parse_size("200M")
    assert "scrape_interval: 4s" in (stack.directory / "prometheus/prometheus.yml").read_text()
    wanted = stack.settings["monitoring_alert_thresholds"]
    assert stack.values("stack_alert_threshold") == wanted


@pytest.mark.shows("monitoring_show_logs")
def test_no_log_can_be_read_where_that_is_switched_off(stack):
    name = stack.containers("fe")[0]["Name"].lstrip("/")
    for path in (f"/api/log?name={name}", "/api/requests"):
        assert json.loads(ask(stack, path)) == {"error": "Logs are switched off (monitoring_show_logs)."}


@pytest.mark.shows("monitoring_limits")
@pytest.mark.parametrize("service", ["console", "container-exporter", "docker-api", "mysql-exporter", "alertmanager"])
def test_the_others_have_their_limits(stack, service):
    host = stack.containers(service)[0]["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (parse_size("120M"), 60, 400_000_000)


@pytest.mark.shows("monitoring_docker_socket")
def test_the_engine_is_reached_by_the_path_that_is_given(stack):
    sources = {mount["Source"] for mount in stack.containers("docker-api")[0]["Mounts"]}
    assert "/run/docker.sock" in sources


def test_address_of_the_receiver_is_a_secret():
    stack = current()
    path = stack.directory / "alertmanager/secrets/webhook_url"
    assert path.read_text() == stack.settings["monitoring_alert_webhook_url"]
    assert path.stat().st_mode & 0o777 == 0o600
