"""HTTP interface of the sample back end.

``GET /`` lists the users, ``POST /users`` adds one, ``GET /healthz`` tells that the process serves.
While the database is away the first two answer 503 with a reason; ``/healthz`` stays 200, because
taking every back end out of the load balancer would not bring the database back.
"""

import logging
import os
import socket
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from app.database import EMAIL_LENGTH, NAME_LENGTH, create_pool, users

HOSTNAME = socket.gethostname()
# MySQL's number for a value that is there already.
DUPLICATE_ENTRY = 1062

log = logging.getLogger("uvicorn.error")
app = FastAPI(title="Sample back end", docs_url=None, redoc_url=None)
pool = create_pool()


class NewUser(BaseModel):
    """A user to be added."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=NAME_LENGTH)]
    email: Annotated[
        str,
        StringConstraints(
            strict=True,
            strip_whitespace=True,
            to_lower=True,
            min_length=3,
            max_length=EMAIL_LENGTH,
            pattern=r"^[^@\s]+@[^@\s]+$",
        ),
        Field(description="Unique among all users."),
    ]


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a JSON answer that says which back end refused and why."""
    return JSONResponse({"backend": HOSTNAME, "error": reason}, status_code=status, headers=headers)


@app.exception_handler(RequestValidationError)
async def explain_invalid_input(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer 422 with one sentence for each field that is wrong."""
    reasons = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"][1:] if not isinstance(part, int))
        reasons.append(f"{field}: {item['msg']}" if field else item["msg"])
    return refusal(422, "; ".join(reasons))


@app.exception_handler(HTTPException)
async def explain_refusal(_request: Request, error: HTTPException) -> JSONResponse:
    """Answer with the reason of a refusal."""
    return refusal(error.status_code, str(error.detail))


@app.exception_handler(SQLAlchemyError)
async def explain_missing_database(_request: Request, error: SQLAlchemyError) -> JSONResponse:
    """Answer 503 while the database is away; the reason in the log is not shown to clients."""
    # The driver's own message, without the statement: that would repeat what the user typed.
    log.warning("database error: %s", error.orig if isinstance(error, DBAPIError) else error)
    return refusal(503, "The database is not available, try again in a few seconds.", {"Retry-After": "2"})


@app.get("/")
def list_users(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict:
    """Return this back end's host name and the newest users, at most ``limit`` of them."""
    with pool.connect() as connection:
        rows = connection.execute(select(users).order_by(users.c.id.desc()).limit(limit)).mappings().all()
    return {"backend": HOSTNAME, "users": [dict(row) for row in rows]}


@app.post("/users", status_code=201)
def add_user(user: NewUser) -> dict:
    """Add a user and return it with its number; 409 if the e-mail address is taken."""
    try:
        with pool.begin() as connection:
            key = connection.execute(insert(users).values(**user.model_dump())).inserted_primary_key[0]
    except IntegrityError as error:
        if error.orig and error.orig.args[0] == DUPLICATE_ENTRY:
            raise HTTPException(409, f"email: {user.email} is already there") from error
        raise
    return {"backend": HOSTNAME, "user": {"id": key, **user.model_dump()}}


@app.get("/healthz")
async def healthz() -> dict:
    """Tell that this process serves requests; says nothing about the database."""
    return {"status": "ok", "backend": HOSTNAME, "pid": os.getpid()}
