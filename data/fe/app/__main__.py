"""Serve the front end; finish running requests on SIGTERM.

APP_MODE is production, development (a saved change is served at once) or debug (one process, for a debugger).
The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

import os

import uvicorn

from app.listen import listening_sockets

if __name__ == "__main__":
    mode = os.environ.get("APP_MODE", "production")
    develop = mode == "development"
    if mode == "debug" and os.environ.get("DEBUG_PORT"):
        # Imported only when needed. `make debug` forwards a port of the host to this one on loopback.
        import debugpy

        debugpy.listen(("127.0.0.1", int(os.environ["DEBUG_PORT"])))
    configuration = uvicorn.Config(
        "app.develop:app" if develop else "app.main:app",
        # The load balancer logs every request.
        access_log=False,
        server_header=False,
        # Longer than the load balancer keeps an idle connection, so that it is the one to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=25 if mode == "production" else 2,
    )
    # Open during a reload of the code, so that requests wait instead of being refused.
    sockets = listening_sockets(int(os.environ.get("PORT", "8000")), os.environ.get("LISTEN_NAME", ""))
    if develop:
        # Imported only when needed.
        from app.reload import reload

        reload(configuration, sockets)
    else:
        uvicorn.Server(configuration).run(sockets=sockets)
