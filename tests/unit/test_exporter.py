"""What the exporter reads from the engine and the load balancers, for both versions of control groups."""

import json
import re
import time
from types import SimpleNamespace

import pytest
import stack_haproxy
from docker.errors import APIError, NotFound
from exporter import balancers, collector, engine, logs, questions
from stack import PROJECT

STARTED = "2026-01-02T03:04:05.123456789Z"
VERSION_1 = {"usage": 1000, "stats": {"total_inactive_file": 300, "total_rss": 500, "total_cache": 400, "inactive_file": 1}}
VERSION_2 = {"usage": 1000, "stats": {"inactive_file": 300, "anon": 500, "file": 400}}


def details(**state):
    """Return what the engine says of a container."""
    return {
        "Name": "/web-fe-1",
        "State": {"Status": "running", "StartedAt": STARTED, **state},
        "RestartCount": 2,
        "HostConfig": {"Memory": 2048, "NanoCpus": 500_000_000},
        "NetworkSettings": {"Networks": {"a": {"IPAddress": "10.0.0.2"}, "b": {"IPAddress": ""}}},
    }


def stats(memory):
    """Return what the engine says that a container uses."""
    usage = {"total_usage": 2_000_000_000, "usage_in_usermode": 1_500_000_000, "usage_in_kernelmode": 500_000_000}
    counts = {f"{way}_{what}": 7 for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")}
    blocks = [{"op": "Read", "value": 5}, {"op": "read", "value": 6}, {"op": "write", "value": 9}]
    return {
        "cpu_stats": {
            "cpu_usage": usage,
            "throttling_data": {"periods": 3, "throttled_periods": 1, "throttled_time": 10**9},
        },
        "memory_stats": memory,
        "pids_stats": {"current": 4},
        "networks": {"eth0": counts},
        "blkio_stats": {"io_service_bytes_recursive": blocks},
    }


def samples(families):
    """Return the values of metrics by name, and by state or interface where they have one."""
    found = {}
    for family in families:
        for sample in family.samples:
            found[sample.name, sample.labels.get("state") or sample.labels.get("interface", "")] = sample.value
    return found


@pytest.mark.parametrize("memory", [VERSION_1, VERSION_2], ids=["v1", "v2"])
def test_a_container_is_measured_alike_under_both_versions(memory):
    families = collector.Families()
    container = engine.Found("web-fe-1", "fe", "fe:1", details(), stats(memory))
    labels = {"name": "web-fe-1", "service": "fe", "image": "fe:1"}
    collector.describe(container, labels, families)
    collector.measure(container, labels, families)
    found = samples(families)
    assert found["container_memory_usage_bytes", ""] == 1000
    assert found["container_memory_working_set_bytes", ""] == 700
    assert found["container_memory_rss", ""] == 500
    assert found["container_memory_cache", ""] == 400
    assert found["container_cpu_usage_seconds_total", ""] == 2
    assert found["container_cpu_cfs_throttled_seconds_total", ""] == 1
    assert found["container_network_receive_bytes_total", "eth0"] == 7
    assert found["container_fs_reads_bytes_total", ""] == 11
    assert found["container_fs_writes_bytes_total", ""] == 9
    assert found["container_spec_memory_limit_bytes", ""] == 2048
    assert found["container_spec_cpu_limit", ""] == 0.5
    assert found["container_restarts_total", ""] == 2
    assert found["container_state", "running"] == 1
    assert found["container_state", "paused"] == 0
    assert found["container_start_time_seconds", ""] == found["container_since_seconds", ""] == 1767323045.123456
    # It has never ended.
    assert ("container_finish_time_seconds", "") not in found


@pytest.mark.parametrize(
    ("health", "value"),
    [({}, -1), ({"Health": {"Status": "healthy"}}, 1), ({"Health": {"Status": "starting"}}, 0), ({"Health": None}, -1)],
)
def test_health_is_told_as_cadvisor_does(health, value):
    assert engine.Found("", "", "", details(**health)).health == value


ENDED = {"Status": "exited", "FinishedAt": "2026-01-02T03:05:00Z", "ExitCode": 137}
CHECKS = [{"Start": f"2026-01-02T03:0{n}:00Z"} for n in range(5, 9)]


@pytest.mark.parametrize(
    ("state", "since"),
    [
        ({}, 1767323045.123456),
        (ENDED, 1767323100),
        # It was started again, which counts.
        ({"FinishedAt": "2026-01-02T03:04:00Z"}, 1767323045.123456),
        ({"Health": {"Status": "healthy", "FailingStreak": 0, "Log": CHECKS}}, 1767323045.123456),
        ({"Health": {"Status": "unhealthy", "FailingStreak": 3, "Log": CHECKS}}, 1767323160),
        # More checks than the engine keeps, one each ten seconds.
        ({"Health": {"Status": "unhealthy", "FailingStreak": 10, "Log": CHECKS}}, 1767323190),
    ],
)
def test_since_when_a_container_is_as_it_is_is_what_the_engine_says(state, since):
    found = {**details(**state), "Config": {"Healthcheck": {"Interval": 10 * 10**9}}}
    assert engine.Found("", "", "", found).since == since


def test_end_of_a_container_is_told():
    families = collector.Families()
    collector.describe(engine.Found("web-fe-1", "fe", "fe:1", details(**ENDED)), {"name": "web-fe-1"}, families)
    found = samples(families)
    assert found["container_finish_time_seconds", ""] == 1767323100
    assert found["container_exit_code", ""] == 137


def test_a_container_that_never_started_has_no_time():
    assert engine.seconds("0001-01-01T00:00:00Z") == 0
    assert engine.seconds("2026-01-02T03:04:05Z") == 1767323045


@pytest.mark.parametrize(
    ("host", "value"), [({"NanoCpus": 0, "CpuQuota": 50000, "CpuPeriod": 100000}, 0.5), ({"NanoCpus": 0}, 0)]
)
def test_limits_of_processors(host, value):
    assert collector.processors(host) == value


def test_missing_counters_are_nothing():
    assert collector.working_set({}) == 0
    assert collector.block_bytes({"blkio_stats": {"io_service_bytes_recursive": None}}, "read") == 0


CSV = """# pxname,svname,status,stot,hrsp_5xx,econ,eresp,rtime,type,addr
application,FRONTEND,OPEN,9,,,,,0,
fe,fe-1,UP,100,3,1,2,250,2,10.0.0.2:8000
fe,fe-2,DOWN 1/2,5,,,,,2,10.0.0.3:8000
fe,fe-3,DRAIN,6,0,0,0,1,2,10.0.0.4:8000
fe,fe-4,MAINT (resolution),0,0,0,0,0,2,:8000
fe,BACKEND,UP,100,3,1,2,250,1,
"""


def test_servers_are_read_by_address():
    found = balancers.read_servers("fe-lb", CSV)
    assert [(s.address, s.up) for s in found] == [("10.0.0.2", True), ("10.0.0.3", False), ("10.0.0.4", False)]
    assert (found[0].requests, found[0].errors, found[0].response_time) == (100, 6, 0.25)
    assert engine.Found("", "", "", details()).addresses == {"10.0.0.2"}


CHECKED = """# pxname,svname,status,stot,hrsp_5xx,econ,eresp,rtime,type,addr,check_status,check_code,lastchg,last_chk
fe,fe-1,{status},1,0,0,0,1,2,10.0.0.2:8000,{check},{code},60,<b>what the server says</b>
"""


@pytest.mark.parametrize(
    ("status", "check", "code", "reason"),
    [
        ("UP", "L7OK", "200", None),
        ("DOWN", "L7STS", "404", "HTTP 404 on /nope"),
        ("DOWN 1/2", "* L7STS", "503", "HTTP 503 on /nope"),
        ("DOWN", "L7TOUT", "", "no answer in time on /nope"),
        ("DOWN", "L7RSP", "", "no valid answer of HTTP on /nope"),
        ("DOWN", "L4CON", "", "connection refused"),
        ("DOWN", "L4TOUT", "", "no connection in time"),
        ("DOWN", "INI", "", "not checked yet"),
        ("DRAIN", "L7OK", "200", "drained"),
        # What no release of HAProxy says so far, and what could only be a label of somebody else's making.
        ("DOWN", "L9NEW", "", "its check fails"),
        ("DOWN", "L7STS", "4x<script>", "HTTP  on /nope"),
    ],
)
def test_why_a_replica_gets_no_requests_is_told(status, check, code, reason):
    [server] = balancers.read_servers("fe-lb", CHECKED.format(status=status, check=check, code=code))
    families = collector.Families()
    collector.serve(server, {"name": "web-fe-1"}, "/nope", families)
    told = [sample.labels["reason"] for family in families for sample in family.samples if "reason" in sample.labels]
    assert told == ([reason] if reason else [])
    assert abs(samples(families)["container_rotation_since_seconds", ""] - (time.time() - 60)) < 2


def test_reason_of_a_check_without_a_path_names_none():
    [server] = balancers.read_servers("fe-lb", CHECKED.format(status="DOWN", check="L7TOUT", code=""))
    families = collector.Families()
    collector.serve(server, {"name": "web-fe-1"}, "", families)
    assert {s.labels.get("reason") for family in families for s in family.samples} == {None, "no answer in time"}


def test_several_load_balancers_of_a_tier_are_asked_together(monkeypatch):
    other = CSV.replace("fe-1,UP,100", "fe-1,DOWN,11").replace("fe-3", "fe-9").replace("10.0.0.4", "10.0.0.9")
    answers = {"http://10.0.0.7:8405": CSV, "http://10.0.0.8:8405": other}

    def get(url, **_):
        return SimpleNamespace(text=answers[url.partition("/;")[0]], raise_for_status=lambda: None)

    monkeypatch.setattr(balancers.requests, "get", get)
    monkeypatch.setattr(
        balancers.socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("10.0.0.8", 8405)), (0, 0, 0, "", ("10.0.0.7", 8405))]
    )
    found = {server.address: server for server in balancers.ask("fe-lb", "http://metrics.fe-lb:8405")}
    # One of them sends it nothing.
    assert not found["10.0.0.2"].up
    assert (found["10.0.0.2"].requests, found["10.0.0.2"].errors) == (111, 12)
    assert set(found) == {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9"}


def test_replica_that_is_judged_in_two_ways_serves_if_it_passes_one_of_them(monkeypatch):
    text = f"{CSV}fe,fe-10001,UP,7,0,0,0,1,2,10.0.0.3:9000\nfe,fe-10002,DOWN,0,0,0,0,1,2,10.0.0.2:9000\n"
    text += "fe,fe-10003,DOWN,0,0,0,0,1,2,10.0.0.4:9000\n"
    monkeypatch.setattr(
        balancers.requests, "get", lambda *_, **__: SimpleNamespace(text=text, raise_for_status=lambda: None)
    )
    monkeypatch.setattr(balancers.socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("10.0.0.8", 8405))])
    found = {server.address: server for server in balancers.ask("fe-lb", "http://metrics.fe-lb:8405")}
    assert [found[address].up for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4")] == [True, True, False]
    # One that serves has no reason not to.
    assert [bool(found[address].reason) for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4")] == [False, False, True]
    assert found["10.0.0.3"].requests == 12


BACKENDS = """# pxname,svname,status,stot,hrsp_5xx,econ,eresp,rtime,type,addr,check_status,check_code,lastchg,lastsess
fe,fe-1,{fe},100,3,1,2,20,2,10.0.0.2:8000,L7STS,404,60,{idle}
fe,fe-2,UP,50,0,0,0,20,2,10.0.0.3:8000,L7OK,200,90,1
fe,BACKEND,UP,150,3,1,2,20,1,,,,90,1
fe-streams,fe-1,UP,10,0,0,1,1,2,10.0.0.3:8000,L7OK,200,5,0
fe-streams,fe-2,DOWN,20,0,0,1,1,2,10.0.0.2:8000,L7TOUT,,7,0
fe-open,fe-1,UP,7,1,0,0,900,2,10.0.0.2:8000,L4OK,,8,9
fe-open,fe-2,UP,0,0,0,0,0,2,10.0.0.3:8000,L4OK,,8,-1
fe-open,fe-3,UP,0,0,0,0,0,2,10.0.0.4:8000,L4OK,,8,-1
"""


@pytest.mark.parametrize(
    ("status", "idle", "up", "reason", "response"),
    [
        ("UP", "2", True, "", 0.02),
        # What it has answered last tells how long it takes; a stream begins at once.
        ("DOWN", "30", False, "HTTP 404", 0.9),
        ("DOWN", "-1", False, "HTTP 404", 0.9),
        ("DRAIN", "2", False, "drained", 0.02),
    ],
)
def test_requests_of_all_backends_are_counted_and_one_decides_about_rotation(status, idle, up, reason, response):
    text = BACKENDS.format(fe=status, idle=idle)
    found = {server.address: server for server in balancers.read_servers("fe-lb", text)}
    # One that the first does not know yet is not told of.
    assert set(found) == {"10.0.0.2", "10.0.0.3"}
    first, second = found["10.0.0.2"], found["10.0.0.3"]
    assert (first.requests, first.errors, first.response_time) == (127, 8, response)
    assert (first.up, first.reason) == (up, reason)
    assert abs(first.since - (time.time() - 60)) < 2
    assert (second.requests, second.errors, second.response_time, second.up) == (60, 1, 0.02, True)


def test_backends_that_say_nothing_about_rotation_are_those_of_the_load_balancer():
    assert ("", balancers.STREAMS, balancers.OPEN) == stack_haproxy.SUFFIXES


@pytest.mark.parametrize(
    ("node", "labels", "service"),
    [
        ("", {"com.docker.compose.service": "fe"}, "fe"),
        ("one", {"com.docker.swarm.service.name": "shop_fe"}, "fe"),
    ],
)
def test_services_are_known_by_the_labels_of_either_engine(monkeypatch, node, labels, service):
    listed = [{"Id": "stays", "Labels": labels, "Image": "fe:1@sha256:1"}]
    asked = {}

    def containers(**options):
        asked.update(options)
        return listed

    client = SimpleNamespace(
        containers=containers, inspect_container=lambda _: details(), stats=lambda *_, **__: stats(VERSION_2)
    )
    monkeypatch.setattr(engine.docker, "APIClient", lambda **_: client)
    found = list(engine.Engine("http://engine", "shop", node).containers())
    assert [(item.service, item.image) for item in found] == [(service, "fe:1")]
    # Where a Swarm keeps ended containers, they are none that are missing.
    assert asked["all"] != bool(node)


def engine_with(error):
    """Return an engine from which one of two containers goes away between two questions."""

    def inspect(identity):
        if identity == "goes" and error:
            raise error
        return details()

    listed = [{"Id": name, "Labels": {engine.COMPOSE[1]: "fe"}, "Image": "fe:1"} for name in ("stays", "goes")]
    asked = engine.Engine.__new__(engine.Engine)
    asked._client = SimpleNamespace(
        containers=lambda **_: listed, inspect_container=inspect, stats=lambda *_, **__: stats(VERSION_2)
    )
    asked.node, asked._prefix, asked._service = "", "", engine.COMPOSE[1]
    asked._filters, asked._pool = {}, SimpleNamespace(map=map)
    return asked


@pytest.mark.parametrize("error", [NotFound("gone"), APIError("being removed", response=SimpleNamespace(status_code=409))])
def test_a_container_that_goes_away_meanwhile_is_left_out(error):
    assert len(list(engine_with(error).containers())) == 1
    assert len(list(engine_with(None).containers())) == 2


def test_any_other_failure_of_the_engine_is_told():
    with pytest.raises(APIError):
        list(engine_with(APIError("broken", response=SimpleNamespace(status_code=500))).containers())


def test_what_the_deployment_shall_be_is_told():
    for number in (2, 5):
        content = {"containers": {"fe": number}, "thresholds": {"error_share": "0.05"}, "certificate_not_after": 12}
        content["backup_interval"] = 300
        families = collector.Families()
        collector.promise(content, families)
        found = samples(families)
        assert found["stack_containers_wanted", ""] == number
        assert found["stack_certificate_not_after_seconds", ""] == 12
        assert found["stack_backup_interval_seconds", ""] == 300
        assert found["stack_alert_threshold", ""] == 0.05


def test_backups_are_told_by_kind(tmp_path):
    families = collector.Families()
    collector.tell_backups(tmp_path / "backup.json", families)
    assert not list(families)
    (tmp_path / "backup.json").write_text('{"backup": 12.5, "logs": 13.0}')
    collector.tell_backups(tmp_path / "backup.json", families)
    [family] = families
    assert {sample.labels["kind"]: sample.value for sample in family.samples} == {"backup": 12.5, "logs": 13.0}


SECRETS = [
    "password=hunter2hunter",
    'login with {"password": "hunter2hunter", "user": "me"}',
    "Authorization: Bearer hunter2hunter",
    "got header Bearer hunter2hunter.abc",
    "DATABASE_PASSWORD: 'hunter2hunter'",
    "api_key = hunter2hunter",
    "mysql://app:hunter2hunter@db/app",
    "Set-Cookie: session=hunter2hunter",
    "the word of the environment is hunter2hunter",
    "-----BEGIN PRIVATE KEY-----\n2026-01-02T03:04:06Z hunter2hunter\n2026-01-02T03:04:07Z -----END PRIVATE KEY-----",
    # The line before is no part of what is shown.
    "hunter2hunter" * 5,
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_in_logs_are_masked(secret):
    environment = ["MY_TOKEN=hunter2hunter", "MY_TOKEN_FILE=/run/secrets/token", "EMPTY="]
    found = logs.lines(
        f"2026-01-02T03:04:05.123456789Z {secret}\n2026-01-02T03:04:08Z /run/secrets/token is read", environment
    )
    assert "hunter2" not in json.dumps(found)
    assert found[-1] == {"time": 1767323048.0, "text": "/run/secrets/token is read"}
    assert found[0]["time"] == 1767323045.123456


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m and plain", "red and plain"),
        ("\x1b]0;title\x07text", "text"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a\rb\x08c\x00d\tf", "abcd\tf"),
        ("ab\u202ec", "abc"),
        ("x" * 9000, "x" * logs.WIDTH),
        ("", ""),
    ],
)
def test_lines_of_logs_are_text_for_people(line, shown):
    # A long run of one letter could be a key.
    end = " ." if len(line) > logs.WIDTH else ""
    assert logs.lines(f"2026-01-02T03:04:05Z {line}{end}")[0]["text"] == shown


def test_no_more_lines_than_are_shown():
    assert len(logs.lines("2026-01-02T03:04:05Z x\n" * 1000)) == logs.LINES


def request_line(path, status=200, response=5, total=9, method="GET"):
    """Return a line of the edge's log."""
    entry = {"method": method, "path": path, "status": status, "response_ms": response, "total_ms": total}
    return f"2026-01-02T03:04:05Z {json.dumps(entry)}"


def test_requests_are_told_by_path():
    lines = [request_line("/items/1"), request_line("/items/22", 503, -1, 700), request_line("/items/22", -1, -1, 900)]
    lines += ["2026-01-02T03:04:05Z Proxy application started.", '2026-01-02T03:04:05Z {"method": "GET", "path": "/cut', ""]
    lines += [request_line("/", 404), request_line("/", method="POST"), '2026-01-02T03:04:05Z {"status": "x"}', "x []"]
    found = {row["path"]: row for row in logs.by_path("\n".join(lines))}
    assert found.keys() == {"GET /items/…", "GET /", "POST /"}
    row = found["GET /items/…"]
    assert (row["requests"], row["failed"], row["statuses"], row["slowest"]) == (3, 2, {"503": 1, "-1": 1}, 0.9)
    assert row["seconds"] == pytest.approx(0.005 + 0.7 + 0.9)
    assert found["GET /"]["failed"] == 0


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/items/4711/edit", "/items/…/edit"),
        ("/reset/3f2a9c1b7d5e4f60a1b2", "/reset/…"),
        ("/u/6ba7b810-9dad-11d1-80b4-00c04fd430c8", "/u/…"),
        ("/static/console.css", "/static/console.css"),
        ("/v2/things", "/v2/things"),
        ("/a\u202eb", "/ab"),
    ],
)
def test_paths_of_the_same_kind_are_one_and_tell_nobodys_key(path, shown):
    assert logs.by_path(request_line(path))[0]["path"] == f"GET {shown}"


def answer(engine_, path, query="", method="GET"):
    """Return status and content of an answer to a question; what is none is left to the metrics."""
    told = []
    asked = questions.Questions(engine_, lambda *_: [b'{"metrics": true}'])
    environment = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    content = b"".join(asked(environment, lambda status, _: told.append(status)))
    return (told or [""])[0][:3], json.loads(content)


def with_logs(text="2026-01-02T03:04:05Z x", error=None):
    """Return an engine with one container, and the list of what its logs were asked for."""
    asked = []

    def read(*arguments):
        asked.append(arguments)
        if error:
            raise error
        return text

    found = {"Id": "f" * 64, "Config": {"Env": None}}
    return SimpleNamespace(
        find=lambda name: found if name == "web-fe-1" else None, logs=read, running=lambda _: [found["Id"]]
    ), asked


def test_end_of_a_log_is_told_with_a_limit():
    asked = with_logs()
    assert answer(asked[0], "/logs", "name=web-fe-1") == ("200", {"lines": [{"time": 1767323045.0, "text": "x"}]})
    assert asked[1] == [("f" * 64, logs.LINES)]
    # Nobody else's: containers are looked for among those of the stack.
    assert answer(asked[0], "/logs", "name=other-fe-1")[0] == "404"
    assert answer(asked[0], "/logs", "")[0] == "404"
    assert len(asked[1]) == 1


def test_what_is_no_question_is_for_the_metrics():
    for path, method in (("/metrics", "GET"), ("/favicon.ico", "GET"), ("/logs", "POST"), ("/logs/", "GET")):
        assert answer(with_logs()[0], path, "name=web-fe-1", method) == ("", {"metrics": True})


@pytest.mark.parametrize("path", ["/logs", "/requests"])
def test_switched_off_logs_are_said_to_be(path):
    refused = APIError("no", response=SimpleNamespace(status_code=403))
    assert answer(with_logs(error=refused)[0], path, "name=web-fe-1") == (
        "403",
        {"error": "Logs are switched off (monitoring_show_logs)."},
    )


def test_own_containers_alone_are_found(monkeypatch):
    listed = [{"Id": "1", "Names": ["/web-fe-1"], "Labels": {engine.COMPOSE[1]: "fe"}}]
    client = SimpleNamespace(containers=lambda **_: listed, inspect_container=lambda identity: {"Id": identity})
    monkeypatch.setattr(engine.docker, "APIClient", lambda **_: client)
    asked = engine.Engine("http://engine", "web")
    assert asked.find("web-fe-1") == {"Id": "1"}
    assert asked.find("web-fe") is asked.find("") is None
    assert (asked.running("fe"), asked.running("be")) == (["1"], [])


def allowed():
    """Return what docker-api lets through of logs: expressions for path and query."""
    text = (PROJECT / "roles/monitoring/templates/docker-api.cfg.j2").read_text()
    return [re.search(rf"acl {name} {what} -m reg (\S+)", text)[1] for name, what in (("log", "path"), ("end", "query"))]


def test_docker_api_lets_through_what_the_client_asks_for_a_log_and_no_stream(monkeypatch):
    path, query = map(re.compile, allowed())
    client = engine.docker.APIClient(base_url="tcp://engine:2375", version="1.44")
    sent = []

    def get(url, params, **_):
        request = engine.docker.api.client.requests.Request("GET", url, params=params).prepare()
        sent.append(request.path_url)
        return SimpleNamespace(content=b"", raise_for_status=lambda: None)

    monkeypatch.setattr(client, "_get", get)
    monkeypatch.setattr(client, "_get_result", lambda *_: b"")
    monkeypatch.setattr(engine.docker, "APIClient", lambda **_: client)
    asked = engine.Engine("http://engine", "web")
    asked.logs("f" * 64, logs.LINES)
    asked.logs("f" * 64, logs.REQUESTS, 1767323045)
    for line in sent:
        asked_path, _, asked_query = line.partition("?")
        assert path.search(asked_path)
        assert query.search(asked_query)
    good = "stderr=1&stdout=1&timestamps=1&follow=0&tail=200"
    assert query.search(good)
    for bad in (
        *(
            "",
            "stdout=1",
            good.replace("follow=0", "follow=1"),
            f"{good}&follow=1",
            f"follow=1&{good}",
            f"%66ollow=1&{good}",
        ),
        *(good.replace("200", "all"), good.replace("200", "0"), good.replace("200", "10000"), f"{good}&since=1&until=2"),
    ):
        assert not query.search(bad), bad
    own = f"/containers/{'f' * 64}"
    for bad in ("/containers/x/logs", f"{own}/logs/", f"{own}/attach", f"/x{own}/logs", f"{own}/logs/../json"):
        assert not path.search(bad), bad


def test_history_is_read_without_what_is_no_event(tmp_path):
    path = tmp_path / "events.jsonl"
    assert questions.history(path) == []
    path.write_text('t": 1}\n{"time": 5, "kind": "release", "text": "Release 1"}\n[]\n{"time": "x"}\n"\n{"kind": "step"}\n')
    assert questions.history(path) == [{"time": 5.0, "kind": "release", "text": "Release 1"}]
