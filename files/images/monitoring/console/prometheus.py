"""Questions to Prometheus."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import httpx

# Seconds that an answer may take.
TIMEOUT = 5.0

Labels = dict[str, str]
# Seconds of the epoch and a value.
Point = tuple[float, float]


class PrometheusError(Exception):
    """Prometheus does not answer, or refuses the question; the text says which."""


@dataclass(frozen=True)
class Series:
    """One series: its labels and its points, the newest last."""

    labels: Labels
    points: list[Point]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class Prometheus:
    """Asks one Prometheus."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Ask the server at ``url``."""
        self._client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, transport=transport)

    async def _ask(self, path: str, **parameters: str | float) -> dict[str, Any]:
        """Return the data of an answer (PrometheusError: see there)."""
        try:
            # Expressions may be long; what has no parameters is asked for by GET alone.
            method = "POST" if parameters else "GET"
            answer = await self._client.request(method, f"/api/v1/{path}", data=parameters or None)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise PrometheusError(f"Prometheus does not answer{f': {error}' if str(error) else ''}") from error
        if content.get("status") != "success":
            raise PrometheusError(f"Prometheus refuses a question: {content.get('error')}")
        return content["data"]

    async def _series(self, path: str, **parameters: str | float) -> list[Series]:
        """Return the series of an answer (PrometheusError: see there)."""
        series = []
        for item in (await self._ask(path, **parameters))["result"]:
            points = [(moment, float(value)) for moment, value in item.get("values") or [item["value"]]]
            # A share of nothing is no number, and JSON knows none such.
            points = [point for point in points if math.isfinite(point[1])]
            if points:
                series.append(Series(item["metric"], points))
        return series

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire or are about to: labels, annotations, state and since when.

        Raises:
            PrometheusError: see there.
        """
        return (await self._ask("alerts"))["alerts"]

    async def value(self, expression: str) -> float | None:
        """Return the only value of an expression at this moment; None: there is none (PrometheusError: see there)."""
        return next((series.value for series in await self._series("query", query=expression)), None)

    async def now(self, **metrics: str) -> dict[str, list[Series]]:
        """Return the series of each metric at this moment, by its name here; it is one question.

        Raises:
            PrometheusError: see there.
        """
        names = {metric: name for name, metric in metrics.items()}
        found: dict[str, list[Series]] = {name: [] for name in metrics}
        for series in await self._series("query", query=f'{{__name__=~"{"|".join(names)}"}}'):
            found[names[series.labels["__name__"]]].append(series)
        return found

    async def over(self, begin: float, end: float, step: float, **expressions: str) -> dict[str, list[Series]]:
        """Return what each expression was from ``begin`` to ``end`` every ``step`` seconds, by its name.

        Raises:
            PrometheusError: see there.
        """
        span = {"start": begin, "end": end, "step": step}
        found = await asyncio.gather(*(self._series("query_range", query=text, **span) for text in expressions.values()))
        return dict(zip(expressions, found, strict=True))
