"""The commands of the Makefile and the playbooks, as somebody runs them, where no stack is needed."""

import json
import os
import re
import sys
from pathlib import Path

import config_tree
import pytest
import stack_settings
from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from stack import PROJECT, run
from wiring import load, render

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
MAKEFILE = (PROJECT / "Makefile").read_text()
# What stands for Python here: it makes an environment whose programs write down how they were called.
PYTHON = """#!/bin/bash
[ "$1" = -c ] && exit 0
mkdir -p "$3/bin"
for name in pip ansible-playbook; do
    printf '#!/bin/bash\\necho %s "$@" >> "%s"\\n' "$name" "$CALLS" > "$3/bin/$name"
    chmod +x "$3/bin/$name"
done
"""


def playbook(*arguments):
    """Run a playbook of the checkout to its end, whatever that is."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    return run(PLAYBOOK, *arguments, cwd=PROJECT, env=environment, check=False)


def without_make():
    """Return the environment without what a make that runs the tests has handed down."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_make_alone_lists_all_targets_in_groups():
    lines = run("make", "--no-print-directory", cwd=PROJECT).stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    groups = [line for line in lines if line and not line.startswith(" ")]
    assert groups == re.findall(r"^##@ (.+)$", MAKEFILE, re.MULTILINE)
    assert len(groups) > 3
    # Columns hold for the longest name.
    assert len({re.match(r"  \S+ +", line).end() for line in lines if line.startswith("  ")}) == 1
    assert len(listed) == len(set(listed))
    assert set(listed) == set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    # Those are all targets that are no files.
    assert set(listed) == set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def test_make_up_installs_ansible_into_the_environment_and_deploys(tmp_path):
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {**without_make(), "CALLS": str(calls)}
    command = ["make", "up", f"VENV={tmp_path}/venv", f"PYTHON={python}", "ARGS=-e fe_replicas=5"]
    deploy = "ansible-playbook playbooks/bootstrap.yml playbooks/site.yml -e fe_replicas=5"
    run(*command, cwd=PROJECT, env=environment)
    install, first = calls.read_text().splitlines()
    assert install.startswith("pip install ")
    assert install.endswith("--requirement requirements.txt")
    assert first == deploy
    # What is there is not installed again.
    run(*command, cwd=PROJECT, env=environment)
    assert calls.read_text().splitlines() == [install, deploy, deploy]
    assert re.search(r"^ansible==", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (
            None,
            "install one (on Ubuntu 22.04: sudo apt-get install python3.11-venv) and name it: make venv PYTHON=python3.11",
        ),
        ("exit 1", "make needs Python 3.11 or later, and {python} is none: install one"),
        (
            "case $2 in *ensurepip*) exit 1;; *print*) echo python3.13-venv;; esac",
            "make needs the module venv of {python}: sudo apt-get install python3.13-venv",
        ),
    ],
    ids=["none", "too old", "without venv"],
)
def test_make_needs_a_python_that_is_new_enough(tmp_path, python, words):
    path = tmp_path / "python"
    if python:
        path.write_text(f"#!/bin/sh\n{python}\n")
        path.chmod(0o755)
    done = run("make", "venv", f"VENV={tmp_path}/venv", f"PYTHON={path}", cwd=PROJECT, env=without_make(), check=False)
    assert done.returncode
    assert words.format(python=path) in done.stdout
    assert not (tmp_path / "venv").exists()


def test_make_works_from_elsewhere_or_says_where_to_run_it(tmp_path):
    there = {"cwd": tmp_path, "env": without_make(), "check": False}
    done = run("make", "-C", str(PROJECT), "--dry-run", "status", **there)
    assert "playbooks/status.yml" in done.stdout
    for makefile in (PROJECT / "Makefile", os.path.relpath(PROJECT / "Makefile", tmp_path)):
        done = run("make", "-f", str(makefile), "status", **there)
        assert done.returncode
        assert done.stderr.count("\n") == 1
        assert f"Run make in the checkout: make -C '{PROJECT}' status." in done.stderr


@pytest.mark.parametrize("path", sorted(PROJECT.glob("playbooks/*.yml")), ids=lambda path: path.name)
def test_every_playbook_begins_where_the_checkout_is_looked_for(path):
    """Ansible reads all of a playbook before it runs any, and ends at the first role that it does not find."""
    first = load(f"playbooks/{path.name}")[0]
    if path.name not in ("checkout.yml", "settings.yml"):
        assert first["import_playbook"] in ("checkout.yml", "hosts.yml", "recovery.yml")


def test_checkout_is_named_where_its_configuration_is_not_read(monkeypatch):
    (play,) = load("playbooks/checkout.yml")
    assert render(play["import_playbook"], "docker").strip() == "settings.yml"
    monkeypatch.setattr(lookup_loader.get("ansible.builtin.config").__class__, "run", lambda *_, **__: [["/nowhere/roles"]])
    with pytest.raises(AnsibleError, match=re.escape(f"(cd {PROJECT}), or set ANSIBLE_CONFIG to its ansible.cfg")):
        render(play["import_playbook"], "docker")


def named(tags):
    """Return the tasks of site.yml that run with some tags, but for those that check the arguments of a role."""
    output = playbook("playbooks/site.yml", "--list-tasks", f"--tags={tags}").stdout
    names = re.findall(r"^      (.+?)\tTAGS: \[", output, re.MULTILINE)
    assert "preflight : Check the settings and the host" in names
    return {name for name in names if "Validating arguments" not in name}


def test_tags_choose_parts_of_a_run():
    images, config, everything = named("images"), named("config"), named("all")
    assert "images : Provide the images that are missing" in images
    # The files come with config, ...
    written = {
        "compose : Make the folders that are mounted",
        "compose : Make the files that are mounted over",
        "compose : Try the new health checks on the running replicas",
        "compose : Write the changed files if all are valid",
    }
    assert {name for name in config - images if name.startswith("compose : ")} == written
    # ... and all that touches containers only without them.
    touching = {
        "compose : Converge the stack",
        "Schedule backups",
        "watchdog : Start or remove the watchdog",
        "Deploy the services",
    }
    assert touching <= everything - config
    assert images < config < everything
    # A role of any part that prepares something has a task that says so in its own file; none of these converges.
    assert not {name for name in config if name.startswith("watchdog : Let ")}


def test_inventory_without_group_vars_is_refused(tmp_path):
    """Before the host is asked for anything: its connection would fail."""
    inventory = tmp_path / "hosts.yml"
    host = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_ssh_executable": "/bin/false"}
    inventory.write_text(json.dumps({"all": {"hosts": {"web1": host}}}))
    done = playbook("-i", str(inventory), "playbooks/site.yml")
    said = " ".join(done.stdout.split())
    assert done.returncode
    assert f"are not loaded; put a link group_vars -> {PROJECT}/group_vars beside your inventory." in said
    assert "UNREACHABLE" not in said


def test_teardown_keeps_what_opens_the_backups(tmp_path):
    """With remove_data everything else of the folder goes."""
    folder = tmp_path / "stack"
    password = folder / "secrets/backup/password"
    name = "webstack-test-unit-teardown"
    files = [{"path": path, "content": "x", "mode": "0644"} for path in ("fe-lb/config/haproxy.cfg", "secrets/db/one")]
    files.append({"path": "secrets/backup/password", "secret": "s", "mode": "0600"})
    rest = {"directories": [], "secrets": {"s": ""}, "checks": [], "lock_timeout": 0, "stack": name, "part": "stack"}
    config_tree.converge({"path": str(folder), "files": files, **rest}, False, privileged=False)
    settings = {"stack_name": name, "stack_dir": str(folder), "remove_data": True}
    done = playbook("playbooks/teardown.yml", "-e", json.dumps(settings))
    assert done.returncode == 0, done.stdout
    left = {path for path in folder.rglob("*") if path.is_file()}
    # With its mark, so that the next deployment knows the folder.
    assert left - {folder / ".lock", folder / ".run"} == {password, folder / ".webstack.json"}


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (["up", "fe_replicas=3"], "make up ARGS='-e fe_replicas=3'"),
        (["check", "http_port=90", "ARGS=-v"], "make check ARGS='-v -e http_port=90'"),
        (["up", "fe_port=90", "ARGS=-e '{}'"], "make up ARGS='-e fe_port=90'"),
        (["venv", "dev", "fe_port=90"], "make dev ARGS='-e fe_port=90'"),
        (["up", "fe_replicas:=3"], "make up ARGS='-e fe_replicas=3'"),
        (["up", "fe_replicas = 3"], "make up ARGS='-e fe_replicas=3'"),
        (["up", "image_registry=localhost:5000/"], "make up ARGS='-e image_registry=localhost:5000/'"),
        (["logs", "stack_name=a"], "make logs ARGS='-e stack_name=a'"),
        (["stack_name=a"], "make up ARGS='-e stack_name=a'"),
        (["up", "args=-v"], "args is no variable of this Makefile; "),
    ],
)
def test_setting_as_a_variable_of_make_is_refused_with_the_right_form(given, right):
    done = run("make", "--dry-run", *given, cwd=PROJECT, env=without_make(), check=False)
    assert done.returncode
    assert right in done.stderr
    assert not done.stdout


# What make or a shell would take apart.
@pytest.mark.parametrize(
    "value", ["a b", '["a"]', "{a: 1}", "a'b", "a$b", "a$$b", "$(a)", "a;b", "a>b", "a#b", "a\\b", "(a)", "*"]
)
def test_value_that_is_more_than_a_word_goes_into_a_file(value):
    done = run("make", "--dry-run", "up", f"fe_command={value}", cwd=PROJECT, env=without_make(), check=False)
    assert "make up ARGS='-e @FILE' (in FILE as in group_vars)." in done.stderr


def recipes():
    """Return the recipe of each target."""
    found = re.findall(r"^([a-z][a-z-]*):.*##.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert len(found) > 20
    return dict(found)


@pytest.mark.parametrize("target", recipes())
def test_every_target_says_whether_it_takes_settings(target):
    done = run("make", "--dry-run", target, "fe_replicas=3", cwd=PROJECT, env=without_make(), check=False)
    assert done.returncode
    assert not done.stdout
    if re.search(r"\$\((ARGS|RUNNING)\)", recipes()[target]):
        assert f"give settings to the playbook: make {target} ARGS='-e fe_replicas=3'." in done.stderr
    else:
        assert f"fe_replicas is no variable of this Makefile and {target} takes no settings" in done.stderr


@pytest.mark.parametrize("name", stack_settings.read_settings(PROJECT))
def test_no_setting_is_a_variable_of_make(name):
    done = run("make", "--dry-run", "up", f"{name}=1", cwd=PROJECT, env=without_make(), check=False)
    assert done.returncode
    assert f"make up ARGS='-e {name}=1'" in done.stderr


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^([A-Z_]+) \?= ", MAKEFILE, re.MULTILINE))))
def test_variables_of_make_are_taken(name):
    value = "-e fe_replicas=5" if name == "ARGS" else "a"
    assert run("make", "--dry-run", "help", f"{name}={value}", cwd=PROJECT, env=without_make()).stdout


def test_make_remove_removes_the_stack_with_its_data():
    said = run("make", "--dry-run", "remove", "ARGS=-e stack_name=shop", cwd=PROJECT, env=without_make()).stdout
    assert said.splitlines()[-1].endswith(
        "ansible-playbook playbooks/teardown.yml --extra-vars remove_data=true -e stack_name=shop"
    )


def test_plugins_find_what_they_share_with_modules_because_one_that_is_loaded_first_says_where_it_is():
    """The inventory plugin before all others, and the first of the filters where ansible-lint loads them alone."""
    assert constants.config.get_config_value("INVENTORY_ENABLED", cfile=str(PROJECT / "ansible.cfg"))[0] == "webstack"
    saying = [path for path in PROJECT.glob("plugins/*/*.py") if "module_utils.__path__" in path.read_text(encoding="utf-8")]
    assert set(saying) == {PROJECT / "plugins/inventory/webstack.py", min(PROJECT.glob("plugins/filter/*.py"))}
