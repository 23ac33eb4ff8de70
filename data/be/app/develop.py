"""Serve the code as it is on the disk: loaded anew after each save, and a fault is shown until it is mended.

Only in development (APP_MODE): a page that shows code is for those who write it.
"""

from __future__ import annotations

import html
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

HEALTH_PATH = "/healthz"
# Seconds within which an editor that has emptied a file is expected to have written it.
WRITTEN = 0.5

Application = Callable[[dict, Callable, Callable], Awaitable[None]]


def fault_page(fault: str) -> Application:
    """Return an application that answers everything with a fault, as a page for browsers and as JSON for others.

    It stays healthy, so that the load balancer goes on sending requests and the fault can be seen.
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
    # Whatever is wrong with the code, its author shall see it.
    traceback.print_exc()
    # The file may be half written: who finishes it within this time has it loaded by the next process, and no fault shows.
    time.sleep(WRITTEN)
    app = fault_page(traceback.format_exc())
