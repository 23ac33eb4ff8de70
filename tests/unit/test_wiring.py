"""Settings that no scenario can show by what they do: the value reaches the argument that it is meant for.

They would build every image anew, or need a second mirror, index or bundle, IPsec in the kernel or a host with several
addresses.
"""

import os
import re
import subprocess

import pytest
import stack_checks
import stack_checks_services
import stack_settings
import yaml
from ansible.template import trust_as_template
from console import state
from wiring import HOST, PROJECT, holds, load, render, render_template, task

PLATFORM = {"registry": "haproxy:1", "debian": "webstack/haproxy:1", "context": "files/images/haproxy", "digest": "d1"}
APPLICATION = {"registry": "web/fe:2", "debian": "web/fe:2", "context": "data/fe", "digest": "d2", "application": True}
PYTHON = {"registry": "python:3", "debian": "webstack/python:3", "context": "files/images/python", "digest": "d3"}
NAMES = {"haproxy": PLATFORM, "fe": APPLICATION, "python": PYTHON}


def build(image, **settings):
    """Return the arguments of the module that builds an image."""
    facts = {"image_source": "debian", "_images_names": NAMES, "ansible_connection": "local"}
    facts["__images_ca_bundle"] = {"stat": {"exists": True}}
    arguments = task("images", "build.yml", "Build {{ __images_item.reference }}")["community.docker.docker_image_build"]
    return render(arguments, "images", **{**facts, "__images_item": {**image, "reference": image["debian"]}, **settings})


def test_image_refresh_takes_everything_anew():
    present = {image["debian"]: {"labels": {"webstack.context": image["digest"]}} for image in NAMES.values()}
    facts = {"image_source": "debian", "_images_names": NAMES, "_preflight_result": {**HOST, "images": present}}
    base = task("images", "base.yml", "Make the Debian base")["when"]
    for refresh, names in ((False, []), (True, ["haproxy", "python", "fe"])):
        missing = render(load("roles/images/vars/main.yml")["__images_missing"], "images", image_refresh=refresh, **facts)
        assert [image["name"] for image in missing] == names
        assert build(PLATFORM, image_refresh=refresh)["nocache"] is refresh
        assert holds(base, "images", image_refresh=refresh, __images_base_found={"rc": 0}) is refresh


def test_image_debian_mirror_comes_before_that_of_the_host():
    arguments = task("images", "debootstrap.yml", "Run debootstrap")["ansible.builtin.command"]["argv"]
    facts = {"__images_root": {"path": "/root-of-it"}, "__images_mirror": {"stdout_lines": ["http://host/debian"]}}
    assert render(arguments, "images", **facts)[-1] == "http://host/debian"
    assert render(arguments, "images", image_debian_mirror="http://mine/debian", **facts)[-1] == "http://mine/debian"


def test_image_pip_index_is_an_argument_of_builds_with_pip(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment/simple")
    assert build(APPLICATION)["args"]["PIP_INDEX_URL"] == "https://environment/simple"
    assert build(APPLICATION, image_pip_index="https://mine/simple")["args"]["PIP_INDEX_URL"] == "https://mine/simple"
    assert "PIP_INDEX_URL" not in build(APPLICATION, image_pip_index="")["args"]
    assert "PIP_INDEX_URL" not in build(PLATFORM)["args"]


@pytest.mark.parametrize("context", ["data/fe", "data/be", "files/images/monitoring"])
def test_image_pip_index_is_taken_by_the_builds(context):
    """What a Dockerfile does not declare after FROM, a build leaves out."""
    stage = (PROJECT / context / "Dockerfile").read_text().partition("\nFROM ")[2]
    before, install, _ = stage.partition("pip install")
    assert install
    assert re.search(r"^ARG PIP_INDEX_URL\b", before, re.MULTILINE), f"{context}/Dockerfile has no ARG PIP_INDEX_URL"


def test_image_ca_bundle_is_a_secret_of_each_build():
    secret = {"id": "ca-bundle", "type": "file", "src": "/mine.pem"}
    for image in (PLATFORM, APPLICATION):
        assert build(image, image_ca_bundle="/mine.pem")["secrets"] == [secret]
    assert build(PLATFORM, __images_ca_bundle={"stat": {"exists": False}})["secrets"] == []
    for file in ("provide.yml", "helper.yml"):
        look = task("images", file, "Look for the certificate authorities")["ansible.builtin.stat"]
        assert render(look, "images", image_ca_bundle="/mine.pem") == {"path": "/mine.pem"}
        assert render(look, "images", image_ca_bundle="") == {"path": "/nonexistent"}


def names(**settings):
    """Return how the images are called."""
    return render(
        task("images", "name.yml", "Name the images")["ansible.builtin.set_fact"]["_images_names"], "images", **settings
    )


def test_images_are_built_from_fe_source_and_be_source(tmp_path):
    found = names(fe_source=str(tmp_path / "one"), be_source="data/fe", stack_name="web")
    assert (found["fe"]["context"], found["be"]["context"]) == (str(tmp_path / "one"), "data/fe")
    assert found["be"]["registry"].startswith("web/be:")


def test_fe_image_and_be_image_come_before_a_build():
    found = names(fe_image="mine/front:1", be_image="mine/back", image_registry="mirror:5000/")
    assert found["fe"]["registry"] == found["fe"]["debian"] == "mirror:5000/mine/front:1"
    assert found["be"]["debian"] == "mirror:5000/mine/back:latest"
    assert found["haproxy"]["registry"] == "mirror:5000/haproxy:3.2"
    assert not any("context" in found[tier] for tier in ("fe", "be"))


@pytest.mark.parametrize(
    ("role", "setting", "name"),
    [
        ("frontend", "fe_source_target", "Describe the front end"),
        ("backend", "be_source_target", "Describe the back end"),
    ],
)
def test_source_target_says_where_the_code_is_mounted(role, setting, name):
    developer = {"user": "1000:1000", "groups": [], "umask": "0022"}
    start = {"entrypoint": [], "command": ["serve"], "user": ""}
    facts = {
        "_preflight_result": {**HOST, "developer": developer},
        "_images_resolved": {"starts": {"fe": start, "be": start}},
    }
    fact = task(role, "main.yml", name)["ansible.builtin.set_fact"][f"_{role}_service"]
    source = setting.removesuffix("_target")
    (mount,) = render(fact, role, **facts, **{source: "/code", setting: "/app"})["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == ("/code", "/app", False)
    assert render(fact, role, **facts, **{setting: ""})["volumes"] == []


def test_stack_wait_timeout_bounds_each_wait_and_image_build_cache_the_cache():
    waiting = {
        "Let the load balancers take over their configuration before containers change": "haproxy_converge",
        "Replace the containers in batches": "compose_rollout",
        "Wait until all containers are healthy": "compose_wait",
        "Reload the load balancers and wait for all servers": "haproxy_converge",
    }
    for name, module in waiting.items():
        assert render(task("compose", "converge.yml", name)[module]["timeout"], "compose", stack_wait_timeout=77) == 77
    bound = task("compose", "converge.yml", "Keep this release for a rollback")["stack_release"]["build_cache"]
    assert render(bound, "compose", image_build_cache="3G") == 3 * 2**30
    assert render(bound, "compose", image_build_cache="0") == 0


@pytest.mark.parametrize(("mode", "check"), [("production", "600ms"), ("development", "5s")])
def test_one_of_lb_timeouts_leaves_the_others_as_they_are(mode, check):
    timeouts = load("roles/load_balancer/vars/main.yml")["__load_balancer_timeouts"]
    found = render(timeouts, "load_balancer", lb_timeouts={"server": "60s"}, app_mode=mode)
    assert found == {**stack_settings.defaults("lb_timeouts"), "server": "60s", "check": check}


def test_monitoring_memory_reservation_is_counted():
    values = {name: setting.default for name, setting in stack_settings.read_settings(PROJECT).items()}
    values["monitoring_memory_reservation"] = "1G"
    without = stack_settings.memory_needed(values)
    values["monitoring_memory_reservation"] = "3G"
    assert stack_settings.memory_needed(values) - without == 2 * 2**30
    assert stack_settings.memory_needed({**values, "monitoring_enabled": False}) == without - 2**30


@pytest.mark.parametrize("logs", [True, False, "false"])
def test_monitoring_show_logs_lets_the_end_of_logs_through_or_none(logs):
    text = render_template("docker-api.cfg.j2", "monitoring", monitoring_show_logs=logs, ansible_managed="")
    refusal = next(line for line in text.splitlines() if "deny_status 403 unless" in line)
    assert refusal.strip().endswith("unless get asked or get log end" if logs is True else "unless get asked")
    assert ("/logs" in text) == (logs is True)


def test_console_has_the_runbook_and_the_exporter_the_masks_of_the_playbook():
    facts = {"__monitoring_rendered": {"docker_api": "", "prometheus": "", "recording": "", "alertmanager": ""}}
    facts |= {"_load_balancer_certificate": "", "__monitoring_deployment": {}, "_images_resolved": {}}
    files = {
        item["path"]: item
        for item in render(load("roles/monitoring/vars/main.yml")["__monitoring_files"], "monitoring", **facts)
    }
    for path, source in (
        ("console/runbook.md", "docs/runbook.md"),
        ("container-exporter/stack_secrets.py", "module_utils/stack_secrets.py"),
    ):
        assert files[path]["content"] == (PROJECT / source).read_text()


def test_reasons_of_failed_checks_name_the_path_that_is_asked_for():
    deployment = load("roles/monitoring/vars/main.yml")["__monitoring_deployment"]
    facts = {"_load_balancer_certificate": "", "fe_health_path": "/nope", "be_health_path": ""}
    assert render(deployment["health_paths"], "monitoring", **facts) == {"fe": "/nope", "be": ""}


def test_recording_rules_are_about_the_tiers_of_the_load_balancers():
    tiers = [{"servers": {"name": name}} for name in ("one", "two")]
    text = render_template("recording.yml.j2", "monitoring", ansible_managed="", _load_balancer_tiers=tiers)
    asked = dict.fromkeys(re.findall(r'haproxy_backend_\w+\{proxy=~"([^"]*)"', text))
    assert list(asked) == ["one|two", "(one|two)-open"]
    groups = yaml.safe_load(text)["groups"] + load("roles/monitoring/files/alerts.yml")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    # What rules read of each other, and what the console reads, is recorded.
    read = re.findall(r"\b[a-z]\w*:[a-z_0-9:]+", " ".join([rule["expr"] for rule in rules] + list(state.NOW.values())))
    assert set(read) <= {rule.get("record") for rule in rules}


def test_monitoring_grafana_password_is_the_secret_of_grafana():
    fact = task("monitoring", "main.yml", "Describe monitoring")["ansible.builtin.set_fact"]["_monitoring_secrets"]
    given = {"monitoring_grafana_password": "mine"}
    assert render(fact, "monitoring", **given) == {}
    assert render(fact, "monitoring", **given, monitoring_grafana=True) == {"grafana_password": "mine"}


@pytest.mark.parametrize("name", ["Begin the Swarm", "Read how others join it", "Join the Swarm"])
def test_swarm_address_is_what_nodes_advertise(name):
    advertised = task("swarm", "join.yml", name)["community.docker.docker_swarm"]["advertise_addr"]
    assert render(advertised, "swarm", swarm_address="eth1") == "eth1"
    assert render(advertised, "swarm") == "(omitted)"


@pytest.mark.parametrize("encrypted", [True, False])
def test_swarm_encrypted_is_an_option_of_each_network(encrypted):
    making = task("swarm", "networks.yml", "Make the networks between the hosts")
    facts = {"_network_definitions": {"edge": {"internal": False}, "data": {"internal": True}}, "swarm_encrypted": encrypted}
    facts |= {"__swarm_networks_before": {"networks": []}, "stack_name": "web", "network_subnets": {"data": "10.9.5.0/24"}}
    assert render(making["loop"], "swarm", **facts) == ["edge", "data"]
    made = [render(making["community.docker.docker_network"], "swarm", item=name, **facts) for name in ("edge", "data")]
    assert [("encrypted" in network["driver_options"]) for network in made] == [encrypted] * 2
    assert [network["name"] for network in made] == ["web_edge", "web_data"]
    assert [network["internal"] for network in made] == [False, True]
    assert [network["ipam_config"] for network in made] == ["(omitted)", [{"subnet": "10.9.5.0/24"}]]


def test_swarm_encrypted_needs_a_kernel_that_can_do_it():
    checks = task("swarm", "places.yml", "Check where the parts shall be")["loop"]
    (good,) = [check["good"] for check in checks if "IPsec" in check["problem"]]
    assert render(good, "swarm", swarm_encrypted=True, __swarm_esp={"rc": 1}) is False
    assert render(good, "swarm", swarm_encrypted=True, __swarm_esp={"rc": 0}) is True
    assert render(good, "swarm", __swarm_esp={"skipped": True}) is True


@pytest.mark.parametrize("folder", ["plain", "with a blank"])
def test_swarm_reads_the_files_that_are_there(tmp_path, folder):
    (tmp_path / folder / "secrets/be").mkdir(parents=True)
    (tmp_path / folder / "secrets/be/it's").write_text("two\nlines\n")
    (tmp_path / folder / "empty").touch()
    command = task("swarm", "read.yml", "Read the files")["ansible.builtin.shell"]["cmd"]
    facts = {"__swarm_paths": ["secrets/be/it's", "empty", "missing"]}
    found = {}
    for name in (folder, "none"):
        text = render(command, "swarm", _preflight_result={"stack_dir": str(tmp_path / name)}, **facts)
        done = subprocess.run(["bash", "-c", text], check=True, capture_output=True, text=True)
        found[name] = render(
            load("roles/swarm/vars/main.yml")["__swarm_there"],
            "swarm",
            __swarm_read={"stdout_lines": done.stdout.splitlines()},
        )
    assert found == {folder: {"secrets/be/it's": "two\nlines\n", "empty": ""}, "none": {}}


def test_swarm_registry_port_is_published_and_known_to_each_node():
    names = {"certificate": "c", "key": "k", "accounts": "a"}
    facts = {"swarm_registry_port": 5055, "stack_name": "web", "__swarm_registry_names": names}
    facts["_images_resolved"] = {"registry": "registry:2"}
    text = render_template("registry.yml.j2", "swarm", **facts, ansible_managed="")
    (port,) = yaml.safe_load(text)["services"]["registry"]["ports"]
    assert (port["published"], port["target"], port["mode"]) == (5055, 5000, "host")
    facts |= {"__swarm_control": "a", "hostvars": {"a": {"__swarm_registry": {"address": "10.0.0.11"}}}}
    asked = task("swarm", "known.yml", "Ask whether the engine knows the registry")["ansible.builtin.shell"]["cmd"]
    assert "'10.0.0.11 registry.web.internal' /etc/hosts" in render(asked, "swarm", **facts)
    assert "/etc/docker/certs.d/registry.web.internal:5055/ca.crt" in render(asked, "swarm", **facts)
    written = task("swarm", "known.yml", "Write its certificate")["ansible.builtin.copy"]["dest"]
    assert render(written, "swarm", **facts) == "/etc/docker/certs.d/registry.web.internal:5055/ca.crt"
    named = task("swarm", "known.yml", "Write its address")["ansible.builtin.lineinfile"]
    line, pattern = (render(named[key], "swarm", **facts) for key in ("line", "regexp"))
    assert line == "10.0.0.11 registry.web.internal"
    assert [bool(re.search(pattern, text)) for text in (line, f"{line}s", f"# {line}")] == [True, False, False]
    described = task("swarm", "registry.yml", "Describe the registry")["ansible.builtin.set_fact"]["__swarm_registry"][
        "name"
    ]
    assert render(described, "swarm", **facts) == "registry.web.internal:5055"
    forgotten = task("swarm", "forget.yml", "Forget its certificate")["ansible.builtin.file"]["path"]
    assert render(forgotten, "swarm", **facts) == "/etc/docker/certs.d/registry.web.internal:5055"


@pytest.mark.parametrize("folder", ["plain", "with a blank", 'it\'s $HOME "x"'])
@pytest.mark.parametrize("home", [True, False])
def test_swarm_forgets_a_folder_of_any_name(tmp_path, folder, home):
    """And nothing beside it."""
    kept = [tmp_path / folder / "secrets/backup", tmp_path / folder.split()[0] / "other"]
    for path in (*kept, tmp_path / folder / "secrets/db", tmp_path / folder / "fe-lb"):
        if path.parent != tmp_path / folder.split()[0] or " " in folder:
            path.mkdir(parents=True, exist_ok=True)
    command = task("swarm", "forget.yml", "Remove the files and secrets, except those that open the backups")[
        "ansible.builtin.shell"
    ]
    path = f"~/{folder}" if home else str(tmp_path / folder)
    text = render(command, "swarm", stack_dir=path)["cmd"]
    subprocess.run(["bash", "-c", text], check=True, cwd="/", env={**os.environ, "HOME": str(tmp_path)}, capture_output=True)
    assert {str(found.relative_to(tmp_path / folder)) for found in (tmp_path / folder).rglob("*")} == {
        "secrets",
        "secrets/backup",
    }
    if " " in folder:
        assert kept[1].exists()


@pytest.mark.parametrize(
    ("wanted", "entrypoint", "command", "init"),
    [
        (True, [], ["python", "-m", "app"], True),
        (True, ["/usr/bin/tini", "--", "docker-php-entrypoint"], ["apache2-foreground"], True),
        (True, ["/init"], [], False),
        (True, [], ["/sbin/init"], False),
        (False, [], ["python"], False),
    ],
)
@pytest.mark.parametrize(("role", "tier"), [("frontend", "fe"), ("backend", "be")])
def test_init_is_process_1_unless_the_image_brings_one(role, tier, wanted, entrypoint, command, init):
    fact = load(f"roles/{role}/vars/main.yml")[f"__{role}_service"]
    start = {"user": "", "entrypoint": entrypoint, "command": command}
    facts = {f"{tier}_init": wanted, "_images_resolved": {"starts": {tier: start}}}
    assert render(fact, role, **facts)["options"].get("init", False) == init


def proxy_page(**settings):
    """Return what the Compose file says about the port of the database."""
    page = (PROJECT / "docker-compose.yml.j2").read_text(encoding="utf-8")
    (part,) = re.findall(r"\{% if database_port \| int > 0 %\}\n.*?endif %\}\n", page, re.DOTALL)
    facts = {"_preflight_result": HOST, "_database_proxy_digest": "d"} | settings
    return yaml.safe_load(render(trust_as_template("  x-load-balancer: &load-balancer {}\n" + part), "database", **facts))


@pytest.mark.parametrize("port", [0, 3306, "3307"])
def test_database_port_is_on_loopback_and_its_way_to_the_database_is_its_own(port):
    """The database itself stays on networks that have no address of the host."""
    page = proxy_page(database_port=port)
    networks = render(load("group_vars/all/network.yml")["_network_definitions"], "network", database_port=port)
    open_networks = {name for name, network in networks.items() if not network["internal"]}
    assert ("db-proxy" in networks) is (int(port) > 0)
    if not int(port):
        assert set(page) == {"x-load-balancer"}
        return
    proxy = page["db-proxy"]
    (published,) = proxy["ports"]
    assert (published["host_ip"], int(published["published"]), published["target"]) == ("127.0.0.1", int(port), 3306)
    assert set(proxy["networks"]) & open_networks == {"db-proxy"}
    # It binds to a name that only its own network has.
    (alias,) = proxy["networks"]["db-proxy"]["aliases"]
    assert f"bind {alias}:3306" in (PROJECT / "roles/database/files/proxy.cfg").read_text()
    text = (PROJECT / "docker-compose.yml.j2").read_text(encoding="utf-8")
    (database,) = re.findall(r"^  db:\n.*?\n\n", text, re.DOTALL | re.MULTILINE)
    on = yaml.safe_load(
        re.search(r"    networks:\n(?:      .*\n)+", database)[0].replace("{{ database_aliases | compose_value }}", "[]")
    )
    assert not set(on["networks"]) & open_networks


def test_debug_port_is_a_port_or_none():
    settings = stack_settings.read_settings(PROJECT)
    values = {name: setting.default for name, setting in settings.items()}
    for name in ("database_port", "debug_port"):
        assert values[name] == 0
        assert f"{name}: 70000" in " ".join(stack_checks.check_settings({**values, name: 70000}, PROJECT))
        assert f"{name}: 8080 is http_port as well" in " ".join(stack_checks.check_ports({**values, name: 8080}))
        assert not stack_checks.check_ports({**values, name: 5678})
        # Nothing else than a port: the address is 127.0.0.1.
        problems = stack_settings.convert(settings, {**values, name: "0.0.0.0:5678"})[1]
        assert f"{name}: '0.0.0.0:5678' is not a whole number" in " ".join(problems)
    swarm = stack_checks_services.check_engine({**values, "stack_engine": "swarm", "database_port": 3306})
    assert any(problem.startswith("database_port: a Swarm publishes") for problem in swarm)


@pytest.mark.parametrize(("replicas", "hosts", "good"), [("3", 2, False), ("3", 3, True), (0, 2, True), (0, 1, False)])
def test_edge_load_balancers_need_as_many_hosts(replicas, hosts, good):
    (check,) = [
        item
        for item in task("swarm", "places.yml", "Check where the parts shall be")["loop"]
        if item["problem"].startswith("fe_lb_replicas")
    ]
    facts = {"fe_lb_replicas": replicas, "stack_engine": "swarm", "__swarm_edges": ["host"] * hosts}
    assert render(check["good"], "swarm", **facts) is good
