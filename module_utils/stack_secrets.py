"""Keep secrets off the screen: find those that variables hold, and mask them in what is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "********"
# Variables that are secrets, and dictionaries that may hold some, by the ends of their names.
SECRET = re.compile(r"(?i)(?:password|passwd|_pass|passphrase|secret|secrets|token|webhook_url|api_key|secret_key)$")
ENVIRONMENT = re.compile(r"(?i)environment$")
# A variable of an environment that is a secret by its name, and a value that looks like one.
SECRET_KEY = re.compile(r"(?i)pass|secret|token|key|cred|auth|dsn|webhook|salt|jwt|private")
TOKEN = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[^\s/.]{16,}|https?://hooks\..*")
# What is a secret wherever it stands: a private key, what lets a node into a Swarm, user and password of a URL, and a
# variable of an environment in a Compose file, where a diff has the value of before as well.
ANYWHERE = re.compile(
    r"(?P<begin>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?P<end>-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?P<swarm>SWM(?:TKN|KEY)-)[\w-]+"
    r"|(?P<variable>\"[A-Z0-9_]*(?:PASS|SECRET|TOKEN|KEY|CRED|DSN|WEBHOOK|SALT|JWT|PRIVATE)[A-Z0-9_]*(?<!_FILE)\": \")"
    r"(?:[^\"\\]|\\.)+(?=\")"
    r"|(?P<url>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^\s/@'\"]*:[^\s/@'\"]+(?=@)",
    re.DOTALL,
)
# Shorter ones are masked as whole words alone: they are part of many others.
LONG = 8


def is_secret(name: str) -> bool:
    """Tell whether a variable is a secret, or may hold some, by its name."""
    return bool(SECRET.search(name) or ENVIRONMENT.search(name))


def secret_values(name: str, value: Any) -> set[str]:
    """Return the secrets in the value of a variable for which ``is_secret`` holds."""
    if isinstance(value, dict):
        every = SECRET.search(name)
        hidden = [item for key, item in value.items() if every or SECRET_KEY.search(str(key)) or TOKEN.fullmatch(str(item))]
    else:
        hidden = [] if ENVIRONMENT.search(name) else [value]
    return {str(item) for item in hidden if isinstance(item, (str, int)) and not isinstance(item, bool)} - {""}


def spellings(secret: str) -> set[str]:
    """Return how a secret may be spelt in what is printed: in JSON, YAML, a Compose file, a URL, or by its lines."""
    found = {secret, secret.replace("$", "$$"), secret.replace("'", "''"), quote(secret, safe=""), repr(secret)[1:-1]}
    for text in list(found):
        found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return found | {line for line in secret.splitlines() if len(line) >= LONG}


class Masks:
    """Replaces secrets in texts."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern | None = None

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these as well from now on."""
        self._known |= {spelling for secret in secrets for spelling in spellings(secret)}
        parts = [
            re.escape(text) if len(text) >= LONG else rf"(?<!\w){re.escape(text)}(?!\w)"
            # A secret that is the beginning of another one must not leave the rest of that.
            for text in sorted(self._known, key=len, reverse=True)
        ]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def apply(self, text: str) -> str:
        """Return the text without secrets."""
        if self._pattern:
            text = self._pattern.sub(MASK, text)
        return ANYWHERE.sub(_mask, text)


def _mask(match: re.Match) -> str:
    """Return what takes the place of a secret that is known by its form."""
    before = match["begin"] or match["swarm"] or match["variable"] or match["url"]
    return before + MASK + (match["end"] or "")
