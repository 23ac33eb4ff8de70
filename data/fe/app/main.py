"""The sample front end: ``GET /`` is the page, ``POST /users`` its form, ``GET /healthz`` the health check."""

import socket
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from app import backend

HOSTNAME = socket.gethostname()
HERE = Path(__file__).parent
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

templates = Jinja2Templates(directory=HERE / "templates")


async def render(
    request: Request, answer: backend.Answer, form: dict | None = None, problem: str | None = None, status: int | None = None
) -> Response:
    """Return the page with the users of ``answer``, or with the reason why there are none."""
    status = status or answer.status
    return templates.TemplateResponse(
        request,
        "index.html",
        {"frontend": HOSTNAME, "answer": answer, "form": form or {}, "problem": problem},
        status_code=status,
        headers=SECURITY_HEADERS | ({"Retry-After": "2"} if status == 503 else {}),
    )


async def index(request: Request) -> Response:
    """Show the users."""
    return await render(request, await backend.ask(request, "GET", "/"))


async def add_user(request: Request) -> Response:
    """Add the user of the form, then show the page; a refused one stays in the form with the reason."""
    async with request.form(max_fields=10, max_files=0) as fields:
        form = {name: str(fields.get(name, "")) for name in ("name", "email")}
    added = await backend.ask(request, "POST", "/users", json=form)
    if added.error is None:
        return RedirectResponse("/", status_code=303)
    return await render(request, await backend.ask(request, "GET", "/"), form, added.error, added.status)


async def healthz(_request: Request) -> Response:
    """Answer that this process serves; the back end is not asked."""
    return JSONResponse({"status": "ok", "frontend": HOSTNAME})


app = Starlette(
    routes=[
        Route("/", index),
        Route("/users", add_user, methods=["POST"]),
        Route("/healthz", healthz),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ],
    lifespan=backend.lifespan,
)
