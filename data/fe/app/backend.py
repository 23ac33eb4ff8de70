"""The connection to the back end: one pool, retries of requests that change nothing, and an answer or a reason."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from starlette.applications import Starlette
from starlette.requests import Request

BACKEND_URL = os.environ.get("BACKEND_URL", "http://be-lb")
# Seconds that one request waits for the back end; in development a debugger may hold it.
TIMEOUT = httpx.Timeout(10 if os.environ.get("APP_MODE", "production") == "production" else 3600, connect=2, pool=2)
# A lost machine closes no connection. After 2 s without an acknowledgement the connection fails.
SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000),
]
# How often a request is sent when its connection fails, and the seconds before the last of three tries if nobody took it.
TRIES, PAUSE = 3, 0.5
# The transport says ConnectTimeout of a connection that was closed before the answer, too.
CONNECTION_FAILED = (httpx.NetworkError, httpx.ConnectTimeout, aiohttp.ClientResponseError)
# Causes of those where nothing was sent.
NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Headers of the edge that the back end receives, so that a request can be traced.
FORWARDED_HEADERS = ("x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")


@dataclass
class Answer:
    """The back end's answer: HTTP status, its host name, and its data or the reason of a refusal."""

    status: int
    backend: str | None
    data: dict
    error: str | None


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold one pool of connections to the back end for as long as the application runs."""
    connector = aiohttp.TCPConnector(
        # The load balancer limits how many requests come at a time.
        limit=0,
        # Shorter than the load balancer keeps an idle connection, so that none is used while it closes.
        keepalive_timeout=4,
        # The address changes with the container.
        use_dns_cache=False,
        socket_factory=new_socket,
    )
    # httpx's own transport looks at all connections for each request: with 64 at a time that takes four times as long.
    transport = AiohttpTransport(client=aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()))
    async with httpx.AsyncClient(base_url=BACKEND_URL, timeout=TIMEOUT, transport=transport) as client:
        app.state.backend = client
        yield


def new_socket(address: tuple) -> socket.socket:
    """Return a socket for an address as ``getaddrinfo`` gives it."""
    made = socket.socket(*address[:3])
    for option in SOCKET_OPTIONS:
        made.setsockopt(*option)
    return made


async def send(backend: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Send a request, and again when its connection fails: a GET to another back end, others only if they were not sent.

    A GET is also sent again once when the answer is late: the back end may be on a lost machine.
    """
    late = False
    for tried in range(TRIES - 1):
        try:
            return await backend.request(method, path, **arguments)
        except CONNECTION_FAILED as error:
            if isinstance(error.__cause__, NOT_CONNECTED):
                # Its container may be on the way.
                await asyncio.sleep(PAUSE * tried)
            elif method != "GET":
                raise
        except httpx.ReadTimeout:
            if method != "GET" or late:
                raise
            late = True
    return await backend.request(method, path, **arguments)


async def ask(request: Request, method: str, path: str, **arguments: Any) -> Answer:
    """Send one request to the back end; without a usable answer return 502 or 503 with a reason."""
    headers = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    try:
        response = await send(request.app.state.backend, method, path, headers=headers, **arguments)
        data = response.json()
    except (httpx.HTTPError, aiohttp.ClientError, ValueError):
        return Answer(503, None, {}, "No back end answers.")
    if not isinstance(data, dict):
        return Answer(502, None, {}, "The back end's answer is not a JSON object.")
    error = None
    if response.is_error:
        error = str(data.get("error") or f"The back end answered {response.status_code}.")
    return Answer(response.status_code, data.get("backend"), data, error)
