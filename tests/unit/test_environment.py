"""Nothing in the caller's environment leads the tools to another project, other files or another platform."""

import ast
import os
import re
import subprocess

import pytest
import stack_environment
import yaml
from wiring import PROJECT, load, render

# One that only describes an action plugin has nothing to clean.
MODULES = sorted(path for path in PROJECT.glob("library/*.py") if "def main()" in path.read_text())
BEGINNING = PROJECT / "module_utils/stack_module.py"
PROGRAMS = [PROJECT / "roles/watchdog/files/watchdog.py", PROJECT / "roles/backup/files/recovery/__main__.py"]
PYTHON = sorted(
    path for folder in ("library", "module_utils", "plugins", "roles") for path in (PROJECT / folder).rglob("*.py")
)
YAML = [path for folder in ("roles", "playbooks") for path in sorted((PROJECT / folder).rglob("*.yml"))]
# Each alone makes `docker compose config` print something else, or fail.
STEERING = {
    "COMPOSE_PROJECT_NAME": "other",
    "COMPOSE_FILE": "/other.yml",
    "COMPOSE_PROFILES": "extra",
    "COMPOSE_ENV_FILES": "/nowhere",
    "COMPOSE_PARALLEL_LIMIT": "many",
    "COMPOSE_DISABLE_ENV_FILE": "perhaps",
    "DOCKER_DEFAULT_PLATFORM": "linux/s390x",
}
FILE = "name: mine\nservices:\n  a: {image: one}\n  b: {image: two, profiles: [extra]}\n"


def main_of(path):
    """Return the function main of a program."""
    return next(
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef) and node.name == "main"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_cleans_its_environment_before_anything_else(path):
    assert ast.unparse(main_of(path).body[-1]).startswith("with running_module(options")
    assert "AnsibleModule(" not in path.read_text()


def test_modules_begin_with_a_clean_environment():
    functions = {node.name: node for node in ast.parse(BEGINNING.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert ast.unparse(functions["running_module"].body[1]) == "clean_environment()"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.parent.name)
def test_program_on_the_host_cleans_its_environment(path):
    assert "clean_environment(settings" in ast.unparse(main_of(path))


def test_what_steers_is_removed_and_what_leads_to_the_engine_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "HOME": "/root", "DOCKER_HOST": "unix:///a", "DOCKER_CONFIG": "/c"})
    kept = dict(os.environ)
    steering = {**STEERING, "RESTIC_REPOSITORY": "x", "MYSQL_PWD": "x", "BUILDX_BUILDER": "x", "DOCKER_API_VERSION": "1.30"}
    os.environ.update(steering, BUILDKIT_HOST="x", COMPOSE_OF_TOMORROW="x")
    stack_environment.clean_environment()
    assert os.environ == {**kept, "COMPOSE_DISABLE_ENV_FILE": "true"}


def test_engine_that_was_found_is_the_engine_that_is_used(monkeypatch):
    monkeypatch.setattr(os, "environ", {"DOCKER_CONTEXT": "elsewhere", "DOCKER_HOST": "tcp://elsewhere"})
    stack_environment.clean_environment("unix:///found.sock")
    assert os.environ["DOCKER_HOST"] == "unix:///found.sock"
    assert "DOCKER_CONTEXT" not in os.environ


def every_play():
    """Yield each play that runs tasks, with its file."""
    for path in sorted(PROJECT.glob("playbooks/*.yml")):
        for play in yaml.safe_load(path.read_text()):
            if "hosts" in play:
                yield pytest.param(play, id=f"{path.stem}: {play['name']}")


@pytest.mark.parametrize("play", list(every_play()))
def test_play_has_the_environment_of_the_tools(play):
    assert re.fullmatch(r"\{\{ _stack_environment( \| default\(\{\}\))? \}\}", play.get("environment", ""))


def environment(**facts):
    """Return what plays set."""
    return render(load("group_vars/all/stack.yml")["_stack_environment"], "compose", **facts)


def test_plays_go_on_with_the_engine_that_the_preflight_has_found():
    assert not {"DOCKER_HOST", "DOCKER_CONTEXT"} & environment().keys()
    found = environment(_preflight_result={"engine": "unix:///run/user/1000/docker.sock"})
    assert found["DOCKER_HOST"] == "unix:///run/user/1000/docker.sock"
    assert found["DOCKER_CONTEXT"] == ""


def test_plays_leave_no_effect_to_what_modules_remove():
    assert all(name.startswith(stack_environment.STEERING) for name in environment())
    assert STEERING.keys() <= environment().keys()


def compose(tmp_path, variables):
    """Return what Compose makes of a file of a project, in an environment."""
    (tmp_path / "docker-compose.yml").write_text(FILE)
    # As a file of this name beside the rendered one would.
    (tmp_path / ".env").write_text("COMPOSE_PROFILES=extra\n")
    command = ["docker", "compose", "--project-name", "mine", "--file", str(tmp_path / "docker-compose.yml"), "config"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **variables}, cwd=tmp_path
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", STEERING)
def test_compose_reads_the_same_whatever_a_variable_says(tmp_path, name):
    """What the plays set has to mean as much as nothing to Compose itself, which takes some empty values for wrong ones."""
    code, wanted = compose(tmp_path, {"COMPOSE_DISABLE_ENV_FILE": "true"})
    assert code == 0
    assert "image: two" not in wanted
    assert compose(tmp_path, {**{name: STEERING[name]}, **environment()}) == (0, wanted)


def calls(path):
    """Return each list, tuple and call of a Python file with the words docker and compose, as a node and as text."""
    for node in ast.walk(ast.parse(path.read_text())):
        items = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
        words = [item.value for item in items if isinstance(item, ast.Constant)]
        if "compose" in words and ("docker" in words or (words[0] == "compose" and len(items) > 1)):
            yield node, ast.unparse(node)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(PROJECT)))
def test_compose_is_told_project_and_file(path):
    for node, text in calls(path):
        if "'version'" in text:
            continue
        # The words of a project may stand in a variable of their own.
        around = text if "*project" not in text else path.read_text()
        assert "--project-name" in around, f"{path.name}:{node.lineno}"
        assert "--file" in around, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(PROJECT)))
def test_compose_is_told_project_and_file_by_tasks(path):
    text = path.read_text()
    for found in re.finditer(r"docker_compose_v2:\n((?: +.*\n)+?)(?=\s*(?:register|when|- |$))", text):
        assert "project_name:" in found[1]
        assert re.search(r"\bfiles:", found[1])
    for found in re.finditer(r"'?docker'?,? '?compose\b'?.{0,200}", text.replace("\n", " ")):
        if "version" not in found[0] and "docker compose`" not in found[0]:
            assert "--project-name" in found[0]
            assert "--file" in found[0]


@pytest.mark.parametrize("path", sorted(PROJECT.glob("plugins/**/*.py")), ids=lambda path: path.stem)
def test_plugins_start_nothing(path):
    assert not re.search(r"\b(subprocess|os\.system|Popen)\b", path.read_text())


def test_make_hands_on_nothing_that_steers():
    command = ["make", "--no-print-directory", "--eval", "probe:\n\t@env\n", "probe"]
    steering = {**STEERING, "RESTIC_REPOSITORY": "x", "MYSQL_PWD": "x", "BUILDX_BUILDER": "x", "DOCKER_CONTENT_TRUST": "1"}
    variables = {**os.environ, **steering}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT, env=variables)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert "PATH" in names
    assert not names & steering.keys()
