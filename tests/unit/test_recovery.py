"""Which backup is chosen, which binary logs belong to it, and how the host is told to take them."""

import json
import subprocess
from types import SimpleNamespace

import pytest
import stack_schedule
from recovery import restore
from recovery.containers import RecoveryError
from recovery.repository import Repository, Snapshot, read_snapshots
from recovery.restore import Wish
from recovery.server import name, numbers
from stack_mysql import quote


def snapshot(identity, at, kind="backup", stack="web", server="a"):
    return Snapshot(identity, stack, kind, at, server, "9.7.4")


class Shelf:
    """A repository with certain snapshots, and the binary logs in them."""

    settings = SimpleNamespace(repository="/backups")

    def __init__(self, snapshots, files=None):
        self.everything, self.files = snapshots, files or {}

    def snapshots(self, *kinds, stack):
        """Return those of a stack that are of some kinds."""
        return [item for item in self.everything if item.kind in kinds and item.stack == stack]

    def names(self, item):
        """Return the paths in one of them."""
        return [f"/logs/binlog.{number:06d}" for number in self.files[item.id]]


def wish(**given):
    return Wish(**{"backup": "latest", "until": "", "confirm": "", "origin": "web", "database": "app", **given})


def test_snapshots_of_others_are_not_seen():
    tags = ["webstack", "kind=backup", "at=12.5", "server=a", "version=9.7.4"]
    text = json.dumps(
        [
            {"id": "b" * 64, "hostname": "web", "tags": tags},
            {"id": "c" * 64, "hostname": "web", "tags": None},
            {"id": "d" * 64, "hostname": "web"},
        ]
    )
    assert read_snapshots(text) == [Snapshot("b" * 64, "web", "backup", 12.5, "a", "9.7.4")]
    assert read_snapshots("null") == []


def test_backup_is_chosen_by_name_or_time():
    shelf = Shelf(
        [snapshot("aaaa1", 100), snapshot("bbbb2", 200), snapshot("cccc3", 250, "safety"), snapshot("dddd4", 300, stack="x")]
    )
    assert restore.choose(shelf, wish()).id == "bbbb2"
    assert restore.choose(shelf, wish(until="latest")).id == "bbbb2"
    assert restore.choose(shelf, wish(until="1970-01-01T00:02:30Z")).id == "aaaa1"
    assert restore.choose(shelf, wish(backup="cccc3")).id == "cccc3"
    for wrong, reason in (
        (wish(backup="dddd4"), "names no backup"),
        (wish(backup="aa"), "names no backup"),
        (wish(origin="nobody"), "holds no backup of the stack nobody"),
        (wish(until="1970-01-01T00:01:00Z"), "before the oldest backup"),
        (wish(until="soon"), "is no time"),
    ):
        with pytest.raises(RecoveryError, match=reason):
            restore.choose(shelf, wrong)


def test_logs_are_taken_where_they_are_whole():
    one, two, three = (snapshot(identity, at, "logs") for identity, at in (("1", 10), ("2", 20), ("3", 30)))
    shelf = Shelf([], {"1": [1, 2], "2": [2, 3], "3": [3, 4]})
    names = [f"binlog.{number:06d}" for number in (1, 2, 3, 4)]
    chosen = restore.choose_logs(shelf, [one, two, three], names[0])
    # The last log of a snapshot was still being written, unless nothing came later.
    assert [chosen[key].id for key in names] == ["1", "2", "3", "3"]
    assert list(restore.choose_logs(shelf, [one, two, three], names[2])) == names[2:]
    assert list(restore.choose_logs(shelf, [one], names[1])) == [names[1]]


@pytest.mark.parametrize(
    ("files", "first", "missing"),
    [
        ({"1": [1, 2], "2": [4, 5]}, 1, 2),
        ({"1": [1, 2, 3], "2": [4, 5]}, 1, 3),
        ({"1": [2, 3], "2": [3, 4]}, 1, 1),
        ({"1": [1], "2": []}, 2, 2),
    ],
)
def test_gap_in_the_logs_is_named(files, first, missing):
    logs = [snapshot("1", 10, "logs"), snapshot("2", 20, "logs")]
    with pytest.raises(RecoveryError, match=f"binlog.{missing:06d} was not stored"):
        restore.choose_logs(Shelf([], files), logs, f"binlog.{first:06d}")


def test_tables_are_compared_row_for_row_within_a_release():
    before = {"app.t": {"rows": 2, "checksum": "1"}}
    restore.compare(before, {"tables": before}, True)
    other = {"app.t": {"rows": 2, "checksum": "2"}}
    with pytest.raises(RecoveryError, match=r"app\.t"):
        restore.compare(other, {"tables": before}, True)
    restore.compare(other, {"tables": before}, False)
    for found in ({}, {"app.t": {"rows": 3, "checksum": "1"}}, {**before, "app.u": {"rows": 0, "checksum": "0"}}):
        with pytest.raises(RecoveryError):
            restore.compare(found, {"tables": before}, False)


def test_a_newer_release_of_the_backups_is_refused():
    repository = SimpleNamespace(read=lambda *_: json.dumps({"format": 2}))
    with pytest.raises(RecoveryError, match="newer release"):
        restore.read_manifest(repository, snapshot("a", 1))


def test_sql_is_quoted():
    assert name("a`b", "c") == "`a``b`.`c`"
    assert quote("it's \\") == "'it\\'s \\\\'"
    assert numbers("9.7.4-2") == (9, 7, 4)
    assert numbers("9.10.0") > numbers("9.9.9")


@pytest.mark.parametrize(
    ("errors", "reason"),
    [("a\nFatal: b\nc", "Fatal: b"), ("a\n\nb\n", "b"), ("", "it gives no reason")],
)
def test_reason_is_the_one_that_restic_calls_fatal(errors, reason):
    assert Repository.reason(errors) == reason


def test_lines_of_cron_are_changed_and_removed_without_the_others(tmp_path, monkeypatch):
    table = ["0 0 * * * mine"]

    def crontab(command, **given):
        if command == ["crontab", "-"]:
            table[:] = given["input"].splitlines()
        return SimpleNamespace(returncode=0, stdout="".join(f"{line}\n" for line in table), stderr="")

    monkeypatch.setattr(subprocess, "run", crontab)
    cron = stack_schedule.Cron("web", tmp_path / "a %b")
    wanted = cron.wanted("03:07", 5)
    cron.write(wanted)
    assert table == ["0 0 * * * mine", *wanted]
    assert wanted[0].startswith("7 3 * * * cd ")
    assert r"\%" in wanted[0]
    assert cron.present() == wanted
    stack_schedule.Cron("web-2", tmp_path).write([])
    assert cron.present() == wanted
    cron.write([])
    assert table == ["0 0 * * * mine"]


def test_timers_of_systemd_are_changed_and_removed(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(stack_schedule.systemd, "folder", lambda: tmp_path / "units")
    monkeypatch.setattr(stack_schedule.systemd, "call", lambda *words, **_: called.append(words))
    monkeypatch.setattr(stack_schedule.systemd, "linger", lambda: None)
    schedule = stack_schedule.Systemd("web", tmp_path)
    wanted = schedule.wanted("03:07", 5)
    assert "OnCalendar=*-*-* 03:07:00" in wanted["web-backup.timer"]
    assert "OnCalendar=*:0/5" in wanted["web-backup-logs.timer"]
    assert schedule.present() == {}
    schedule.write(wanted)
    assert schedule.present() == wanted
    assert ("enable", "web-backup.timer") in called
    schedule.write({})
    assert schedule.present() == {}
    assert ("disable", "--now", "web-backup.timer") in called
