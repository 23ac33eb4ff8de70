"""Roles, settings and their description agree."""

import re
from collections import Counter
from pathlib import Path

import pytest
import stack_settings
import wiring
import yaml

import docs

PROJECT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir())
FILES = sorted((PROJECT / "group_vars/all").glob("*.yml"))
PAGE = PROJECT / "docker-compose.yml.j2"
OWN_MODULES = {path.stem for path in (PROJECT / "library").glob("*.py")}
SETTINGS = stack_settings.read_settings(PROJECT)


def load(path):
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def kept():
    """Return what tasks of roles keep for others: facts and results."""
    for path in PROJECT.glob("roles/*/tasks/*.yml"):
        for task in wiring.tasks(load(path)):
            yield from task.get("ansible.builtin.set_fact", ())
            yield task.get("register", "")


# What roles hand on to each other, and what group_vars computes for all of them.
INNER = {name for name in [*kept(), *(name for path in FILES for name in load(path))] if re.match("_[a-z]", name)}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specs(role):
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    described = {name: option["default"] for name, option in options.items() if "default" in option}
    assert (load(PROJECT / f"roles/{role}/defaults/main.yml") or {}) == described
    for name, option in options.items():
        assert ("default" in option) != option.get("required", False), f"{name} is required or has a default"
        assert name in SETTINGS or name in INNER or name.startswith(f"_{role}_")


@pytest.mark.parametrize("role", ROLES)
def test_options_without_default_are_wired_in_group_vars(role):
    everything = {}
    for path in FILES:
        everything |= load(path)
    options = load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name for name, option in options.items() if option.get("required")} <= set(everything) | INNER


def options(role):
    """Return what the argument specs of a role name, by its name."""
    return {
        name: option
        for specification in load(PROJECT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"].values()
        for name, option in specification["options"].items()
    }


def sources(role):
    """Return the files of a role that read variables, each with what it says."""
    folder = PROJECT / "roles" / role
    for part in ("tasks", "vars", "handlers"):
        yield from ((path, load(path)) for path in folder.glob(f"{part}/*.yml"))
    yield from ((path, path.read_text()) for path in folder.glob("templates/*"))


def shared():
    """Return the files that read variables for all roles, each with what it says."""
    yield PAGE, PAGE.read_text()
    yield from ((path, load(path)) for path in [*FILES, *PROJECT.glob("playbooks/*.yml")])


def names(files):
    """Return the variables that files read."""
    return {name for _, text in files for name, _ in wiring.reads(text)}


@pytest.mark.parametrize("role", ROLES)
def test_role_names_each_setting_that_it_reads(role):
    assert names(sources(role)) & set(SETTINGS) <= set(options(role))


def test_every_setting_that_is_named_is_read():
    """By the role, or for the one that it belongs to: by the page, by what is computed in group_vars, or by Python."""
    elsewhere = names(shared())
    for path in [*PROJECT.glob("module_utils/*.py"), PROJECT / "bin/running.py"]:
        elsewhere |= set(re.findall(r'\b(?:values|settings)\["([a-z0-9_]+)"\]', path.read_text()))
    named = {role: set(options(role)) & set(SETTINGS) for role in ROLES}
    others = [name for role in ROLES for name in named[role] - names(sources(role))]
    assert set(others) <= elsewhere
    assert len(others) == len(set(others))
    for role in ROLES:
        assert set(options(role)) - set(SETTINGS) <= names(sources(role))


def handed_on(path, text):
    """Return how often a variable is all that an argument of a module says: the module has a type for it."""
    entries = text if path.parent.name == "tasks" else [task for play in text for task in play.get("tasks", ())]
    found = Counter()
    for entry in wiring.tasks(entries):
        for module, arguments in entry.items():
            if isinstance(arguments, dict) and (module in OWN_MODULES or module.startswith("community.")):
                found.update(re.findall(r"^\{\{ (\w+) \}\}$", "\n".join(map(str, arguments.values())), re.MULTILINE))
    return found


def test_numbers_and_booleans_are_converted_where_they_are_read():
    """With -e every value is a text, and the text "false" is true."""
    for path, text in [*shared(), *(file for role in ROLES for file in sources(role))]:
        read = wiring.reads(text)
        handed = handed_on(path, text) if path.parent.name in ("tasks", "playbooks") else {}
        for name, setting in SETTINGS.items():
            if setting.type in ("int", "float", "bool"):
                bare = {
                    kind: count for (item, kind), count in read.items() if item == name and kind != setting.type and count
                }
                assert bare in ({}, {"": handed.get(name)}), f"{name} in {path}"


@pytest.mark.parametrize("path", sorted(PROJECT.glob("playbooks/*.yml")), ids=lambda p: p.stem)
def test_preflight_judges_settings_before_argument_specs_do(path):
    """Its sentences say what to do; Ansible's own come from roles that are run as a whole."""
    entries = [task for play in load(path) for task in wiring.tasks(play.get("tasks", []))]
    roles = [
        entry[f"ansible.builtin.{how}_role"]
        for how in ("import", "include")
        for entry in entries
        if f"ansible.builtin.{how}_role" in entry
    ]
    roles = [role for role in roles if "tasks_from" not in role or role == {"name": "preflight", "tasks_from": "settings"}]
    for role in roles:
        if set(options(role["name"])) & set(SETTINGS):
            assert roles[0]["name"] == "preflight"
            assert role["name"] != "preflight" or role.get("rolespec_validate", "tasks_from" not in role) is False


def test_a_setting_is_the_same_to_every_role():
    known = {}
    for role in ROLES:
        for name, option in options(role).items():
            if name in SETTINGS:
                assert option == known.setdefault(name, option), f"{name} in {role}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_setting_reaches_a_role_and_is_described(path):
    text = path.read_text().partition(stack_settings.WIRING_MARK)[0]
    described = docs.descriptions(text)
    for name in load(path):
        if f"\n{name}:" not in text:
            continue
        assert name in SETTINGS, f"{name} reaches no role"
        assert name in described, f"{name} has no comment"
        assert SETTINGS[name].spec.get("description", described[name]) == described[name], name


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
