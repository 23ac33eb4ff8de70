"""What tests/run runs after a change, in which order, and what it finds left behind."""

import importlib.machinery
import importlib.util
import sys

import pytest
import yaml
from stack import PROJECT, run

CONCERNS = yaml.safe_load((PROJECT / "tests/concerns.yml").read_text())
LEFT = "webstack-test-left"


@pytest.fixture(scope="module")
def runner():
    """Return the program, whose name has no suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader("run_of_tests", str(PROJECT / "tests/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_of_tests", loader))
    # Its dataclasses look themselves up there.
    sys.modules["run_of_tests"] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", [*CONCERNS["all"], *(path for paths in CONCERNS["scenarios"].values() for path in paths)])
def test_path_of_the_list_exists(path):
    assert (PROJECT / path).exists()


def test_every_scenario_is_concerned_by_something(runner):
    assert set(CONCERNS["scenarios"]) == set(runner.scenarios())
    assert all(CONCERNS["scenarios"].values())


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["docs/operations.md", "README.md", "ruff.toml"], []),
        (["roles/swarm/tasks/join.yml"], ["swarm"]),
        (["molecule/byo/tests/test_example.py"], ["byo"]),
        (["library/haproxy_converge.py"], ["ha", "reconverge"]),
        # A name that only begins alike is another path.
        (["roles/swarmed/tasks/main.yml", "playbooks/rollback.yml.orig"], []),
    ],
)
def test_change_concerns_the_scenarios_of_its_paths(runner, paths, expected):
    assert runner.concerned(paths) == expected


@pytest.mark.parametrize("path", ["roles/compose/tasks/main.yml", "requirements.txt", "molecule/shared/tasks/machines.yml"])
def test_change_of_what_all_use_concerns_every_scenario(runner, path):
    assert runner.concerned([path]) == runner.scenarios()


def test_revision_that_does_not_exist_is_refused(runner, monkeypatch):
    monkeypatch.chdir(PROJECT)
    with pytest.raises(SystemExit, match="no-such-revision is no revision of this checkout"):
        runner.changed_paths("no-such-revision")


@pytest.fixture
def memory(runner, tmp_path, monkeypatch):
    """Return a function that reads the memory of earlier runs, of a file that the test may write."""
    monkeypatch.setattr(runner, "MEMORY", tmp_path / "cache/tests.json")
    return runner.Memory


@pytest.mark.parametrize("content", ["{", "[]", '{"seconds": {"unit": "long"}, "waiting": []}', '{"seconds": 3}'])
def test_memory_that_cannot_be_read_is_none(runner, memory, content):
    runner.MEMORY.parent.mkdir()
    runner.MEMORY.write_text(content)
    assert memory().waiting == []


def test_memory_keeps_what_steps_took_and_what_waits(runner, memory):
    first = memory()
    first.waiting = ["swarm"]
    first.keep([runner.Result("unit", True, 41.6), runner.Result("ha (full)", True, 300.2)])
    second = memory()
    assert (second.seconds, second.waiting) == ({"unit": 42, "ha (full)": 300}, ["swarm"])
    # What this run did not do keeps its figure, and so does what failed, perhaps early.
    second.keep([runner.Result("unit", True, 50), runner.Result("ha (full)", False, 3)])
    assert memory().seconds == {"unit": 50, "ha (full)": 300}


@pytest.fixture
def begun(runner, memory, tmp_path, monkeypatch):
    """Return a runner whose steps take no time, and the list of those that were begun."""
    names = []

    def note(_, step, gate=False, **_others):
        names.append(step)
        return runner.Result(step, True, 0)

    monkeypatch.setattr(runner.Runner, "run", note)
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "")
    monkeypatch.setenv("WEBSTACK_RUNS", "")
    # One at a time, so that the order can be seen.
    pool = runner.ThreadPoolExecutor
    monkeypatch.setattr(runner, "ThreadPoolExecutor", lambda max_workers: pool(1))
    folder = tmp_path / "reports"
    folder.mkdir()
    return runner.Runner(folder), names


def test_steps_that_took_longest_come_first_and_unknown_ones_may_take_longer(begun, memory):
    steps, names = begun
    earlier = memory()
    earlier.seconds = {"lint": 20, "unit": 90, "byo (gate)": 50, "byo (full)": 5000}
    steps.side_by_side([("lint", False), ("byo", True), ("registry", True), ("unit", False)], earlier)
    assert names == ["registry", "unit", "byo", "lint"]


def test_scenario_that_would_not_end_in_time_waits_and_comes_first_in_the_next_run(runner, begun, memory, monkeypatch):
    steps, names = begun
    earlier = memory()
    earlier.seconds = {"byo (full)": 100, "registry (full)": 200, "swarm (full)": 900, "scale (full)": 300}
    monkeypatch.setenv("TEST_MINUTES", "15")
    wanted = ["byo", "registry", "scale", "swarm"]
    begin = runner.time.monotonic()
    _, late = runner.run_full(steps, wanted, earlier, begin)
    assert late == ["swarm"]
    assert names == ["registry", "byo", "scale"]
    names.clear()
    earlier.waiting = late
    # With as much time as the one that waited needs, it is begun and the others wait.
    monkeypatch.setenv("TEST_MINUTES", "16")
    _, late = runner.run_full(steps, wanted, earlier, runner.time.monotonic())
    assert (names, late) == (["swarm"], ["byo", "registry", "scale"])


def test_what_a_test_stack_leaves_is_found_and_another_stack_is_not(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".local/share" / LEFT
    before = runner.left_behind()
    assert not [item for item in before if LEFT in item]
    folder.mkdir(parents=True)
    # Of a deployment that is no test.
    (tmp_path / ".local/share/webstack").mkdir()
    other = "webstack-of-a-user-left"
    try:
        for name in (LEFT, other):
            run("docker", "volume", "create", name)
        found = [item for item in runner.left_behind() if "left" in item or str(tmp_path) in item]
    finally:
        run("docker", "volume", "rm", "--force", LEFT, other)
    assert sorted(found) == [f"folder {folder}", f"volume {LEFT}"]
    assert not [item for item in runner.left_behind() if f"volume {LEFT}" in item]


def test_failed_test_is_reported_with_its_first_line(runner):
    element = runner.ElementTree.fromstring(
        '<testcase classname="a.test_b" name="test_c"><failure message="assert 1 == 2&#10;more"/></testcase>'
    )
    assert runner.reason(element, element[0]) == "a.test_b::test_c: assert 1 == 2"


def test_removal_of_what_an_earlier_run_has_left_is_not_counted(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "")
    monkeypatch.setenv("WEBSTACK_RUNS", "")
    monkeypatch.setattr(runner, "left_behind", lambda: ["container webstack-test-byo-fe-1"])
    steps, called = runner.Runner(tmp_path), []

    def call(command, environment, _output):
        called.append((command[1], environment["WEBSTACK_RUNS"] == str(steps.runs)))
        return True

    monkeypatch.setattr(steps, "call", call)
    for scenario in ("byo", "swarm"):
        assert steps.run(scenario, gate=True).good
    counted = [("reset", True), ("converge", True), ("verify", True), ("destroy", True)]
    assert called == [("destroy", False), *counted, *counted[:2], ("idempotence", True), *counted[2:]]
