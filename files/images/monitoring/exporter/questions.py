"""Answers what the console asks beside metrics: events, the end of a log, requests by path. All of it is JSON."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException

from exporter import logs
from exporter.engine import Engine

# What runs of the playbook and the watchdog have written down.
HISTORY = Path("/var/lib/history/events.jsonl")
Answer = tuple[str, dict[str, Any]]


def history(path: Path = HISTORY) -> list[dict[str, Any]]:
    """Return what has happened, the oldest first; lines that are no events are left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
            event["time"], event["text"], event["kind"] = float(event["time"]), str(event["text"]), str(event["kind"])
        except (ValueError, KeyError, TypeError):
            # Cut off where the file was made shorter.
            continue
        found.append(event)
    return found


class Questions:
    """A WSGI application in front of that of the metrics."""

    def __init__(self, engine: Engine, metrics: Callable[..., Iterable[bytes]]) -> None:
        """Ask ``engine``; what is no question of the console is left to ``metrics``."""
        self._engine, self._metrics = engine, metrics
        self._known = {"/events": self.events, "/logs": self.log, "/requests": self.requests}

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one question."""
        answer = self._known.get(environment["PATH_INFO"])
        if not answer or environment["REQUEST_METHOD"] != "GET":
            return self._metrics(environment, start)
        parameters = dict(urllib.parse.parse_qsl(environment.get("QUERY_STRING", "")))
        try:
            status, content = answer(parameters)
        except APIError as error:
            off = error.status_code == 403
            text = "Logs are switched off (monitoring_show_logs)." if off else f"The engine refuses: {error.explanation}"
            status, content = "403 Forbidden" if off else "502 Bad Gateway", {"error": text}
        except (DockerException, requests.RequestException):
            status, content = "502 Bad Gateway", {"error": "The engine does not answer."}
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(content).encode()]

    def events(self, _: dict[str, str]) -> Answer:
        """Answer what has happened."""
        return "200 OK", {"events": history()}

    def log(self, parameters: dict[str, str]) -> Answer:
        """Answer the end of a container's log."""
        found = self._engine.find(parameters.get("name", ""))
        if not found:
            return "404 Not Found", {"error": "There is no such container."}
        text = self._engine.logs(found["Id"], logs.LINES)
        return "200 OK", {"lines": logs.lines(text, found["Config"].get("Env") or [])}

    def requests(self, _: dict[str, str]) -> Answer:
        """Answer the requests of the last minutes by path, as the edge has written them down."""
        begin, rows = int(time.time()) - logs.RECENT, []
        for identity in self._engine.running("fe-lb"):
            rows += logs.by_path(self._engine.logs(identity, logs.REQUESTS, begin))
        return "200 OK", {"requests": rows}
