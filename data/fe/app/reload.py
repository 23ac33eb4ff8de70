"""Serve the code, and after each save the saved code, in a clone of a process that has imported the libraries.

watchfiles.run_process and uvicorn's own reload import the libraries each time, which takes up to 3 s for a back end.
The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

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
    """Load the code and serve it until SIGTERM."""
    configuration.configure_logging()
    # The process was cloned with modules of the code that may be older than the last save.
    for name in [name for name in sys.modules if name.partition(".")[0] == CODE.name]:
        del sys.modules[name]
    # Before the server handles SIGTERM, so that the next save ends code that never finishes loading.
    configuration.load()
    uvicorn.Server(configuration).run(sockets=sockets)


def reload(configuration: uvicorn.Config, sockets: list[socket.socket]) -> None:
    """Serve the last saved code until SIGTERM or SIGINT.

    The old code finishes its requests while the new code is loaded. The sockets stay open, so new requests wait.
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
        log.warning("Reloading the code: %s", ", ".join(sorted({path for _, path in files})))
        process.terminate()
        process = start()
    process.terminate()
    process.join()
