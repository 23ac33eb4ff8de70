"""Filters of templates."""

import json

import certificates_filters
import compose_filters
import database_filters
import images_filters
import networks_filters
import pytest
import swarm_filters
import values_filters
import yaml
from hypothesis import given
from hypothesis import strategies as st

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc$"), inner, max_size=3),
)


@given(plain)
def test_values_survive_yaml_and_the_substitution_of_compose(value):
    text = compose_filters.compose_value(value)
    assert "\n" not in text
    assert yaml.safe_load(text.replace("$$", "$")) == value


def test_environment_is_text():
    assert json.loads(compose_filters.compose_environment({"A": True, "B": 1, "C": "x"})) == {
        "A": "true",
        "B": "1",
        "C": "x",
    }


def test_internal_networks_get_no_address_on_the_host():
    option = "com.docker.network.bridge.inhibit_ipv4"
    assert networks_filters.network_definition({"internal": True}, None, {})["driver_opts"] == {option: "true"}
    assert option not in networks_filters.network_definition({"internal": False}, None, {})["driver_opts"]
    assert networks_filters.network_definition({"internal": True}, None, {option: "false"})["driver_opts"] == {
        option: "false"
    }


def test_new_internal_networks_are_isolated_where_the_engine_can_do_it():
    definitions = {"edge": {"internal": False}, "middle": {"internal": True}, "data": {"internal": True}}
    there = {"data": {"options": {"com.docker.network.bridge.inhibit_ipv4": "true"}}}
    assert networks_filters.networks_isolated(definitions, "28.0.1", {}) == ["middle", "data"]
    assert networks_filters.networks_isolated(definitions, "26.1.5+dfsg1", {}) == []
    # It would have to be recreated.
    assert networks_filters.networks_isolated(definitions, "28.0.1", there) == ["middle"]
    definition = networks_filters.network_definition({"internal": True}, None, {}, True)
    assert definition["driver_opts"]["com.docker.network.bridge.gateway_mode_ipv4"] == "isolated"
    there["data"]["options"] = definition["driver_opts"]
    assert networks_filters.networks_isolated(definitions, "28.0.1", there) == ["middle", "data"]


RENDERED = """
x-common: &common {deploy: {resources: {}}}
services:
  fe-lb: {<<: *common, networks: {edge: {}, frontend: }}
  fe: {networks: {frontend: }, deploy: {replicas: 2}}
networks: {edge: {}, frontend: {}}
"""


def complete_host():
    """Return what a preflight finds where RENDERED runs."""
    names = {"fe-lb-1": "fe-lb", "fe-1": "fe", "fe-2": "fe"}
    return {
        "containers": [
            {"name": name, "service": service, "state": "running", "status": "Up 5 seconds (healthy)"}
            for name, service in names.items()
        ],
        "networks": {"edge": {"containers": ["fe-lb-1"]}, "frontend": {"containers": sorted(names)}},
    }


def test_containers_are_complete_whether_or_not_their_health_is_checked():
    host = complete_host()
    assert compose_filters.containers_complete(RENDERED, host)
    host["containers"][1]["status"] = "Up 2 hours"
    assert compose_filters.containers_complete(RENDERED, host)


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host["containers"].pop(),
        lambda host: host["containers"].append({**host["containers"][0], "service": "orphan"}),
        lambda host: host["containers"].append({**host["containers"][1], "name": "fe-3"}),
        lambda host: host["containers"][1].update(state="exited", status="Exited (1) 3 seconds ago"),
        lambda host: host["containers"][1].update(status="Up 1 second (unhealthy)"),
        lambda host: host["containers"][1].update(status="Up 1 second (health: starting)"),
        lambda host: host["containers"][1].update(state="paused", status="Up 1 minute (Paused)"),
        lambda host: host["networks"]["frontend"]["containers"].remove("fe-2"),
        lambda host: host["networks"]["edge"]["containers"].append("fe-2"),
        lambda host: host["networks"].update(left={"containers": []}),
    ],
    ids=[
        "missing",
        "orphan",
        "too many",
        "ended",
        "unhealthy",
        "starting",
        "paused",
        "off a network",
        "on another",
        "a network too many",
    ],
)
def test_something_is_to_be_done(change):
    host = complete_host()
    change(host)
    assert not compose_filters.containers_complete(RENDERED, host)


def test_limits_stay_within_the_host():
    assert compose_filters.within_host({"cpus": "2.0", "memory": "1G"}, 1) == {"cpus": "1.0", "memory": "1G"}
    assert compose_filters.within_host({"cpus": "0.5"}, 1) == {"cpus": "0.5"}
    assert compose_filters.within_host({}, 1) == {}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("haproxy:3.2", "mirror/haproxy:3.2"),
        ("prom/prometheus:v3", "mirror/prom/prometheus:v3"),
        ("registry.example.com/app:1", "registry.example.com/app:1"),
        ("localhost:5000/app", "localhost:5000/app"),
        ("localhost/app", "localhost/app"),
    ],
)
def test_mirror_is_put_before_names_without_a_registry(reference, expected):
    assert images_filters.registry_reference(reference, "mirror/") == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("app", "app:latest"), ("app:1", "app:1"), ("h:5000/app", "h:5000/app:latest"), ("app@sha256:0", "app@sha256:0")],
)
def test_a_name_without_a_tag_means_latest(reference, expected):
    assert images_filters.local_reference(reference) == expected


def test_digest_of_a_context_follows_content_mode_and_ignored_files(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_text("*.pyc\n")
    program = tmp_path / "program"
    program.write_text("one")
    first = images_filters.build_context_digest(str(tmp_path), "/", "base")
    assert images_filters.build_context_digest(str(tmp_path), "/", "base") == first
    (tmp_path / "cache.pyc").write_text("ignored")
    assert images_filters.build_context_digest(str(tmp_path), "/", "base") == first
    assert images_filters.build_context_digest(str(tmp_path), "/", "another base") != first
    program.chmod(0o755)
    second = images_filters.build_context_digest(str(tmp_path), "/", "base")
    assert second != first
    program.write_text("two")
    assert images_filters.build_context_digest(str(tmp_path), "/", "base") not in (first, second)


def test_images_that_cannot_be_pulled_are_known_before_any_build():
    platform = {
        "haproxy": {"official": "haproxy:3.2", "debian": "haproxy:3.2-debian"},
        "python": {"official": "p", "debian": "p-d"},
    }
    applications = {"fe": {"image": "shop:1", "source": ""}, "be": {"image": "", "source": "data/be"}}
    names = images_filters.image_names(platform, applications, "", "stack", "stack", ".")
    missing = images_filters.images_missing(names, "debian", {}, False)
    assert [item["name"] for item in missing] == ["fe", "haproxy", "python", "be"]
    present = {"shop:1": {"labels": {}}, names["haproxy"]["debian"]: {"labels": {"webstack.context": "older"}}}
    assert [i["name"] for i in images_filters.images_missing(names, "debian", present, False)] == ["haproxy", "python", "be"]


@pytest.mark.parametrize(
    ("listing", "history", "problem"),
    [
        ("", "", ""),
        ("lost+found", "", ""),
        ("mysql.ibd\nibdata1", '{"version": "9.7.4-2"}', ""),
        ("mysql.ibd", '{"version":"9.7.4"},{"version":"10.0.1"}', "written by MySQL 10.0.1"),
        ("mysql.ibd\n.initialization-incomplete", "", "half initialised"),
        ("mysql.ibd\n.dumps-incomplete", "", "half initialised"),
        ("PG_VERSION\nbase", "", "PostgreSQL"),
        ("aria_log_control\nibdata1", "", "MariaDB"),
        ("photo.jpg", "", "something else"),
    ],
)
def test_data_volume_is_judged_by_its_files(listing, history, problem):
    found = database_filters.data_volume_problem(f"mysqld  Ver 9.7.4-2 for Linux\n\n{listing}\n\n{history}", "v")
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("listing", "unfinished"),
    [
        ("", False),
        ("mysql.ibd\napp", False),
        ("mysql.ibd\n.restore-incomplete", False),
        ("mysql.ibd\n.initialization-incomplete", True),
        ("mysql.ibd\napp\n.dumps-incomplete", True),
    ],
)
def test_only_a_database_that_never_served_is_removed_by_the_next_run(listing, unfinished):
    assert database_filters.data_volume_unfinished(f"mysqld  Ver 9.7.4-2 for Linux\n\n{listing}\n\n") is unfinished


def test_names_in_a_data_volume_are_read_from_the_report():
    assert database_filters.data_volume_names("mysqld  Ver 9.7.4\n\nb\na\nlost+found\n\n{}") == ["a", "b"]
    assert database_filters.data_volume_names("mysqld  Ver 9.7.4\n\n\n\n") == []
    assert database_filters.data_volume_names("mysqld  Ver 9.7.4") == []


def test_self_signed_certificate_is_valid_for_its_names():
    pair = certificates_filters.self_signed_certificate(["localhost", "127.0.0.1"])
    assert not certificates_filters.certificate_expires_within(pair["certificate"], 800)
    assert certificates_filters.certificate_expires_within(pair["certificate"], 826)
    assert certificates_filters.certificate_expires_within("no certificate", 0)
    assert "PRIVATE KEY" in pair["key"]


def test_networks_with_another_definition_are_found():
    definitions = {"edge": {"internal": False}, "data": {"internal": True}}
    options = {"com.docker.network.bridge.inhibit_ipv4": "true"}
    found = {"data": {"internal": True, "options": options, "subnets": ["172.18.0.0/16"]}}
    assert networks_filters.networks_outdated(definitions, {}, {}, [], found) == []
    assert networks_filters.networks_outdated(definitions, {"data": "10.9.5.0/24"}, {}, [], found) == ["data"]
    assert networks_filters.networks_outdated(definitions, {}, {"mtu": 1400}, [], found) == ["data"]
    found["data"]["options"] = {}
    assert networks_filters.networks_outdated(definitions, {}, {}, [], found) == ["data"]


ME = {"uid": 1234, "gid": 100, "user": "1234:100", "groups": [27, 44], "umask": "0022"}
START = {"entrypoint": ["/entry"], "command": ["serve", "--port=$PORT"]}
CODE = {"source": "data/fe", "source_target": "/srv"}


def application(developer, start=START, **settings):
    """Return what Compose is told of a tier of whose settings some differ from the defaults."""
    none = {"command": [], "tmpfs": [], "capabilities": [], "mounts": [], "user": ""}
    usual = {**CODE, **none, "init": True, "read_only": True}
    return compose_filters.application_service({**usual, **settings}, start, developer, "/checkout")


def test_service_in_production_is_what_its_image_says():
    found = application({}, init=False)
    assert found == {
        "options": {"read_only": True, "tmpfs": [], "cap_add": []},
        "volumes": [],
        "environment": {},
    }
    (mount,) = application({}, mounts=[{"source": "data", "target": "/data"}])["volumes"]
    assert (mount["source"], mount["read_only"]) == ("/checkout/data", True)


def test_service_in_development_runs_as_the_developer_with_the_code():
    found = application(ME, user="1:1")
    assert (found["options"]["user"], found["options"]["group_add"]) == ("1234:100", ["27", "44"])
    (mount,) = found["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == ("/checkout/data/fe", "/srv", False)
    assert found["environment"]["APP_MODE"] == "development"
    # The usual umask needs nobody who sets it.
    assert not {"entrypoint", "command"} & set(found["options"])
    assert application(ME, source="")["volumes"] == []


def test_umask_is_set_before_what_the_image_starts():
    strict = {**ME, "umask": "0077"}
    found = application(strict)["options"]
    script = ["/bin/sh", "-c", 'umask "$0"; exec "$@"', "0077"]
    assert (found["entrypoint"], found["command"]) == ([*script, "/entry"], START["command"])
    assert application(strict, command=["other"])["options"]["command"] == ["other"]
    # Of an image that is not there yet nothing is known.
    assert "entrypoint" not in application(strict, {"entrypoint": [], "command": []})["options"]


def test_program_is_written_as_it_stands_in_the_checkout(tmp_path):
    (tmp_path / "one.py").write_text("print('{{ é }}')\n\n", encoding="utf-8")
    found = values_filters.program_files(["one"], str(tmp_path), "backup/recovery")
    assert found == [{"path": "backup/recovery/one.py", "content": "print('{{ é }}')\n\n"}]


@pytest.mark.parametrize(("source", "user"), [("registry", "1"), ("debian", "2"), ("", "")])
def test_images_of_both_tiers_say_what_they_start(source, user):
    names = {"fe": {"registry": "fe:1", "debian": "fe:1-debian"}}
    known = {
        name: {"user": user, "entrypoint": [], "command": ["a"]} for name, user in (("fe:1", "1"), ("fe:1-debian", "2"))
    }
    found = images_filters.image_starts(names, source, known, ["fe", "be"])
    assert found["fe"]["user"] == user
    # One that is not there yet, or is not wanted.
    assert found["be"] == {"user": "", "entrypoint": [], "command": []}


def test_services_are_changed_as_they_run():
    service = {"name": "fe", "replicas": 2, "first": 1, "port": 8000, "batch": "25%"}
    assert compose_filters.as_they_run([service], {"fe": 5}) == [{**service, "replicas": 5, "first": 0, "port": 0}]


def node(identity, host="", labels=()):
    """Return what a manager says of a node, which the inventory calls ``host``."""
    own = {"webstack.host": host} if host else {}
    return {"ID": identity, "Spec": {"Labels": {**own, **dict.fromkeys(labels, "true")}}}


NODES = [node("1", "a", ["db"]), node("2", "b", ["edge"]), node("3", labels=["edge"]), {"ID": "4", "Spec": {"Labels": None}}]


def test_nodes_are_known_by_the_names_of_the_inventory():
    assert swarm_filters.nodes_by_host(NODES) == dict(zip(["a", "b", "3", "4"], NODES, strict=True))


def test_holders_of_labels_are_found():
    holders = swarm_filters.label_holders(swarm_filters.nodes_by_host(NODES))
    assert holders == {"webstack.host": ["a", "b"], "db": ["a"], "edge": ["b", "3"]}
    assert swarm_filters.nodes_labelled(holders, ["edge", "other", "db"]) == [["b", "edge"], ["3", "edge"], ["a", "db"]]


def test_labels_are_given_and_taken():
    nodes = swarm_filters.nodes_by_host(NODES)
    wrong = swarm_filters.labels_wrong(
        {"db": ["a"], "edge": ["a", "b"], "new": ["b"]}, swarm_filters.label_holders(nodes), nodes
    )
    assert [(item["label"], item["host"], item["node"], item["present"]) for item in wrong] == [
        ("edge", "a", "1", True),
        ("edge", "3", "3", False),
        ("new", "b", "2", True),
    ]


@pytest.mark.parametrize(
    ("asked", "formed"),
    [
        ([], False),
        # Skipped, refused, answered, and two ways to have lost the quorum.
        ([{}, {"skipped": True}], False),
        ([{"rc": 1, "stderr": "This node is not a swarm manager."}], False),
        ([{}, {"rc": 0, "stderr": ""}], True),
        ([{"rc": 1, "stderr": "rpc error: The swarm does not have a leader."}], True),
        ([{"rc": 124, "stderr": ""}], True),
    ],
)
def test_swarm_is_there_even_without_its_quorum(asked, formed):
    assert swarm_filters.swarm_formed(asked) is formed


def test_controllers_are_those_whose_engine_says_so():
    answers = ['{"ControlAvailable": true}', '{"ControlAvailable": false}', "", "{}"]
    assert swarm_filters.swarm_controllers(["a", "b", "c", "d"], answers) == ["a"]


def test_networks_of_a_swarm_are_refused_where_they_differ():
    def network(name, subnet, options=None, internal=True):
        config = [{"Subnet": subnet}] if subnet else None
        return {"Name": f"web_{name}", "IPAM": {"Config": config}, "Options": options, "Internal": internal}

    found = [network("edge", "", internal=False), network("data", "10.9.5.0/24", {"encrypted": ""})]
    wanted = {"edge": {"internal": False}, "data": {"internal": True}}
    assert swarm_filters.network_ranges(found, "web") == {"data": "10.9.5.0/24"}

    def refused(definitions, subnets, encrypted):
        return swarm_filters.networks_refused(found, "web", definitions, subnets, encrypted)

    assert refused(wanted, {"data": "10.9.5.0/24", "edge": "10.9.6.0/24"}, True) == [
        "swarm_encrypted: edge is not encrypted"
    ]
    assert refused({"data": {"internal": True}}, {}, True) == []
    assert refused({"data": {"internal": False}}, {"data": "10.9.7.0/24"}, False) == [
        "network_subnets: data has the range 10.9.5.0/24",
        "swarm_encrypted: data is encrypted",
        "The network data is internal",
    ]
