"""Serve the back end; ends gracefully on SIGTERM. In development (APP_MODE) a saved change is served at once."""

import os

import uvicorn

from app.listen import listening_sockets

if __name__ == "__main__":
    develop = os.environ.get("APP_MODE") == "development"
    configuration = uvicorn.Config(
        "app.develop:app" if develop else "app.main:app",
        # The load balancer logs every request.
        access_log=False,
        server_header=False,
        # Longer than the load balancer keeps an idle connection, so that it is the one to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2 if develop else 25,
    )
    # They stay open while the code is loaded anew: requests wait for it and are not refused.
    sockets = listening_sockets(int(os.environ.get("PORT", "8000")), os.environ.get("LISTEN_NAME", ""))
    if develop:
        # Imported here: nothing of it is needed to serve.
        from app.reload import reload

        reload(configuration, sockets)
    else:
        uvicorn.Server(configuration).run(sockets=sockets)
