"""Serve the back end; ends gracefully on SIGTERM."""

import os

import uvicorn

from app.listen import listening_sockets

if __name__ == "__main__":
    configuration = uvicorn.Config(
        "app.main:app",
        # The load balancer logs every request.
        access_log=False,
        server_header=False,
        # Longer than the load balancer keeps an idle connection, so that it is the one to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=25,
    )
    sockets = listening_sockets(int(os.environ.get("PORT", "8000")), os.environ.get("LISTEN_NAME", ""))
    uvicorn.Server(configuration).run(sockets=sockets)
