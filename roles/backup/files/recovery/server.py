"""MySQL servers: the one of the stack, and throw-away ones that work on a copy of its data."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import stack_mysql
from stack_files import new_secret

from recovery.containers import Container, Engine, RecoveryError, docker

ACCOUNT = "webstack-recovery"
OWN = "('mysql', 'information_schema', 'performance_schema', 'sys')"
# Seconds between two looks.
PAUSE = 0.1
# Where the volume of a throw-away server is; the image lets any user write there.
PLACE = "/var/lib/mysql"
DATA = f"{PLACE}/data"
# What a copy of the data can be opened with alone.
VARIABLES = ("innodb_page_size", "lower_case_table_names", "innodb_data_file_path")
THROW_AWAY = r"""
set -euo pipefail
umask 077
account=$1
shift
read -r password
printf '[client]\nuser="%s"\npassword="%s"\nsocket=/var/run/mysqld/mysqld.sock\n' "$account" "$password" >/tmp/client.cnf
cat >/tmp/init.sql <<SQL
CREATE USER IF NOT EXISTS '$account'@localhost;
ALTER USER '$account'@localhost IDENTIFIED BY '$password' ACCOUNT UNLOCK;
GRANT ALL ON *.* TO '$account'@localhost WITH GRANT OPTION;
SQL
if [ -d /empty ]; then
    mysqld "$@" --initialize-insecure
fi
exec mysqld "$@" --init-file=/tmp/init.sql
"""


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, such as (9, 7, 4), for comparing."""
    return tuple(int(part) for part in re.match(r"[0-9.]*", version)[0].strip(".").split(".") if part)


def name(*parts: str) -> str:
    """Return the name of a schema or table for SQL."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


class Server:
    """Something that answers SQL: the server of the stack, or a throw-away one."""

    def __init__(self, who: str, container: str, image: str, client: Sequence[str] = stack_mysql.ROOT) -> None:
        """Ask the server in a container, which is of an image, by a command; complaints begin with ``who``."""
        self.who, self.container, self.image, self.client = who, container, image, client

    def query(self, sql: str) -> list[list[str]]:
        """Return the rows that statements answer, each column as text (RecoveryError: one of them failed)."""
        try:
            return stack_mysql.query(self.container, sql, self.client)
        except stack_mysql.MysqlError as error:
            raise RecoveryError(f"{self.who} answers: {error}") from None

    def value(self, expression: str) -> str:
        """Return one value."""
        return self.query(f"SELECT {expression};")[0][0]

    def variables(self) -> dict[str, str]:
        """Return the settings without which a copy of the data cannot be opened."""
        return {variable: self.value(f"@@{variable}") for variable in VARIABLES}

    def schema(self) -> str:
        """Return 12 hex digits that change with the definition of any table."""
        columns = self.query(
            "SELECT table_schema, table_name, ordinal_position, column_name, column_type, is_nullable"
            f" FROM information_schema.columns WHERE table_schema NOT IN {OWN} ORDER BY 1, 2, 3;"
        )
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:12]

    def schemas(self) -> list[str]:
        """Return the names of the schemas that are not the server's own."""
        rows = self.query(f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {OWN} ORDER BY 1;")
        return [row[0] for row in rows]

    def proof(self) -> dict[str, dict[str, Any]]:
        """Return rows and checksum of every table, both found by reading all of it."""
        tables = self.query(
            "SELECT table_schema, table_name FROM information_schema.tables"
            f" WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {OWN} ORDER BY 1, 2;"
        )
        statements = [f"SELECT COUNT(*) FROM {name(*t)}; CHECKSUM TABLE {name(*t)} EXTENDED;" for t in tables]
        rows = self.query("\n".join(statements)) if statements else []
        return {
            ".".join(table): {"rows": int(count[0]), "checksum": checksum[-1]}
            for table, count, checksum in zip(tables, rows[::2], rows[1::2], strict=True)
        }


class ThrowAway(Server):
    """A server without a network on the data in a volume; with ``donor``, an empty one that can clone from a container."""

    def __init__(self, engine: Engine, volume: str, variables: dict[str, str], image: str = "", donor: str = "") -> None:
        """Describe it; the context manager starts and stops it."""
        name = "recipient" if donor else "server"
        place, client = f"{engine.settings.stack}-backup-{name}", ("mysql", "--defaults-file=/tmp/client.cnf")
        super().__init__("The server that works on the copy", place, image or engine.settings.mysql, client)
        self.engine = engine
        user = engine.settings.user
        uid, gid = user.split(":")
        tmpfs = ["/tmp:mode=1777", "/var/run/mysqld:mode=1777"]  # noqa: S108 (in the container)
        data = DATA
        if donor:
            data = "/empty"
            tmpfs.append(f"/empty:uid={uid},gid={gid},mode=0700")
        options = [
            *("--no-defaults", f"--datadir={data}", "--socket=/var/run/mysqld/mysqld.sock", "--pid-file=/tmp/mysqld.pid"),
            *("--skip-networking", "--mysqlx=OFF", "--secure-file-priv=NULL", "--skip-log-bin"),
            # What the application has planned must not change the copy.
            "--event-scheduler=DISABLED",
            # Events of a server with the same number would be left out.
            "--server-id=4294967295",
            *("--relay-log=webstack-relay", "--skip-replica-start", "--log-error-verbosity=2"),
            *(f"--{key.replace('_', '-')}={value}" for key, value in variables.items()),
        ]
        if donor:
            options += ["--plugin-load-add=mysql_clone.so"]
            options += ["--innodb-buffer-pool-size=32M", "--innodb-redo-log-capacity=8M"]
        self.definition = Container(
            image=self.image,
            entrypoint="bash",
            arguments=["-c", THROW_AWAY, "bash", ACCOUNT, *options],
            user=user,
            name=name,
            network=f"container:{donor}" if donor else "none",
            volumes=[f"{volume}:{PLACE}"],
            tmpfs=tmpfs,
        )
        self.log = Path(engine.settings.directory) / "backup" / f"{name}.log"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> ThrowAway:
        """Start it and wait until it answers (RecoveryError: it does not start)."""
        with self.log.open("w", encoding="utf-8") as log:
            command = self.engine.command(self.definition)
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        self.process.stdin.write(new_secret() + "\n")
        self.process.stdin.close()
        while True:
            try:
                self.query("SELECT 1;")
                return self
            except RecoveryError:
                if self.process.poll() is not None:
                    raise RecoveryError(f"The server does not start: {self.complaint()}") from None
                time.sleep(PAUSE)

    def complaint(self) -> str:
        """Return the first error that the server has written, of which the others come."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it wrote nothing"]
        errors = [line for line in lines if "[ERROR]" in line]
        return errors[0] if errors else lines[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it: cleanly, without the account that was made for this, or at once where something has failed."""
        if kind is None:
            self.query(f"DROP USER '{ACCOUNT}'@localhost; SHUTDOWN;")
            if self.process.wait():
                raise RecoveryError(f"The server did not stop cleanly: {self.complaint()}")
        else:
            docker("rm", "--force", self.container, check=False)
            self.process.wait()
