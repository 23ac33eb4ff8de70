"""The database of a stack in a container of its own: what it loads and refuses, and that no acknowledged row is lost."""

import gzip
import json
import shutil
import socket
import threading
import time
from argparse import Namespace
from contextlib import contextmanager

import pymysql
import pytest
import stack_dump
import stack_rotate
from recovery import backup, restore
from recovery.containers import Engine, Settings
from recovery.repository import Repository
from stack import run, wait_until
from wiring import load, render

MYSQL, RESTIC = "webstack/mysql:9.7-debian", "webstack/restic:debian"
NAME = "webstack-test-database"
USER, PASSWORD = "keeper", 'it\'s "a" s$cret'
SCHEMA = b"CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(80));\n"
WRITES = 1000
# A row that is too large for a packet unless dumps are loaded, and as many rows as need all memory in one statement.
LIMIT = {"database_settings": {"max_allowed_packet": "2M"}}
MANY_ROW = b"(1,'0123456789012345678901234567890123456')"
WIDE, MANY = 10_000_000, 1_500_000


class Database:
    """A container that starts as the stack's does, with the files of the role, and a volume."""

    def __init__(self, folder):
        self.folder, self.password = folder, PASSWORD
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        for file in render(load("roles/database/vars/main.yml")["__database_files"], "database", **LIMIT):
            path = folder / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.get("content", PASSWORD if "database_password" in file["path"] else "another"))
            path.chmod(0o644)
        for name in ("secrets/be", "secrets/backup", "backup/cache", "db/dumps"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "secrets/be/database_password").write_text(PASSWORD)
        (folder / "secrets/backup/password").write_text("of the backups")
        (folder / "state.json").write_text("{}")

    def start(self, **dumps):
        """Start it with dumps; with none if it has a volume already."""
        for index, (name, content) in enumerate(dumps.items()):
            path = self.folder / f"{name}.sql"
            path.write_bytes(content)
            with gzip.open(self.folder / f"db/dumps/{index:03d}-{name}.sql.gz", "wb") as file:
                assert stack_dump.fit(path, "app", USER, file)[0] == []
        labels = {"project": NAME, "service": "db", "oneoff": "False"}
        mounts = {"config": "/etc/mysql/conf.d", "init": "/docker-entrypoint-initdb.d", "dumps": "/dumps"}
        run(
            *("docker", "run", "--detach", f"--name={NAME}", "--user=999:999", f"--publish=127.0.0.1:{self.port}:3306"),
            # The memory of database_limits.
            *(
                "--memory=1g",
                "--memory-swap=1g",
                "--read-only",
                "--tmpfs=/tmp",
                "--tmpfs=/var/run/mysqld",
                "--env=MYSQL_ROOT_HOST=localhost",
            ),
            *("--env=MYSQL_ROOT_PASSWORD_FILE=/run/secrets/database_root_password", "--env=DATABASE_NAME=app"),
            *(f"--env=DATABASE_USER={USER}", f"--volume={NAME}_database:/var/lib/mysql"),
            *(f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()),
            *(f"--volume={self.folder}/db/{name}:{target}:ro" for name, target in mounts.items()),
            *(f"--volume={self.folder}/secrets/db:/run/secrets:ro", MYSQL, "bash", "/etc/mysql/conf.d/start.sh"),
        )

    def ready(self):
        """Wait until its health check is green."""
        check = ("docker", "exec", NAME, "bash", "/etc/mysql/conf.d/healthcheck.sh")

        def healthy():
            state = run("docker", "inspect", "--format={{.State.Status}}", NAME).stdout.strip()
            assert state == "running", run("docker", "logs", "--tail=5", NAME).stderr
            return run(*check, check=False).returncode == 0

        wait_until(healthy, 90)

    def connect(self):
        """Log in as the application."""
        given = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": self.password, "database": "app"}
        return pymysql.connect(**given, autocommit=True, connect_timeout=5, read_timeout=60, write_timeout=60)

    def query(self, sql):
        """Return the rows of a statement of the application."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


def remove():
    run("docker", "rm", "--force", "--volumes", NAME, check=False)
    run("docker", "volume", "rm", "--force", f"{NAME}_database")


@pytest.fixture(name="database")
def database_in_a_container(tmp_path):
    remove()
    yield Database(tmp_path)
    remove()


def test_a_dump_loads_whatever_another_server_has_written_into_it(database):
    """An encoding of Windows, definers and accounts that are not there, a row beyond the usual limit of a packet."""
    database.start(
        first="\ufeffCREATE DATABASE app DEFAULT CHARACTER SET latin1;\r\nUSE app\r\n".encode()
        + SCHEMA
        + b"SET NAMES utf8mb4;",
        wide="\ufeffINSERT INTO users (name) VALUES ('Zoë');\r\n".encode("utf-16-le"),
        large=b"CREATE TABLE files (content LONGBLOB);\nINSERT INTO files VALUES ('" + b"x" * WIDE + b"');",
        many=b"CREATE TABLE many (a INT, b CHAR(40));\nINSERT INTO many VALUES " + b",".join([MANY_ROW] * MANY) + b";",
        foreign=(
            b"/*M!999999\\- enable the sandbox mode */ \n/*M!100616 SET NOTE_VERBOSITY=0 */;\n"
            b"SET @@GLOBAL.GTID_PURGED='x:1';\n"
            b"CREATE DEFINER=`prod`@`%` VIEW people AS SELECT * FROM users;\n"
            b"DELIMITER $$\r\nCREATE DEFINER=`prod`@`%` TRIGGER t BEFORE INSERT ON users FOR EACH ROW BEGIN\n"
            b"SET NEW.name = TRIM(NEW.name); END$$\r\nDELIMITER ;\r\n"
            b"CREATE USER x IDENTIFIED WITH mysql_native_password BY 'y';\nGRANT ALL ON *.* TO x;\n"
            b"INSERT INTO users (name) VALUES (' a\r\nb '), ('USE mysql;');"
        ),
    )
    database.ready()
    assert [row[0] for row in database.query("SELECT name FROM people ORDER BY id")] == ["Zoë", "a\r\nb", "USE mysql;"]
    assert database.query("SELECT LENGTH(content) FROM files") == ((WIDE,),)
    assert database.query("SELECT COUNT(*) FROM many") == ((MANY,),)
    assert database.query(
        "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'app'"
    ) == (("latin1",),)
    database.query("INSERT INTO users (name) VALUES (' new ')")
    assert database.query("SELECT name FROM users ORDER BY id DESC LIMIT 1") == (("new",),)


def test_triggers_and_functions_by_the_account_of_the_application_work(database):
    database.start(schema=SCHEMA)
    database.ready()
    database.query("CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET NEW.name = TRIM(NEW.name)")
    database.query("CREATE FUNCTION twice(a INT) RETURNS INT DETERMINISTIC RETURN 2 * a")
    database.query("INSERT INTO users (name) VALUES (' a ')")
    assert database.query("SELECT name, twice(21) FROM users") == (("a", 42),)


def test_a_first_start_that_fails_says_file_and_line_with_each_further_start_and_never_serves(database):
    rows = b"\n".join(b"INSERT INTO users VALUES (%d, 'x');" % (number % 507) for number in range(1, 600))
    database.start(schema=SCHEMA, data=rows)
    # The first start ends by the error, each further one by what it finds.
    assert run("docker", "wait", NAME).stdout.strip() == "1"
    for _ in range(2):
        run("docker", "start", NAME)
        assert run("docker", "wait", NAME).stdout.strip() == "78"
    lines = run("docker", "logs", "--tail=2", NAME).stderr.splitlines()
    assert len(set(lines)) == 1
    assert lines[0].startswith("database_dumps: data.sql cannot be loaded: ERROR 1062 (23000) at line 508: Duplicate entry")


class Writers:
    """Some that insert a row each, as often as they can; ``acknowledged`` are those rows of which the server said so."""

    def __init__(self, database):
        self.database, self.ended = database, threading.Event()
        self.acknowledged: list[str] = []
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(4)]

    def write(self, number):
        """Insert rows until it is told to end; a lost connection is made again."""
        connection, count = None, 0
        while not self.ended.is_set():
            count += 1
            try:
                connection = connection or self.database.connect()
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO users (name) VALUES (%s)", (name := f"{id(self)}-{number}-{count}",))
                self.acknowledged.append(name)
            except pymysql.Error:
                if connection and not connection.open:
                    connection = None
                time.sleep(0.02)

    def __enter__(self):
        """Begin, and wait until they write."""
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > WRITES / 4)
        return self

    def __exit__(self, *_):
        """End."""
        self.ended.set()
        for thread in self.threads:
            thread.join()


@contextmanager
def written(database):
    """Write while something is done to a database, at least ``WRITES`` rows."""
    with Writers(database) as writers:
        yield writers
        wait_until(lambda: len(writers.acknowledged) > WRITES, 90)


def rows(database):
    return {row[0] for row in database.query("SELECT name FROM users")}


@pytest.fixture(name="engine")
def engine_with_a_repository(database):
    database.start(schema=SCHEMA)
    database.ready()
    folder = database.folder
    given = {
        "stack": NAME,
        "directory": str(folder),
        "repository": str(folder / "backups"),
        "local": True,
        "keep": {"last": 3},
    }
    images = {"database": f"{NAME}_database", "mysql": MYSQL, "restic": RESTIC, "user": "999:999", "storage_user": "0:0"}
    engine = Engine(
        Settings(**given, **images, storage_capabilities=["CHOWN", "DAC_OVERRIDE", "FOWNER"], run_options=[], logs_days=7)
    )
    yield engine
    engine.clean()
    # What restic has written belongs to root and may not be changed by others.
    shutil.rmtree(folder / "backups", ignore_errors=True)


@pytest.mark.long
def test_no_acknowledged_row_is_lost_by_a_backup_a_rotation_an_upgrade_or_a_restore(database, engine):
    with written(database) as during_backup:
        backup.take(engine, print)
    accounts = [{"setting": "database_password", "user": USER, "host": "%", "files": ["secrets/db/database_password"]}]
    rotation = {"project": NAME, "accounts": accounts, "given": {"database_password": PASSWORD + "2"}, "restart": []}
    with written(database) as during_rotation:
        stack_rotate.begin(database.folder, rotation, False)
        database.password = rotation["given"]["database_password"]
        stack_rotate.finish(database.folder, rotation, False)
    with written(database) as during_upgrade:
        backup.try_upgrade(engine, print)
        run("docker", "stop", NAME)
        run("docker", "rm", NAME)
        database.start()
        database.ready()
    kept = rows(database)
    for writers in (during_backup, during_rotation, during_upgrade):
        assert kept.issuperset(writers.acknowledged)
    wish = Namespace(backup="latest", until="", confirm=NAME, origin=NAME, database="app")
    with Writers(database) as during_restore:
        restore.Restore(engine, wish, print).run()
        assert len(during_restore.acknowledged) > WRITES
        run("docker", "start", NAME)
        database.ready()
    result = rows(database)
    (safety,) = Repository(engine).snapshots("safety")
    wish.backup = safety.id
    restore.Restore(engine, wish, print).run()
    run("docker", "start", NAME)
    database.ready()
    copy = rows(database)
    lost = set(during_restore.acknowledged) - result - copy
    print(json.dumps({"acknowledged": len(during_restore.acknowledged), "lost": len(lost)}))
    assert not lost
    assert copy >= kept


def test_rotation_says_that_the_engine_is_away(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    with pytest.raises(OSError, match="The engine does not answer"):
        stack_rotate.database(NAME)
