"""Take a backup of the running database, or of its binary logs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from stack_files import new_secret, replace

from recovery.containers import Engine, RecoveryError
from recovery.repository import Repository
from recovery.server import ACCOUNT, DATA, OWN, PLACE, Server, ThrowAway

FORMAT = 1
Say = Callable[[str], None]


def live(engine: Engine) -> Server:
    """Return the server of the stack (RecoveryError: it does not run)."""
    found = engine.database()
    if not found or found["State"]["Status"] != "running":
        raise RecoveryError(
            "The database does not run, and a backup is taken of a running one; start the stack with playbooks/site.yml."
        )
    return Server("The database", found["Id"], found["Image"])


def check_space(engine: Engine, volume: str, times: float) -> int:
    """Return the bytes that a volume holds (RecoveryError: there is not room for so many copies of it)."""
    output = engine.shell(
        "du --summarize --block-size=1 /data | cut -f1; df --output=avail --block-size=1 /data | tail -n 1",
        [f"{volume}:/data:ro"],
    )
    used, free = (int(word) for word in output.split())
    if free < used * times:
        raise RecoveryError(
            f"There is not room enough: the volume {volume} has {used >> 20} MiB, {free >> 20} MiB of its disk are free and"
            f" {int(used * times) >> 20} MiB are needed for copies of it; make room."
        )
    return used


def check_engines(server: Server) -> None:
    """Refuse tables that an online copy would leave out (RecoveryError: there is one)."""
    # What is in memory is lost with every restart anyway.
    rows = server.query(
        "SELECT CONCAT(table_schema, '.', table_name), engine FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        f" AND engine NOT IN ('InnoDB', 'MEMORY') AND table_schema NOT IN {OWN} ORDER BY 1 LIMIT 1;"
    )
    if rows:
        table, kind = rows[0]
        raise RecoveryError(
            f"The table {table} is of the engine {kind}, which cannot be copied while it is written;"
            f" change it with ALTER TABLE {table} ENGINE=InnoDB."
        )


def clone(engine: Engine, server: Server, volume: str) -> float:
    """Copy the data of the running server into a volume and return when that was complete; nobody waits for it.

    Raises:
        RecoveryError: a server did not play its part.
    """
    account, password = f"'{ACCOUNT}'@'127.0.0.1'", new_secret()
    found = server.query("SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'clone';")[0][0]
    if found == "0":
        server.query("INSTALL PLUGIN clone SONAME 'mysql_clone.so';")
    # Not in the binary log: a replay has no use for it.
    unlogged = "SET SESSION sql_log_bin = 0;"
    server.query(
        f"{unlogged} DROP USER IF EXISTS {account}; CREATE USER {account} IDENTIFIED BY '{password}';"
        f" GRANT BACKUP_ADMIN ON *.* TO {account};"
    )
    try:
        # Beside the server, on its own loopback: no network has to let anybody through.
        with ThrowAway(engine, volume, server.variables(), server.image, donor=server.container) as recipient:
            recipient.query("SET GLOBAL clone_valid_donor_list = '127.0.0.1:3306';")
            recipient.query(f"CLONE INSTANCE FROM {account}:3306 IDENTIFIED BY '{password}' DATA DIRECTORY = '{DATA}';")
            return time.time()
    finally:
        server.query(f"{unlogged} DROP USER IF EXISTS {account};")


def describe(server: ThrowAway, engine: Engine, at: float, uuid: str) -> dict:
    """Return what a backup is, as the server that has opened it says."""
    server.query(f"DROP USER IF EXISTS '{ACCOUNT}'@'127.0.0.1';")
    file, position, gtid = server.query(
        "SELECT binlog_file, binlog_position, gtid_executed FROM performance_schema.clone_status;"
    )[0]
    return {
        "format": FORMAT,
        "stack": engine.settings.stack,
        "time": at,
        "server": {"version": server.value("@@version"), "uuid": uuid, "variables": server.variables()},
        "binary_log": {"file": Path(file).name, "position": int(position), "executed": gtid.replace("\\n", "")},
        "schema": server.schema(),
        "schemas": server.schemas(),
        "tables": server.proof(),
    }


def note(engine: Engine, kind: str, at: float) -> None:
    """Write down when the last good backup was taken, for monitoring as well."""
    root = Path(engine.settings.directory)
    path = root / "backup" / "status.json"
    status = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    status[kind] = at
    for place in (path, root / "container-exporter" / "backup.json"):
        if place.parent.is_dir():
            replace(place, json.dumps(status) + "\n", 0o644)


def label(kind: str, at: float, server: str, version: str) -> dict[str, str]:
    """Return what a snapshot is found by."""
    return {"kind": kind, "at": f"{at:.3f}", "server": server, "version": version}


def log_tags(server: Server) -> dict[str, str]:
    """Return what a snapshot of the binary logs is found by, or nothing if the server writes none.

    Raises:
        RecoveryError: they would be of no use.
    """
    if server.value("@@log_bin") != "1":
        return {}
    base = Path(server.value("@@log_bin_basename"))
    if str(base.parent) != PLACE:
        raise RecoveryError(
            f"database_settings: log_bin names {base}, and only binary logs in the data volume can be stored; give a name"
            " alone."
        )
    if server.value("@@binlog_encryption") != "0":
        raise RecoveryError(
            "database_settings: binlog_encryption is on, and its key is not in a backup; switch it off, the repository is"
            " encrypted."
        )
    return {"base": base.name, "server": server.value("@@server_uuid"), "version": server.value("@@version")}


def store_logs(engine: Engine, repository: Repository, found: dict[str, str], say: Say) -> bool:
    """Store the binary logs as far as they are written; return whether there are any.

    Args:
        engine: of the stack.
        repository: where they go.
        found: from ``log_tags``; the server may have ended since.
        say: tells a person what was done.

    Raises:
        RecoveryError: they cannot be stored.
    """
    if not found:
        return False
    tags = label("logs", time.time(), found["server"], found["version"])
    # One path, so that restic knows the last snapshot of it and reads only what has grown.
    options = ["--exclude=/logs/*", f"--exclude=!/logs/{found['base']}.[0-9]*"]
    summary = repository.store("/logs", engine.settings.database, tags, *options)
    note(engine, "logs", float(tags["at"]))
    say(f"Binary logs are stored ({summary['data_added'] / 2**20:.1f} MiB new).")
    return True


def take_logs(engine: Engine, say: Say) -> None:
    """Store the binary logs (RecoveryError: they are not stored)."""
    repository = Repository(engine)
    repository.prepare()
    if not store_logs(engine, repository, log_tags(live(engine)), say):
        raise RecoveryError("database_settings: log_bin is off, so there are no binary logs to store.")


def rehearse(engine: Engine, volume: str, variables: dict[str, str], tables: dict, say: Say) -> None:
    """Let the server that the settings want open a copy of the data, which it brings to its own release.

    Raises:
        RecoveryError: it cannot, or rows are missing then.
    """
    try:
        with ThrowAway(engine, volume, variables, engine.settings.mysql) as server:
            found, version = server.proof(), server.value("@@version")
    except RecoveryError as error:
        raise RecoveryError(
            f"The server of {engine.settings.mysql} cannot take over the data, and nothing was changed; keep the image that"
            f" was there before. {error}"
        ) from None
    counts = {table: values["rows"] for table, values in found.items()}
    wanted = {table: values["rows"] for table, values in tables.items()}
    if counts != wanted:
        raise RecoveryError(f"MySQL {version} finds other rows in the data than were there before, and nothing was changed.")
    say(f"MySQL {version} has opened a copy of the data and finds every row.")


def take_files(engine: Engine, repository: Repository) -> str:
    """Store the files of a database that does not run, and return the name of the backup."""
    return repository.store("/files", engine.settings.database, label("files", time.time(), "", ""))["snapshot_id"]


def keep_files(engine: Engine, say: Say) -> None:
    """Store the files of a database that does not run, and print the name of the backup.

    Raises:
        RecoveryError: it runs, so that its files change while they are read.
    """
    if engine.database():
        raise RecoveryError("The database runs, and its files are stored when it does not.")
    repository = Repository(engine)
    repository.prepare()
    say(take_files(engine, repository))


def try_upgrade(engine: Engine, say: Say) -> None:
    """Take a backup, and let the server that the settings want open a copy of the data.

    Raises:
        RecoveryError: it cannot, and nothing was changed.
    """
    found = engine.database()
    if found and found["State"]["Status"] == "running":
        take(engine, say, rehearsed=True)
        return
    repository = Repository(engine)
    repository.prepare()
    check_space(engine, engine.settings.database, 1.1)
    name = take_files(engine, repository)
    say(f"The files of the database, which does not run, are kept as backup {name[:8]}.")
    with engine.volume("backup") as volume:
        engine.shell(
            f"mkdir {DATA}; cp --archive /data/. {DATA}; rm -rf {DATA}/lost+found",
            [f"{engine.settings.database}:/data:ro", f"{volume}:{PLACE}"],
        )
        with ThrowAway(engine, volume, {}, engine.settings.mysql) as server:
            say(f"MySQL {server.value('@@version')} has opened a copy of the data with {len(server.proof())} tables.")


def take(engine: Engine, say: Say, kind: str = "backup", rehearsed: bool = False) -> str:
    """Take a backup and return its name.

    Args:
        engine: of the stack.
        say: tells a person what was done.
        kind: ``safety`` for one that is taken before something is replaced.
        rehearsed: whether the server that the settings want has to open a copy as well.

    Raises:
        RecoveryError: none was taken.
    """
    repository, server, settings = Repository(engine), live(engine), engine.settings
    repository.prepare()
    check_engines(server)
    check_space(engine, settings.database, 1.1)
    begin = time.monotonic()
    with engine.volume("backup") as volume:
        at = clone(engine, server, volume)
        say(f"The data is copied after {time.monotonic() - begin:.1f} s.")
        with ThrowAway(engine, volume, server.variables(), server.image) as copy:
            manifest = describe(copy, engine, at, server.value("@@server_uuid"))
        rows = sum(table["rows"] for table in manifest["tables"].values())
        say(f"A server has opened the copy and read {len(manifest['tables'])} tables with {rows} rows.")
        engine.shell(f"cat >{PLACE}/manifest.json", [f"{volume}:{PLACE}"], text=json.dumps(manifest, indent=1))
        tags = label(kind, at, manifest["server"]["uuid"], manifest["server"]["version"])
        summary = repository.store("/backup", volume, tags)
        if rehearsed:
            rehearse(engine, volume, manifest["server"]["variables"], manifest["tables"], say)
    say(
        f"Backup {summary['snapshot_id'][:8]} is in {settings.repository}:"
        f" {summary['total_bytes_processed'] / 2**20:.1f} MiB of data, for which"
        f" {summary['data_added_packed'] / 2**20:.1f} MiB were written."
    )
    store_logs(engine, repository, log_tags(server), say)
    if kind != "safety":
        # A repository that is damaged elsewhere must not keep a good backup from being brought back.
        repository.forget()
    note(engine, "backup", at)
    return summary["snapshot_id"]
