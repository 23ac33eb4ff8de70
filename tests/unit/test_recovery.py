"""Which backup is chosen, which binary logs belong to it, and how the host is told to take them."""

import contextlib
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
import stack_service
from recovery import backup, fence, repository, restore
from recovery.containers import Engine, RecoveryError, Settings
from recovery.repository import Repository, Snapshot, read_snapshots
from recovery.server import name, numbers
from stack_mysql import quote
from wiring import load, render


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
    return SimpleNamespace(**{"backup": "latest", "until": "", "confirm": "", "origin": "web", "database": "app", **given})


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


def files(**settings):
    """Return the files of backups that the playbook writes, by their paths."""
    facts = {"_images_resolved": {"mysql": "mysql:1", "restic": "restic:1"}, "__backup_repository": {"stdout": "/backups"}}
    found = render(load("roles/backup/vars/main.yml")["__backup_files"], "backup", **facts, **settings)
    return {file["path"]: file for file in found}


def ran(**settings):
    """Return the repository of a deployment, and a list that grows with each command line that it runs."""
    engine = Engine(Settings(**json.loads(files(**settings)["backup/settings.json"]["content"])))
    lines = []

    def run(container, **_):
        lines.append(engine.command(container))
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    engine.run = run
    return Repository(engine), lines


def test_backup_keep_and_backup_logs_days_say_what_restic_forgets():
    keep = {"last": 2, "daily": 0, "monthly": 0, "yearly": 5}
    repository, lines = ran(backup_repository="rest:http://store/", backup_keep=keep, backup_logs_days=12)
    repository.forget()
    backups, safety, logs, prune = (line[line.index("--retry-lock=5m") + 1 :] for line in lines)
    assert [option for option in backups if option.startswith("--keep")] == [
        "--keep-last=2",
        "--keep-weekly=4",
        "--keep-yearly=5",
    ]
    assert "--tag=webstack,kind=backup" in backups
    assert [option for option in safety if option.startswith("--keep")] == ["--keep-last=3"]
    assert [option for option in logs if option.startswith("--keep")] == [
        "--keep-within=2h",
        "--keep-within-daily=12d",
        "--keep-last=1",
    ]
    assert "--tag=webstack,kind=logs" in logs
    assert prune[0] == "prune"


def test_backup_environment_reaches_restic_and_no_command_line(tmp_path):
    values = {"AWS_ACCESS_KEY_ID": 'it\'s "mine" $HOME `id`', "RESTIC_NUMBER": 5}
    given = files(backup_environment=values)["secrets/backup/environment"]
    assert given["mode"] == "0600"
    assert "secrets/backup/environment" not in files(backup_environment={})
    (tmp_path / "environment").write_text(given["secret_content"])
    # What stands for restic, found before any other, tells what it is given.
    (tmp_path / "restic").write_text("#!/bin/sh\nenv -0\n")
    (tmp_path / "restic").chmod(0o755)
    script = repository.SCRIPT.replace("/secrets/", f"{tmp_path}/")
    command = ["sh", "-c", script, "restic", "snapshots"]
    search = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.run(command, env=search, capture_output=True, text=True, check=True).stdout
    found = dict(item.split("=", 1) for item in told.split("\0") if item)
    assert {name: found[name] for name in values} == {name: str(value) for name, value in values.items()}
    backups, lines = ran(backup_environment=values, backup_repository="s3:http://store/bucket")
    backups.check()
    (line,) = lines
    assert "/srv/web/secrets/backup:/secrets:ro" in " ".join(line)
    assert not any(str(values["AWS_ACCESS_KEY_ID"]) in word for word in line)


def test_lines_of_cron_are_changed_and_removed_without_the_others(tmp_path, monkeypatch):
    table = ["0 0 * * * mine"]

    def crontab(command, **given):
        if command == ["crontab", "-"]:
            table[:] = given["input"].splitlines()
        return SimpleNamespace(returncode=0, stdout="".join(f"{line}\n" for line in table), stderr="")

    monkeypatch.setattr(subprocess, "run", crontab)
    cron = stack_service.Cron("web", tmp_path / "a %b")
    wanted = cron.wanted("03:07", 5)
    cron.write(wanted)
    assert table == ["0 0 * * * mine", *wanted]
    assert wanted[0].startswith("7 3 * * * cd ")
    assert r"\%" in wanted[0]
    assert cron.present() == wanted
    stack_service.Cron("web-2", tmp_path).write([])
    assert cron.present() == wanted
    cron.write([])
    assert table == ["0 0 * * * mine"]


def test_timers_of_systemd_are_changed_and_removed(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(stack_service.systemd, "folder", lambda: tmp_path / "units")
    monkeypatch.setattr(stack_service.systemd, "call", lambda *words, **_: called.append(words))
    monkeypatch.setattr(stack_service.systemd, "linger", lambda: None)
    monkeypatch.setattr(stack_service.systemd, "scheduler", lambda: "systemd")
    wanted = stack_service.backup_units("web", tmp_path, "03:07", 5)
    assert "OnCalendar=*-*-* 03:07:00" in wanted["web-backup.timer"]
    assert "OnCalendar=*:0/5" in wanted["web-backup-logs.timer"]
    assert stack_service.keep_backups("web", tmp_path, "03:07", 5, True)
    assert stack_service.systemd.present(list(wanted)) == {}
    assert stack_service.keep_backups("web", tmp_path, "03:07", 5, False)
    assert stack_service.systemd.present(list(wanted)) == wanted
    assert not stack_service.keep_backups("web", tmp_path, "03:07", 5, False)
    assert ("enable", "web-backup.timer") in called
    assert stack_service.keep_backups("web", tmp_path, "", 5, False)
    assert stack_service.systemd.present(list(wanted)) == {}
    assert ("disable", "--now", "web-backup.timer") in called
    assert ("disable", "--now", "web-backup.service") not in called


def test_backups_of_another_stack_are_chosen_where_restore_from_names_it(monkeypatch):
    shelf = Shelf(
        [
            snapshot("aaaa1", 100),
            snapshot("bbbb2", 200, stack="shop", server="s"),
            snapshot("cccc3", 300, "logs", stack="shop", server="s"),
            snapshot("dddd4", 300, "logs"),
        ],
        {"cccc3": [1, 2], "dddd4": [1, 2]},
    )
    assert restore.choose(shelf, wish()).id == "aaaa1"
    assert restore.choose(shelf, wish(origin="shop")).id == "bbbb2"
    assert restore.choose(shelf, wish(origin="shop", backup="bbbb")).id == "bbbb2"
    with pytest.raises(RecoveryError, match="Another stack is named with restore_from"):
        restore.choose(shelf, wish(backup="bbbb2"))
    # Its binary logs, too.
    monkeypatch.setattr(restore, "Repository", lambda _: shelf)
    bring = restore.Restore(SimpleNamespace(settings=None), wish(origin="shop", until="latest"), print)
    chosen = bring.wanted_logs(shelf.everything[1], {"binary_log": {"file": "binlog.000001"}})
    assert {item.id for item in chosen.values()} == {"cccc3"}


@pytest.mark.parametrize(("given", "origin"), [({}, ""), ({"restore_from": "shop"}, "shop")])
def test_restore_from_reaches_the_command(given, origin):
    (play,) = (play for play in load("playbooks/restore.yml") if play["name"] == "Restore the database")
    command = render(play["vars"]["_backup_command"], "backup", **given)
    assert command[0] == "restore"
    assert command[-1] == f"--origin={origin}"


class Disk:
    """An engine with a volume on a disk: how many bytes it has, and how many are free."""

    settings = SimpleNamespace(stack="web", directory="/srv/web", repository="/backups", database="web_database")

    def __init__(self, used, free):
        self.used, self.free = used, free

    def shell(self, script, volumes, **_):
        """Answer what du and df print, and nothing to other scripts."""
        return f"{self.used}\n{self.free}\n" if "df --output=avail" in script else ""


MIB = 2**20


def test_copies_need_room_on_the_disk_of_the_engine():
    assert backup.check_space(Disk(100 * MIB, 111 * MIB), "web_database", 1.1) == 100 * MIB
    expected = "the volume web_database has 100 MiB, 109 MiB of its disk are free and 110 MiB are needed"
    with pytest.raises(RecoveryError, match=expected):
        backup.check_space(Disk(100 * MIB, 109 * MIB), "web_database", 1.1)


def not_reached(*_, **__):
    raise AssertionError("it goes on without room")


def test_backup_without_room_is_refused_before_anything_is_copied(monkeypatch):
    disk = Disk(100 * MIB, 50 * MIB)
    monkeypatch.setattr(disk, "volume", not_reached, raising=False)
    monkeypatch.setattr(backup, "Repository", lambda _: SimpleNamespace(prepare=lambda: None, store=not_reached))
    monkeypatch.setattr(backup, "live", lambda _: SimpleNamespace())
    monkeypatch.setattr(backup, "check_engines", lambda _: None)
    with pytest.raises(RecoveryError, match="There is not room enough"):
        backup.take(disk, print)


def test_restore_without_room_is_refused_before_a_server_opens_it_and_the_old_data_stays(monkeypatch):
    disk = Disk(100 * MIB, 50 * MIB)
    monkeypatch.setattr(restore, "Repository", lambda _: SimpleNamespace(fetch=lambda *_: None))
    monkeypatch.setattr(restore, "ThrowAway", not_reached)
    bring = restore.Restore(disk, wish(), print)
    for after in ("save", "replace"):
        monkeypatch.setattr(bring, after, not_reached)
    monkeypatch.setattr(bring, "occupied", lambda: False)
    monkeypatch.setattr(restore, "choose", lambda *_: snapshot("aaaa1", 100, "files"))
    monkeypatch.setattr(disk, "volume", contextlib.nullcontext, raising=False)
    with pytest.raises(RecoveryError, match="There is not room enough"):
        bring.run()


class Doing:
    """A stack whose database runs, and everything that a restore does to it, in order; ``fails`` names what goes wrong."""

    def __init__(self, folder, monkeypatch, fails="", labels=()):
        self.done, self.fails, self.status, self.writable = [], fails, "running", True
        self.settings = SimpleNamespace(stack="web", directory=str(folder), repository="/backups", database="web_database")
        self.labels = dict.fromkeys(labels, "web_db")
        (folder / "backup").mkdir(exist_ok=True)
        for module in (restore, fence):
            monkeypatch.setattr(module, "live", lambda _: self)
        monkeypatch.setattr(restore, "Repository", lambda _: None)
        monkeypatch.setattr(restore, "docker", lambda *words: self.do("docker " + words[0]))
        monkeypatch.setattr(restore, "take", lambda *_, **__: self.do("safety") or "0123456789")
        monkeypatch.setattr(restore, "log_tags", lambda _: {"base": "binlog"})
        monkeypatch.setattr(restore, "store_logs", lambda *_: self.do("logs"))
        monkeypatch.setattr(restore, "choose", lambda *_: snapshot("aaaa1", 100, "files"))
        monkeypatch.setattr(restore.Restore, "stage", lambda *_: self.do("stage"))

    def do(self, what):
        """Note it and change what it changes, or fail before that."""
        if what == self.fails:
            raise RecoveryError(f"{what} fails")
        self.done.append(what)
        self.status = {"docker stop": "exited", "docker start": "running"}.get(what, self.status)

    def shell(self, script, *_, **__):
        """Note what a script does to the volume of the database."""
        names = {"ls": "look", "touch": "mark", "rm": "unmark", "cd": "replace"}
        self.do(names[script.split()[0]])
        return "ibdata1"

    def query(self, sql):
        """Note whether the application may write."""
        self.writable = "read_only = OFF" in sql
        self.do("lift" if self.writable else "fence")

    def value(self, _):
        """Tell whether the server is read-only."""
        return "0" if self.writable else "1"

    def volume(self, _):
        """Name a volume."""
        return contextlib.nullcontext("web_restore")

    def has_volume(self, _):
        """Know the volume of the database."""
        return True

    def database(self):
        """Describe the container of the database."""
        return {"Id": "1", "State": {"Status": self.status}, "Config": {"Labels": self.labels}}


SAFE = ["look", "stage", "fence", "safety", "mark", "docker stop", "logs", "replace"]


def test_nothing_is_acknowledged_between_the_safety_copy_and_the_restore(tmp_path, monkeypatch):
    doing = Doing(tmp_path, monkeypatch)
    restore.Restore(doing, wish(confirm="web"), lambda _: None).run()
    assert doing.done == SAFE
    assert not fence.note(doing).exists()


@pytest.mark.parametrize("fails", SAFE[1:])
@pytest.mark.parametrize("labels", [(), ("com.docker.swarm.service.name",)])
def test_restore_that_fails_leaves_a_stack_that_takes_writes_or_one_that_the_same_command_restores(
    tmp_path, monkeypatch, fails, labels
):
    doing = Doing(tmp_path, monkeypatch, fails, labels)
    with pytest.raises(RecoveryError, match=fails):
        restore.Restore(doing, wish(confirm="web"), lambda _: None).run()
    if fails == "replace":
        # Its data is incomplete and marked as such.
        assert "unmark" not in doing.done
    else:
        assert doing.done.count("mark") == doing.done.count("unmark")
        assert doing.status == "running" or labels
        # What a Swarm has stopped is started by the Swarm, another container of it.
        assert not labels or "docker start" not in doing.done
        assert doing.writable or doing.status == "exited" or labels
    assert not fence.note(doing).exists()
    doing.fails = ""
    doing.done.clear()
    monkeypatch.setattr(restore, "take_files", lambda *_: doing.do("safety") or "0123456789")
    restore.Restore(doing, wish(confirm="web"), lambda _: None).run()
    assert doing.done[-1] == "replace"


def test_a_run_that_was_killed_is_forgotten_by_the_next_command(tmp_path, monkeypatch):
    doing = Doing(tmp_path, monkeypatch)
    killed = fence.fenced(doing)
    killed.__enter__()
    assert not doing.writable
    fence.lift(doing)
    assert doing.writable
    # Where the settings let nobody write, that stays.
    doing.writable = False
    fence.lift(doing)
    with fence.fenced(doing):
        assert doing.done == ["fence", "lift"]
    assert not doing.writable
