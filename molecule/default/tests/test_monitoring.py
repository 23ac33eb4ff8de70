"""What Prometheus knows is what engine and load balancers say, and nobody gets more from the engine than that."""

import json
import re
import sys

import pytest
import yaml
from stack import PROJECT, changed, current, run, wait_until

RULES = current().directory / "prometheus/rules"
MONITORING = ("prometheus", "console", "container-exporter", "docker-api", "mysql-exporter")
APPLICATION = ("fe-lb", "fe", "be-lb", "be", "db")
# Seconds within which a person shall see it.
SEEN = 15


def rules(kind):
    """Return every rule of a kind: record or alert."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


@pytest.fixture(scope="module", autouse=True)
def scraped(stack):
    """Wait until each target has been asked, and the rates of a minute have something to go by."""
    jobs = {"fe-lb", "fe-lb-latency", "be-lb", "be-lb-latency", "mysql", "containers", "prometheus"}
    wait_until(lambda: stack.values("up == 1", "job").keys() == jobs, 30)

    def counted():
        for _ in range(10):
            stack.request()
        return stack.values("load_balancer:requests:rate > 0", "load_balancer").keys() == {"fe-lb", "be-lb"}

    wait_until(counted, 30)


def test_every_container_is_there_by_its_name(stack):
    names = {c["Name"].lstrip("/"): c["Config"]["Labels"]["com.docker.compose.service"] for c in stack.containers()}
    found = stack.query("container_last_seen")
    assert {series["metric"]["name"]: series["metric"]["service"] for series in found} == names
    images = {c["Name"].lstrip("/"): c["Config"]["Image"] for c in stack.containers()}
    assert {series["metric"]["name"]: series["metric"]["image"] for series in found} == images


def health(stack):
    """Return the health of each container as the engine tells it: 1, 0, or -1 where nobody checks."""
    told = {c["Name"].lstrip("/"): c["State"].get("Health", {}).get("Status") for c in stack.containers()}
    return {name: -1 if word is None else int(word == "healthy") for name, word in told.items()}


def test_values_are_those_of_the_engine(stack):
    # One that a test before has restarted is counted with the next look at it.
    counted = {container["Name"].lstrip("/"): container["RestartCount"] for container in stack.containers()}
    wait_until(lambda: counted.items() <= stack.values("container_restarts_total").items(), 60)
    memory, limit = stack.values("container_memory_usage_bytes"), stack.values("container_spec_memory_limit_bytes")
    processors, started = stack.values("container_spec_cpu_limit"), stack.values("container_start_time_seconds")
    for container in stack.containers():
        name, host = container["Name"].lstrip("/"), container["HostConfig"]
        assert limit[name] == host["Memory"]
        assert processors[name] == host["NanoCpus"] / 1e9
        assert 0 < memory[name] <= limit[name]
        assert run("date", "--date", container["State"]["StartedAt"], "+%s").stdout.strip() == str(int(started[name]))
    # One that a test before has restarted becomes healthy in a while.
    wait_until(lambda: stack.values("container_health_state") == health(stack), 60)


def test_memory_and_cpu_are_those_of_the_control_group(stack):
    container = stack.containers("db")[0]
    found = stack.execute(
        "db", "bash", "-c", "cat /sys/fs/cgroup/memory.current || cat /sys/fs/cgroup/memory/memory.usage_in_bytes"
    )
    usage = stack.values('container_memory_usage_bytes{service="db"}')[container["Name"].lstrip("/")]
    assert usage == pytest.approx(int(found.stdout.split()[-1]), rel=0.1)
    before = stack.values('container_cpu_usage_seconds_total{service="be"}')
    name = stack.containers("be")[0]["Name"].lstrip("/")
    # Three seconds of a processor, however long they take where others need it as well.
    stack.execute("be", "timeout", "60", "python", "-c", "import time\nwhile time.process_time() < 3: pass")
    wait_until(lambda: stack.values('container_cpu_usage_seconds_total{service="be"}')[name] - before[name] > 2, SEEN)


@pytest.mark.parametrize("metric", ["container_network_receive_bytes_total", "container_network_transmit_bytes_total"])
def test_network_is_counted_by_interface(stack, metric):
    found = stack.query(f'{metric}{{service="fe"}}')
    assert {series["metric"]["interface"] for series in found} == {"eth0", "eth1"}
    assert all(float(series["value"][1]) > 0 for series in found)


def test_replicas_are_in_rotation_and_their_requests_counted(stack):
    names = {c["Name"].lstrip("/") for tier in ("fe", "be") for c in stack.containers(tier)}
    assert stack.values("container_in_rotation") == dict.fromkeys(names, 1)

    def counted():
        stack.request()
        return stack.values("container:requests:rate > 0").keys() == names

    wait_until(counted, 60)


def test_latency_is_counted_in_classes(stack):
    counts = stack.values("http_request_duration_seconds_count", "load_balancer")
    for _ in range(30):
        assert stack.request().status == 200
    wait_until(
        lambda: stack.values("http_request_duration_seconds_count", "load_balancer")["fe-lb"] >= counts["fe-lb"] + 30, SEEN
    )
    for bound in ("0.005", "0.1", "10.0"):
        assert stack.values(
            f'http_request_duration_seconds_bucket{{le="{bound}"}} <= ignoring(le) http_request_duration_seconds_count'
        )
    assert 0 < stack.values("load_balancer:latency_seconds:p95", "load_balancer")["fe-lb"] < 1


@pytest.mark.parametrize("rule", rules("record"), ids=lambda rule: rule["record"])
def test_recorded_expression_has_data(stack, rule):
    assert stack.query(rule["expr"]), rule["expr"]
    assert stack.query(rule["record"])


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_alert_has_data_to_judge_by_and_is_quiet(stack, rule):
    # What is left of an expression without labels, spans, words and functions are its metrics.
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:on|by|ignoring|group_left)\s*\([^)]*\)', " ", rule["expr"])
    names = set(re.findall(r"\b[a-z][a-z0-9_:]*\b(?!\s*\()", bare)) - {"and", "or", "unless"}
    assert names
    # There is none before the first backup; the scenario recovery has some.
    for name in names - {"stack_backup_last_success_seconds"}:
        assert stack.query(name), f"{rule['alert']}: {name}"
    # The machine's disk is nobody's fault here, and other tests have restarted containers.
    if rule["alert"] not in ("VolumeFilling", "ContainerRestarting"):
        wait_until(lambda: stack.query(rule["expr"]) == [], SEEN)


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_alert_has_a_section_in_the_runbook(rule):
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.*)$", (PROJECT / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_alerts_fire_when_they_shall(stack):
    image = stack.containers("prometheus")[0]["Config"]["Image"]
    mounts = [f"--volume={RULES}:/rules:ro", f"--volume={PROJECT / 'tests/rules'}:/tests:ro"]
    command = ["docker", "run", "--rm", "--pull=never", "--network=none", *mounts, "--entrypoint=promtool", image]
    checked = run(*command, "check", "rules", "/rules/alerts.yml", "/rules/recording.yml", check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    files = sorted((PROJECT / "tests/rules").glob("*.yml"))
    tested = run(*command, "test", "rules", *(f"/tests/{file.name}" for file in files), check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    covered = {name for file in files for name in re.findall(r"alertname: (\w+)", file.read_text())}
    assert covered == {rule["alert"] for rule in rules("alert")}


DASHBOARD = json.loads((PROJECT / "roles/monitoring/files/grafana/webstack.json").read_text())


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_dashboard_has_data(stack, panel):
    for target in panel["targets"]:
        assert stack.query(target["expr"].replace("$__rate_interval", "1m")), target["expr"]


def test_console_has_data(stack):
    sys.path.append(str(PROJECT / "files/images/monitoring"))
    from console import app, state

    lines = [line[4] for line in app.LINES]
    # Of these there is nothing while all is well.
    quiet = {state.NOW[name] for name in ("exit", "reason")}
    for expression in {*state.NOW.values(), *lines, state.LAST_SEEN, app.OLDEST} - quiet:
        assert stack.query(expression), expression


def test_grafana_and_cadvisor_are_rendered(stack, tmp_path):
    chosen = {"monitoring_grafana": True, "monitoring_grafana_port": 13000, "monitoring_cadvisor": "cadvisor:1"}
    given = {"image_source": "registry", "render_dir": str(tmp_path), **chosen}
    stack.playbook("render.yml", "-e", json.dumps(given))
    file = tmp_path / "docker-compose.yml"
    # Rendering writes no secrets, which Compose looks for.
    model = json.loads(run("docker", "compose", "--file", str(file), "config", "--format", "json").stdout)
    grafana, cadvisor = model["services"]["grafana"], model["services"]["cadvisor"]
    assert grafana["ports"][0]["published"] == "13000"
    assert grafana["ports"][0]["host_ip"] == "127.0.0.1"
    assert set(grafana["networks"]) == {"monitoring"}
    assert cadvisor["image"] == "cadvisor:1"
    assert {path.name for path in (tmp_path / "grafana").rglob("*.*")} == {"prometheus.yml", "files.yml", "webstack.json"}
    image = stack.containers("prometheus")[0]["Config"]["Image"]
    mount = f"--volume={tmp_path / 'prometheus'}:/etc/prometheus:ro"
    command = ["docker", "run", "--rm", "--pull=never", "--network=none", mount, "--entrypoint=promtool", image]
    run(*command, "check", "config", "/etc/prometheus/prometheus.yml")


# Each asks what a client of the engine could ask; {id} is a container of the stack.
ASKED = {
    "GET /_ping": 200,
    "GET /v1.44/containers/json": 200,
    "GET /v1.44/containers/{id}/json": 200,
    "GET /v1.44/containers/{id}/stats?stream=false&one-shot=true": 200,
    "GET /v1.44/containers/{id}/stats": 403,
    "GET /v1.44/containers/{id}/stats?stream=true": 403,
    "GET /v1.44/containers/{id}/logs?stderr=1&stdout=1&timestamps=1&follow=0&tail=5": 200,
    "GET /v1.44/containers/{id}/logs?stderr=1&stdout=1&timestamps=1&follow=1&tail=5": 403,
    "GET /v1.44/containers/{id}/logs?stderr=1&stdout=1&timestamps=1&follow=0&tail=5&follow=1": 403,
    "GET /v1.44/containers/{id}/logs?%66ollow=1&stderr=1&stdout=1&timestamps=1&follow=0&tail=5": 403,
    "GET /v1.44/containers/{id}/logs?stdout=1": 403,
    "GET /v1.44/containers/{id}/attach?logs=1": 403,
    "GET /v1.44/containers/{id}/export": 403,
    "GET /v1.44/containers/{id}/archive?path=/run/secrets": 403,
    "GET /v1.44/containers/{id}/json/../archive?path=/run/secrets": 403,
    "GET /v1.44/containers/{id}/..%2f{id}/archive?path=/": 403,
    "GET /v1.44/images/json": 403,
    "GET /v1.44/secrets": 403,
    "GET /v1.44/events": 403,
    "GET /v1.44/info": 403,
    "GET /": 403,
    "HEAD /_ping": 403,
    "POST /v1.44/containers/create": 403,
    "POST /v1.44/containers/{id}/exec": 403,
    "POST /v1.44/containers/{id}/kill": 403,
    "POST /v1.44/containers/{id}/json": 403,
    "PUT /v1.44/containers/{id}/archive?path=/": 403,
    "DELETE /v1.44/containers/{id}": 403,
    "POST /v1.44/build": 403,
}
ASK = """
import http.client, json, sys
answers = []
for line in json.load(sys.stdin):
    method, _, path = line.partition(" ")
    connection = http.client.HTTPConnection("engine.docker-api", 2375, timeout=5)
    connection.request(method, path)
    answers.append(connection.getresponse().status)
print(json.dumps(answers))
"""


def test_the_engine_is_asked_a_few_questions_and_told_nothing(stack):
    target = stack.containers("fe")[0]["Id"]
    command = ["docker", "exec", "--interactive", stack.container("container-exporter"), "python", "-c", ASK]
    lines = [line.format(id=target) for line in ASKED]
    found = dict(zip(ASKED, json.loads(run(*command, input=json.dumps(lines)).stdout), strict=True))
    assert found == ASKED
    assert json.loads(run("docker", "inspect", target).stdout)[0]["State"]["Running"]


def test_database_account_of_monitoring_has_no_rights(stack):
    assert stack.mysql("SHOW GRANTS FOR exporter@'%'").splitlines() == ["GRANT USAGE ON *.* TO `exporter`@`%`"]
    assert stack.values("mysql_up", "instance") == {"metrics.mysql-exporter:9104": 1}
    connections = stack.values("mysql_global_variables_max_connections", "instance").values()
    assert list(connections) == [float(stack.mysql("SELECT @@max_connections"))]


def containers_of(stack, services):
    return {
        name: identity for name, identity in stack.ids().items() if re.sub(rf"^{stack.name}-|-\d+$", "", name) in services
    }


def test_new_replicas_appear_and_old_ones_leave_nothing(stack):
    before = containers_of(stack, (*MONITORING, "db", "be", "fe-lb"))
    stack.playbook("site.yml", "-e", "fe_replicas=5")
    wait_until(lambda: len(stack.query('container_in_rotation{service="fe"} == 1')) == 5, SEEN)
    wait_until(lambda: stack.values("stack_containers_wanted", "service")["fe"] == 5, SEEN)
    stack.playbook("site.yml")
    wait_until(lambda: len(stack.query('{__name__=~"container_.+", service="fe", name!=""} ')) > 0, SEEN)
    names = {c["Name"].lstrip("/") for c in stack.containers("fe")}
    wait_until(lambda: stack.values('{__name__=~"container_.+", service="fe"}').keys() == names, SEEN)
    assert containers_of(stack, (*MONITORING, "db", "be", "fe-lb")) == before


def test_switching_it_off_removes_it_and_leaves_the_application_alone(stack):
    before = containers_of(stack, APPLICATION)
    kept = stack.values("prometheus_tsdb_lowest_timestamp_seconds", "job")["prometheus"]
    stack.playbook("site.yml", "-e", "monitoring_enabled=false")
    assert stack.ids() == before
    networks = run("docker", "network", "ls", "--filter", f"name={stack.name}_", "--format", "{{.Name}}").stdout.split()
    assert not [name for name in networks if re.search("docker-api|container-metrics|db-metrics|monitoring", name)]
    assert changed(stack.playbook("site.yml", "-e", "monitoring_enabled=false").stdout) == 0
    stack.playbook("site.yml")
    assert containers_of(stack, APPLICATION) == before
    # What was measured before is still there.
    wait_until(lambda: stack.values("prometheus_tsdb_lowest_timestamp_seconds", "job").get("prometheus") == kept, 30)
