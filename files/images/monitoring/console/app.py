"""The page and what it asks for."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from console import history, runbook, state
from console.exporter import Exporter
from console.prometheus import Prometheus, PrometheusError

STATIC = Path(__file__).with_name("static")
# Points of a chart.
POINTS = 180
# Seconds that a chart shows at least, and at most: ten years.
SHORTEST, LONGEST = 60.0, 3.2e8
# Rows of requests that are shown.
ROWS = 15
# Seconds for which an answer about requests serves every reader: the edge's log is read for it.
KEPT = 10
# The oldest sample that is kept, seconds of the epoch.
OLDEST = "min(prometheus_tsdb_lowest_timestamp_seconds)"
# Charts by name; how numbers are written is a d3-format.
CHARTS = {
    "requests": {"title": "Requests per second", "unit": "", "format": ",.3~r"},
    "latency": {"title": "Response time", "unit": "s", "format": ".3~s"},
    "cpu": {"title": "CPU, of one processor", "unit": " %", "format": ",.3~r"},
    "memory": {"title": "Memory", "unit": " MiB", "format": ",.3~r"},
    "replicas": {"title": "Replicas in rotation", "unit": "", "format": ",.3~r"},
    "database": {"title": "Queries per second", "unit": "", "format": ",.3~r"},
}
# Services of the application each have a line, those of monitoring one together.
OWN, OTHERS = "and on (service) stack_containers_wanted", "unless on (service) stack_containers_wanted"
# Lines: the chart, the name, the service whose colour it has (failed: that of failures), whether it is dashed, and the
# expression. In name and service {} stands for a label's value.
LINES = (
    ("requests", "{load_balancer}", "{load_balancer}", False, "load_balancer:requests:rate"),
    ("requests", "{load_balancer}, failed", "failed", False, "load_balancer:errors:rate"),
    ("latency", "{load_balancer}, 95 %", "{load_balancer}", False, "load_balancer:latency_seconds:p95"),
    ("latency", "{load_balancer}, half", "{load_balancer}", True, "load_balancer:latency_seconds:p50"),
    ("cpu", "{service}", "{service}", False, f"100 * sum by (service) (container:cpu_usage:rate {OWN})"),
    ("cpu", "monitoring", "monitoring", False, f"100 * sum(container:cpu_usage:rate {OTHERS})"),
    ("memory", "{service}", "{service}", False, f"sum by (service) (container_memory_working_set_bytes {OWN}) / 2^20"),
    ("memory", "monitoring", "monitoring", False, f"sum(container_memory_working_set_bytes {OTHERS}) / 2^20"),
    ("replicas", "{service}", "{service}", False, "service:replicas:serving"),
    ("database", "db", "db", False, "database:queries:rate"),
)


async def add_headers(request: Request, call_next: Any) -> Response:
    """Tell a browser with an answer to load nothing from elsewhere."""
    answer = await call_next(request)
    policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; font-src 'self';"
    # The charts set their styles from their script.
    answer.headers["Content-Security-Policy"] = f"{policy} style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    if request.url.path.startswith("/api/"):
        answer.headers["Cache-Control"] = "no-store"
    return answer


def span(given: Mapping[str, str], now: float) -> tuple[float, float]:
    """Return begin and end of the time that is asked for: from ``begin`` to ``end``, or the ``last`` seconds.

    Raises:
        ValueError: it is none.
    """
    end = min(float(given.get("end", now)), now)
    begin = float(given.get("begin", end - float(given.get("last", 3600))))
    if not (math.isfinite(begin) and math.isfinite(end) and 0 <= begin < end) or end - begin > LONGEST:
        raise ValueError
    return min(begin, end - SHORTEST), end


class Console:
    """Answers the page."""

    def __init__(self, prometheus: Prometheus, exporter: Exporter, stack: str, tiers: list[dict[str, str]]) -> None:
        """Ask a Prometheus and an exporter about a stack with ``tiers`` (see ``state.sketch``)."""
        self._prometheus, self._exporter, self._stack = prometheus, exporter, stack
        self._sketch = state.sketch(tiers)
        # When Prometheus has answered last.
        self._answered: float | None = None
        self._requests: tuple[float, list[dict[str, Any]]] = (0.0, [])

    async def _written(self) -> list[history.Event]:
        """Return what was written down where it happened."""
        answers = await self._exporter.ask("/events")
        return sorted((event for answer in answers for event in answer.get("events", [])), key=lambda event: event["time"])

    async def state(self, _: Request) -> JSONResponse:
        """Answer how everything is at this moment."""
        try:
            now, told, written = await asyncio.gather(
                self._prometheus.now(**state.NOW), self._prometheus.alerts(), self._written()
            )
            now["state"] = [series for series in now["state"] if series.value]
            seen = max((series.value for series in now["seen"]), default=0.0) or await self._prometheus.value(
                state.LAST_SEEN
            )
        except PrometheusError as error:
            return JSONResponse({"stack": self._stack, "error": f"{error}.", "since": self._answered}, status_code=503)
        moment = self._answered = time.time()
        shown, alerts = state.services(self._sketch, now, moment), state.alerts(told)
        return JSONResponse(
            {
                "stack": self._stack,
                "time": moment,
                "services": shown,
                "troubles": state.troubles(shown, now, alerts, seen, moment),
                "alerts": [alert for alert in alerts if alert["fires"]],
                "work": history.at_work(written, moment),
            }
        )

    async def past(self, request: Request) -> JSONResponse:
        """Answer the lines of all charts, and what has happened meanwhile."""
        try:
            if request.query_params.get("last") == "all":
                end = time.time()
                begin = min(await self._prometheus.value(OLDEST) or end, end - SHORTEST)
            else:
                begin, end = span(request.query_params, time.time())
        except ValueError:
            error = "begin, end: give two times in seconds of the epoch, the earlier one first, or last: seconds."
            return JSONResponse({"error": error}, status_code=400)
        except PrometheusError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        step = max(5, math.ceil((end - begin) / POINTS))
        try:
            # The points always lie on the same moments, so that nothing moves from one look to the next.
            first, last = begin // step * step, end // step * step
            found, written = await asyncio.gather(
                self._prometheus.over(first, last, step, **{line[4]: line[4] for line in LINES}, **history.QUERIES),
                self._written(),
            )
        except PrometheusError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        charts = {name: {**facts, "name": name, "lines": []} for name, facts in CHARTS.items()}
        colours = {"failed": "bad"} | {name: facts["colour"] for name, facts in self._sketch.items()}
        edge = next(iter(self._sketch))
        for chart, name, service, dashed, expression in LINES:
            for series in found[expression]:
                line = {"name": name.format(**series.labels), "points": series.points}
                line["colour"] = colours.get(service.format(**series.labels), "monitoring")
                # A failure is red whichever tier it is of; that of an inner balancer is dashed.
                line["dashed"] = dashed or (service == "failed" and series.labels["load_balancer"] != edge)
                charts[chart]["lines"].append(line)
        happened = history.events(written, found, begin, end, step)
        return JSONResponse(
            {
                "begin": begin,
                "end": end,
                "step": step,
                "charts": list(charts.values()),
                "events": happened,
                "marks": history.marks(happened),
                "releases": [event for event in reversed(written) if event["kind"] == "release"][: history.EVENTS],
            }
        )

    async def log(self, request: Request) -> JSONResponse:
        """Answer the last lines of a container's log."""
        answers = await self._exporter.ask("/logs", name=request.query_params.get("name", ""))
        found = next((answer for answer in answers if "lines" in answer), None)
        return JSONResponse(found or answers[0], status_code=200 if found else 404)

    async def requests(self, _: Request) -> JSONResponse:
        """Answer the slowest and the failing requests of the last minutes, by path."""
        if time.time() - self._requests[0] > KEPT:
            self._requests = (time.time(), await self._exporter.ask("/requests"))
        answers = self._requests[1]
        if all("error" in answer for answer in answers):
            return JSONResponse(answers[0], status_code=503)
        rows: dict[str, dict[str, Any]] = {}
        for row in (row for answer in answers for row in answer.get("requests", [])):
            known = rows.setdefault(row["path"], {**row, "statuses": Counter(), "requests": 0, "failed": 0, "seconds": 0.0})
            for key in ("requests", "failed", "seconds"):
                known[key] += row[key]
            known["slowest"] = max(known["slowest"], row["slowest"])
            known["statuses"].update(row["statuses"])
        slowest = sorted(rows.values(), key=lambda row: -row["slowest"])
        # Both kinds have room.
        failing = sorted(filter(itemgetter("failed"), slowest), key=lambda row: -row["failed"])[: ROWS // 2]
        shown = failing + [row for row in slowest if row not in failing][: ROWS - len(failing)]
        return JSONResponse({"requests": shown, "paths": len(rows)})


async def page(_: Request) -> FileResponse:
    """Answer the page itself."""
    return FileResponse(STATIC / "index.html")


async def runbook_page(_: Request) -> Response:
    """Answer the runbook."""
    try:
        return HTMLResponse(runbook.page(runbook.PATH.read_text(encoding="utf-8")))
    except OSError:
        return Response("There is no runbook here; see docs/runbook.md.\n", status_code=404, media_type="text/plain")


async def healthy(_: Request) -> Response:
    """Answer that this process serves."""
    return Response("well\n", media_type="text/plain")


def create(prometheus: Prometheus, exporter: Exporter, stack: str, tiers: list[dict[str, str]]) -> Starlette:
    """Return the application; its arguments are those of ``Console``."""
    console = Console(prometheus, exporter, stack, tiers)
    # Found without being imported, which would take memory for nothing.
    library = Path(find_spec("plotly").submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return Starlette(
        routes=[
            Route("/", page),
            Route("/healthz", healthy),
            Route("/runbook", runbook_page),
            Route("/api/state", console.state),
            Route("/api/past", console.past),
            Route("/api/log", console.log),
            Route("/api/requests", console.requests),
            Route("/plotly.min.js", lambda _: FileResponse(library, headers={"Cache-Control": "max-age=86400"})),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            # Another site that a browser takes for this address gets nothing.
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(GZipMiddleware),
            Middleware(BaseHTTPMiddleware, dispatch=add_headers),
        ],
    )
