"""The stack of one host as that of a Swarm, and what managers say of it."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import stack_manager
import stack_rollout
import stack_swarm
from stack_swarm import Conversion, SwarmError, SwarmOptions

PROJECT = Path(__file__).parents[2]
TASK = PROJECT / "roles/swarm/files/task.sh"
SUBNETS = {"edge": "10.0.1.0/24", "frontend": "10.0.2.0/24", "middle": "10.0.3.0/24", "monitoring": "10.0.4.0/24"}


def options(**others):
    values = {
        "stack": "shop",
        "directory": "/srv/shop",
        "subnets": SUBNETS,
        "images": {"haproxy:1": "registry:5000/haproxy:1@sha256:1", "fe:1": "registry:5000/fe:1@sha256:2"},
        "drain": 5,
        "starts": {
            "fe:1": {"entrypoint": ["tini"], "command": ["serve"]},
            "haproxy:1": {"entrypoint": ["entry"], "command": []},
        },
        "labels": {"edge": "", "database": "webstack.database.shop", "monitoring": "webstack.monitoring.shop"},
        "secrets": {"password": "secret", "fe-lb/config/tls/site.pem.key": "key"},
    }
    return SwarmOptions(**{**values, **others})


FILES = [
    {"path": "fe-lb/config/haproxy.cfg", "content": "bind edge.fe-lb:8080\nbind metrics.fe-lb:8405\nserver fe:8000"},
    {"path": "fe-lb/config/tls/site.pem.key", "secret_content": "", "mode": "0600", "owner": 99, "group": 99},
    {"path": "secrets/fe/password", "secret": "password", "mode": "0600", "owner": 10001, "group": 10001},
    {"path": "swarm/task.sh", "content": "#!/bin/sh"},
]


def model():
    def mount(source, target, read_only=True):
        return {
            "type": "bind",
            "source": source,
            "target": target,
            "read_only": read_only,
            "bind": {"create_host_path": False},
        }

    return {
        "services": {
            "fe-lb": {
                "x-swarm": {"node": "edge", "per_node": 1, "replicas": 2, "drains": True},
                "image": "haproxy:1",
                "user": "99:99",
                "command": ["haproxy", "-S", "/run/haproxy/master.sock", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
                "security_opt": ["no-new-privileges:true"],
                "restart": "always",
                "stop_grace_period": "35s",
                "ports": [{"target": 8080, "published": "80", "host_ip": "127.0.0.1", "protocol": "tcp", "mode": "host"}],
                "networks": {
                    "edge": {"aliases": ["edge.fe-lb"]},
                    "frontend": None,
                    "metrics": {"aliases": ["metrics.fe-lb"]},
                },
                "volumes": [mount("./fe-lb/config", "/usr/local/etc/haproxy"), mount("./fe-lb/run", "/run/haproxy", False)],
                "healthcheck": {"test": ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8404"]},
                "deploy": {"resources": {"limits": {"memory": "1G"}}},
            },
            "fe": {
                "x-swarm": {"batch": "25%", "port": 8000, "needs": "{BACKEND_URL}"},
                "image": "fe:1",
                "tmpfs": ["/tmp:size=1m"],  # noqa: S108 (in a container)
                "environment": {"LISTEN_NAME": "frontend.fe", "BACKEND_URL": "http://be-lb:80"},
                "networks": {"frontend": {"aliases": ["frontend.fe"]}, "middle": None},
                "volumes": [mount("/srv/assets", "/assets")],
                "secrets": [{"source": "fe_password", "target": "password"}],
                "stop_grace_period": "30s",
                "deploy": {"replicas": 6},
            },
            "db": {
                "x-swarm": {"node": "database", "failure": "pause", "local": ["./db/dumps"]},
                "image": "mysql:1",
                "networks": {"frontend": {"aliases": ["db-old"]}},
                "volumes": [
                    {"type": "volume", "source": "database", "target": "/data"},
                    mount("./db/dumps", "/dumps"),
                ],
                "deploy": {"replicas": 1},
            },
        },
        "networks": {
            "edge": {"internal": False},
            "frontend": {"internal": True},
            "middle": {"internal": True},
            "metrics": {"internal": True},
        },
        "volumes": {"database": None},
        "secrets": {"fe_password": {"file": "./secrets/fe/password"}},
    }


def converted(**others):
    wanted = options(subnets={**SUBNETS, "metrics": "10.0.5.0/24"}, **others)
    conversion = Conversion(model(), stack_swarm.own_files(FILES, model()), wanted)
    return conversion.result(), conversion


def test_files_become_objects_whose_names_change_with_their_content():
    result, _ = converted()
    balancer, front = result["services"]["fe-lb"], result["services"]["fe"]
    config = next(item for item in balancer["configs"] if item["target"] == "/usr/local/etc/haproxy/haproxy.cfg")
    assert re.fullmatch(r"shop_[0-9a-f]{12}_haproxy\.cfg", config["source"])
    assert result["configs"][config["source"]]["file"] == "./fe-lb/config/haproxy.cfg"
    key = next(item for item in balancer["secrets"] if item["target"].endswith("site.pem.key"))
    assert (key["uid"], key["gid"], key["mode"]) == ("99", "99", 0o600)
    password = front["secrets"][0]
    assert (password["target"], password["uid"]) == ("password", "10001")
    other, _ = converted(secrets={"password": "another", "fe-lb/config/tls/site.pem.key": "key"})
    assert other["services"]["fe"]["secrets"][0]["source"] != password["source"]
    assert other["services"]["fe-lb"]["secrets"] == balancer["secrets"]
    assert "secret" not in json.dumps(list(result["secrets"].values())).replace("./secrets", "")


def test_a_file_that_a_swarm_does_not_take_is_named():
    files = [{**FILES[0], "content": "x" * 1100 * 1024}, *FILES[1:]]
    with pytest.raises(SwarmError, match=r"fe-lb/config/haproxy\.cfg: a Swarm takes no file of 1100 KiB"):
        Conversion(model(), files, options(subnets={**SUBNETS, "metrics": "10.0.5.0/24"})).result()


def test_names_are_no_longer_than_a_swarm_takes():
    name = stack_swarm.object_name("x", "s" * 40, f"a/{'f' * 60}")
    assert len(name) == 64


def test_own_names_become_addresses_that_the_container_finds():
    result, _ = converted()
    front = result["services"]["fe"]
    assert front["entrypoint"] == ["/bin/sh", "/webstack/task.sh", "drain=5", "tini"]
    assert front["command"] == ["serve"]
    assert front["environment"] == {
        "LISTEN_NAME": "@FRONTEND@",
        "BACKEND_URL": "http://be-lb:80",
        "NETWORKS": "FRONTEND=10.0.2.0/24 MIDDLE=10.0.3.0/24",
        "NEEDS": "be-lb:80",
    }
    assert result["services"]["fe-lb"]["entrypoint"][2:] == ["exec", "entry"]
    assert result["services"]["fe-lb"]["command"] == ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
    content = stack_swarm.own_files(FILES, model())[0]["content"]
    # What is published comes in from outside all networks; the names of others stay.
    assert content == 'bind "${OUTSIDE}":8080\nbind "${METRICS}":8405\nserver fe:8000'


def test_checks_of_configurations_know_the_variables():
    argv = ["docker", "run", "--add-host=edge.fe-lb:127.0.0.1", "--add-host=db:127.0.0.1", "haproxy"]
    assert stack_swarm.checks(argv, model())[2:4] == ["--env=OUTSIDE=127.0.0.1", "--add-host=db:127.0.0.1"]


def test_replicas_without_a_check_get_one():
    result, _ = converted()
    assert result["services"]["fe"]["healthcheck"]["test"] == ["CMD", "/bin/sh", "/webstack/task.sh", "listens=8000"]
    own = {"fe:1": {"entrypoint": [], "command": ["serve"], "healthcheck": True}}
    assert "healthcheck" not in converted(starts={**options().starts, **own})[0]["services"]["fe"]


def test_what_containers_write_lies_in_memory_and_other_mounts_stay():
    result, _ = converted()
    assert {"type": "tmpfs", "target": "/run/haproxy"} in result["services"]["fe-lb"]["volumes"]
    assert {"type": "tmpfs", "target": "/tmp"} in result["services"]["fe"]["volumes"]  # noqa: S108 (in a container)
    assert {"type": "bind", "source": "/srv/assets", "target": "/assets", "read_only": True} in result["services"]["fe"][
        "volumes"
    ]
    dumps = next(item for item in result["services"]["db"]["volumes"] if item["target"] == "/dumps")
    assert dumps["source"] == "/srv/shop/db/dumps"


def test_services_change_and_are_placed_as_their_part_demands():
    result, _ = converted()
    deploy = {name: service["deploy"] for name, service in result["services"].items()}
    assert all(item["endpoint_mode"] == "dnsrr" for item in deploy.values())
    assert deploy["fe"]["update_config"]["order"] == "start-first"
    assert deploy["fe"]["update_config"]["parallelism"] == 2
    assert deploy["fe"]["update_config"]["failure_action"] == "rollback"
    assert result["services"]["fe"]["stop_grace_period"] == "35s"
    assert result["services"]["fe-lb"]["stop_grace_period"] == "40s"
    assert deploy["fe-lb"]["replicas"] == 2
    assert deploy["fe-lb"]["placement"]["max_replicas_per_node"] == 1
    assert deploy["fe-lb"]["update_config"]["order"] == "stop-first"
    assert deploy["db"]["placement"]["constraints"] == ["node.labels.webstack.database.shop == true"]
    assert deploy["db"]["update_config"]["failure_action"] == "pause"
    labels = {**options().labels, "edge": "webstack.edge.shop"}
    edge = converted(labels=labels)[0]["services"]["fe-lb"]["deploy"]["placement"]
    assert edge["constraints"] == ["node.labels.webstack.edge.shop == true"]


def test_losses_are_told():
    result, conversion = converted()
    text = "\n".join(stack_swarm.losses(conversion.dropped))
    assert "security_opt (fe-lb): no-new-privileges" in text
    assert "bind_address (fe-lb): published on every address" in text
    assert result["services"]["fe-lb"]["ports"] == [{"target": 8080, "published": 80, "protocol": "tcp", "mode": "host"}]
    assert "security_opt" not in result["services"]["fe-lb"]
    assert "restart" not in result["services"]["fe-lb"]


def test_images_are_those_of_the_registry():
    assert converted()[0]["services"]["fe"]["image"] == "registry:5000/fe:1@sha256:2"


@pytest.mark.parametrize(("text", "replicas", "number"), [("25%", 2, 1), ("25%", 9, 3), ("3", 9, 3), ("100%", 4, 4)])
def test_so_many_replicas_change_at_a_time(text, replicas, number):
    assert stack_rollout.batch_size(text, replicas) == number


# --- what managers say -----------------------------------------------------------

NODE = {"ID": "n1", "Description": {"Hostname": "one"}, "Spec": {"Role": "worker", "Availability": "active"}}
TEMPLATE = {"ContainerSpec": {"Image": "fe:1@sha256:1", "StopGracePeriod": 5, "DNSConfig": {}}, "Runtime": "container"}


def node(state="ready", number=1, **spec):
    return {**NODE, "ID": f"n{number}", "Status": {"State": state}, "Spec": {**NODE["Spec"], **spec}}


def service(replicas=2, template=TEMPLATE, updating="", ports=()):
    return {
        "ID": "s1",
        "UpdatedAt": "2026-01-05T00:00:00.5Z",
        "Spec": {
            "Name": "shop_fe",
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": template,
            "EndpointSpec": {"Ports": list(ports)},
        },
        "UpdateStatus": {"State": updating} if updating else None,
    }


def task(number=1, state="running", image="fe:1@sha256:1", where="n1", error=""):
    return {
        "ID": f"t{number}",
        "ServiceID": "s1",
        "CreatedAt": "2026-01-05T00:00:00.25Z",
        "NodeID": where,
        "DesiredState": "running" if state == "running" else "shutdown",
        "Status": {"State": state, "Timestamp": f"2026-01-0{number}", "Err": error},
        "Spec": {"ContainerSpec": {"Image": image}},
    }


def read(services, tasks, *nodes):
    return stack_manager.read_services("shop", services, tasks, {item["ID"]: item for item in nodes or (node(),)})


def test_services_are_well_when_their_present_tasks_run():
    found = read([service()], [task(1), task(2)])
    assert (found[0].name, found[0].running, found[0].wanted) == ("fe", 2, 2)
    assert not stack_manager.troubles(found)


@pytest.mark.parametrize(
    ("services", "tasks", "nodes"),
    [
        ([service()], [task(1)], ()),
        ([service()], [task(1), task(2, image="fe:0@sha256:0")], ()),
        ([service()], [task(1), task(2), task(3, image="fe:0@sha256:0")], ()),
        ([service(updating="updating")], [task(1), task(2)], ()),
        ([service()], [task(1), task(2, where="n2")], (node(), node("down", 2))),
    ],
    ids=["missing", "old", "still there", "updating", "node lost"],
)
def test_services_are_not_well(services, tasks, nodes):
    assert stack_manager.troubles(read(services, tasks, *nodes))


def test_a_rollback_is_noticed():
    assert read([service(updating="rollback_completed")], [task(1), task(2)])[0].rolled_back


def test_a_task_without_its_port_is_noticed():
    port = {"PublishedPort": 8080, "PublishMode": "host", "Protocol": "tcp"}
    one = task(1)
    manager = {**node(), "ManagerStatus": {"Addr": "10.0.0.11:2377"}}
    assert read([service(1, ports=[port])], [one], manager)[0].without_port == [("10.0.0.11", 8080)]
    one["Status"]["PortStatus"] = {"Ports": [{"PublishedPort": 8080}]}
    assert not read([service(1, ports=[port])], [one])[0].without_port


def test_a_service_with_one_task_for_each_node_wants_what_nodes_can_give():
    template = {**TEMPLATE, "Placement": {"MaxReplicas": 1, "Constraints": ["node.labels.edge == true"]}}
    nodes = (node(Labels={"edge": "true"}), node("down", 2, Labels={"edge": "true"}), node(number=3))
    assert read([service(2, template)], [], *nodes)[0].wanted == 1


def test_a_service_whose_node_is_lost_has_no_home():
    template = {**TEMPLATE, "Placement": {"Constraints": ["node.labels.metrics == true"]}}
    labelled = {"Labels": {"metrics": "true"}}
    assert read([service(1, template)], [], node("down", 2, **labelled), node(number=3))[0].homeless
    assert not read([service(1, template)], [], node(number=2, **labelled), node("down", 3))[0].homeless


@pytest.mark.parametrize(
    ("changes", "forgotten"),
    [
        ({}, True),
        ({"CreatedAt": "2026-01-05T00:00:00.75Z"}, False),
        ({"Spec": {"ContainerSpec": {"Image": "fe:0@sha256:0"}}}, False),
        ({"DesiredState": "shutdown"}, False),
        ({"Status": {"State": "running", "Timestamp": ""}}, False),
    ],
    ids=["older than the definition", "younger", "to be replaced", "to end", "placed"],
)
def test_a_task_that_waits_for_a_node_and_is_older_than_the_definition_is_forgotten(changes, forgotten):
    waiting = {**task(1, "pending", where=""), "DesiredState": "running", **changes}
    assert read([service(1)], [waiting])[0].forgotten is forgotten


def test_objects_that_a_service_could_go_back_to_are_in_use():
    spec = {"TaskTemplate": {"ContainerSpec": {"Configs": [{"ConfigName": "a"}], "Secrets": [{"SecretName": "b"}]}}}
    before = {"TaskTemplate": {"ContainerSpec": {"Configs": [{"ConfigName": "c"}]}}}
    assert stack_manager.references([{"Spec": spec, "PreviousSpec": before}, {"Spec": {}}]) == {"a", "b", "c"}


def test_status_names_what_is_wrong():
    manager = {**node("ready", 2, Role="manager"), "ManagerStatus": {"Leader": True, "Reachability": "reachable"}}
    lost = {**node("down", 3, Role="manager"), "ManagerStatus": {"Reachability": "unreachable"}}
    third = {**node("ready", 4, Role="manager"), "ManagerStatus": {"Reachability": "reachable"}}
    lines, problems = stack_manager.describe_nodes({str(n): item for n, item in enumerate((node(), manager, lost, third))})
    assert "one: leader, ready, active" in lines
    assert problems == [
        "one is down: bring it back, or remove it (docs/scaling.md).",
        "If one more manager is lost, the Swarm cannot be changed.",
    ]
    lines, problems = stack_manager.describe_services(read([service()], [task(1), task(2, "failed", error="exit 3")]))
    assert lines == ["fe: 1 of 2 on one"]
    assert problems == ["fe: 1 missing (exit 3)."]


# --- what starts a container -----------------------------------------------------


def shell(*argv, **environment):
    command = ["sh", str(TASK), *argv]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def own_address():
    """Return an address of this machine beside loopback, or none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 9))
        return probe.getsockname()[0]


def test_marks_become_addresses_of_the_networks():
    address = own_address()
    inside = f"{address.rpartition('.')[0]}.0/24"
    script = 'echo "$1 $2 $LISTEN_NAME $FRONT_END"'
    environment = {"NETWORKS": f"FRONT_END={inside}", "LISTEN_NAME": "@FRONT_END@"}
    done = shell("exec", "sh", "-c", script, "x", "--listen=@FRONT_END@:80", "kept @this@", **environment)
    assert done.stdout == f"--listen={address}:80 kept @this@ {address} {address}\n"


def test_an_address_in_no_network_is_outside():
    done = shell("exec", "sh", "-c", 'echo "$OUTSIDE"', NETWORKS="A=198.51.100.0/24")
    assert done.stdout.strip() not in ("", "127.0.0.1")


def test_command_goes_on_serving_before_it_is_told_to_end():
    script = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('on', flush=True); time.sleep(60)"
    with subprocess.Popen(["sh", str(TASK), "drain=2", "python3", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 7
        assert 1.9 < time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("address", "environment", "wanted"),
    [
        ("tcp://{DATABASE_HOST}:{DATABASE_PORT}", {"DATABASE_HOST": "db", "DATABASE_PORT": 3306}, "db:3306"),
        ("{BACKEND_URL}", {"BACKEND_URL": "http://be-lb"}, "be-lb:80"),
        ("{BACKEND_URL}", {"BACKEND_URL": "http://be-lb:8080/api"}, "be-lb:8080"),
        ("{BACKEND_URL}", {"BACKEND_URL": "be-lb"}, ""),
        ("{BACKEND_URL}", {}, ""),
        ("", {}, ""),
    ],
)
def test_what_a_replica_needs_follows_from_its_environment(address, environment, wanted):
    assert stack_swarm.needed(address, environment) == wanted


def test_a_command_starts_once_it_can_reach_what_it_needs():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["sh", str(TASK), "drain=0", "echo", "started"]
    environment = {**os.environ, "NEEDS": f"127.0.0.1:{port}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        with socket.create_server(("127.0.0.1", port)):
            assert process.communicate(timeout=10)[0] == b"started\n"


def test_a_command_that_waits_ends_when_it_is_told_to():
    command = ["sh", str(TASK), "drain=5", "echo", "started"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "NEEDS": "nowhere.invalid:1"}) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=5)[0] == b""
        assert process.returncode == 143


def test_what_a_command_ends_with_is_told():
    assert shell("drain=2", "sh", "-c", "exit 3").returncode == 3
    assert shell("exec", "sh", "-c", "exit 4").returncode == 4


def test_a_port_that_nobody_listens_on_fails_the_check():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert shell(f"listens={port}").returncode == 1
    with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert shell(f"listens={port}").returncode == 0
        finally:
            server.shutdown()
