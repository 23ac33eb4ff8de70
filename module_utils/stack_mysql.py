"""SQL for the server of a stack, asked in its container as root."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

# Neither arguments nor environment show the password.
CLIENT = r"""
set -euo pipefail
password=$(</run/secrets/database_root_password)
password=${password//\\/\\\\}
exec mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "${password//\"/\\\"}") --user=root "$@"
"""
# The command that asks as root.
ROOT = ("bash", "-c", CLIENT, "bash")
OPTIONS = ("--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4")


class MysqlError(Exception):
    """The text is what the server or its client says."""


def quote(text: str) -> str:
    """Return a string of SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def rows(output: str) -> list[list[str]]:
    """Return the rows in what the client prints, each column as text."""
    return [line.split("\t") for line in output.splitlines()]


def query(container: str, sql: str, client: Sequence[str] = ROOT) -> list[list[str]]:
    """Return the rows that statements answer in a container of the database (MysqlError: one of them failed)."""
    done = subprocess.run(
        ["docker", "exec", "--interactive", container, *client, *OPTIONS],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MysqlError(done.stderr.strip())
    return rows(done.stdout)
