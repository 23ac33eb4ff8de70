"""Take backups of a stack's database and bring them back: python3 -m recovery COMMAND, beside settings.json."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from functools import partial
from pathlib import Path

from stack_environment import clean_environment
from stack_lock import LockError, held

from recovery.backup import Say, keep_files, take, take_logs, try_upgrade
from recovery.containers import Engine, RecoveryError, Settings
from recovery.fence import lift
from recovery.repository import Repository
from recovery.restore import KINDS, Restore, spoken

FOLDER = Path(__file__).resolve().parents[1]
# Seconds to wait for another backup of the same stack; the next logs are stored soon anyway.
PATIENCE = 600.0
# What is done is told at once.
say = partial(print, flush=True)


def list_backups(engine: Engine, say: Say) -> None:
    """Print the backups of the stack, oldest first (RecoveryError: the repository cannot be read)."""
    for snapshot in Repository(engine).snapshots(*KINDS, "logs"):
        say(f"{snapshot.short}  {spoken(snapshot.at)}  {snapshot.kind:<7} {snapshot.version}")


# What each command says of itself and does; restore has options.
COMMANDS = {
    "backup": ("take a backup of the database and of its binary logs", take),
    "logs": ("store the binary logs alone, which a restore to a point in time needs", take_logs),
    "list": ("list the backups of this stack", list_backups),
    "check": (
        "read everything in the repository and compare it with its checksums",
        lambda engine, _: Repository(engine).check(),
    ),
    "files": ("store the files of a database that does not run, and print the name of that backup", keep_files),
    "rehearse": ("take a backup and let the server of the settings open a copy of it", try_upgrade),
}


def main() -> int:
    """Run a command; the exit code is 1 if it has failed, and why is the last line of the errors."""
    parser = argparse.ArgumentParser(prog="recovery", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (text, _) in COMMANDS.items():
        commands.add_parser(name, help=text)
    restore = commands.add_parser("restore", help="bring a backup back")
    restore.add_argument("--backup", default="latest", help="name of a backup, or latest")
    restore.add_argument("--until", default="", help="a time, or latest for everything that was stored")
    restore.add_argument("--confirm", default="", help="name of the stack, if it has a database to be replaced")
    restore.add_argument("--origin", default="", help="name of the stack whose backups are meant, if it is another one")
    restore.add_argument("--database", required=True, help="name of the application's schema")
    arguments = parser.parse_args()
    # So that what was made is removed by whoever made it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = Settings(**json.loads((FOLDER / "settings.json").read_text(encoding="utf-8")))
    clean_environment(settings.engine)
    engine = Engine(settings)
    try:
        with held(FOLDER, f"works on backups ({arguments.command})", 0 if arguments.command == "logs" else PATIENCE):
            # What an interrupted run has left.
            engine.clean()
            lift(engine)
            try:
                if arguments.command == "restore":
                    arguments.origin = arguments.origin or settings.stack
                    Restore(engine, arguments, say).run()
                else:
                    COMMANDS[arguments.command][1](engine, say)
            finally:
                engine.clean()
    except (RecoveryError, LockError, OSError) as error:
        print(str(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
