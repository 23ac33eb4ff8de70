"""Keep the application from writing while its database is being replaced, and let it write again if that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recovery.backup import live
from recovery.containers import Engine, RecoveryError

# Seconds to wait for statements that are under way; the application's later ones are refused (error 1290).
PATIENCE = 60


def note(engine: Engine) -> Path:
    """Return the file that is there for as long as the database takes no writes because of this program."""
    return Path(engine.settings.directory) / "backup" / "fenced"


@contextmanager
def fenced(engine: Engine) -> Iterator[None]:
    """Let a running database take no writes of the application for as long as that lasts.

    A commit that was answered is in what is copied from then on; of what comes later nothing is acknowledged.

    Raises:
        RecoveryError: statements under way do not end.
    """
    found = engine.database()
    if found and found["State"]["Status"] == "running":
        server = live(engine)
        if server.value("@@read_only") == "0":
            note(engine).write_text(found["Id"], encoding="utf-8")
            try:
                server.query(f"SET SESSION lock_wait_timeout = {PATIENCE}; SET GLOBAL read_only = ON;")
            except RecoveryError as error:
                lift(engine)
                raise RecoveryError(f"The database cannot be kept from writing, and nothing was changed. {error}") from None
    try:
        yield
    finally:
        lift(engine)


def lift(engine: Engine) -> None:
    """Let the database take writes again, if this program or an interrupted run of it keeps it from that.

    Raises:
        RecoveryError: it does not answer.
    """
    place = note(engine)
    if not place.exists():
        return
    found = engine.database()
    # Another server, or one that has been started since, takes writes by itself.
    if found and found["Id"] == place.read_text(encoding="utf-8") and found["State"]["Status"] == "running":
        live(engine).query("SET GLOBAL read_only = OFF;")
    place.unlink()
