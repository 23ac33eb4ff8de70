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
SETTINGS = stack_settings.read_settings(PROJECT)


def load(path):
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specs(role):
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    described = {name: option["default"] for name, option in options.items() if "default" in option}
    assert (load(PROJECT / f"roles/{role}/defaults/main.yml") or {}) == described
    for name, option in options.items():
        assert ("default" in option) != option.get("required", False), f"{name} is required or has a default"
        assert name in SETTINGS or name.startswith(f"_{role}_")


@pytest.mark.parametrize("role", ROLES)
def test_options_without_default_are_wired_in_group_vars(role):
    everything = {}
    for path in FILES:
        everything |= load(path)
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name for name, option in options.items() if option.get("required")} <= set(everything)


def options(role):
    """Return what the argument specs of a role name, by its name."""
    return {
        name: option
        for specification in load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"].values()
        for name, option in specification["options"].items()
    }


def read_by(role):
    """Return the variables that the files of a role read."""
    folder = PROJECT / "roles" / role
    found = {name for path in folder.glob("templates/*") for name in wiring.reads(path.read_text())}
    for part in ("tasks", "vars", "handlers"):
        for path in folder.glob(f"{part}/*.yml"):
            found |= wiring.reads(load(path))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_role_names_each_setting_that_it_reads(role):
    assert read_by(role) & set(SETTINGS) <= set(options(role))


def test_every_setting_that_is_named_is_read():
    """By the role, or elsewhere for the one role that it belongs to: the page, what is computed in group_vars, the preflight."""
    elsewhere = wiring.reads((PROJECT / "docker-compose.yml.j2").read_text())
    for path in [*FILES, *PROJECT.glob("playbooks/*.yml")]:
        elsewhere |= wiring.reads(load(path))
    for path in PROJECT.glob("module_utils/*.py"):
        elsewhere |= set(re.findall(r'values\["([a-z0-9_]+)"\]', path.read_text()))
    named = {role: set(options(role)) & set(SETTINGS) for role in ROLES}
    others = [name for role in ROLES for name in named[role] - read_by(role)]
    assert set(others) <= elsewhere
    assert len(others) == len(set(others))


def test_a_setting_is_the_same_to_every_role():
    known = {}
    for role in ROLES:
        for name, option in options(role).items():
            if name in SETTINGS:
                assert option == known.setdefault(name, option), f"{name} in {role}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_setting_reaches_a_role_and_is_described_the_same(path):
    settings = SETTINGS
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
