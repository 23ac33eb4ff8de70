"""The users table and a connection pool that survives restarts of the database."""

import os
from pathlib import Path

from sqlalchemy import URL, Column, DateTime, Engine, Integer, MetaData, String, Table, create_engine, func

NAME_LENGTH = 80
EMAIL_LENGTH = 254

users = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("email", String(EMAIL_LENGTH), nullable=False, unique=True),
    Column("created_at", DateTime, nullable=False, server_default=func.now()),
)


def password() -> str:
    """Return the database password from ``DATABASE_PASSWORD_FILE`` or ``DATABASE_PASSWORD``.

    Raises:
        OSError: the file cannot be read.
    """
    path = os.environ.get("DATABASE_PASSWORD_FILE")
    return Path(path).read_text(encoding="utf-8").rstrip("\n") if path else os.environ.get("DATABASE_PASSWORD", "")


def create_pool() -> Engine:
    """Return an engine whose pool tests a connection before lending it and waits at most 3 s for one.

    Nothing is connected until the first request, so the back end starts while the database is away.
    """
    return create_engine(
        URL.create(
            "mysql+pymysql",
            username=os.environ.get("DATABASE_USER", "app"),
            password=password(),
            host=os.environ.get("DATABASE_HOST", "db"),
            port=int(os.environ.get("DATABASE_PORT", "3306")),
            database=os.environ.get("DATABASE_NAME", "app"),
            query={"charset": "utf8mb4"},
        ),
        pool_size=int(os.environ.get("DATABASE_POOL_SIZE", "5")),
        max_overflow=0,
        pool_timeout=3,
        pool_pre_ping=True,
        pool_recycle=600,
        connect_args={"connect_timeout": 2, "read_timeout": 5, "write_timeout": 5},
    )
