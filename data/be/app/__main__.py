"""Serve the back end; ends gracefully on SIGTERM."""

import os

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        "app.main:app",
        # Which networks reach it is decided outside.
        host="0.0.0.0",  # noqa: S104
        port=int(os.environ.get("PORT", "8000")),
        # The load balancer logs every request.
        access_log=False,
        server_header=False,
        # Longer than the load balancer keeps an idle connection, so that it is the one to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=25,
    )
