"""Each promise of README.md and docs/ has tests that are there, and each test proves one."""

import promises
import pytest
import yaml
from promises import Promise
from stack import PROJECT

ALL = promises.load()
TEST = "molecule/default/tests/test_application.py::test_page_shows_the_whole_way"
GOOD = {"says": "It works", "page": "README.md#start", "gate": [TEST]}


@pytest.mark.parametrize("promise", ALL, ids=lambda promise: promise.says)
def test_entry_names_a_page_and_tests_that_are_there(promise):
    assert not list(promises.problems(promise))


def test_no_promise_stands_twice():
    said = [promise.says.lower().rstrip(".") for promise in ALL]
    assert not {sentence for sentence in said if said.count(sentence) > 1}


def test_every_test_proves_a_promise():
    assert not promises.unlisted(ALL)


def test_every_promise_is_proved():
    assert not [promise.says for promise in ALL if promise.wants]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"says": ""}, "says or page is empty"),
        ({"page": ""}, "says or page is empty"),
        ({"page": "docs/nowhere.md"}, "neither README.md nor a page of docs/"),
        ({"page": "CHANGELOG.md"}, "neither README.md nor a page of docs/"),
        ({"page": "README.md#the-end"}, "no heading for #the-end"),
        ({"gate": []}, "give gate"),
        ({"gate": [], "why": "It takes hours."}, "no test is named"),
        ({"gate": [], "full": [TEST], "why": "It takes hours."}, ""),
        ({"why": "It takes hours."}, "give gate"),
        ({"full": [TEST]}, "is named twice"),
        ({"gate": ["tests/unit/conftest.py"]}, "is no file with tests"),
        ({"gate": ["tests/unit/test_nothing.py"]}, "is no file with tests"),
        ({"gate": [f"{TEST}[http]"]}, "has no test test_page_shows_the_whole_way[http]"),
        ({"gate": ["tests/mutations"]}, "takes too long"),
        ({"full": ["tests/mutations"]}, ""),
        ({"gate": ["molecule/swarm/tests/test_floating.py"]}, "is marked long"),
        ({"gate": ["molecule/recovery/tests/test_restore.py::test_as_late_as_possible"]}, "is marked long"),
        ({"gate": ["molecule/recovery/tests/test_restore.py::test_damaged_backup_is_refused"]}, ""),
        ({"wants": "a test"}, "move it to promises"),
        ({"gate": [], "wants": "a test"}, ""),
    ],
)
def test_wrong_entry_is_named(changes, problem):
    found = list(promises.problems(Promise(**{**GOOD, **changes})))
    assert problem in " ".join(found)
    assert bool(found) == bool(problem)


def test_file_or_function_that_is_not_listed_is_named():
    without = [promise for promise in ALL if not any("test_application" in test for test in (*promise.gate, *promise.full))]
    assert "molecule/default/tests/test_application.py" in promises.unlisted(without)
    listed = promises.unlisted([*without, Promise(**GOOD)])
    assert TEST not in listed
    assert "molecule/default/tests/test_application.py::test_requests_meet_every_replica" in listed


def test_gate_has_each_test_once():
    entries = [Promise("a", "README.md", ["x.py::f", "y.py::g"]), Promise("b", "README.md", ["y.py", "x.py::f"])]
    assert promises.gate(entries) == ["x.py::f", "y.py"]


def test_shared_deployment_of_the_gate_runs_each_module_with_a_test_of_the_gate():
    verifier = yaml.safe_load((PROJECT / "molecule/gate/molecule.yml").read_text())["verifier"]
    default = PROJECT / "molecule/default/tests"
    run = {str((default / path).resolve().relative_to(PROJECT)) for path in verifier["additional_files_or_dirs"]}
    run |= {str(path.relative_to(PROJECT)) for path in default.glob("test_*.py")}
    wanted = {test.partition("::")[0] for test in promises.gate(ALL) if promises.scenario(test) in promises.SHARED}
    assert wanted <= run


def test_anchors_are_those_of_github():
    found = promises.anchors("docs/security.md")
    assert {"the-hosts-firewall", "do-the-tests-notice", "replace-passwords-and-certificate"} <= found
    assert "iptables--i-docker-user" not in found
