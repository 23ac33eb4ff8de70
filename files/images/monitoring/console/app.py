"""The page and what it asks for."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from console import state
from console.prometheus import Prometheus, PrometheusError, Series

STATIC = Path(__file__).with_name("static")
# Seconds that are looked back on for events, and between two points of that.
LOOK_BACK = 3600
STEP = 10
# Seconds for which that serves every reader.
KEPT = 10
# Points of a chart.
POINTS = 180
# Services of the application each have a line, those of monitoring one together.
OWN = f'service=~"{"|".join(state.SERVICES)}"'
OTHERS = f'service!~"{"|".join(state.SERVICES)}"'
# What a chart shows: unit, how numbers are written (d3-format), and the expressions by the names of their lines, in which
# {} stands for a label's value.
CHARTS: dict[str, dict[str, Any]] = {
    "requests": {
        "title": "Requests per second",
        "unit": "",
        "format": ",.3~r",
        "lines": {"{load_balancer}": "load_balancer:requests:rate", "{load_balancer}, failed": "load_balancer:errors:rate"},
    },
    "latency": {
        "title": "Response time",
        "unit": "s",
        "format": ".3~s",
        "lines": {
            "{load_balancer}, 95 %": "load_balancer:latency_seconds:p95",
            "{load_balancer}, half": "load_balancer:latency_seconds:p50",
        },
    },
    "cpu": {
        "title": "CPU, of one processor",
        "unit": " %",
        "format": ",.3~r",
        "lines": {
            "{service}": f"100 * sum by (service) (container:cpu_usage:rate{{{OWN}}})",
            "monitoring": f"100 * sum(container:cpu_usage:rate{{{OTHERS}}})",
        },
    },
    "memory": {
        "title": "Memory",
        "unit": "B",
        "format": ".3~s",
        "lines": {
            "{service}": f"sum by (service) (container_memory_working_set_bytes{{{OWN}}})",
            "monitoring": f"sum(container_memory_working_set_bytes{{{OTHERS}}})",
        },
    },
    "replicas": {
        "title": "Replicas that get requests",
        "unit": "",
        "format": ",.3~r",
        "lines": {"{service}": "service:replicas:serving"},
    },
    "database": {
        "title": "Queries per second",
        "unit": "",
        "format": ",.3~r",
        "lines": {"db": "database:queries:rate"},
    },
}
SPANS = {"15": 900, "60": 3600, "360": 21600, "1440": 86400}


class Headers(BaseHTTPMiddleware):
    """Tells browsers to load nothing from elsewhere."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        """Add the headers to an answer."""
        answer = await call_next(request)
        policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; font-src 'self';"
        # The charts set their styles from their script.
        answer.headers["Content-Security-Policy"] = f"{policy} style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        if request.url.path.startswith("/api/"):
            answer.headers["Cache-Control"] = "no-store"
        return answer


class Console:
    """Answers the page."""

    def __init__(self, prometheus: Prometheus, stack: str) -> None:
        """Ask a Prometheus about a stack."""
        self._prometheus, self._stack = prometheus, stack
        self._before: tuple[float, float, dict[str, list[Series]]] = (0.0, 0.0, {})

    async def _look_back(self) -> tuple[float, float, dict[str, list[Series]]]:
        """Return begin, end and series of the time before, at most some seconds old."""
        moment = time.time()
        if moment - self._before[1] > KEPT:
            begin = moment - LOOK_BACK
            self._before = (begin, moment, await self._prometheus.over(begin, moment, STEP, **state.BEFORE))
        return self._before

    async def state(self, _: Request) -> JSONResponse:
        """Answer how everything is at this moment."""
        try:
            now = await self._prometheus.now(**state.NOW)
            begin, end, before = await self._look_back()
        except PrometheusError as error:
            return JSONResponse({"stack": self._stack, "error": str(error)}, status_code=503)
        shown, firing = state.services(now, before), state.alerts(now)
        return JSONResponse(
            {
                "stack": self._stack,
                "time": time.time(),
                "services": shown,
                "troubles": state.troubles(shown, now, firing),
                "alerts": firing,
                "events": state.events(before, begin, end, STEP),
            }
        )

    async def charts(self, request: Request) -> JSONResponse:
        """Answer the lines of all charts."""
        span = SPANS.get(request.query_params.get("minutes", "15"), SPANS["15"])
        end = time.time()
        step = max(5, span // POINTS)
        names = {
            f"{chart}_{place}": (chart, name) for chart, item in CHARTS.items() for place, name in enumerate(item["lines"])
        }
        expressions = {key: CHARTS[chart]["lines"][name] for key, (chart, name) in names.items()}
        try:
            found = await self._prometheus.over(end - span, end, step, **expressions)
        except PrometheusError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        charts = [{**item, "name": name, "lines": []} for name, item in CHARTS.items()]
        for key, series in found.items():
            chart, template = names[key]
            lines = next(item["lines"] for item in charts if item["name"] == chart)
            for item in series:
                label = template.format(**item.labels) if "{" in template else template
                lines.append({"name": label, "points": item.points})
        return JSONResponse({"begin": end - span, "end": end, "charts": charts})


async def page(_: Request) -> FileResponse:
    """Answer the page itself."""
    return FileResponse(STATIC / "index.html")


async def healthy(_: Request) -> Response:
    """Answer that this process serves."""
    return Response("well\n", media_type="text/plain")


def create(prometheus: Prometheus, stack: str) -> Starlette:
    """Return the application."""
    console = Console(prometheus, stack)
    # Found without being imported, which would take memory for nothing.
    library = Path(find_spec("plotly").submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return Starlette(
        routes=[
            Route("/", page),
            Route("/healthz", healthy),
            Route("/api/state", console.state),
            Route("/api/charts", console.charts),
            Route("/plotly.min.js", lambda _: FileResponse(library, headers={"Cache-Control": "max-age=86400"})),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            # Another site that a browser takes for this address gets nothing.
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(GZipMiddleware),
            Middleware(Headers),
        ],
    )
