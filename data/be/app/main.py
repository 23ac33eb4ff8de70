"""The sample back end: ``GET /`` lists users, ``POST /users`` adds one, ``GET /healthz`` is the health check.

Without the database the first two answer 503; ``/healthz`` stays 200, because removing every back
end from the load balancer would not bring the database back.
"""

import os
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from app.database import EMAIL_LENGTH, NAME_LENGTH, create_pool, users
from app.refusals import HOSTNAME, explain_refusals

# MySQL's error number for a value that exists already.
DUPLICATE_ENTRY = 1062

app = FastAPI(title="Sample back end", docs_url=None, redoc_url=None)
explain_refusals(app)
pool = create_pool()
Text = StringConstraints(strict=True, strip_whitespace=True)


class NewUser(BaseModel):
    """A user to be added."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Text, Field(min_length=1, max_length=NAME_LENGTH)]
    email: Annotated[
        str,
        Text,
        StringConstraints(to_lower=True, min_length=3, max_length=EMAIL_LENGTH, pattern=r"^[^@\s]+@[^@\s]+$"),
        Field(description="Unique among all users."),
    ]


@app.get("/")
def list_users(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict:
    """Return this back end's host name and the newest users, at most ``limit`` of them."""
    with pool.connect() as connection:
        rows = connection.execute(select(users).order_by(users.c.id.desc()).limit(limit)).mappings().all()
    return {"backend": HOSTNAME, "users": [dict(row) for row in rows]}


@app.post("/users", status_code=201)
def add_user(user: NewUser) -> dict:
    """Add a user and return it with its number; 409 if the e-mail address exists."""
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
    """Answer that this process serves; the database is not asked."""
    return {"status": "ok", "backend": HOSTNAME, "pid": os.getpid()}
