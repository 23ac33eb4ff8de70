"""What the back end answers when it refuses or cannot: JSON with a reason, never a detail of the database."""

import logging
import socket

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

HOSTNAME = socket.gethostname()

log = logging.getLogger("uvicorn.error")


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a JSON answer with the reason and this back end's host name."""
    return JSONResponse({"backend": HOSTNAME, "error": reason}, status_code=status, headers=headers)


async def explain_invalid_input(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer 422 with one sentence for each invalid field."""
    reasons = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"][1:] if not isinstance(part, int))
        reasons.append(f"{field}: {item['msg']}" if field else item["msg"])
    return refusal(422, "; ".join(reasons))


async def explain_refusal(_request: Request, error: HTTPException) -> JSONResponse:
    """Answer with the status and the reason of a refusal."""
    return refusal(error.status_code, str(error.detail))


async def explain_missing_database(_request: Request, error: SQLAlchemyError) -> JSONResponse:
    """Answer 503 while the database is unavailable; the reason stands in the log."""
    # The driver's own message, without the statement: that would repeat what the user typed.
    log.warning("database error: %s", error.orig if isinstance(error, DBAPIError) else error)
    return refusal(503, "The database is not available, try again in a few seconds.", {"Retry-After": "2"})


def explain_refusals(app: FastAPI) -> None:
    """Register the answers with an application."""
    app.add_exception_handler(RequestValidationError, explain_invalid_input)
    app.add_exception_handler(HTTPException, explain_refusal)
    app.add_exception_handler(SQLAlchemyError, explain_missing_database)
