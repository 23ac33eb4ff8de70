"""Roles, settings and their description agree."""

import re
from pathlib import Path

import pytest
import stack_settings
import wiring
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
        assert name.startswith((f"{role}_", f"_{role}_"))


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


# What people give with -e, although group_vars keeps it apart from the settings.
GIVEN = {"backup_action", "restore_backup", "restore_until", "restore_from", "confirm"}


def test_inner_variables_have_names_that_no_inventory_uses():
    """Begun with an underscore: somebody's database_host or backend_port must not take the place of one."""
    wired, kept = set(), set()
    for path in PROJECT.glob("group_vars/all/*.yml"):
        wired |= set(yaml.safe_load("#" + path.read_text().partition(stack_settings.WIRING_MARK)[2]) or {})
    for path in PROJECT.glob("roles/*/vars/main.yml"):
        wired |= set(load(path))
    for path in PROJECT.glob("roles/*/meta/argument_specs.yml"):
        for specification in load(path)["argument_specs"].values():
            wired |= set(specification["options"])
    for path in PROJECT.glob("roles/*/tasks/*.yml"):
        for task in wiring.tasks(load(path)):
            kept |= {task["register"]} if "register" in task else set()
            kept |= set(task.get("ansible.builtin.set_fact", ())) | set(task.get("vars", ()))
            kept |= {name for key, name in task.get("loop_control", {}).items() if key in ("loop_var", "index_var")}
    assert len(wired) > 300
    assert len(kept) > 100
    assert {name for name in wired | kept if not name.startswith("_")} - GIVEN <= set(stack_settings.read_settings(PROJECT))
