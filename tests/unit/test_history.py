"""What happened to a stack is written down where it happens."""

import json
import os
import stat
import threading
from types import SimpleNamespace

import compose_rollout
import pytest
import stack_history
import stack_release
import watchdog
from ansible.module_utils import stack_module


def lines(root):
    """Return what was written down."""
    return [json.loads(line) for line in (root / stack_history.PATH).read_text().splitlines()]


def test_events_are_added_whatever_the_umask_is(tmp_path):
    before = os.umask(0o077)
    try:
        stack_history.tell(tmp_path, "release", "Release 1", release=1)
        stack_history.tell(tmp_path, "step", "two\nlines")
    finally:
        os.umask(before)
    found = lines(tmp_path)
    assert [(item["kind"], item["text"]) for item in found] == [("release", "Release 1"), ("step", "two\nlines")]
    assert found[0]["release"] == 1
    assert stat.S_IMODE((tmp_path / stack_history.PATH).stat().st_mode) == 0o644


def test_the_oldest_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(stack_history, "SIZE", 2000)
    for number in range(100):
        stack_history.tell(tmp_path, "step", f"step {number}")
        assert (tmp_path / stack_history.PATH).stat().st_size <= 2000
    assert lines(tmp_path)[-1]["text"] == "step 99"


def test_several_at_once_lose_nothing(tmp_path):
    threads = [
        threading.Thread(target=lambda: [stack_history.tell(tmp_path, "step", "x" * 500) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path)) == 80


@pytest.mark.parametrize("obstacle", ["file", "link"])
def test_nothing_fails_because_it_cannot_be_written(tmp_path, obstacle):
    if obstacle == "file":
        (tmp_path / "history").write_text("")
    else:
        (tmp_path / "history").mkdir()
        (tmp_path / "elsewhere").write_text("mine")
        (tmp_path / stack_history.PATH).symlink_to(tmp_path / "elsewhere")
    stack_history.tell(tmp_path, "step", "x")
    if obstacle == "link":
        assert (tmp_path / "elsewhere").read_text() == "mine"


def containers(service, *numbers):
    return [SimpleNamespace(id=f"{service}{n}", name=f"web-{service}-{n}", service=service, number=n) for n in numbers]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((1, 2), (1, 2), ""),
        ((1, 2), (1, 2, 3), "fe was scaled from 2 to 3"),
        ((1, 2, 3), (1,), "fe was scaled from 3 to 1"),
        ((1, 2), (3, 4), "fe was rolled: web-fe-3, web-fe-4 instead of web-fe-1, web-fe-2"),
        ((1,), (2, 3), "fe was scaled from 1 to 2 and rolled: web-fe-2, web-fe-3 instead of web-fe-1"),
    ],
)
def test_a_rollout_is_told_by_what_it_has_changed(before, after, told):
    other = containers("be", 1)
    assert compose_rollout.outcome([*containers("fe", *before), *other], containers("fe", *after), "fe") == told


def test_a_rollout_that_fails_is_told_as_that(tmp_path, monkeypatch):
    def fail(*_):
        raise compose_rollout.RolloutError("fe: web-fe-3 is unhealthy.\nIts last lines:")

    def end(**_):
        raise SystemExit

    parameters = {"path": str(tmp_path), "services": [{"name": "fe"}], "lock_timeout": 1}
    for check in (True, False):
        module = SimpleNamespace(params=parameters, check_mode=check, fail_json=end, exit_json=end)
        monkeypatch.setattr(stack_module, "AnsibleModule", lambda module=module, **_: module)
        monkeypatch.setattr(compose_rollout, "converge", fail)
        with pytest.raises(SystemExit):
            compose_rollout.main()
        assert (tmp_path / stack_history.PATH).exists() != check
    assert [(item["kind"], item["text"]) for item in lines(tmp_path)] == [
        ("failed", "A rollout failed: fe: web-fe-3 is unhealthy.")
    ]


def test_a_release_is_told(tmp_path):
    release = {"number": 3, "images": {"fe": {"name": "fe:1"}, "be": {"name": "be:2"}}}
    stack_release.told(tmp_path, release, "was deployed")
    assert [(item["text"], item["release"]) for item in lines(tmp_path)] == [("Release 3 was deployed: fe fe:1, be be:2", 3)]


def test_a_release_that_is_brought_back_is_told_and_a_check_is_not(tmp_path):
    images = {service: {"name": f"{service}:1"} for service in ("fe", "be")}
    index = [{"number": number, "images": images, "digest": str(number)} for number in (1, 2)]
    stack_release.write_index(tmp_path, index)
    stack_release.forget(tmp_path, {"number": 1}, check=True)
    assert not (tmp_path / stack_history.PATH).exists()
    stack_release.forget(tmp_path, {"number": 1}, check=False)
    assert [item["text"] for item in lines(tmp_path)] == ["Release 1 was brought back: fe fe:1, be be:1"]


def test_what_the_watchdog_does_is_told(tmp_path):
    (tmp_path / "watchdog").mkdir()
    settings = {"project": "web", "restarts": 3, "window": 600, "services": []}
    watcher = watchdog.Watchdog(tmp_path / "watchdog", settings)
    watcher.tell("fe", {"Name": "/web-fe-1", "Id": "f" * 64}, "restarted", "it did not answer (L7TOUT)", seconds=1.0)
    [event] = lines(tmp_path)
    assert (event["kind"], event["service"], event["id"]) == ("watchdog", "fe", "f" * 64)
    assert event["text"] == "web-fe-1 was restarted by the watchdog: it did not answer (L7TOUT)"
