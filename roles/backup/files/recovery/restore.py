"""Bring a backup back: prove it beside what runs, and only then put it in its place."""

from __future__ import annotations

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from stack_lock import held

from recovery import binlog
from recovery.backup import FORMAT, Say, check_space, live, log_tags, store_logs, take, take_files
from recovery.containers import Engine, RecoveryError, docker
from recovery.fence import fenced
from recovery.repository import Repository, Snapshot
from recovery.server import DATA, PLACE, ThrowAway, numbers

KINDS = ("backup", "safety", "files")
# Stands in the volume of the database while its data is being replaced; the server does not start beside it.
MARKER = ".restore-incomplete"
# Relay logs that the server reads as if it were a replica.
RELAY = "webstack-relay"
PAUSE = 0.2
LATEST = "latest"
# Seconds to wait for a run of the playbook on the same stack.
LOCK_TIMEOUT = 180.0


def read_time(text: str) -> float:
    """Return a time in seconds of the epoch; without a zone it is that of this machine (RecoveryError: it is none)."""
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).astimezone().timestamp()
    except ValueError:
        raise RecoveryError(f"restore_until: {text!r} is no time; write it like 2030-12-24 18:00:00, or latest.") from None


def spoken(at: float) -> str:
    """Return a time for people, in the zone of this machine."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def choose(repository: Repository, wish: Namespace) -> Snapshot:
    """Return the backup that is wanted (RecoveryError: there is none, or it is something else)."""
    everything = repository.snapshots(*KINDS, stack=wish.origin)
    backups = [snapshot for snapshot in everything if snapshot.kind == "backup"]
    if wish.backup != LATEST:
        found = [snapshot for snapshot in everything if snapshot.id.startswith(wish.backup) and len(wish.backup) >= 4]
        if len(found) == 1:
            return found[0]
        names = ", ".join(f"{snapshot.short} of {spoken(snapshot.at)}" for snapshot in everything[-5:]) or "none"
        raise RecoveryError(
            f"restore_backup: {wish.backup!r} names no backup of the stack {wish.origin} in"
            f" {repository.settings.repository}; the latest are: {names}. Another stack is named with restore_from."
        )
    if not backups:
        raise RecoveryError(
            f"backup_repository: {repository.settings.repository} holds no backup of the stack {wish.origin}."
        )
    if wish.until in ("", LATEST):
        return backups[-1]
    until = read_time(wish.until)
    earlier = [snapshot for snapshot in backups if snapshot.at <= until]
    if not earlier:
        raise RecoveryError(
            f"restore_until: {spoken(until)} is before the oldest backup, which is of {spoken(backups[0].at)}."
        )
    return earlier[-1]


@contextmanager
def readable(snapshot: Snapshot) -> Iterator[None]:
    """Say of a backup that cannot be read what that means (RecoveryError: it cannot)."""
    try:
        yield
    except RecoveryError as error:
        raise RecoveryError(
            f"The backup {snapshot.short} cannot be read as a whole, and nothing was changed; name another one with"
            f" restore_backup. {error}"
        ) from None


def read_manifest(repository: Repository, snapshot: Snapshot) -> dict:
    """Return what a backup says of itself (RecoveryError: it cannot be read)."""
    with readable(snapshot):
        manifest = json.loads(repository.read(snapshot, "/backup/manifest.json"))
    if manifest["format"] > FORMAT:
        raise RecoveryError(
            f"The backup {snapshot.short} was written by a newer release of this project; update the checkout."
        )
    return manifest


def check_release(engine: Engine, manifest: dict, snapshot: Snapshot) -> None:
    """Refuse data of a newer server (RecoveryError: it is newer than this deployment's)."""
    own = engine.shell("mysqld --version | sed -n 's/.*Ver \\([0-9.]*\\).*/\\1/p'", []).strip()
    written = manifest["server"]["version"]
    if numbers(written) > numbers(own):
        raise RecoveryError(
            f"The backup {snapshot.short} is of MySQL {written} and the server of this deployment is {own}, which cannot"
            " read it; take an image of that version or later."
        )


def compare(found: dict, manifest: dict, same_release: bool) -> None:
    """Compare the tables of an opened backup with those that were there when it was taken (RecoveryError: they differ)."""
    wanted = manifest["tables"]
    for table in sorted(set(wanted) | set(found)):
        before, now = wanted.get(table), found.get(table)
        if not same_release and before and now:
            # It may keep rows in another form, of which the checksum is another one.
            before, now = before["rows"], now["rows"]
        if before != now:
            raise RecoveryError(f"The backup is not what was backed up: the table {table} was {before} and is {now}.")


def number(name: str) -> int:
    """Return the number of a binary log."""
    return int(name.rpartition(".")[2])


def choose_logs(repository: Repository, logs: list[Snapshot], first: str) -> dict[str, Snapshot]:
    """Return, for each binary log from ``first`` on, the snapshot that has all of it, in their order.

    Args:
        repository: where they are.
        logs: snapshots of the logs of one server, oldest first.
        first: name of the first log that is needed.

    Raises:
        RecoveryError: one is missing.
    """
    chosen: dict[str, Snapshot] = {}
    for snapshot in reversed(logs):
        names = sorted((PurePosixPath(path).name for path in repository.names(snapshot)), key=number)
        for name in names:
            # The last one of a snapshot was still being written, which matters unless nothing came later.
            whole = name != names[-1] or snapshot is logs[-1]
            if name not in chosen and whole and number(name) >= number(first):
                chosen[name] = snapshot
        if first in chosen:
            break
    ordered = sorted(chosen, key=number)
    expected = range(number(first), number(ordered[-1]) + 1) if ordered else [number(first)]
    for wanted, name in zip(expected, [*ordered, ""], strict=False):
        if not name or number(name) != wanted:
            missing = f"{first.rpartition('.')[0]}.{wanted:06d}"
            raise RecoveryError(
                f"restore_until: the binary log {missing} was not stored before the server removed it; name a backup that"
                " came after it."
            )
    return {name: chosen[name] for name in ordered}


class Restore:
    """One restore."""

    def __init__(self, engine: Engine, wish: Namespace, say: Say) -> None:
        """Prepare nothing yet; ``wish`` are the options of the command (``__main__``)."""
        self.engine, self.settings, self.wish, self.say = engine, engine.settings, wish, say
        self.repository = Repository(engine)

    def occupied(self) -> bool:
        """Tell whether the stack has a database that would be replaced."""
        volume = self.settings.database
        if not self.engine.has_volume(volume):
            return False
        return bool(self.engine.shell("ls -A /data | grep -vx 'lost+found' || true", [f"{volume}:/data:ro"]).strip())

    def run(self) -> None:
        """Restore (RecoveryError: nothing was changed, unless the text says so)."""
        settings, wish = self.settings, self.wish
        occupied = self.occupied()
        if occupied and wish.confirm != settings.stack:
            raise RecoveryError(
                f"confirm: the stack {settings.stack} has a database, which a restore replaces; if that is meant, give"
                f" -e confirm={settings.stack}."
            )
        snapshot = choose(self.repository, wish)
        manifest = read_manifest(self.repository, snapshot) if snapshot.kind != "files" else None
        if manifest:
            check_release(self.engine, manifest, snapshot)
            if wish.database not in manifest["schemas"]:
                raise RecoveryError(
                    f"database_name: the backup {snapshot.short} has the schemas"
                    f" {', '.join(manifest['schemas']) or '(none)'} and not {wish.database}; set database_name to the one"
                    " that the application uses."
                )
        logs = self.wanted_logs(snapshot, manifest) if wish.until else {}
        with self.engine.volume("restore") as volume:
            self.stage(snapshot, manifest, logs, volume)
            # No run of the playbook starts the database again while it is fenced.
            with held(Path(settings.directory), "restores the database", LOCK_TIMEOUT), fenced(self.engine):
                logs = self.save() if occupied else {}
                self.replace(volume, logs)

    def wanted_logs(self, snapshot: Snapshot, manifest: dict | None) -> dict[str, Snapshot]:
        """Return which binary logs have to be replayed and where they are.

        Raises:
            RecoveryError: they do not reach as far as is wanted.
        """
        if manifest is None:
            raise RecoveryError(
                f"restore_until: {snapshot.short} is a copy of files, after which no binary logs can be replayed."
            )
        logs = [item for item in self.repository.snapshots("logs", stack=self.wish.origin) if item.server == snapshot.server]
        if not logs or logs[-1].at < snapshot.at:
            raise RecoveryError(f"restore_until: no binary logs were stored after the backup {snapshot.short}.")
        if self.wish.until != LATEST:
            until = read_time(self.wish.until)
            if until < snapshot.at:
                raise RecoveryError(
                    f"restore_until: {spoken(until)} is before the backup {snapshot.short}, which is of"
                    f" {spoken(snapshot.at)}."
                )
            if until > logs[-1].at:
                raise RecoveryError(
                    f"restore_until: binary logs were stored until {spoken(logs[-1].at)}, which is before {spoken(until)};"
                    " say restore_until=latest for everything that was stored."
                )
        return choose_logs(self.repository, logs, manifest["binary_log"]["file"])

    def stage(self, snapshot: Snapshot, manifest: dict | None, logs: dict[str, Snapshot], volume: str) -> None:
        """Bring the backup into a volume of its own, open it there and prove it.

        Raises:
            RecoveryError: it is not what was backed up.
        """
        # Whoever runs servers writes there too; the image lets them where the volume is mounted at its usual place.
        self.engine.shell("true", [f"{volume}:{PLACE}"])
        begin = time.monotonic()
        with readable(snapshot):
            self.repository.fetch(snapshot, volume)
        self.engine.shell(
            f"cd {PLACE}; mv backup/* .; rmdir backup" if manifest else f"cd {PLACE}; mv files data", [f"{volume}:{PLACE}"]
        )
        check_space(self.engine, volume, 1.1)
        self.say(
            f"Backup {snapshot.short} of {spoken(snapshot.at)} is read and its checksums are right"
            f" ({time.monotonic() - begin:.1f} s)."
        )
        variables = manifest["server"]["variables"] if manifest else {}
        with ThrowAway(self.engine, volume, variables) as server:
            if manifest:
                same = numbers(server.value("@@version"))[:2] == numbers(manifest["server"]["version"])[:2]
                compare(server.proof(), manifest, same)
                self.say(f"A server has opened it: {len(manifest['tables'])} tables are row for row what was backed up.")
            if logs:
                self.replay(server, manifest, logs, volume)
            tables = server.proof()
            for schema in server.schemas():
                own = [table for name, table in tables.items() if name.startswith(f"{schema}.")]
                self.say(f"{schema}: {len(own)} tables, {sum(table['rows'] for table in own)} rows.")

    def replay(self, server: ThrowAway, manifest: dict, logs: dict[str, Snapshot], volume: str) -> None:
        """Let the server do what its predecessor did after the backup, by its binary logs (RecoveryError: it could not)."""
        until = None if self.wish.until == LATEST else read_time(self.wish.until)
        relays = [f"{RELAY}.{index:06d}" for index in range(1, len(logs) + 1)]
        with tempfile.TemporaryDirectory(dir=Path(self.settings.directory) / "backup") as folder:
            paths = [Path(folder) / relay for relay in relays]
            for (name, snapshot), path in zip(logs.items(), paths, strict=True):
                with path.open("wb") as file:
                    self.repository.read(snapshot, f"/logs/{name}", file)
            path, position = binlog.stop(paths, until)
            for place in paths:
                with place.open("rb") as file:
                    self.write(volume, place.name, source=file)
        index = "".join(f"./{relay}\n" for relay in relays)
        self.write(volume, f"{RELAY}.index", text=index)
        target = (path.name, position)
        server.query(
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'none', SOURCE_AUTO_POSITION = 0, RELAY_LOG_FILE = '{relays[0]}',"
            f" RELAY_LOG_POS = {manifest['binary_log']['position']};"
            f" START REPLICA SQL_THREAD UNTIL RELAY_LOG_FILE = '{target[0]}', RELAY_LOG_POS = {target[1]};"
        )
        while True:
            running, file, at, error = server.query(
                "SELECT s.service_state, i.relay_log_name, i.relay_log_pos, s.last_error_message"
                " FROM performance_schema.replication_applier_status_by_coordinator s"
                " CROSS JOIN mysql.slave_relay_log_info i;"
            )[0]
            if error:
                raise RecoveryError(f"The binary logs cannot be replayed: {error}")
            if running == "OFF" or (Path(file).name, int(at)) >= target:
                break
            time.sleep(PAUSE)
        server.query("STOP REPLICA; RESET REPLICA ALL;")
        self.say(f"{len(logs)} binary logs are replayed{f' until {spoken(until)}' if until else ''}.")

    def write(self, volume: str, name: str, **content: Any) -> None:
        """Write a file into the data as the server does."""
        self.engine.shell(f"umask 027; cat >{DATA}/{name}", [f"{volume}:{PLACE}"], user=self.settings.user, **content)

    def save(self) -> dict[str, str]:
        """Keep what is about to be replaced; return by what its binary logs are found.

        Raises:
            RecoveryError: it could not be kept.
        """
        found, logs = self.engine.database(), {}
        if found and found["State"]["Status"] == "running":
            name = take(self.engine, lambda _: None, kind="safety")
            logs = log_tags(live(self.engine))
        else:
            name = take_files(self.engine, self.repository)
        self.say(f"What is replaced now is kept as backup {name[:8]}.")
        return logs

    def halt(self, found: dict, logs: dict[str, str]) -> None:
        """Stop the database, and store what it has written to its binary logs since it was saved.

        Raises:
            RecoveryError: that failed, and the database is started again.
        """
        volumes = [f"{self.settings.database}:{PLACE}"]
        # Before it is stopped: a Swarm starts another one at once, which must not find the old data.
        self.engine.shell(f"touch {PLACE}/{MARKER}", volumes)
        try:
            docker("stop", found["Id"])
            # Accounts that no fence holds, such as root, may have written until now.
            store_logs(self.engine, self.repository, logs, lambda _: None)
        except BaseException:
            self.engine.shell(f"rm {PLACE}/{MARKER}", volumes)
            if "com.docker.swarm.service.name" not in found["Config"]["Labels"]:
                docker("start", found["Id"])
            raise

    def replace(self, volume: str, logs: dict[str, str]) -> None:
        """Put the proven data in the place of the old (RecoveryError: it was interrupted)."""
        settings = self.settings
        if not self.engine.has_volume(settings.database):
            labels = [f"com.docker.compose.project={settings.stack}", "com.docker.compose.volume=database"]
            labels.append(f"com.docker.stack.namespace={settings.stack}")
            docker("volume", "create", *(f"--label={label}" for label in labels), settings.database)
        if found := self.engine.database():
            self.halt(found, logs)
        self.engine.shell(
            f"""
            cd {PLACE}
            touch {MARKER}
            find . -mindepth 1 -maxdepth 1 ! -name {MARKER} ! -name lost+found -exec rm -rf {{}} +
            cp --archive --reflink=auto /restored/data/. .
            sync
            diff --recursive --brief --exclude={MARKER} --exclude=lost+found /restored/data .
            rm {MARKER}
            sync
            """,
            [f"{settings.database}:{PLACE}", f"{volume}:/restored:ro"],
        )
        self.say("The data is in its place.")
