"""HTTP interface of the sample front end.

``GET /`` is the page, ``POST /users`` its form, ``GET /healthz`` tells that the process serves and
does not depend on the back end.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

HOSTNAME = socket.gethostname()
BACKEND_URL = os.environ.get("BACKEND_URL", "http://be-lb")
HERE = Path(__file__).parent
# What one request may wait for the back end, in seconds; in development a debugger may hold it.
TIMEOUT = httpx.Timeout(10 if os.environ.get("APP_MODE", "production") == "production" else 3600, connect=2, pool=2)
# A machine that is lost closes no connection; it acknowledges nothing any more. After 2 s of that the connection has failed.
SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000),
]
# How often a request that changes nothing is sent, where its connection fails before the answer.
TRIES = 3
CONNECTION_FAILED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
# Headers of the edge that the back end gets to see, so that a request can be followed through.
FORWARDED_HEADERS = ("x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

templates = Jinja2Templates(directory=HERE / "templates")


@dataclass
class Answer:
    """What the back end said: HTTP status, its host name, and its data or the reason of a refusal."""

    status: int
    backend: str | None
    data: dict
    error: str | None


async def send(backend: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Send a request; one that changes nothing goes to another back end where its connection fails before the answer.

    So it does, once, where there is no answer in time: what was to give it may be on a machine that is lost.
    """
    silent = False
    for _ in range(TRIES - 1 if method == "GET" else 0):
        try:
            return await backend.request(method, path, **arguments)
        except CONNECTION_FAILED:
            continue
        except httpx.ReadTimeout:
            if silent:
                raise
            silent = True
    return await backend.request(method, path, **arguments)


async def ask_backend(request: Request, method: str, path: str, **arguments: Any) -> Answer:
    """Send one request to the back end; 503 with a reason if it gives no usable answer."""
    headers = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    try:
        response = await send(request.app.state.backend, method, path, headers=headers, **arguments)
        data = response.json()
    except (httpx.HTTPError, ValueError):
        return Answer(503, None, {}, "No back end answers.")
    if not isinstance(data, dict):
        return Answer(502, None, {}, "The back end sent something else than expected.")
    error = None
    if response.is_error:
        error = str(data.get("error") or f"The back end answered {response.status_code}.")
    return Answer(response.status_code, data.get("backend"), data, error)


async def render(
    request: Request, answer: Answer, form: dict | None = None, problem: str | None = None, status: int | None = None
) -> Response:
    """Return the page with the users of ``answer``, or with the reason why there are none."""
    headers = dict(SECURITY_HEADERS)
    status = status or answer.status
    if status == 503:
        headers["Retry-After"] = "2"
    return templates.TemplateResponse(
        request,
        "index.html",
        {"frontend": HOSTNAME, "answer": answer, "form": form or {}, "problem": problem},
        status_code=status,
        headers=headers,
    )


async def index(request: Request) -> Response:
    """Show the users."""
    return await render(request, await ask_backend(request, "GET", "/"))


async def add_user(request: Request) -> Response:
    """Add the user of the form, then show the page; a refused one stays in the form with the reason."""
    async with request.form(max_fields=10, max_files=0) as fields:
        form = {name: str(fields.get(name, "")) for name in ("name", "email")}
    added = await ask_backend(request, "POST", "/users", json=form)
    if added.error is None:
        return RedirectResponse("/", status_code=303)
    return await render(request, await ask_backend(request, "GET", "/"), form, added.error, added.status)


async def healthz(_request: Request) -> Response:
    """Tell that this process serves requests."""
    return JSONResponse({"status": "ok", "frontend": HOSTNAME})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold one pool of connections to the back end for as long as the application runs."""
    transport = httpx.AsyncHTTPTransport(
        # A refused connection is tried again.
        retries=2,
        socket_options=SOCKET_OPTIONS,
        # Shorter than the load balancer keeps an idle connection, so that none is used while it closes.
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4),
    )
    async with httpx.AsyncClient(base_url=BACKEND_URL, timeout=TIMEOUT, transport=transport) as client:
        app.state.backend = client
        yield


app = Starlette(
    routes=[
        Route("/", index),
        Route("/users", add_user, methods=["POST"]),
        Route("/healthz", healthz),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ],
    lifespan=lifespan,
)
