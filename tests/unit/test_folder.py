"""Whose a folder is: nothing of others is touched, and of the stack's nothing is left."""

import json
import os
from pathlib import Path

import config_tree
import config_tree_action
import pytest
import stack_folder
import stack_host
import stack_removal
import stack_settings
import stack_survey
from wiring import PROJECT

STATE = {"image_source": "debian", "certificate": "generated", "tiers": {}}
RENDERED = "# Ansible managed\n# The whole stack on one page, in the order of the sketch:\nname: {name}\nservices: {{}}\n"


def earlier(root, name="web"):
    """Make a folder as versions without a record have left it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "docker-compose.yml").write_text(RENDERED.format(name=name))
    (root / "state.json").write_text(json.dumps(STATE))
    return root


def parameters(root, files, **more):
    full = [{"mode": "0644", **file} for file in files]
    rest = {"directories": [], "secrets": {}, "checks": [], "lock_timeout": 0, "stack": "web", "part": "stack", **more}
    return {"path": str(root), "files": full, **rest}


def converge(root, files, check=False, **more):
    return config_tree.converge(parameters(root, files, **more), check, privileged=False)


def contents(root):
    """Return every path below a folder with what it holds and its mode."""
    return {str(p): (p.stat().st_mode, p.read_bytes() if p.is_file() else None) for p in [root, *root.rglob("*")]}


def own_file(root):
    (root / "letter.txt").write_text("mine")


def own_compose(root):
    (root / "docker-compose.yml").write_text("name: web\nservices: {}\n")


def own_compose_and_state(root):
    own_compose(root)
    (root / "state.json").write_text('{"mine": 1}')


def other_stack_of_earlier(root):
    earlier(root, "shop")


def mark_of_another(root):
    (root / stack_folder.RECORD).write_text(json.dumps({"stack": "shop", "written": {}, "kept": [], "directories": []}))


def broken_mark(root):
    own_file(root)
    (root / stack_folder.RECORD).write_text('{"stack": "web"')


def mark_that_leads_out(root):
    own_file(root)
    record = {"stack": "web", "written": {"stack": ["../outside"]}, "kept": [], "directories": []}
    (root / stack_folder.RECORD).write_text(json.dumps(record))


def mark_that_is_a_link(root):
    own_file(root)
    other = root.parent / "elsewhere"
    other.mkdir()
    record = {"stack": "web", "written": {}, "kept": [], "directories": []}
    (other / "mark").write_text(json.dumps(record))
    (root / stack_folder.RECORD).symlink_to(other / "mark")


def secrets_of_somebody(root):
    (root / "secrets/own").mkdir(parents=True)
    (root / "secrets/own/key").write_text("mine")


FOREIGN = [
    own_file,
    own_compose,
    own_compose_and_state,
    other_stack_of_earlier,
    mark_of_another,
    broken_mark,
    mark_that_leads_out,
    mark_that_is_a_link,
    secrets_of_somebody,
]


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("fill", FOREIGN, ids=lambda fill: fill.__name__)
def test_folder_of_others_is_refused_and_left_as_it_is(tmp_path, fill, link):
    root = tmp_path / "folder"
    root.mkdir(mode=0o755)
    fill(root)
    given = root
    if link:
        given = tmp_path / "link"
        given.symlink_to(root)
    before = contents(root)
    assert stack_folder.folder_problem(given, "web").startswith("stack_dir: ")
    with pytest.raises(config_tree.RefusalError, match="stack_dir"):
        converge(given, [{"path": "docker-compose.yml", "content": "x"}])
    with pytest.raises(stack_removal.RefusalError, match="stack_dir"):
        stack_removal.check("web", given)
    assert contents(root) == before


@pytest.mark.parametrize("given", ["/", "~", "link to ~", "link to /"])
def test_home_and_root_are_nobodys_stack_dir(tmp_path, monkeypatch, given):
    """Empty or not."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    path = Path(given.rpartition(" ")[2]).expanduser()
    if given.startswith("link"):
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    assert "holds more than the stack; give a folder inside it" in stack_folder.folder_problem(path, "web")
    assert stack_host.repository_problem(str(path)).startswith("backup_repository: ")


@pytest.mark.parametrize("fill", [lambda root: None, lambda root: (root / ".lock").touch(), earlier, Path.rmdir])
def test_folder_that_is_free_or_the_stacks_is_taken(tmp_path, fill):
    root = tmp_path / "folder"
    root.mkdir()
    fill(root)
    assert stack_folder.folder_problem(root, "web") == ""
    converge(root, [{"path": "a/b", "content": "x"}])
    assert stack_folder.read_record(root)["stack"] == "web"
    # A stranger's file that comes later does not make it a stranger's folder.
    own_file(root)
    assert stack_folder.folder_problem(root, "web") == ""
    assert "stack web" in stack_folder.folder_problem(root, "shop")


def test_passwords_of_backups_that_an_earlier_version_has_left_are_the_stacks(tmp_path):
    (tmp_path / "secrets/backup").mkdir(parents=True)
    (tmp_path / "secrets/backup/password").write_text("x")
    assert stack_folder.folder_problem(tmp_path, "web") == ""


def test_what_is_no_longer_wanted_is_removed_and_nothing_else(tmp_path):
    root = tmp_path / "tree"
    secret = {"path": "secrets/s", "secret": "s"}
    wanted = [
        {"path": "a/one", "content": "1"},
        {"path": "a/two", "content": "2"},
        {"path": "e", "secret_content": "x"},
        secret,
    ]
    converge(root, wanted, secrets={"s": ""})
    converge(root, [{"path": "b/three", "content": "3"}], part="backup")
    (root / "a/mine").write_text("mine")
    fewer = [{"path": "a/one", "content": "1"}]
    assert converge(root, fewer, check=True)["removed_files"] == ["a/two", "e"]
    assert (root / "a/two").exists()
    result = converge(root, fewer)
    assert (result["changed"], result["removed_files"]) == (True, ["a/two", "e"])
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    # Data may depend on a generated secret.
    assert left == {"a/one", "a/mine", "b/three", "secrets/s", ".lock", stack_folder.RECORD}
    assert not converge(root, fewer)["changed"]


def test_file_of_the_record_behind_a_link_is_somebody_elses(tmp_path):
    root, other = tmp_path / "tree", tmp_path / "other"
    converge(root, [{"path": "a/one", "content": "1"}])
    other.mkdir()
    (other / "one").write_text("mine")
    (root / "a/one").unlink()
    (root / "a").rmdir()
    (root / "a").symlink_to(other)
    converge(root, [])
    stack_folder.remove_written(root)
    assert (other / "one").read_text() == "mine"


def test_run_that_breaks_off_leaves_a_folder_that_the_next_one_knows(tmp_path):
    root = tmp_path / "tree"
    failing = {"name": "It", "paths": ["a"], "argv": ["false"]}
    with pytest.raises(config_tree.RefusalError, match="not valid"):
        converge(root, [{"path": "a", "content": "x"}], checks=[failing])
    (root / ".staged-of-a-killed-run").mkdir()
    assert stack_folder.folder_problem(root, "web") == ""


@pytest.mark.parametrize(
    "change", [{"stack": "shop"}, {"part": "backup"}, {"files": [{"path": "a", "content": "x", "mode": "0644"}]}]
)
def test_record_that_differs_is_looked_at(tmp_path, change):
    root = tmp_path / "tree"
    files = [{"path": "a", "content": "x"}, {"path": "b", "content": "y"}]
    converge(root, files)
    known = {"tree": stack_survey.read_tree(root), "uid": 1000, "record": stack_folder.read_record(root)}
    arguments = {**parameters(root, files), "known": known}
    assert config_tree_action.as_wanted(arguments)
    assert not config_tree_action.as_wanted({**arguments, **change})


# What the watchdog, rollouts, rotations and backups write; whoever adds a file to one of them adds it here as well.
PROGRAMS = [
    *("db/dumps.json", ".lock", "watchdog/.lock", "watchdog/events.jsonl", "watchdog/errors.log", "secrets/rotation.json"),
    *("backup/.lock", "backup/status.json", "backup/backup.log", "backup/server.log", "backup/recipient.log"),
    *("container-exporter/backup.json", ".preview-1x.yml", ".staged-1x/secrets/db/database_password"),
]


def runtime(root):
    """Make what programs write beside the rendered files."""
    for name in ("db/dumps/000-a.sql", "rollout.log", "releases/index.json", "releases/3/docker-compose.yml", *PROGRAMS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("fe-lb/run", "backup/cache/ab"):
        (root / name).mkdir(parents=True)
        (root / name / "file").touch()


@pytest.mark.parametrize("recorded", [True, False])
def test_everything_of_the_stack_goes(tmp_path, recorded):
    root = tmp_path / "tree"
    if recorded:
        converge(
            root, [{"path": "fe-lb/config/haproxy.cfg", "content": "x"}], directories=[{"path": "empty", "mode": "0755"}]
        )
    else:
        earlier(root)
        (root / "fe-lb/config").mkdir(parents=True)
        (root / "fe-lb/config/haproxy.cfg").touch()
    runtime(root)
    stack_folder.remove_written(root)
    assert not root.exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_files_of_others_and_what_opens_backups_stay(tmp_path, recorded):
    root = tmp_path / "tree"
    earlier(root)
    if recorded:
        files = [{"path": "state.json", "content": json.dumps(STATE)}, {"path": "secrets/backup/password", "secret": "s"}]
        converge(root, files, secrets={"s": ""})
    runtime(root)
    mine = ["letter.txt", "secrets/mine", "db/dumps/mine.sql", "secrets/backup/password", "fe-lb/letter"]
    for name in mine:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    stack_folder.remove_written(root)
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert left - {stack_folder.RECORD, ".lock", "docker-compose.yml"} == set(mine)


def test_links_in_a_folder_of_a_container_are_removed_and_not_followed(tmp_path):
    root, other = tmp_path / "tree", tmp_path / "other"
    earlier(root)
    runtime(root)
    other.mkdir()
    (other / "precious").touch()
    (root / "fe-lb/run/link").symlink_to(other)
    stack_folder.remove_written(root)
    assert (other / "precious").exists()
    assert not (root / "fe-lb").exists()


@pytest.mark.parametrize(
    ("names", "good"),
    [
        ([], True),
        (["config", "keys", "data", "index"], True),
        (["letter"], False),
        (["config"], False),
        (["data", "x"], False),
    ],
)
def test_repository_of_backups_is_restics_or_empty(tmp_path, names, good):
    for name in names:
        (tmp_path / name).touch()
    assert (stack_host.repository_problem(str(tmp_path)) == "") is good


ENGINE = """#!/usr/bin/python3
import json, os, sys
with open(os.environ["SCRIPT"]) as file:
    script = json.load(file)
words = " ".join(sys.argv[1:])
with open(os.environ["SCRIPT"] + ".log", "a") as file:
    file.write(words + chr(10))
for begin, (code, output) in script.items():
    if words.startswith(begin):
        print(output, end="", file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


@pytest.fixture(name="engine")
def fake_engine(tmp_path, monkeypatch):
    """Return a function that lets a program called docker answer; it returns what it has been asked."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/docker"
    program.write_text(ENGINE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPT", str(tmp_path / "script"))
    asked = tmp_path / "script.log"

    def answer(script):
        (tmp_path / "script").write_text(json.dumps(script))
        return lambda: asked.read_text().splitlines() if asked.exists() else []

    return answer


def container(name, folder, project="web"):
    """Return a line of ``docker ps`` for a container of a project."""
    labels = f"com.docker.compose.project={project},com.docker.compose.service=fe"
    labels += f",com.docker.compose.project.working_dir={folder}"
    fields = {"ID": "c1", "Names": name, "Labels": labels, "Image": "i", "State": "running", "Status": "Up", "Ports": ""}
    return json.dumps(fields) + "\n"


def named(name, project="", namespace=""):
    """Return a line on a network or volume."""
    return f'"{name}","{name}","{project}","{namespace}",""\n'


def test_project_of_the_same_name_from_another_folder_is_left_alone(tmp_path, engine):
    asked = engine({"ps": [0, container("web-fe-1", "/home/somebody/web")]})
    with pytest.raises(stack_removal.RefusalError, match="was started from /home/somebody/web"):
        stack_removal.remove("web", tmp_path / "tree", True, False)
    assert not any(" rm " in line or "down" in line for line in asked())


def test_only_what_bears_the_stacks_label_is_removed(tmp_path, engine):
    root = earlier(tmp_path / "tree")
    images = [
        {"Id": "sha256:1", "RepoTags": ["web/fe:1", "keep/me:1"], "RepoDigests": []},
        {"Id": "sha256:2", "RepoTags": ["mine/on-top:1"], "RepoDigests": []},
        {"Id": "sha256:3", "RepoTags": [], "RepoDigests": []},
    ]
    asked = engine(
        {
            "ps": [0, container("web-fe-1", str(root))],
            "network ls": [0, named("web_edge", "web") + named("web_data") + named("web_x", "other")],
            "volume ls": [0, named("web_database", "web") + named("web_metrics") + named("web_grafana", "other")],
            "images": [0, "sha256:1\nsha256:2\nsha256:3\n"],
            "image inspect": [0, json.dumps(images)],
        }
    )
    result = stack_removal.remove("web", root, True, False)
    removals = [line for line in asked() if line.split()[1] == "rm"]
    assert [line for line in removals if line.startswith("network")] == ["network rm web_edge"]
    assert [line for line in removals if line.startswith("volume")] == ["volume rm web_database"]
    assert [line for line in removals if line.startswith("image")] == ["image rm web/fe:1", "image rm sha256:3"]
    (down,) = [line for line in asked() if line.startswith("compose")]
    assert (
        down
        == f"compose --project-name web --project-directory {root} --file {root}/docker-compose.yml down --remove-orphans"
    )
    assert result["changed"]


def test_nothing_is_removed_in_check_mode(tmp_path, engine):
    root = earlier(tmp_path / "tree")
    asked = engine({"ps": [0, container("web-fe-1", str(root))], "volume ls": [0, named("web_database", "web")]})
    before = contents(root)
    assert stack_removal.remove("web", root, True, True)["changed"]
    assert contents(root) == before
    assert {line.split()[0] for line in asked()} <= {"ps", "network", "volume", "images"}
    assert not any(" rm" in line for line in asked())


@pytest.mark.parametrize("question", ["ps", "network ls", "volume ls", "images"])
def test_removal_ends_where_the_engine_does_not_answer(tmp_path, engine, question):
    asked = engine({question: [1, "permission denied\n"]})
    with pytest.raises(stack_removal.RefusalError, match="permission denied"):
        stack_removal.remove("web", earlier(tmp_path / "tree"), True, False)
    assert not any(" rm" in line for line in asked())


def examine(tmp_path, **more):
    """Return what the preflight finds on a host with the fake engine."""
    rest = {"docker_socket": "", "development": False, "ports": [], "mounts": [], "tmpfs": [], "images": ["a:1"]}
    rest["tiers"] = []
    rest |= {"project_dir": str(PROJECT), "stack_engine": "compose", "stack_name": "web", "backup_repository": ""}
    rest["networks"] = []
    rest["names"] = [*stack_settings.networks_of(PROJECT), *stack_settings.volumes_of(PROJECT)]
    return stack_survey.examine({**rest, "stack_dir": str(tmp_path / "tree"), **more})


ANSWERS = {
    "info": [0, '["28.0.0", []]'],
    "compose version": [0, "2.30.0"],
    "context inspect": [0, "unix:///var/run/docker.sock\n"],
    "image inspect": [1, "Error response from daemon: No such image: a:1\n"],
}


@pytest.mark.parametrize("question", ["ps", "network ls", "volume ls", "image inspect", "network inspect"])
def test_question_that_the_engine_does_not_answer_is_an_error_and_not_nothing(tmp_path, engine, question):
    some = {**ANSWERS, "network ls": [0, named("web_edge", "web")], "network inspect": [0, "[]"]}
    engine(some)
    assert examine(tmp_path)["containers"] == []
    engine(
        {question: [1, "Error response from daemon: something else\n"], **{k: v for k, v in some.items() if k != question}}
    )
    with pytest.raises(stack_survey.QueryError, match="nothing was changed"):
        examine(tmp_path)


def test_what_has_names_of_the_stack_and_is_not_the_stacks_is_found(tmp_path, engine):
    volumes = named("web_database") + named("web_mine") + named("shop_database") + named("web_metrics", "web")
    engine({**ANSWERS, "volume ls": [0, volumes], "network ls": [0, named("web_edge", "other")]})
    found = examine(tmp_path)
    assert found["foreign"] == ["network web_edge", "volume web_database"]
    assert not found["database_volume"]


def test_volume_of_a_swarm_or_a_restore_is_the_stacks(tmp_path, engine):
    volumes = named("web_database", namespace="web")
    engine({**ANSWERS, "volume ls": [0, volumes]})
    found = examine(tmp_path)
    assert (found["foreign"], found["database_volume"]) == ([], True)


def test_containers_that_another_folder_has_started_are_told(tmp_path, engine):
    engine({**ANSWERS, "ps": [0, container("web-fe-1", "/home/somebody/web")]})
    assert examine(tmp_path)["strangers"] == ["/home/somebody/web"]
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    (tmp_path / "tree").mkdir()
    engine({**ANSWERS, "ps": [0, container("web-fe-1", f"{tmp_path}/link")]})
    assert examine(tmp_path)["strangers"] == []
