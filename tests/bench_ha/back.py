"""The back end of `make bench-ha`: asks the database, and answers as late as it is asked to (``/?delay=5``)."""

import asyncio
import os
import sys
import time
import urllib.parse

# In the image of the sample, whose packages and modules it shares.
sys.path.insert(0, "/srv")

import uvicorn
from app.database import create_pool
from app.listen import listening_sockets
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

pool = create_pool()


def ask_database() -> int:
    """Return the status of an answer that needs the database."""
    try:
        with pool.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return 503
    return 200


async def app(scope: dict, _receive, send) -> None:
    """Answer 200, or 503 while the database is away."""
    if scope["type"] != "http":
        return
    status = 200
    if scope["path"] != "/healthz":
        query = urllib.parse.parse_qs(scope["query_string"].decode())
        await asyncio.sleep(float(query.get("delay", ["0"])[0]))
        status = await asyncio.to_thread(ask_database)
    headers = [(b"content-type", b"text/plain"), *([(b"retry-after", b"2")] if status == 503 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d\n" % status})


if __name__ == "__main__":
    time.sleep(float(os.environ.get("START_DELAY", "0")))
    configuration = uvicorn.Config(
        app, access_log=False, lifespan="off", timeout_keep_alive=75, timeout_graceful_shutdown=25
    )
    sockets = listening_sockets(int(os.environ["PORT"]), os.environ["LISTEN_NAME"])
    uvicorn.Server(configuration).run(sockets=sockets)
