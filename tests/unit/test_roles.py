"""Roles, settings and their description agree."""

import re
from pathlib import Path

import pytest
import stack_settings
import yaml

PROJECT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir())
FILES = sorted((PROJECT / "group_vars/all").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specs(role):
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    described = {name: option["default"] for name, option in options.items() if "default" in option}
    assert (load(PROJECT / f"roles/{role}/defaults/main.yml") or {}) == described
    for name, option in options.items():
        assert ("default" in option) != option.get("required", False), f"{name} is required or has a default"
        assert name.startswith(f"{role}_")


@pytest.mark.parametrize("role", ROLES)
def test_options_without_default_are_wired_in_group_vars(role):
    everything = {}
    for path in FILES:
        everything |= load(path)
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name for name, option in options.items() if option.get("required")} <= set(everything)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_setting_reaches_a_role_and_is_described_the_same(path):
    settings = stack_settings.read_settings(PROJECT)
    text = path.read_text().partition(stack_settings.WIRING_MARK)[0]
    for name in load(path):
        if f"\n{name}:" not in text:
            continue
        assert name in settings, f"{name} reaches no role"
        comment = re.search(rf"((?:^# .*\n)+){name}:", text, re.MULTILINE)
        assert comment, f"{name} has no comment"
        sentence = " ".join(line[2:] for line in comment[1].splitlines())
        assert sentence == settings[name].description, name


def test_no_setting_stands_twice():
    names = [name for path in FILES for name in load(path)]
    assert sorted(names) == sorted(set(names))
