"""What the roles decide before they change anything, rendered from their own tasks and variables."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certificates_filters
import database_filters
import engine_filters
import pytest
from cryptography import x509
from stack import PROJECT, run
from wiring import HOST, holds, load, render, task, tasks

IMAGE = {"registry": "haproxy:1", "debian": "webstack/haproxy:1", "context": "files/images/haproxy", "digest": "d1"}
NAMES = {"haproxy": IMAGE, "mysql": {**IMAGE, "registry": "mysql:1", "debian": "webstack/mysql:1"}}
SOURCE = load("roles/images/vars/main.yml")["__images_source"]


def asked(code, present=(), **facts):
    """Return where images come from and what is said of it, after a registry was asked for one."""
    facts["_preflight_result"] = {**HOST, "images": {name: {} for name in present}}
    facts |= {"_images_names": NAMES, "__images_asked": {"rc": code, "stderr_lines": ["trying", "no such host"]}}
    decide = task("images", "source.yml", "Decide where images come from")["ansible.builtin.set_fact"]
    found = {name: render(value, "images", **facts) for name, value in decide.items()}
    say = task("images", "source.yml", "Say where images come from")["ansible.builtin.debug"]["msg"]
    said = render(say, "images", ansible_check_mode=False, **facts, **found)
    return render(SOURCE, "images", **facts, **found), said


def test_images_are_built_from_debian_packages_where_no_registry_answers():
    source, said = asked(1)
    assert source == "debian"
    assert said.startswith("No registry answers (no such host): images are built from Debian packages.")
    facts = {"_images_names": NAMES, "__images_found": source}
    missing = render(load("roles/images/vars/main.yml")["__images_missing"], "images", **facts)
    assert [(image["reference"], image["built"]) for image in missing] == [
        ("webstack/haproxy:1", True),
        ("webstack/mysql:1", True),
    ]
    # So it is kept for the next run.
    state = load("group_vars/all/stack.yml")["_compose_state"]["image_source"]
    assert render(state, "compose", _images_resolved={"source": source}) == "debian"


@pytest.mark.parametrize(("code", "present"), [(0, ()), (1, ("haproxy:1",))], ids=["answers", "is there already"])
def test_images_are_pulled_where_a_registry_answers(code, present):
    source, said = asked(code, present)
    assert source == "registry"
    assert said.startswith("The registry answers: images are pulled from it.")


@pytest.mark.parametrize(
    ("settings", "kept", "source"),
    [({}, "registry", "registry"), ({"image_source": "debian"}, "registry", "debian"), ({}, "debian", "debian")],
)
def test_deployment_stays_with_what_it_took_and_a_setting_changes_it(settings, kept, source):
    host = {**HOST, "state": {"image_source": kept}}
    assert render(SOURCE, "images", _preflight_result=host, **settings) == source
    asks = task("images", "main.yml", "Find out where images come from")["when"]
    assert not holds(asks, "images", _preflight_result=host, **settings)
    assert holds(asks, "images")


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: images
        tasks_from: debootstrap
"""


def test_missing_debian_base_is_named_to_somebody_who_may_not_be_root(tmp_path):
    """The run ends with the sentence, and nobody has tried to install or build anything."""
    host = {**HOST, "uid": 1000, "docker_socket": "/nonexistent/docker.sock"}
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    # What refuses to make anybody root, in the place of sudo.
    environment = {**os.environ, "ANSIBLE_BECOME_EXE": "/bin/false", "ANSIBLE_BECOME_ALLOW_SAME_USER": "1"}
    environment |= {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory/hosts.yml", str(play)]
    done = run(*command, "-e", json.dumps({"_preflight_result": host}), cwd=PROJECT, env=environment, check=False)
    said = " ".join(done.stdout.split())
    assert done.returncode
    assert (
        "image_source: no registry answers and webstack/debian:sid-slim is not on this engine; making it needs root" in said
    )
    assert "Install debootstrap" not in said


def test_debian_base_is_made_before_anything_is_built_or_started():
    names = [entry["name"] for entry in load("roles/images/tasks/provide.yml")]
    assert names.index("Provide the Debian base") < names.index("Pull or build each image")
    (deploy,) = (play for play in load("playbooks/site.yml") if play["name"] == "Deploy the stack")
    roles = [entry["name"] for entry in deploy["tasks"]]
    assert roles.index("Provide the images") < roles.index("Write the files") < roles.index("Converge the containers")


@pytest.mark.parametrize(("mode", "given", "on"), [("production", True, True), ("development", True, False)])
def test_watchdog_is_off_in_development(mode, given, on):
    facts = {"app_mode": mode, "watchdog_enabled": given}
    assert render(load("roles/watchdog/vars/main.yml")["__watchdog_enabled"], "watchdog", **facts) is on
    arguments = task("watchdog", "run.yml", "Start or remove the watchdog")
    assert bool(render(arguments["stack_service"]["version"], "watchdog", **facts)) is on
    # One that a deployment in the other mode has left is ended.
    before = {**HOST, "watchdog": "" if on else "1a2b3c"}
    assert holds(arguments["when"], "watchdog", _preflight_result=before, **facts)


@pytest.mark.parametrize(
    ("days", "state", "settings", "renewed"),
    [
        (29, {"certificate": "generated"}, {}, True),
        (31, {"certificate": "generated"}, {}, False),
        (31, {"certificate": "generated"}, {"_load_balancer_renew": True}, True),
        # Where the settings named a certificate before, what lies there is the user's.
        (31, {"certificate": "given"}, {}, True),
    ],
)
def test_generated_certificate_is_renewed_in_its_last_30_days(days, state, settings, renewed):
    present = certificates_filters.self_signed_certificate(["localhost"], days)["certificate"]
    fact = task("load_balancer", "main.yml", "Prepare the certificate")["ansible.builtin.set_fact"]["__load_balancer_tls"]
    found = render(fact, "load_balancer", _preflight_result={**HOST, "certificate": present, "state": state}, **settings)
    assert (found["certificate"] != present) is renewed
    # The key of one that stays is the one that is there.
    assert bool(found["key"]) is renewed
    end = x509.load_pem_x509_certificate(found["certificate"].encode()).not_valid_after_utc
    assert end > datetime.now(UTC) + timedelta(days=30)


@pytest.mark.parametrize(
    ("playbook", "words"),
    [("rollback.yml", "a Swarm keeps no releases"), ("rotate.yml", "passwords of a stack in a Swarm are not replaced")],
)
def test_playbook_that_a_swarm_does_not_have_is_refused_first(playbook, words):
    plays = load(f"playbooks/{playbook}")
    first = next(tasks(next(play["tasks"] for play in plays if "tasks" in play)))
    check = first["ansible.builtin.assert"]
    assert holds(check["that"], "compose")
    assert not holds(check["that"], "compose", stack_engine="swarm")
    assert render(check["fail_msg"], "compose").startswith(f"stack_engine: {words}")


REFUSED = {
    "26": "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "
    '"http://%2Fvar%2Frun%2Fdocker.sock/v1.45/version": dial unix /var/run/docker.sock: connect: permission denied',
    "29": "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
}
AWAY = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
FAR = "error during connect: Get http://docker.example.com/v1.45/version: alice@192.0.2.1: Permission denied (publickey)."


@pytest.mark.parametrize(
    ("codes", "said", "missing", "refused"),
    [
        ((0, 0, 0), "", [], False),
        ((1, 0, 0), AWAY, ["engine"], False),
        ((2, 2, 2), None, ["engine", "Compose v2", "buildx"], False),
        ((0, 1, 1), "", ["Compose v2", "buildx"], False),
        ((1, 0, 0), REFUSED["26"], [], True),
        ((1, 1, 0), REFUSED["29"], ["Compose v2"], True),
        ((1, 0, 0), FAR, ["engine"], False),
    ],
)
def test_engine_is_installed_where_none_answers(codes, said, missing, refused):
    """One that refuses the user is there."""
    names = ("__docker_engine", "__docker_compose", "__docker_buildx")
    facts = {name: {"rc": code, "stderr": ""} for name, code in zip(names, codes, strict=True)}
    # Where there is no client, the module has no standard error.
    facts["__docker_engine"] = {"rc": codes[0]} if said is None else {"rc": codes[0], "stderr": said}
    for name, wanted in {
        "Install what is missing": bool(missing),
        "Let the user use the engine": refused,
        "Find out whether the user may do what is missing": bool(missing) or refused,
    }.items():
        assert holds(task("docker", "main.yml", name)["when"], "docker", **facts) is wanted
    variables = load("roles/docker/vars/main.yml")
    assert render(variables["__docker_missing"], "docker", **facts) == missing
    if refused:
        assert render(variables["__docker_socket"], "docker", **facts) == "/var/run/docker.sock"
        # What has started and refuses the user is not waited for.
        assert holds(task("docker", "install.yml", "Wait until the engine answers")["until"], "docker", **facts)


def test_rights_are_found_out_before_anything_is_installed():
    names = [entry["name"] for entry in load("roles/docker/tasks/main.yml")]
    order = ["Find out whether the user may do what is missing", "Install what is missing", "Let the user use the engine"]
    assert [name for name in names if name in order] == order
    assert "Say what will be done" not in [entry["name"] for entry in tasks(load("roles/docker/tasks/rights.yml"))]
    used = {key for entry in tasks(load("roles/docker/tasks/rights.yml")) for key in entry}
    assert not {"ansible.builtin.apt", "ansible.builtin.user", "ansible.builtin.file"} & used


NOT_FOUND = {"failed": True, "msg": "Premature end of stream.\n>>> Standard Error\n/bin/sh: 1: sudo: not found"}
PASSWORD = {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required\n"}
STRANGER = {"failed": True, "msg": "x\nalice is not in the sudoers file."}
PACKAGES = "docker.io, docker-cli, docker-compose, docker-buildx"


@pytest.mark.parametrize(
    ("root", "said", "groups", "words"),
    [
        ({"skipped": True}, AWAY, "root", ""),
        ({"rc": 0}, AWAY, "alice sudo", ""),
        ({"rc": 0}, REFUSED["26"], "alice sudo", ""),
        (
            NOT_FOUND,
            REFUSED["26"],
            "alice",
            "This user may not become root (sudo: not found), and alice may not use the engine, whose socket is for group"
            " docker: let somebody who may run `sudo usermod -aG docker alice`, then log in again and run this again.",
        ),
        (
            STRANGER,
            REFUSED["29"],
            "alice docker",
            "alice is in group docker, but this login is older than that: log in again, then run this again.",
        ),
        (
            NOT_FOUND,
            AWAY,
            "alice",
            "This user may not become root (sudo: not found), and engine is missing: let somebody who may install"
            f" {PACKAGES} and run `sudo usermod -aG docker alice`, then log in again and run this again.",
        ),
        (
            PASSWORD,
            AWAY,
            "alice docker",
            "This user may not become root (sudo: a password is required), and engine is missing: give"
            f" ARGS=--ask-become-pass, or let somebody who may install {PACKAGES}, then log in again and run this again.",
        ),
    ],
)
def test_user_who_can_have_no_engine_is_told_what_to_do(root, said, groups, words):
    facts = {"__docker_engine": {"rc": 1, "stderr": said}, "__docker_compose": {"rc": 0}, "__docker_buildx": {"rc": 0}}
    facts |= {"__docker_root": root, "__docker_user_groups": {"stdout": groups}}
    facts["ansible_facts"] = {"user_id": "alice", "user_uid": 1000, "distribution": "Debian"}
    facts["__docker_socket_found"] = {"stat": {"gr_name": "docker"}} if "ermission" in said else {"skipped": True}
    refuse = task("docker", "rights.yml", "Refuse a user without the rights for what is missing")
    assert render(refuse["ansible.builtin.fail"]["msg"], "docker", **facts) == words
    assert holds(refuse["when"], "docker", **facts) is bool(words)


def test_nobody_is_put_into_the_group_root():
    """Where the socket is for root alone, also whoever may become root is told so."""
    refusal = engine_filters.engine_refusal("alice", ["alice"], "root", True, [], [], "")
    assert refusal.startswith("The engine's socket is for root alone: make a group docker")


def test_user_is_put_into_the_group_and_has_the_engine_in_the_same_run():
    facts = {"__docker_engine": {"rc": 1, "stderr": REFUSED["26"]}, "ansible_facts": {"user_id": "alice"}}
    facts["__docker_socket_found"] = {"stat": {"gr_name": "engine"}}
    (block,) = (entry for entry in load("roles/docker/tasks/access.yml") if "block" in entry)
    assert block["become"] is True
    member, socket = (render(entry, "docker", **facts) for entry in block["block"])
    assert member["ansible.builtin.user"] == {"name": "alice", "groups": "engine", "append": True}
    assert socket["ansible.builtin.file"] == {"path": "/var/run/docker.sock", "owner": "alice"}


CODE = {"setting": "fe_source", "source": "/home/me/shop/data/fe", "target": "/srv"}
UPLOADS = {"setting": "be_mounts", "source": "~/uploads", "target": "/uploads"}


@pytest.mark.parametrize(
    ("mode", "mounts", "lines"),
    [
        ("production", [], []),
        ("production", [UPLOADS], ["be_mounts: ~/uploads is mounted at /uploads"]),
        (
            "development",
            [CODE, UPLOADS],
            ["fe_source: /home/me/shop/data/fe is mounted at /srv", "be_mounts: ~/uploads is mounted at /uploads"],
        ),
    ],
)
def test_a_run_says_at_its_end_in_which_mode_the_stack_is_and_what_is_mounted(mode, mounts, lines):
    entry = task("compose", "say.yml", "Say what runs, where, and what has changed")
    facts = {
        "_preflight_result": {**HOST, "containers": [], "mounts": mounts},
        "_load_balancer_urls": ["http://x/"],
        "_load_balancer_rotation": [],
        "__compose_release": 3,
        "__compose_changes": [],
        "__compose_failed_requests": "",
    }
    found = render(entry["ansible.builtin.debug"]["msg"], "compose", app_mode=mode, **facts).splitlines()
    begin = found.index(f"Mode: {mode}, release 3, files in {HOST['stack_dir']}")
    assert found[begin + 1 : begin + 1 + len(lines)] == lines
    assert found[begin + 1 + len(lines)].startswith("Containers: ")
    # For the next run, and for the status.
    assert render(load("group_vars/all/stack.yml")["_compose_state"]["mode"], "compose", app_mode=mode) == mode


@pytest.mark.parametrize(
    ("running", "settings", "said"),
    [
        ({"fe": 5, "be": 2}, {}, ["fe_replicas: 5 run, 2 is set: this run removes 3."]),
        ({"fe": 5, "be": 2}, {"fe_replicas": "5"}, []),
        ({"fe": 2, "be": 2}, {"fe_replicas": 6}, []),
        ({"fe": 5, "be": 40}, {"be_replicas": 9}, ["fe_replicas: 5 run, 2 is set", "be_replicas: 40 run, 9 is set"]),
        ({}, {}, []),
    ],
)
def test_replicas_that_a_run_takes_away_are_said_before_it_does(running, settings, said):
    (deploy,) = (play for play in load("playbooks/site.yml") if play["name"] == "Deploy the stack")
    names = [entry["name"] for entry in deploy["tasks"]]
    name = "Say where fewer replicas are set than run"
    assert names.index(name) < names.index("Provide the images") < names.index("Converge the containers")
    entry = deploy["tasks"][names.index(name)]
    facts = {"_preflight_result": {**HOST, "running": running}, **settings}
    assert holds(entry["when"], "compose", **facts) is bool(said)
    found = render(entry["ansible.builtin.debug"]["msg"], "compose", **facts).splitlines()
    assert all(sentence.startswith(words) for sentence, words in zip(found, said, strict=True))


class Dumps:
    """Runs with dumps of which a database has taken those of the first run."""

    def __init__(self, folder):
        self.folder, self.record = folder, {}

    def write(self, **contents):
        """Save dumps; their times of change differ as little as their sizes do."""
        for name, content in contents.items():
            path = self.folder / f"{name}.sql"
            path.write_text(content)
            os.utime(path, (1, len(content)))

    def run(self, *names):
        """Return what a run with these dumps says, and remember what it remembers."""
        dumps = [f"{name}.sql" for name in names]
        facts = {"database_dumps": dumps, "_stack_project_dir": str(self.folder)}
        host = {**HOST, "database_volume": True, "rendered": True, "containers": [], "dumps": self.record}
        facts["_preflight_result"] = host
        facts |= {"_images_resolved": {"ready": True}, "__database_volume": {"stdout": "mysqld 9.7\n\nmysql.ibd\napp\n"}}
        entry = task("database", "main.yml", "Find dumps that have changed since the database was created")
        if not all(holds(condition, "database", **facts) for condition in entry["when"]):
            return ""
        said = task("database", "changed.yml", "Say that changed dumps have no effect")
        text = render(said["ansible.builtin.debug"]["msg"], "database", **facts)
        assert holds(said["when"], "database", **facts) is (text != "")
        write = task("database", "changed.yml", "Remember which dumps this run has seen")["ansible.builtin.copy"]
        self.record = json.loads(render(write["content"], "database", **facts))
        return text


@pytest.fixture
def dumps(tmp_path):
    runs = Dumps(tmp_path)
    runs.write(one="CREATE TABLE a (b INT);", two="INSERT INTO a VALUES (1);", three="INSERT INTO a VALUES (2);")
    write = task("database", "dumps.yml", "Remember which dumps the database is made from")["ansible.builtin.copy"]
    facts = {"database_dumps": ["one.sql", "two.sql"], "_stack_project_dir": str(tmp_path)}
    runs.record = json.loads(render(write["content"], "database", **facts))
    return runs


@pytest.mark.parametrize(
    ("names", "content", "said"),
    [
        (["one", "two"], "INSERT INTO a VALUES (7);", "two.sql has changed"),
        (["one", "two"], "INSERT INTO a VALUES (1), (2);", "two.sql has changed"),
        (["one", "two", "three"], "", "three.sql has changed"),
        (["one", "three"], "", "three.sql has changed"),
        (["one"], "", "the list has changed"),
        (["two", "one"], "", "the list has changed"),
        ([], "", "the list has changed"),
    ],
)
def test_dumps_that_have_changed_are_said_to_be_without_effect_once(dumps, names, content, said):
    assert dumps.run("one", "two") == ""
    if content:
        dumps.write(two=content)
        os.utime(dumps.folder / "two.sql", (2, 2))
    text = dumps.run(*names)
    assert text.startswith(f"database_dumps: {said} since the database was made")
    assert dumps.run(*names) == ""


def test_dumps_that_are_again_what_the_database_was_made_from_are_nothing_to_say(dumps):
    dumps.write(two="INSERT INTO a VALUES (1), (2);")
    assert dumps.run("one", "two")
    dumps.write(two="INSERT INTO a VALUES (1);")
    assert dumps.run("one", "two") == ""
    dumps.write(two="INSERT INTO a VALUES (3), (4);")
    assert dumps.run("one", "two")


def test_dumps_with_another_name_or_time_are_the_same(dumps):
    (dumps.folder / "two.sql").rename(dumps.folder / "rows.sql")
    (dumps.folder / "one.sql").touch()
    assert dumps.run("one", "rows") == ""
    # Nor are those that were said to be without effect.
    assert dumps.run("one", "three")
    (dumps.folder / "three.sql").touch()
    assert dumps.run("one", "three") == ""


def test_dumps_are_read_once_while_they_stay_as_they_are(dumps, monkeypatch):
    assert dumps.run("one", "two") == ""
    monkeypatch.setattr(database_filters.hashlib, "file_digest", None)
    assert dumps.run("one", "two") == ""


def test_of_a_database_without_a_record_changes_are_known_from_now_on(dumps):
    dumps.record = {}
    assert dumps.run("one", "three") == ""
    assert dumps.run("one", "three") == ""
    assert "two.sql has changed" in dumps.run("one", "two")


@pytest.mark.parametrize("fact", ["database_volume", "rendered"])
def test_new_database_takes_its_dumps_and_nothing_is_said(dumps, fact):
    entry = task("database", "main.yml", "Find dumps that have changed since the database was created")
    host = {**HOST, "database_volume": True, "rendered": True, "containers": [], "dumps": {}, fact: False}
    facts = {"database_dumps": ["three.sql"], "_stack_project_dir": str(dumps.folder), "_preflight_result": host}
    assert not all(holds(condition, "database", _images_resolved={"ready": True}, **facts) for condition in entry["when"])
