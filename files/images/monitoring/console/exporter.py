"""Questions to container-exporter, of which each host of a Swarm has one."""

from __future__ import annotations

import asyncio
import socket
import urllib.parse
from typing import Any

import httpx

# Seconds that an answer may take.
TIMEOUT = 8.0


class Exporter:
    """Asks every exporter that a name stands for."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Ask at ``url``."""
        self._url = urllib.parse.urlsplit(url)
        self._client = httpx.AsyncClient(timeout=TIMEOUT, transport=transport)

    async def ask(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Return the answer of each; one that cannot be had is ``{"error": why}``."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._url.hostname, self._url.port, family=socket.AF_INET, type=socket.SOCK_STREAM
            )
        except OSError:
            return [{"error": "container-exporter does not run."}]
        addresses = sorted({item[4] for item in found})
        return list(await asyncio.gather(*(self._answer(*address, path, parameters) for address in addresses)))

    async def _answer(self, host: str, port: int, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Return one answer."""
        try:
            answer = await self._client.get(f"{self._url.scheme}://{host}:{port}{path}", params=parameters)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return {"error": f"container-exporter does not answer{f': {error}' if str(error) else ''}."}
        return content if isinstance(content, dict) else {"error": "container-exporter does not answer."}
