"""Every setting is tested: the scenario alternative gives it another value and looks at it, or a test elsewhere names it."""

import ast
import re

import pytest
import stack_settings
import yaml
from stack import PROJECT

ALTERNATIVE = PROJECT / "molecule/alternative"
# Test files that look at settings which the scenario alternative leaves alone, or cannot show by what they do.
ELSEWHERE = {
    "molecule/default/tests/test_monitoring.py": [
        "monitoring_enabled",
        # Rendered only: their images can only be had from a registry.
        "monitoring_grafana",
        "monitoring_grafana_port",
        "monitoring_cadvisor",
    ],
    "molecule/development/tests/test_modes.py": ["app_mode"],
    "molecule/ha/tests/test_changes.py": ["watchdog_enabled"],
    "molecule/recovery/tests/test_restore.py": ["backup_repository", "backup_password"],
    "molecule/recovery/tests/test_schedule.py": ["backup_schedule", "backup_logs_interval"],
    "molecule/swarm/tests/test_deployment.py": ["stack_engine"],
    "molecule/swarm/tests/test_floating.py": ["swarm_floating_address", "swarm_floating_number"],
    "molecule/swarm/tests/test_move.py": ["swarm_database_host"],
    "molecule/swarm/tests/test_teardown.py": [
        "fe_lb_replicas",
        "be_lb_replicas",
        "swarm_registry",
        "swarm_registry_user",
        "swarm_registry_password",
        "swarm_monitoring_host",
        "swarm_edge_hosts",
        "swarm_drain_delay",
    ],
    "tests/unit/test_balancer.py": ["fe_max_requests", "be_max_requests", "lb_panic_share"],
    "tests/unit/test_recovery.py": ["backup_environment", "backup_keep", "backup_logs_days"],
    "tests/unit/test_wiring.py": [
        "fe_image",
        "be_image",
        "fe_source",
        "be_source",
        "fe_source_target",
        "be_source_target",
        "debug_port",
        "image_registry",
        "image_refresh",
        "image_debian_mirror",
        "image_pip_index",
        "image_ca_bundle",
        "image_build_cache",
        "stack_wait_timeout",
        "monitoring_memory_reservation",
        "monitoring_grafana_password",
        "swarm_address",
        "swarm_encrypted",
        "swarm_registry_port",
    ],
}


def given(path):
    """Return the variables that an inventory gives its only host."""
    return yaml.safe_load(path.read_text())["all"]["hosts"]["localhost"]


SETTINGS = stack_settings.read_settings(PROJECT)
OWN = {name: value for name, value in given(ALTERNATIVE / "inventory/hosts.yml").items() if name in SETTINGS}
SHARED = set(given(PROJECT / "molecule/shared/inventory/hosts.yml")) & set(SETTINGS)


def shown():
    """Return the settings that tests of the scenario alternative say they look at."""
    found = []
    for path in ALTERNATIVE.glob("tests/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.shows":
                found += [argument.value for argument in node.args]
    return found


def named(path):
    """Return the words in the code of a test file: its strings and the names of arguments, not its comments."""
    tree = ast.parse(path.read_text())
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments:
            found |= set(re.findall(r"\w+", node.value))
    return found


def test_every_setting_is_tested_in_one_place():
    tested = sorted([*shown(), *SHARED, *(name for names in ELSEWHERE.values() for name in names)])
    assert tested == sorted(SETTINGS)


def test_what_the_scenario_shows_it_has_set():
    assert set(shown()) <= set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_value_of_the_scenario_is_not_the_default(name):
    assert OWN[name] != SETTINGS[name].default


@pytest.mark.parametrize("file", ELSEWHERE)
def test_test_file_names_its_settings(file):
    path = PROJECT / file
    assert path.name.startswith("test_")
    assert path.exists(), f"{file} is not there; say where {', '.join(ELSEWHERE[file])} are tested"
    missing = set(ELSEWHERE[file]) - named(path)
    assert not missing, f"{file} names nowhere {', '.join(sorted(missing))}"
