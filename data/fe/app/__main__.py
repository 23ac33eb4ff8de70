"""Serve the front end; ends gracefully on SIGTERM.

APP_MODE says how: production, development (a saved change is served at once) or debug (one process, for a debugger).
"""

import os

import uvicorn

from app.listen import listening_sockets

if __name__ == "__main__":
    mode = os.environ.get("APP_MODE", "production")
    develop = mode == "development"
    if mode == "debug" and os.environ.get("DEBUG_PORT"):
        # Imported here: nothing of it is needed to serve. On loopback, which make debug leads to.
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
    # They stay open while the code is loaded anew: requests wait for it and are not refused.
    sockets = listening_sockets(int(os.environ.get("PORT", "8000")), os.environ.get("LISTEN_NAME", ""))
    if develop:
        # Imported here: nothing of it is needed to serve.
        from app.reload import reload

        reload(configuration, sockets)
    else:
        uvicorn.Server(configuration).run(sockets=sockets)
