"""Serve the code and, after each save, what was saved, loaded by a new process that has the libraries already."""

import logging
import multiprocessing
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn
import watchfiles

CODE = Path(__file__).parent

log = logging.getLogger("uvicorn.error")


def serve(configuration: uvicorn.Config, sockets: list[socket.socket]) -> None:
    """Load the code and serve it until told to end."""
    configuration.configure_logging()
    # What the process had of the code when it was cloned may be older than the last save.
    for name in [name for name in sys.modules if name.partition(".")[0] == CODE.name]:
        del sys.modules[name]
    # Not left to the server, which would be done with loading before it ends: code that is saved again may never be.
    configuration.load()
    uvicorn.Server(configuration).run(sockets=sockets)


def reload(configuration: uvicorn.Config, sockets: list[socket.socket]) -> None:
    """Serve the code as it was saved last until told to end.

    Libraries, which take most of the time to load and stay as they are, are loaded once, by a process that is cloned after
    each save. The old code finishes its requests while the new is loaded; the sockets stay open, so further ones wait.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.libraries"])

    def start() -> multiprocessing.Process:
        process = context.Process(target=serve, args=(configuration, sockets))
        process.start()
        return process

    process = start()
    for files in watchfiles.watch(
        CODE, watch_filter=watchfiles.PythonFilter(), stop_event=stop, ignore_permission_denied=True
    ):
        log.warning("Loading the code anew: %s", ", ".join(sorted({path for _, path in files})))
        process.terminate()
        process = start()
    process.terminate()
    process.join()
