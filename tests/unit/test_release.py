"""Releases on files that are really rendered."""

import json
import os
import sys
from pathlib import Path

import pytest
import stack_filters
import stack_releases
import yaml
from stack import PROJECT, run


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """Return a function that renders with some settings and returns the Compose file."""

    def rendered(**settings):
        folder = tmp_path_factory.mktemp("rendered") / "stack"
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/render.yml"]
        settings["render_dir"] = str(folder)
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        run(*command, "-e", json.dumps(settings), cwd=PROJECT, env=environment)
        return (folder / "docker-compose.yml").read_text()

    return rendered


@pytest.fixture(scope="module")
def first(render):
    return render()


@pytest.fixture(scope="module")
def second(render):
    return render(fe_environment={"NEW": "1"}, be_limits={"memory": "300M"}, fe_replicas=7, http_port=18099)


def test_number_of_replicas_makes_no_release(first, second, render):
    assert stack_releases.digest(first) == stack_releases.digest(render(fe_replicas=9, be_replicas=3))
    assert stack_releases.digest(first) != stack_releases.digest(second)


def test_only_front_and_back_end_go_back_and_keep_their_number(first, second):
    old, new = yaml.safe_load(first), yaml.safe_load(second)
    back = yaml.safe_load(stack_releases.splice(second, first))
    old["services"]["fe"]["deploy"]["replicas"] = 7
    assert {name: back["services"][name] for name in ("fe", "be")} == {name: old["services"][name] for name in ("fe", "be")}
    for name in ("fe-lb", "be-lb", "db"):
        assert back["services"][name] == new["services"][name]
    assert back["networks"] == new["networks"]
    assert stack_releases.digest(stack_releases.splice(second, first)) == stack_releases.digest(first)


def test_what_is_rendered_is_known_to_be_kept_or_not(tmp_path, first, second):
    assert not stack_releases.is_saved(tmp_path)
    (tmp_path / "docker-compose.yml").write_text(first)
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/index.json").write_text(json.dumps([{"digest": stack_releases.digest(first)}]))
    assert stack_releases.is_saved(tmp_path)
    (tmp_path / "docker-compose.yml").write_text(second)
    assert not stack_releases.is_saved(tmp_path)


def test_change_that_a_load_balancer_cannot_bridge_is_named():
    wanted = {"port": 9000, "health_path": "/"}
    assert stack_filters.tier_gap(wanted, None) == ""
    assert stack_filters.tier_gap(wanted, dict(wanted)) == ""
    assert stack_filters.tier_gap(wanted, {"port": 8000, "health_path": "/"}).startswith("the port changed")
    assert "the port and the health path" in stack_filters.tier_gap(wanted, {"port": 8000, "health_path": ""})
