"""What is lost comes back as it was, and nothing is lost by bringing something back."""

import json
import shutil
import statistics
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stack import GATE, changed, current, run, wait_until
from writer import Writer, restic, rows

REPOSITORY = Path(current().text("backup_repository"))
QUIET = 5.0
# What MySQL knows of waits for locks that LOCK TABLES, FLUSH TABLES WITH READ LOCK and changes of tables hold.
LOCK_WAITS = "performance_schema.events_waits_summary_global_by_event_name"


@pytest.fixture(name="password")
def given_password(stack):
    return stack.settings["backup_password"]


def listed(stack):
    """Return the backups that the playbook lists: name, kind."""
    output = stack.playbook("backup.yml", "-e", "backup_action=list").stdout
    words = [line.split() for line in output.splitlines()]
    return [
        (word[-6].strip("'\""), word[-2])
        for word in words
        if len(word) >= 6 and word[-2] in ("backup", "logs", "safety", "files")
    ]


def latest(stack, kind="backup"):
    return [name for name, found in listed(stack) if found == kind][-1]


def now():
    """Return the time as somebody would write it, between one row and the next."""
    time.sleep(0.01)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    return moment


def untouched(stack):
    """Return what a refused restore must leave as it is."""
    volumes = run("docker", "volume", "ls", "--quiet", "--filter", f"name={stack.name}").stdout.split()
    return rows(stack), {c["Id"]: c["State"]["StartedAt"] for c in stack.containers()}, sorted(volumes)


def longest_wait(stack):
    """Return the milliseconds of the longest wait for a lock since ``LOCK_WAITS`` was emptied."""
    question = "SELECT MAX_TIMER_WAIT FROM %s WHERE EVENT_NAME = 'wait/lock/metadata/sql/mdl'"
    return int(stack.mysql(question % LOCK_WAITS)) / 1e9


def add(stack, name):
    assert stack.post_user("Somebody", f"{name}-{uuid.uuid4().hex}@example.com").status == 303
    return rows(stack)


def test_backup_holds_nobody_up(stack):
    with Writer(stack, "during-backup") as writer:
        begin = time.time()
        time.sleep(QUIET)
        quiet_end = time.time()
        stack.mysql(f"TRUNCATE {LOCK_WAITS}")
        output = stack.playbook("backup.yml").stdout
        end = time.time()
        locked = longest_wait(stack)
        # The same measure sees somebody who does hold up the writers.
        stack.mysql("FLUSH TABLES WITH READ LOCK; SELECT SLEEP(1)")
        wait_until(lambda: longest_wait(stack) > 500)
    quiet, busy = writer.within(begin, quiet_end), writer.within(quiet_end, end)
    assert {write.status for write in writer.writes} == {303}
    times = {name: [write.milliseconds for write in writes] for name, writes in (("quiet", quiet), ("busy", busy))}
    p99 = {name: statistics.quantiles(values, n=100)[98] for name, values in times.items()}
    print(
        f"{len(quiet)} writes in quiet, p99 {p99['quiet']:.0f} ms; {len(busy)} during the backup, p99 {p99['busy']:.0f} ms,"
        f" worst {max(times['busy']):.0f} ms, longest wait for a lock {locked:.0f} ms"
    )
    # Not the time of the slowest write: other scenarios run at the same time, and their builds keep a write waiting, too.
    assert locked < 100
    assert "A server has opened the copy" in output
    # No account and no password of the backup is left.
    assert "webstack-recovery" not in stack.mysql("SELECT user FROM mysql.user")
    assert stack.settings["backup_password"] not in output


def test_backup_is_encrypted_and_described(stack, password):
    assert json.loads(restic(str(REPOSITORY), password, "cat", "config"))["version"] >= 2
    manifest = json.loads(restic(str(REPOSITORY), password, "dump", "--tag=kind=backup", "latest", "/backup/manifest.json"))
    assert manifest["server"]["version"].startswith(stack.mysql("SELECT @@version").strip()[:3])
    assert manifest["binary_log"]["file"].startswith("binlog.")
    assert manifest["tables"]["app.users"]["rows"] > 0
    names = {path.name for path in REPOSITORY.rglob("*") if path.is_file()}
    assert "config" in names
    stored = b"".join(path.read_bytes() for path in REPOSITORY.rglob("*") if path.is_file())
    assert b"Lovelace" not in stored


def test_age_of_the_backup_is_a_metric(stack):
    status = json.loads((stack.directory / "backup/status.json").read_text())
    wait_until(lambda: stack.values("stack_backup_last_success_seconds", "kind") == pytest.approx(status), 60)


def test_everything_is_lost_and_comes_back_as_of_a_time(stack):
    add(stack, "after-backup")
    # Several binary logs have to be replayed.
    stack.mysql("FLUSH BINARY LOGS")
    stack.mysql("UPDATE app.users SET name = 'Changed' ORDER BY id LIMIT 1")
    stack.mysql("FLUSH BINARY LOGS")
    wanted, moment = add(stack, "in-time"), now()
    stack.mysql("DELETE FROM app.users")
    add(stack, "too-late")
    stack.playbook("backup.yml", "-e", "backup_action=logs")
    stack.playbook("teardown.yml")
    assert not stack.containers()
    assert not run("docker", "volume", "ls", "--quiet", "--filter", f"name={stack.name}").stdout
    output = stack.playbook("restore.yml", "-e", f"restore_until='{moment}'").stdout
    assert rows(stack) == wanted
    assert stack.request().status == 200
    assert "row for row what was backed up" in output
    assert "binary logs are replayed" in output
    # In the gate the run after the rotation, which comes next, has to find nothing to do.
    assert GATE or changed(stack.playbook("site.yml").stdout) == 0


def test_running_stack_is_overwritten_only_if_that_is_meant(stack):
    stack.playbook("backup.yml")
    wanted = rows(stack)
    present = add(stack, "written-later")
    before = untouched(stack)
    done = stack.playbook("restore.yml", check=False)
    assert done.returncode != 0
    assert f"-e confirm={stack.name}" in done.stdout
    assert untouched(stack) == before
    done = stack.playbook("restore.yml", "-e", "confirm=another", check=False)
    assert done.returncode != 0
    assert untouched(stack) == before
    stack.playbook("restore.yml", "-e", f"confirm={stack.name}")
    assert rows(stack) == wanted
    assert stack.request().status == 200
    # What was replaced is kept, and can be had back.
    safety = latest(stack, "safety")
    stack.playbook("restore.yml", "-e", f"confirm={stack.name}", "-e", f"restore_backup={safety}")
    assert rows(stack) == present


def test_nothing_that_was_acknowledged_is_lost_by_a_restore(stack):
    stack.playbook("backup.yml")
    with Writer(stack, "during-restore") as writer:
        wait_until(lambda: len(writer.writes) > 20)
        stack.playbook("restore.yml", "-e", f"confirm={stack.name}")
    acknowledged = {write.email for write in writer.writes if write.acknowledged}
    kept = stack.mysql("SELECT email FROM app.users").split()
    stack.playbook("restore.yml", "-e", f"confirm={stack.name}", "-e", f"restore_backup={latest(stack, 'safety')}")
    kept += stack.mysql("SELECT email FROM app.users").split()
    print(f"{len(acknowledged)} acknowledged, {len(acknowledged - set(kept))} in neither copy")
    assert acknowledged <= set(kept)


@pytest.mark.long
def test_as_late_as_possible(stack):
    stack.playbook("backup.yml")
    wanted = add(stack, "last")
    stack.playbook("backup.yml", "-e", "backup_action=logs")
    add(stack, "not-stored")
    stack.playbook("restore.yml", "-e", f"confirm={stack.name}", "-e", "restore_until=latest")
    assert rows(stack) == wanted


def packs(folder):
    """Return the files with the data, which restic writes without the right to change them."""
    found = [path for path in (folder / "data").rglob("*") if path.is_file()]
    for path in found:
        path.chmod(0o600)
    return found


def corrupt(folder):
    for path in packs(folder):
        content = bytearray(path.read_bytes())
        # Some of it in each piece, of which one file holds those of several backups.
        content[::256] = bytes(byte ^ 0xFF for byte in content[::256])
        path.write_bytes(content)


def truncate(folder):
    for path in packs(folder):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def lose(folder):
    for path in packs(folder):
        path.unlink()


@pytest.mark.parametrize("damage", [truncate, *(pytest.param(damage, marks=pytest.mark.long) for damage in (corrupt, lose))])
def test_damaged_backup_is_refused(stack, tmp_path, damage):
    stack.playbook("backup.yml")
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY, copy)
    damage(copy)
    place = ("-e", f"backup_repository={copy}")
    before = untouched(stack)
    done = stack.playbook("restore.yml", *place, "-e", f"confirm={stack.name}", check=False)
    assert done.returncode != 0
    assert "cannot be read as a whole, and nothing was changed" in " ".join(done.stdout.split())
    assert untouched(stack) == before
    # Asked for its health, the repository says so too.
    done = stack.playbook("backup.yml", *place, "-e", "backup_action=check", check=False)
    assert done.returncode != 0
    assert "restic check failed" in done.stdout
    assert stack.playbook("backup.yml", "-e", "backup_action=check").returncode == 0


@pytest.mark.long
def test_other_backups_are_refused(stack, tmp_path, password):
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY, copy)
    place = ("-e", f"backup_repository={copy}", "-e", f"confirm={stack.name}")
    before = untouched(stack)

    def refused(*options):
        done = stack.playbook("restore.yml", *place, *options, check=False)
        assert done.returncode != 0
        assert untouched(stack) == before
        return " ".join(done.stdout.split())

    assert "names no backup of the stack" in refused("-e", "restore_backup=00000000")
    assert "holds no backup of the stack elsewhere" in refused("-e", "restore_from=elsewhere")
    assert "is no time" in refused("-e", "restore_until=yesterday")
    assert "is before the oldest backup" in refused("-e", "restore_until='2020-01-01 00:00:00'")
    assert "binary logs were stored until" in refused("-e", "restore_until='2100-01-01 00:00:00'")
    assert "has the schemas app and not shop" in refused("-e", "database_name=shop")
    assert "does not open the repository" in refused("-e", "backup_password=another")

    # Somebody else's files in the same repository.
    source = tmp_path / "source"
    (source / "backup").mkdir(parents=True)
    (source / "backup/manifest.json").write_text("{}")
    stored = restic(str(copy), password, "backup", "/source", "--json", volumes=(f"{source}:/source",)).splitlines()
    foreign = json.loads(stored[-1])["snapshot_id"][:8]
    assert "names no backup of the stack" in refused("-e", f"restore_backup={foreign}")

    # A backup of a server that is not out yet.
    manifest = json.loads(restic(str(copy), password, "dump", latest(stack), "/backup/manifest.json"))
    manifest["server"]["version"] = "99.1.0"
    (source / "backup/manifest.json").write_text(json.dumps(manifest))
    tags = ["--tag=webstack", "--tag=kind=backup", f"--tag=at={time.time()}", f"--host={stack.name}"]
    restic(str(copy), password, "backup", "/backup", *tags, volumes=(f"{source}/backup:/backup",))
    assert "is of MySQL 99.1.0" in refused()


def test_tables_that_would_be_left_out_are_named(stack):
    stack.mysql("CREATE TABLE app.old (id INT) ENGINE=MyISAM")
    try:
        done = stack.playbook("backup.yml", check=False)
        assert done.returncode != 0
        assert "app.old is of the engine MyISAM" in done.stdout
    finally:
        stack.mysql("DROP TABLE app.old")


def test_interrupted_restore_starts_no_half_database(stack):
    stack.playbook("backup.yml")
    wanted = rows(stack)
    run("docker", "stop", stack.container("db"))
    volume = f"{stack.name}_database:/data"
    run(
        "docker",
        "run",
        "--rm",
        "--volume",
        volume,
        "--entrypoint=touch",
        "webstack/mysql:9.7-debian",
        "/data/.restore-incomplete",
    )
    done = stack.playbook("site.yml", check=False)
    assert done.returncode != 0
    assert "was interrupted" in done.stdout
    stack.playbook("restore.yml", "-e", f"confirm={stack.name}")
    assert rows(stack) == wanted
