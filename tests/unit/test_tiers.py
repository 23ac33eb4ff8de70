"""One list of tiers and one place for services: a third tier and a further service are data and a part of the template."""

import ast
import json
import os
import re
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
import stack_checks
import stack_forms
import stack_releases
import stack_settings
import wiring
import yaml
from console import state
from stack import PROJECT, run

TIERS = [
    {
        "name": name,
        "listen": {"network": network, **ports},
        "alias": f"inner.{name}",
        "replicas": replicas,
        "max_requests": 5,
        "load_balancers": 1,
        "port": 8000,
        "health_path": "/healthz",
        "health_host": "localhost",
        "batch": "25%",
        "drain": 30,
        "memory": 64,
        "downtime": f"nobody reaches {name}",
    }
    for name, network, ports, replicas in (("fe", "edge", {"http": 80, "https": 443}, 2), ("be", "middle", {"http": 80}, 3))
]


def filters(name):
    """Return the module of a filter file."""
    wiring.loader()
    return {key: wiring.filter_loader.get(f"ansible.legacy.{key}").j2_function for key in name.split()}


def test_lists_of_tiers_follow_from_one():
    found = filters(
        "tier_definitions replicated_services balancer_services container_counts tier_sockets wanted_definitions"
    )
    known = found["tier_definitions"](TIERS, {}, {})
    assert known["fe"] == [{"port": 8000, "health_path": "/healthz", "health_host": "localhost", "first": 1}]
    # A replica of before is judged by another port until it is gone.
    old = {**known["be"][0], "port": 7000}
    both = found["tier_definitions"](TIERS, {"be": [old]}, {"be-lb": {"version": "1", "needed": [1]}})
    assert [item["port"] for item in both["be"]] == [8000, 7000]
    assert found["wanted_definitions"](both)["be"] == both["be"][:1]
    changed = found["replicated_services"](TIERS, both)
    assert [(item["name"], item["first"], item["load_balancers"][0]["socket"]) for item in changed] == [
        ("be", both["be"][0]["first"], "be-lb/run/master.sock"),
        ("fe", 1, "fe-lb/run/master.sock"),
    ]
    assert [(item["name"], item["gap"]) for item in found["balancer_services"](TIERS, both)] == [
        ("be-lb", "nobody reaches be"),
        ("fe-lb", "nobody reaches fe"),
    ]
    assert list(found["container_counts"](TIERS).items()) == [("fe-lb", 1), ("fe", 2), ("be-lb", 1), ("be", 3)]
    assert found["tier_sockets"](TIERS)[0] == {"name": "fe", "socket": "fe-lb/run/master.sock"}


def test_load_balancers_are_described_by_their_tier():
    found = filters("tier_definitions balancer_tiers load_balancers")
    tiers = found["balancer_tiers"](TIERS, found["tier_definitions"](TIERS, {}, {}))
    # Two edges share what a server may have.
    shared = found["balancer_tiers"]([{**TIERS[0], "load_balancers": 2}], {TIERS[0]["name"]: []})
    assert [tier["servers"]["limit"] for tier in (tiers[0], shared[0])] == [5, 3]
    assert [tier["servers"]["shared_by"] for tier in (tiers[0], shared[0])] == [1, 2]
    texts = [{"wanted": "a @VERSION@", "between": ""}, {"wanted": "b @VERSION@", "between": "c @VERSION@"}]
    common = {
        "owner": {"user": 99, "group": 98},
        "files": {"503.html": "away"},
        "certificate": "public",
        "key": "private",
        "check": ["docker", "run"],
        "checked": ["haproxy", "-c"],
        "patience": 5,
        "settings": {"check": "1s"},
    }
    told = found["load_balancers"](tiers, texts, common)
    files = {item["path"]: item for item in told["files"]}
    assert files["fe-lb/config/tls/site.pem.key"]["secret_content"] == common["key"]
    assert not any(path.startswith("be-lb/config/tls") for path in files)
    edge, inner = told["rotation"]
    before = told["transition"][1]
    assert edge["configuration"] == f"a {edge['version']}" == files["fe-lb/config/haproxy.cfg"]["content"]
    # Until the old replicas are gone, another configuration is in place than in the end.
    assert inner["configuration"] == f"b {inner['version']}"
    assert files["be-lb/config/haproxy.cfg"]["content"] == f"c {before['version']}"
    assert (inner["backend"], inner["servers"], inner["settings"]["port"], inner["settings"]["check"]) == (
        "be",
        3,
        8000,
        "1s",
    )
    assert "--add-host=edge.fe-lb:127.0.0.1" in told["checks"][0]["argv"]
    # Another certificate is another configuration of the edge alone.
    other = found["load_balancers"](tiers, texts, {**common, "certificate": "new"})["rotation"]
    assert [old["version"] == new["version"] for old, new in zip(told["rotation"], other, strict=True)] == [False, True]


# --- one more tier, and one more service -------------------------------------------

# What somebody writes who wants it: settings and their types, an entry in the list of tiers, networks, and a part of the
# template.
WIRING = """
# --- wiring -------------------------------------------------------------------

_api_service: >-
  {{ {'source': api_source, 'source_target': '', 'command': [], 'user': '', 'init': true, 'read_only': true, 'tmpfs': [],
      'capabilities': [], 'mounts': []} | application_service(_images_resolved.starts.api, {}, _stack_project_dir) }}
"""
SETTINGS = {
    "api_replicas": 3,
    "api_lb_replicas": 0,
    "api_lb_port": 8080,
    "api_image": "",
    "api_source": "data/be",
    "api_source_target": "/srv",
    "api_port": 8100,
    "api_health_path": "/ready",
    "api_health_host": "localhost",
    "api_environment": {},
    "api_mounts": [],
    "api_tmpfs": [],
    "api_capabilities": [],
    "api_user": "",
    "api_memory_reservation": "64M",
    "api_stop_grace_period": "30s",
    "api_max_requests": 8,
    "api_rollout_batch": "2",
    "api_drain_timeout": "30s",
}
TIER = """
  - name: api
    title: API
    missing: The site has no API
    listen: {network: exchange, http: "{{ api_lb_port | int }}"}
    alias: service.api
    image: {image: "{{ api_image }}", source: "{{ api_source }}"}
    replicas: "{{ api_replicas | int }}"
    load_balancers: "{{ api_lb_replicas | int or _stack_load_balancers }}"
    port: "{{ api_port | int }}"
    health_path: "{{ api_health_path }}"
    health_host: "{{ api_health_host }}"
    max_requests: "{{ api_max_requests | int }}"
    batch: "{{ api_rollout_batch }}"
    drain: "{{ api_drain_timeout | duration_seconds }}"
    memory: "{{ api_memory_reservation | memory_bytes }}"
    downtime: front ends reach no API for about two seconds
"""
NETWORKS = """
  exchange: {internal: true}
  service: {internal: true}
  api-lb-metrics: {internal: true}
"""
PART = """
  api-lb:
    <<: *load-balancer
    x-swarm: {batch: "1", replicas: {{ api_lb_replicas | int or _stack_load_balancers }}}
    networks:
      exchange: {aliases: [exchange.api-lb]}
      service:
      api-lb-metrics: {aliases: [metrics.api-lb]}
    volumes:
      - {type: bind, source: ./api-lb/config, target: /usr/local/etc/haproxy, read_only: true}
      - {type: bind, source: ./api-lb/run, target: /run/haproxy, bind: {create_host_path: false}}

  api:
    <<: *service
    x-swarm: {batch: "{{ api_rollout_batch }}", port: {{ api_port | int }}, needs: "{BACKEND_URL}"}
    image: {{ _images_resolved.api }}
{% for option, value in _api_service.options.items() %}
    {{ option }}: {{ value | compose_value }}
{% endfor %}
    environment: {PORT: "8100", LISTEN_NAME: service.api, BACKEND_URL: "http://be-lb:{{ be_lb_port | int }}"}
    networks:
      service: {aliases: [service.api]}
      middle:
    stop_grace_period: {{ api_stop_grace_period }}
    deploy: {"replicas": {{ api_replicas | int }}}

  cache:
    <<: *service
    x-swarm: {node: database, failure: pause}
    image: valkey/valkey:8
    networks:
      service:
    deploy: {"replicas": 1}

"""
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module", name="checkout")
def checkout_with_a_third_tier(tmp_path_factory):
    """Return a checkout whose data and template have a tier between front end and back end, and whose code is this one's."""
    root = tmp_path_factory.mktemp("third") / "checkout"
    root.mkdir()
    (root / "roles/api/meta").mkdir(parents=True)
    roles = [f"roles/{path.name}" for path in (PROJECT / "roles").iterdir()]
    for name in ("data", "docs", "files", "library", "module_utils", "plugins", *roles):
        (root / name).symlink_to(PROJECT / name)
    # Where these are, the checkout is.
    shutil.copy(PROJECT / "ansible.cfg", root)
    for name in ("group_vars", "inventory", "playbooks"):
        shutil.copytree(PROJECT / name, root / name, symlinks=True)

    def write(path, old, new, source=None):
        text = (source or root / path).read_text()
        assert text.count(old) == 1
        (root / path).write_text(text.replace(old, new))

    options = {
        name: {"type": type(value).__name__, "required": True, "description": "It."} for name, value in SETTINGS.items()
    }
    specs = {"argument_specs": {"main": {"short_description": "The API.", "options": options}}}
    (root / "roles/api/meta/argument_specs.yml").write_text(yaml.safe_dump(specs))
    settings = "".join(f"# It.\n{name}: {json.dumps(value)}\n" for name, value in SETTINGS.items())
    (root / "group_vars/all/api.yml").write_text(f"---\n# The API.\n\n{settings}{WIRING}")
    write("group_vars/all/stack.yml", "\n  - name: be\n", f"{TIER}  - name: be\n")
    write("group_vars/all/network.yml", "\n  middle: {internal: true}\n", f"\n  middle: {{internal: true}}{NETWORKS}")
    write("docker-compose.yml.j2", "\n  be-lb:\n", f"{PART}  be-lb:\n", PROJECT / "docker-compose.yml.j2")
    return root


@pytest.fixture(scope="module", params=["compose", "swarm"], name="rendered")
def rendered_by_the_playbook(request, checkout):
    """Return the engine, and the folder that the playbook has rendered for it."""
    folder = checkout.parent / request.param
    settings = {"render_dir": str(folder), "stack_engine": request.param}
    command = [str(PYTHON.with_name("ansible-playbook")), "playbooks/render.yml", "-e", json.dumps(settings)]
    run(*command, cwd=checkout, env={**os.environ, "ANSIBLE_CONFIG": str(checkout / "ansible.cfg")})
    return request.param, folder


def test_third_tier_is_data_and_a_part_of_the_template(rendered):
    _, folder = rendered
    stack = yaml.safe_load((folder / "docker-compose.yml").read_text())
    assert {"api", "api-lb", "cache"} <= set(stack["services"])
    assert stack["services"]["api"]["init"] is True
    balancer = (folder / "api-lb/config/haproxy.cfg").read_text()
    assert "bind exchange.api-lb:8080" in balancer
    assert "uri /ready ver HTTP/1.1 hdr Host localhost" in balancer
    assert re.search(r"server-template api- 1-\d+ ipv4@api:8100 ", balancer)
    assert (folder / "api-lb/run").is_dir()
    assert set(json.loads((folder / "state.json").read_text())["tiers"]) == {"fe", "api", "be"}
    # Monitoring counts it, asks its load balancer, and is on a network with it.
    deployment = json.loads((folder / "container-exporter/deployment.json").read_text())
    assert (deployment["containers"]["api"], set(deployment["containers"]) >= {"api-lb", "db"}) == (3, True)
    assert deployment["health_paths"]["api"] == "/ready"
    jobs = {job["job_name"] for job in yaml.safe_load((folder / "prometheus/prometheus.yml").read_text())["scrape_configs"]}
    assert {"api-lb", "api-lb-latency"} <= jobs
    assert 'proxy=~"fe|api|be"' in (folder / "prometheus/rules/recording.yml").read_text()
    for service in ("prometheus", "container-exporter"):
        assert "api-lb-metrics" in stack["services"][service]["networks"]
    assert "api-lb=http://metrics.api-lb:8405" in stack["services"]["container-exporter"]["environment"]["LOAD_BALANCERS"]
    # The console shows it.
    shown = json.loads(stack["services"]["console"]["environment"]["TIERS"])
    assert [tier["title"] for tier in shown] == ["front end", "API", "back end"]
    assert list(state.sketch(shown)) == ["fe-lb", "fe", "api-lb", "api", "be-lb", "be", "db"]
    watchdog = json.loads((folder / "watchdog/settings.json").read_text())
    assert [item["name"] for item in watchdog["services"]] == ["fe", "api", "be"]
    # A release has its image, and its replicas are changed after those that it asks.
    assert stack_releases.tiers((folder / "docker-compose.yml").read_text()) == ["fe", "api", "be"]


def test_third_tier_runs_in_a_swarm(rendered):
    engine, folder = rendered
    if engine != "swarm":
        return
    files = [
        {"path": str(path.relative_to(folder)), "content": path.read_text()} for path in folder.rglob("*") if path.is_file()
    ]
    text = (folder / "docker-compose.yml").read_text()
    model = yaml.safe_load(text)
    files += [{"path": item["file"][2:], "content": "secret"} for item in model["secrets"].values()]
    files += [{"path": f"{name}/haproxy.cfg", "content": ""} for name in ("console-proxy", "console-proxy-of-node")]
    files.append({"path": "swarm/task.sh", "content": ""})
    options = {
        "stack": "shop",
        "directory": "/srv/shop",
        "subnets": {name: f"10.0.{number}.0/24" for number, name in enumerate(model["networks"])},
        "images": {},
        "starts": {service["image"]: {"entrypoint": [], "command": ["run"]} for service in model["services"].values()},
        "drain": 5,
        "labels": {"edge": "", "database": "database.shop", "monitoring": "monitoring.shop"},
    }
    swarm = filters("swarm_stack")["swarm_stack"](text, files, [], options)
    stack = yaml.safe_load(next(item["content"] for item in swarm["files"] if item["path"] == "docker-stack.yml"))
    assert "x-swarm" not in str(stack)
    services = stack["services"]
    api, balancer, cache = services["api"], services["api-lb"], services["cache"]
    assert (api["deploy"]["update_config"]["order"], api["deploy"]["update_config"]["parallelism"]) == ("start-first", 2)
    assert api["environment"]["NEEDS"] == "be-lb:80"
    assert api["environment"]["LISTEN_NAME"] == "@SERVICE@"
    assert api["healthcheck"]["test"][-1] == "listens=8100"
    assert api["entrypoint"][2] == balancer["entrypoint"][2] == "drain=5"
    assert (balancer["deploy"]["replicas"], "-S" in balancer["command"]) == (2, False)
    configuration = next(item["content"] for item in swarm["files"] if item["path"] == "api-lb/config/haproxy.cfg")
    assert 'bind "${EXCHANGE}":8080' in configuration
    assert cache["deploy"]["placement"] == {"constraints": ["node.labels.database.shop == true"]}
    assert cache["deploy"]["update_config"]["failure_action"] == "pause"


def test_settings_of_a_third_tier_are_checked(checkout):
    values = {name: setting.default for name, setting in stack_settings.read_settings(checkout).items()}
    assert set(stack_settings.tiers(values)) == {"fe", "api", "be"}
    assert stack_settings.balancers(values)["api-lb"] == 1
    more = stack_settings.memory_needed({**values, "api_replicas": 4}) - stack_settings.memory_needed(values)
    assert more == 64 * 2**20
    assert "api_replicas: 0 replicas cannot serve" in " ".join(stack_checks.check_replicas({**values, "api_replicas": 0}))
    wrong = {**values, "api_rollout_batch": "many", "api_drain_timeout": "1m30s"}
    found = " ".join(stack_forms.check_forms(wrong))
    assert "api_rollout_batch: 'many'" in found
    assert "api_drain_timeout: '1m30s'" in found


def test_front_end_and_back_end_have_the_same_settings():
    # Ansible reads the types of each role from a file of its own.
    text = [(PROJECT / f"roles/{role}/meta/argument_specs.yml").read_text() for role in ("frontend", "backend")]
    assert text[1] == text[0].replace("fe_", "be_").replace("front end", "back end")


# --- no second place ---------------------------------------------------------------

FOLDERS = ("bin", "files", "group_vars", "library", "module_utils", "playbooks", "plugins", "roles")
# Literals that name several services for a reason of their own.
REASONS = {
    "module_utils/stack_compose.py": "hosts have no template: which setting limits which service",
    "module_utils/stack_folder.py": "what versions without a record have written",
    "roles/monitoring/tasks/main.yml": "configurations that the role writes",
    "roles/monitoring/vars/main.yml": "configurations that the role writes",
    "roles/swarm/tasks/forget.yml": "a node keeps no record of what was written",
}


@cache
def services():
    """Return the names of the services, from the template."""
    page = (PROJECT / "docker-compose.yml.j2").read_text().partition("\nservices:\n")[2].partition("\nnetworks:\n")[0]
    return frozenset(re.findall(r"^  ([a-z][a-z-]*):$", page, re.MULTILINE))


def literals(tree):
    """Yield the texts of each list, tuple, set and dictionary that a Python program writes out, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            yield node.lineno, node.elts
        elif isinstance(node, ast.Dict):
            yield node.lineno, node.keys


def python_lists(text):
    for line, items in literals(ast.parse(text)):
        names = {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}
        if len(names & services()) > 1:
            yield line, names & services()


def yaml_lists(node):
    """Yield lists and dictionaries of a document, and lists in expressions of Jinja, that name several services."""
    if isinstance(node, dict):
        if len(set(map(str, node)) & services()) > 1:
            yield sorted(set(map(str, node)) & services())
        named = {key: value["name"] for key, value in node.items() if isinstance(value, dict) and "name" in value}
        for value in [*named.values(), *node.values()]:
            yield from yaml_lists(value)
    elif isinstance(node, list):
        names = {str(item.get("name") if isinstance(item, dict) else item) for item in node}
        if len(names & services()) > 1:
            yield sorted(names & services())
        for item in node:
            yield from yaml_lists(item)
    elif isinstance(node, str):
        for inner in re.findall(r"[\[{(]([^\[\]{}()]*)[\])}]", node):
            found = set(re.findall(r"['\"]([a-z-]+)['\"]", inner)) & services()
            if len(found) > 1:
                yield sorted(found)
        one = "|".join(sorted(services(), key=len, reverse=True))
        # Words of a command.
        yield from (found[0].split() for found in re.finditer(rf"(?<!\S)(?:(?:{one})\s+)+(?:{one})(?!\S)", node))


def lists(path):
    """Return what in a file names several services in one literal."""
    text = path.read_text(encoding="utf-8", errors="ignore")
    if path.suffix == ".py" or text.startswith("#!/usr/bin/env python"):
        return list(python_lists(text))
    if path.suffix == ".yml" and not {"templates", "files"} & set(path.parts):
        return [found for document in yaml.safe_load_all(text) for found in yaml_lists(document)]
    if path.suffix in (".js", ".j2"):
        return list(yaml_lists(text))
    return []


PRODUCT = [
    path
    for folder in FOLDERS
    for path in sorted((PROJECT / folder).rglob("*"))
    if path.is_file() and "__pycache__" not in path.parts
]


def test_services_are_listed_in_one_place():
    found = {str(path.relative_to(PROJECT)): lists(path) for path in PRODUCT}
    found = {path: names for path, names in found.items() if names and path not in REASONS}
    assert found == {"group_vars/all/stack.yml": [["be", "fe"]]}


@pytest.mark.parametrize("path", REASONS)
def test_reason_for_a_second_place_still_holds(path):
    assert lists(PROJECT / path)


def test_a_list_of_services_would_be_found(tmp_path):
    for name, text in (
        ("a.py", 'X = ("fe", "be")\n'),
        ("b.py", 'X = {"db": 1, "console": 2}\n'),
        ("c.yml", "x: [fe, be]\n"),
        ("d.yml", "x: \"{{ ['fe', 'db'] | join }}\"\n"),
        ("e.yml", "x: [{name: fe}, {name: be}]\n"),
        ("f.js", 'const x = ["fe", "db"];\n'),
        ("g.yml", "x: rm fe-lb db\n"),
    ):
        (tmp_path / name).write_text(text)
        assert lists(tmp_path / name), name
    (tmp_path / "h.py").write_text('X = ("fe", "other")\n')
    assert not lists(tmp_path / "h.py")
