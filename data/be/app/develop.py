"""Load the code for development; if that fails, answer every request with the error.

Only in development (APP_MODE), because the page shows code.
The same file in data/fe and data/be: each is an image of its own, which a user replaces alone.
"""

from __future__ import annotations

import html
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

HEALTH_PATH = "/healthz"
# Seconds that an editor needs at most to write a file that it has emptied.
WRITTEN = 0.5

Application = Callable[[dict, Callable, Callable], Awaitable[None]]


def fault_page(fault: str) -> Application:
    """Return an application that answers every request with an error, as HTML for browsers and as JSON for others.

    Its health check succeeds, so that the load balancer sends it requests and the error is seen.
    """

    async def application(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        status, kind, text = 500, "application/json", json.dumps({"error": fault.strip().splitlines()[-1]})
        if scope["path"] == HEALTH_PATH:
            status, kind, text = 200, "text/plain", "a fault is shown\n"
        elif b"text/html" in dict(scope["headers"]).get(b"accept", b""):
            kind, text = "text/html", f"<!doctype html><title>Fault</title><pre>{html.escape(fault)}</pre>\n"
        headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    return application


try:
    from app.main import app
except Exception:
    traceback.print_exc()
    # The file may be half written. A save within this time starts the next process, and no error shows.
    time.sleep(WRITTEN)
    app = fault_page(traceback.format_exc())
