"""The back end of `make bench-ha`: asks the database, and answers as late as it is asked to (``/?delay=5``).

Each answer is sent in one piece, because an answer that has begun can be saved by no load balancer. It ends at once when
it is told to and knows nothing of draining.
"""

import asyncio
import os
import signal
import sys
import time
import urllib.parse

# In the image of the sample, whose packages and modules it shares.
sys.path.insert(0, "/srv")

from app.database import create_pool
from app.listen import listening_sockets
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}
pool = create_pool()


def ask_database() -> int:
    """Return the status of an answer that needs the database."""
    try:
        with pool.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return 503
    return 200


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, which have no body; 503 while the database is away."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = urllib.parse.urlsplit(head.split(b" ", 2)[1].decode())
            status = 200 if target.path in ("/", "/healthz") else 404
            if target.path == "/":
                await asyncio.sleep(float(urllib.parse.parse_qs(target.query).get("delay", ["0"])[0]))
                status = await asyncio.to_thread(ask_database)
            lines = [f"HTTP/1.1 {status} {REASONS[status]}", "Content-Type: text/plain", "Content-Length: 4"]
            lines += ["Retry-After: 2"] if status == 503 else []
            writer.write("\r\n".join([*lines, "", f"{status}\n"]).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        # The load balancer has closed a connection that it does not need any more.
        writer.close()


async def serve() -> None:
    """Serve until SIGTERM."""
    for listening in listening_sockets(int(os.environ["PORT"]), os.environ["LISTEN_NAME"]):
        await asyncio.start_server(answer, sock=listening)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    time.sleep(float(os.environ.get("START_DELAY", "0")))
    asyncio.run(serve())
