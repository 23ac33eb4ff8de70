"""What the exporter reads from the engine and the load balancers, for both versions of control groups."""

import json
from types import SimpleNamespace

import pytest
from docker.errors import APIError, NotFound
from exporter import balancers, collector, engine

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
    assert found["container_start_time_seconds", ""] == 1767323045.123456


@pytest.mark.parametrize(
    ("health", "value"),
    [({}, -1), ({"Health": {"Status": "healthy"}}, 1), ({"Health": {"Status": "starting"}}, 0), ({"Health": None}, -1)],
)
def test_health_is_told_as_cadvisor_does(health, value):
    assert engine.Found("", "", "", details(**health)).health == value


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
    monkeypatch.setattr(
        balancers.requests, "get", lambda *_, **__: SimpleNamespace(text=text, raise_for_status=lambda: None)
    )
    monkeypatch.setattr(balancers.socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("10.0.0.8", 8405))])
    found = {server.address: server for server in balancers.ask("fe-lb", "http://metrics.fe-lb:8405")}
    assert [found[address].up for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4")] == [True, True, False]
    assert found["10.0.0.3"].requests == 12


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


def test_what_the_deployment_shall_be_is_read_anew(tmp_path):
    path = tmp_path / "deployment.json"
    for number in (2, 5):
        content = {"containers": {"fe": number}, "thresholds": {"error_share": "0.05"}, "certificate_not_after": 12}
        content["backup_interval"] = 300
        path.write_text(json.dumps(content))
        families = collector.Families()
        collector.promise(path, families)
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
