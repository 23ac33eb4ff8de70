"""Makes out of series what the page shows: every container in its place, how it is and since when."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from console.prometheus import Labels, Point, Series

# What the page asks for this moment.
NOW = {
    "state": "container_state == 1",
    "health": "container_health_state",
    "rotation": "container_in_rotation",
    "started": "container_start_time_seconds",
    "restarts": "container_restarts_total",
    "cpu": "container:cpu_usage:rate",
    "cpu_limit": "container_spec_cpu_limit",
    "memory": "container_memory_working_set_bytes",
    "memory_limit": "container_spec_memory_limit_bytes",
    "rate": "container:requests:rate",
    "errors": "container:request_errors:rate",
    "response": "container_response_time_seconds",
    "wanted": "stack_containers_wanted",
    "requests": "load_balancer:requests:rate",
    "failures": "load_balancer:errors:rate",
    "p95": "load_balancer:latency_seconds:p95",
    "queries": "database:queries:rate",
    "mysql": "mysql_up",
    "alerts": 'ALERTS{alertstate="firing"}',
    "alerts_since": "ALERTS_FOR_STATE",
    "targets": "up",
}
# What it asks for the time before, for events and since when something is as it is.
BEFORE = {
    "state": 'container_state{state="running"}',
    "health": "container_health_state",
    "rotation": "container_in_rotation",
    "started": "container_start_time_seconds",
    "wanted": "stack_containers_wanted",
}
# In the order of the sketch, then what watches over it.
SERVICES = ("fe-lb", "fe", "be-lb", "be", "db")
BALANCER = {"fe-lb": "fe-lb", "fe": "fe-lb", "be-lb": "be-lb", "be": "be-lb"}
# Changes of a service that lie closer together than this, in seconds, are one event.
TOGETHER = 90
EVENTS = 30
# Containers that an event names one by one.
FEW = 3


def by_name(series: Iterable[Series], label: str = "name") -> dict[str, float]:
    """Return the newest values by a label."""
    return {item.labels[label]: item.value for item in series if label in item.labels}


def condition(state: str, health: float, rotation: float | None) -> tuple[str, str]:
    """Return how a container is (``well``, ``starting`` or ``bad``) and that in words."""
    if state != "running":
        return "bad", state
    if rotation == 0:
        return "bad", "gets no requests"
    if health == 0:
        return "starting", "not healthy"
    return "well", "gets requests" if rotation else "healthy" if health > 0 else "runs"


def since(points: list[Point]) -> float:
    """Return from when on the newest value has been what it is."""
    moment = points[-1][0]
    for earlier, value in reversed(points):
        if value != points[-1][1]:
            break
        moment = earlier
    return moment


def container(labels: Labels, now: dict[str, dict[str, float]], began: float) -> dict[str, Any]:
    """Return what the page shows of one container, by the labels of its state."""
    name, state = labels["name"], labels["state"]
    health, rotation = now["health"].get(name, -1), now["rotation"].get(name)
    level, words = condition(state, health, rotation)
    limit, cores = now["cpu_limit"].get(name, 0), now["cpu"].get(name)
    return {
        "name": name,
        "service": labels["service"],
        "image": labels["image"],
        # Where there are several hosts.
        "node": labels.get("node", ""),
        "level": level,
        "words": words,
        "since": began,
        "started": now["started"].get(name),
        "restarts": now["restarts"].get(name),
        "cpu": cores,
        "cpu_share": cores / limit if cores is not None and limit else None,
        "memory": now["memory"].get(name),
        "memory_share": now["memory"][name] / now["memory_limit"][name]
        if now["memory"].get(name) and now["memory_limit"].get(name)
        else None,
        "rate": now["rate"].get(name),
        "errors": now["errors"].get(name),
        "response": now["response"].get(name),
    }


def number(name: str) -> int:
    """Return the number in a container's name, for sorting: the last part, or in a Swarm the second one."""
    last = name.split(".")[1] if name.count(".") == 2 else name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def services(found: dict[str, list[Series]], before: dict[str, list[Series]]) -> list[dict[str, Any]]:
    """Return every service with its containers, those of the sketch first."""
    now = {name: by_name(series) for name, series in found.items()}
    wanted = by_name(found["wanted"], "service")
    changed: dict[str, float] = defaultdict(float)
    for name in ("state", "health", "rotation", "started"):
        for series in before[name]:
            changed[series.labels["name"]] = max(changed[series.labels["name"]], since(series.points))
    containers = defaultdict(list)
    for series in found["state"]:
        labels = series.labels
        containers[labels["service"]].append(container(labels, now, changed.get(labels["name"], 0.0)))
    balancers = {name: by_name(found[name], "load_balancer") for name in ("requests", "failures", "p95")}
    result = []
    for name in [*SERVICES, *sorted(set(containers) - set(SERVICES))]:
        balancer = BALANCER.get(name)
        result.append(
            {
                "service": name,
                "sketch": name in SERVICES,
                "wanted": wanted.get(name, 1),
                "containers": sorted(containers[name], key=lambda item: (number(item["name"]), item["node"])),
                "rate": balancers["requests"].get(balancer),
                "errors": balancers["failures"].get(balancer),
                "p95": balancers["p95"].get(balancer),
            }
        )
        if name == "db":
            result[-1]["rate"] = next((series.value for series in found["queries"]), None)
    return result


def alerts(found: dict[str, list[Series]]) -> list[dict[str, Any]]:
    """Return the alerts that fire, the oldest first."""
    began = {frozenset(series.labels.items()): series.value for series in found["alerts_since"]}
    result = []
    for series in found["alerts"]:
        labels = {key: value for key, value in series.labels.items() if key not in ("__name__", "alertstate")}
        key = frozenset({**labels, "__name__": "ALERTS_FOR_STATE"}.items())
        about = labels.get("name") or labels.get("service") or labels.get("load_balancer") or labels.get("job") or ""
        result.append(
            {"name": labels["alertname"], "severity": labels["severity"], "about": about, "since": began.get(key, 0.0)}
        )
    return sorted(result, key=lambda item: item["since"])


def troubles(
    shown: list[dict[str, Any]], found: dict[str, list[Series]], firing: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what is wrong at this moment, each with since when (0: for longer than is looked at)."""
    result = []
    for service in shown:
        result += [
            {"text": f"{item['name']}: {item['words']}", "since": item["since"], "level": item["level"]}
            for item in service["containers"]
            if item["level"] != "well"
        ]
        missing = int(service["wanted"] - len(service["containers"]))
        if missing > 0:
            result.append({"text": f"{service['service']}: {missing} missing", "since": 0, "level": "bad"})
    result += [
        {"text": f"no metrics of {series.labels['job']}", "since": 0, "level": "starting"}
        for series in found["targets"]
        if not series.value
    ]
    if any(not series.value for series in found["mysql"]):
        result.append({"text": "the database does not answer", "since": 0, "level": "bad"})
    for alert in firing:
        # What is told of a container or service already needs no second line.
        if not any(item["text"].startswith(f"{alert['about']}:") for item in result):
            level = "bad" if alert["severity"] == "critical" else "starting"
            text = f"{alert['name']} {alert['about']}".strip()
            result.append({"text": text, "since": alert["since"], "level": level})
    return result


def changes(points: list[Point]) -> Iterable[tuple[float, float, float]]:
    """Return each change of a series: when, from which value and to which."""
    for (_, old), (moment, new) in itertools.pairwise(points):
        if old != new:
            yield moment, old, new


def single_events(before: dict[str, list[Series]], begin: float, step: float) -> Iterable[tuple[float, str, str, str]]:
    """Return what has happened to single containers: when, service, name and what."""
    words = {
        ("state", 0): "stopped",
        ("state", 1): "runs again",
        ("health", 0): "unhealthy",
        ("health", 1): "healthy again",
        ("rotation", 0): "gets no requests",
        ("rotation", 1): "gets requests again",
    }
    for name in ("state", "health", "rotation"):
        for series in before[name]:
            new = series.points[0][0] > begin + step
            for place, (moment, _, value) in enumerate(changes(series.points)):
                # That a new container gets ready is no news.
                if (text := words.get((name, int(value)))) and not (new and value and place == 0):
                    yield moment, series.labels["service"], series.labels["name"], text
    for series in before["started"]:
        for moment, _, value in changes(series.points):
            if value:
                yield moment, series.labels["service"], series.labels["name"], "started again"


def together(happened: Iterable[tuple[float, str, str, str]]) -> Iterable[dict[str, Any]]:
    """Return events of single containers as the page shows them: one if the same happens to many at about the same time."""
    groups: dict[tuple[str, str], list[list[tuple[float, str]]]] = defaultdict(list)
    for moment, service, name, text in happened:
        known = groups[service, text]
        if known and moment - known[-1][-1][0] <= TOGETHER:
            known[-1].append((moment, name))
        else:
            known.append([(moment, name)])
    single: dict[tuple[float, str, str], list[str]] = defaultdict(list)
    for (service, text), known in groups.items():
        for group in known:
            names = {name for _, name in group}
            if len(names) > FEW:
                yield {"time": group[-1][0], "service": service, "text": f"{len(names)} of {service}: {text}"}
                continue
            for moment, name in group:
                single[moment, service, name].append(text)
    for (moment, service, name), texts in single.items():
        yield {"time": moment, "service": service, "text": f"{name}: {', '.join(texts)}"}


def set_events(before: dict[str, list[Series]], begin: float, end: float, step: float) -> Iterable[dict[str, Any]]:
    """Return when replicas of a service were added, removed or replaced."""
    # A container that is made anew can have its old name.
    lives: dict[str, dict[tuple[str, str], tuple[float, float]]] = defaultdict(dict)
    # What is there soon after the first look has not just come.
    first_look = min((series.points[0][0] for series in before["state"]), default=begin)
    begin = max(begin, first_look)
    for series in before["state"]:
        identity = (series.labels["name"], series.labels["id"])
        lives[series.labels["service"]][identity] = (series.points[0][0], series.points[-1][0])
    for service, names in lives.items():
        left = {last for _, last in names.values() if last < end - 2 * step}
        groups: list[list[float]] = []
        for moment in sorted({first for first, _ in names.values() if first > begin + step} | left):
            if groups and moment - groups[-1][-1] <= TOGETHER:
                groups[-1].append(moment)
            else:
                groups.append([moment])
        for group in groups:
            if group[-1] <= first_look + TOGETHER and not left & set(group):
                continue
            old = {name for name, (first, last) in names.items() if first < group[0] <= last + step}
            new = {name for name, (first, last) in names.items() if first <= group[-1] < last + step and last > group[-1]}
            gone, come = ([name for name, _ in sorted(some)] for some in (old - new, new - old))
            if not old:
                text = f"{service} appeared: {len(new)}"
            elif not new:
                text = f"{service} is gone: {len(old)}"
            elif len(old) != len(new):
                text = f"{service} was scaled from {len(old)} to {len(new)}"
            elif come and come == gone:
                text = f"{service} was made anew: {shorten(come)}"
            elif come:
                text = f"{service} was rolled: {shorten(come)} instead of {shorten(gone)}"
            else:
                continue
            yield {"time": group[-1], "service": service, "text": text}


def shorten(names: list[str]) -> str:
    """Return some names for a sentence, of many only how many there are."""
    return ", ".join(names) if len(names) <= FEW else f"{len(names)} others"


def events(before: dict[str, list[Series]], begin: float, end: float, step: float) -> list[dict[str, Any]]:
    """Return what has happened, the newest first."""
    single = sorted(single_events(before, begin, step), key=lambda item: item[0])
    happened = [*together(single), *set_events(before, begin, end, step)]
    return sorted(happened, key=lambda item: item["time"], reverse=True)[:EVENTS]
