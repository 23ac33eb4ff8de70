"""Whether what systemd runs for a user goes on after the last logout.

Without systemd: a loginctl of this test's own takes the place of logind, its policy (polkit) and its memory.
"""

import os
import subprocess

import pytest
import stack_service
import stack_status
from ansible.module_utils import stack_systemd
from wiring import HOST, holds, load, render, task

TASKS = (
    "Enable lingering as the user, if the host's policy (polkit) permits",
    "Enable lingering as root",
    "Refuse services that end with the last logout",
)

# It answers nothing about a user who is neither logged in nor lingers, as logind does.
LOGINCTL = """#!/bin/sh
cd {folder}
for user; do :; done
case "$*" in
show-user\\ *--value\\ *) [ -e "lingers-$user" ] && echo yes || exit 1;;
*enable-linger\\ *)
    [ -n "$ROOT" ] || [ -e polkit ] || {{ echo 'Could not enable linger: Access denied' >&2; exit 1; }}
    [ -e forgetful ] || : >"lingers-$user";;
*) exit 2;;
esac
"""


@pytest.fixture(name="logind")
def pretended(tmp_path, monkeypatch):
    """Return the folder in which the policy and those who linger are files, for a user who is not root."""
    folder = tmp_path / "logind"
    folder.mkdir()
    program = tmp_path / "bin/loginctl"
    program.parent.mkdir()
    program.write_text(LOGINCTL.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(stack_systemd.os, "getuid", lambda: 4711)
    monkeypatch.setattr(stack_systemd, "user", lambda: "deploy")
    monkeypatch.setattr(stack_systemd, "folder", lambda: tmp_path / "units")
    monkeypatch.setattr(stack_systemd, "call", lambda *_, **__: None)
    monkeypatch.setattr(stack_systemd, "scheduler", lambda: "systemd")
    return folder


def watchdog(path):
    units = stack_service.watchdog_units("web", path)
    stack_systemd.replace(list(units), units, ".service")


def backups(path):
    stack_service.keep_backups("web", path, "03:30", 5, False)


@pytest.mark.parametrize("start", [watchdog, backups])
@pytest.mark.parametrize("policy", [["polkit"], [], ["polkit", "forgetful"]], ids=" ".join)
def test_units_that_would_end_with_the_last_logout_are_an_error(logind, tmp_path, start, policy):
    for name in policy:
        (logind / name).touch()
    if policy == ["polkit"]:
        start(tmp_path)
        assert (logind / "lingers-deploy").exists()
        return
    with pytest.raises(stack_systemd.SystemdError, match="run `sudo loginctl enable-linger deploy` once"):
        start(tmp_path)


def test_who_lingers_already_asks_nobody(logind, tmp_path):
    (logind / "lingers-deploy").touch()
    (logind / "forgetful").touch()
    watchdog(tmp_path)


def test_units_of_root_end_with_no_logout(logind, monkeypatch):
    monkeypatch.setattr(stack_systemd.os, "getuid", lambda: 0)
    stack_systemd.linger()
    assert not list(logind.iterdir())


def test_host_without_loginctl_does_not_linger(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stack_systemd.os, "getuid", lambda: 4711)
    assert not stack_systemd.lingers()
    with pytest.raises(stack_systemd.SystemdError):
        stack_systemd.linger()


def ask(sudo):
    """Do what the tasks say, on this machine; return why it is refused, or nothing. ``sudo``: the user may become root."""
    as_user, as_root, refusal = (task("preflight", "linger.yml", name) for name in TASKS)
    for entry in (as_user, as_root):
        assert bool(entry.get("become")) is (entry is as_root)
        if entry is as_root and not sudo:
            continue
        command = render(entry["ansible.builtin.shell"]["cmd"], "preflight", _preflight_result={**HOST, "linger": "deploy"})
        environment = {**os.environ, **({"ROOT": "1"} if entry is as_root else {})}
        if subprocess.run(["sh", "-c", command], capture_output=True, check=False, env=environment).returncode == 0:
            return ""
    return render(refusal["ansible.builtin.fail"]["msg"], "preflight", _preflight_result={**HOST, "linger": "deploy"})


@pytest.mark.parametrize("sudo", [True, False])
@pytest.mark.parametrize("policy", [["polkit"], [], ["forgetful"]], ids=" ".join)
def test_run_asks_as_the_user_and_as_root_before_it_refuses(logind, policy, sudo):
    for name in policy:
        (logind / name).touch()
    refused = ask(sudo)
    if policy == ["polkit"] or (sudo and not policy):
        assert not refused
        assert (logind / "lingers-deploy").exists()
    else:
        assert refused == stack_systemd.linger_refusal("deploy")


def test_tasks_ask_as_root_where_the_user_is_refused_and_check_mode_asks_nobody():
    said, asking = load("roles/preflight/tasks/linger.yml")
    assert (said["when"], said["changed_when"]) == ("ansible_check_mode", True)
    assert asking["block"][0]["name"] == TASKS[0]
    (as_root,) = asking["rescue"]
    assert (as_root["block"][0]["name"], as_root["rescue"][0]["name"]) == TASKS[1:]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, True),
        ({"watchdog_enabled": "false"}, False),
        ({"watchdog_enabled": False, "backup_schedule": "03:30"}, True),
        ({"app_mode": "development"}, False),
        ({"app_mode": "development", "backup_schedule": "03:30"}, True),
        ({"stack_engine": "swarm"}, False),
    ],
)
def test_run_asks_before_anything_else_where_the_host_starts_something_by_itself(settings, asked):
    (deploy,) = (play for play in load("playbooks/site.yml") if play["name"] == "Deploy the stack")
    names = [entry["name"] for entry in deploy["tasks"]]
    entry = deploy["tasks"][names.index("Keep the user's services running without a login")]
    assert names.index(entry["name"]) == names.index("Check the settings and the host") + 1
    for user in ("deploy", ""):
        found = {**HOST, "linger": user}
        assert holds(entry["when"], "preflight", _preflight_result=found, **settings) is (asked and user != "")


@pytest.mark.parametrize("unit", ["web-watchdog.service", "web-backup.timer", "shop-watchdog.service"])
@pytest.mark.parametrize("lingers", [True, False])
def test_status_says_what_ends_with_the_last_logout(logind, tmp_path, monkeypatch, unit, lingers):
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / unit).touch()
    if lingers:
        (logind / "lingers-deploy").touch()
    monkeypatch.setattr(stack_status, "examine", lambda *_: ([], []))
    problems = stack_status.report({"project": "web", "path": str(tmp_path), "services": []})["problems"]
    said = [problem for problem in problems if "run `sudo loginctl enable-linger deploy`" in problem]
    assert len(said) == (unit.startswith("web-") and not lingers)
