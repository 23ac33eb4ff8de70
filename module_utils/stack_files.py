"""Files as modules and backups write them: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

# Bytes of randomness in a generated secret; as text it has about a third more characters.
SECRET_BYTES = 24


def new_secret() -> str:
    """Return a new secret, of letters, digits, - and _."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest(text: str, *others: str) -> str:
    """Return 16 hex digits that change with the texts."""
    return hashlib.sha256("\0".join((text, *others)).encode()).hexdigest()[:16]


def replace(path: Path, content: str | bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a file under a temporary name and put it in place in one step, readable to nobody else until then.

    Args:
        path: the file; its folder exists.
        content: what it shall hold; text is written as UTF-8.
        mode: its permissions.
        owner: its user and group, by number; None: who writes it.

    Raises:
        OSError: it could not be written; what was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.new")
    # What a run that broke off has left, or somebody else has laid there, is not written to.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        if owner:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    temporary.replace(path)
