"""Makes one list of what has happened: of what was written down, of what the engine says of containers, and of alerts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from console.prometheus import Series

# What Prometheus is asked for. Values are times that the engine and Prometheus have noted themselves, so it does not matter
# when they were looked at.
QUERIES = {
    "finished": "container_finish_time_seconds",
    "started": "container_start_time_seconds and on (id) container_finish_time_seconds",
    "alerts": 'ALERTS_FOR_STATE and ignoring (alertstate) ALERTS{alertstate="firing"}',
}
# Kinds that are marks in the charts.
DEPLOYMENTS = ("rollout", "release", "failed")
# Seconds after which a rollout that says nothing more has been ended.
SILENCE = 240.0
# Seconds in which the end of a container is the work of a rollout or the watchdog that tells of it, and in which the same of
# several containers is one event.
OWN, TOGETHER = 60.0, 60.0
# Containers that an event names one by one.
FEW = 3
EVENTS = 200

Event = dict[str, Any]


def at_work(written: list[Event], now: float) -> Event | None:
    """Return the step of the rollout that is at work at this moment, if one is."""
    last = next((event for event in reversed(written) if event["kind"] in ("step", *DEPLOYMENTS)), None)
    return last if last and last["kind"] == "step" and now - last["time"] < SILENCE else None


def ends(found: dict[str, list[Series]], written: list[Event]) -> Iterable[tuple[float, str, str, str]]:
    """Return what containers did by themselves: when, service, name, and what."""
    starts: dict[str, set[float]] = defaultdict(set)
    for series in found["started"]:
        starts[series.labels["id"]] |= {value for _, value in series.points}
    # A container is no other one because a label of it has changed.
    finished: dict[str, set[float]] = defaultdict(set)
    labels = {}
    for series in found["finished"]:
        finished[series.labels["id"]] |= {value for _, value in series.points}
        labels[series.labels["id"]] = series.labels
    for identity, moments in finished.items():
        name, service = labels[identity]["name"], labels[identity]["service"]
        watched = [
            event["time"] for event in written if event["kind"] == "watchdog" and identity.endswith(str(event.get("id")))
        ]
        changed = [event["time"] for event in written if event["kind"] != "watchdog" and event.get("service") == service]
        for moment in moments:
            if any(abs(told - moment) < OWN for told in watched + changed):
                continue
            again = min((start for start in starts[identity] if start >= moment), default=None)
            later = min((other for other in moments if other > moment), default=None)
            if again is None or (later and again > later):
                yield moment, service, name, "ended"
            elif again - moment < 1:
                yield moment, service, name, "ended and was started again at once"
            else:
                yield moment, service, name, f"ended and was started again after {duration(again - moment)}"


def together(happened: Iterable[tuple[float, str, str, str]]) -> Iterable[Event]:
    """Return events of containers: one if the same happens to many of a service at about the same time."""
    groups: dict[tuple[str, str], list[list[tuple[float, str]]]] = defaultdict(list)
    for moment, service, name, text in sorted(happened):
        # How long each was away differs.
        known = groups[service, text.partition(" after ")[0]]
        if known and moment - known[-1][-1][0] <= TOGETHER:
            known[-1].append((moment, f"{name} {text}"))
        else:
            known.append([(moment, f"{name} {text}")])
    for (service, text), known in groups.items():
        for group in known:
            one = [(group[0][0], f"{service}: {len(group)} times, a container {text}")]
            told = one if len(group) > FEW else group
            yield from ({"time": moment, "kind": "container", "text": each} for moment, each in told)


def fired(series: list[Series], end: float, step: float) -> Iterable[Event]:
    """Return the alerts that have fired, by the time from which on they were true."""
    for item in series:
        about = about_of(item.labels)
        for begin in sorted({value for _, value in item.points}):
            last = max(moment for moment, value in item.points if value == begin)
            text = f"Alert {item.labels['alertname']}{f' of {about}' if about else ''}"
            if last < end - 2 * step:
                text += f", for about {duration(max(step, last - begin))}"
            yield {"time": begin, "kind": "alert", "text": text}


def about_of(labels: dict[str, str]) -> str:
    """Return what an alert is about."""
    return next((labels[key] for key in ("name", "service", "load_balancer", "job") if labels.get(key)), "")


def duration(seconds: float) -> str:
    """Return so many seconds in the largest unit that they fill."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(1, round(seconds))} s"


def events(written: list[Event], found: dict[str, list[Series]], begin: float, end: float, step: float) -> list[Event]:
    """Return what has happened from ``begin`` to ``end``, the newest first."""
    told = [{key: event[key] for key in ("time", "kind", "text")} for event in written if event["kind"] != "step"]
    happened = [*told, *together(ends(found, written)), *fired(found["alerts"], end, step)]
    return sorted((event for event in happened if begin <= event["time"] <= end), key=lambda item: -item["time"])[:EVENTS]


def marks(happened: list[Event]) -> list[Event]:
    """Return the deployments among events, the oldest first; those that belong together are one."""
    found: list[Event] = []
    for event in reversed(happened):
        if event["kind"] not in DEPLOYMENTS:
            continue
        if found and event["time"] - found[-1]["time"] <= TOGETHER:
            found[-1] = {**event, "text": f"{found[-1]['text']}; {event['text']}"}
        else:
            found.append(event)
    return found
