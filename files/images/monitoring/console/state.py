"""Makes out of series what the page shows: every container in its place, how it is and since when, and what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from console.history import about_of
from console.prometheus import Labels, Series

# The metrics that the page asks for this moment.
NOW = {
    "state": "container_state",
    "seen": "container_last_seen",
    "since": "container_since_seconds",
    "exit": "container_exit_code",
    "health": "container_health_state",
    "rotation": "container_in_rotation",
    "rotation_since": "container_rotation_since_seconds",
    "reason": "container_out_of_rotation",
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
    "serving": "service:replicas:serving",
    "open": "service:fails_open",
    "requests": "load_balancer:requests:rate",
    "failures": "load_balancer:errors:rate",
    "refused": "load_balancer:refused:rate",
    "queue": "load_balancer:queue",
    "p95": "load_balancer:latency_seconds:p95",
    "queries": "database:queries:rate",
    "mysql": "mysql_up",
    "engine": "container_exporter_engine_up",
    "balancers": "container_exporter_load_balancer_up",
    "targets": "up",
}
# When a container was seen last, where none is.
LAST_SEEN = "max(last_over_time(container_last_seen[1d]))"
# What a service shows of its load balancer, by the names of the metrics.
BALANCED = {"rate": "requests", "errors": "failures", "refused": "refused", "queue": "queue", "p95": "p95"}
# What a container shows as it is.
MEASURED = ("restarts", "cpu", "memory", "rate", "errors", "response")
# How a replica is that serves although it fails its check, because too few of its tier pass.
FAILS = "fails its check, still receives requests"
# Seconds from its start in which a container is taken to be starting.
START = 30.0
# Seconds after which what Prometheus knows is old.
OLD = 60.0
# The worst first.
DOWN, NO_DATA, CRITICAL, BROKEN, WARNING = range(5)
# How bad it is if a container is that, and where the runbook says what to do.
SECTIONS = {"bad": (BROKEN, "ReplicaOutOfRotation"), "starting": (WARNING, "ContainerUnhealthy")}


def by_name(series: Iterable[Series], label: str = "name") -> dict[str, float]:
    """Return the newest values by a label."""
    return {item.labels[label]: item.value for item in series if label in item.labels}


def sketch(tiers: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return the services of the sketch by their names, in its order.

    Of each tier ``title`` is what a person calls a replica, and ``missing`` what it means if there is none. Services without
    a title have no load balancer that checks them.
    """
    services: dict[str, dict[str, str]] = {}
    for tier in tiers:
        for name, title in ((f"{tier['name']}-lb", ""), (tier["name"], tier["title"])):
            facts = {"balancer": f"{tier['name']}-lb", "colour": f"tier-{len(services)}"}
            services[name] = {**facts, "missing": tier["missing"], "title": title}
    services["db"] = {"balancer": "", "colour": "db", "missing": "The site has no database", "title": ""}
    return services


def trouble(rank: int, text: str, runbook: str, since: float = 0.0, covers: Iterable[str] = ()) -> dict[str, Any]:
    """Return one thing that is wrong: how bad, in words, its section of the runbook, and since when (0: nobody knows).

    An alert about one of the names that it ``covers`` is the same thing.
    """
    level = "bad" if rank < WARNING else "starting"
    return {
        "rank": rank,
        "level": level,
        "text": text,
        "since": since,
        "runbook": runbook.lower(),
        "summary": "",
        "covers": list(covers),
    }


def condition(
    state: str,
    health: float,
    rotation: float | None,
    reason: str = "",
    *,
    balanced: bool = False,
    fails_open: bool = False,
    age: float = 1e9,
) -> tuple[str, str]:
    """Return how a container is (``well``, ``starting`` or ``bad``) and that in words.

    Args:
        state: what the engine calls it.
        health: 1, 0 (not, or not yet) or -1 (nobody checks).
        rotation: whether its load balancer has it in rotation; None: it does not know it.
        reason: why it has not.
        balanced: whether one should.
        fails_open: whether it sends requests also to replicas that are not.
        age: seconds since it was started.
    """
    if state != "running":
        return "bad", state
    if rotation == 0:
        if reason == "drained":
            return "starting", "drained: ends its requests"
        if age < START or reason == "not checked yet":
            return "starting", f"starts: {reason or 'gets no requests yet'}"
        level, words = ("starting", FAILS) if fails_open else ("bad", "gets no requests")
        return level, f"{words}: {reason}" if reason else words
    if health == 0:
        return "starting", "not healthy"
    if balanced and rotation is None:
        return "starting", "not known to its load balancer"
    return "well", "gets requests" if rotation else "healthy" if health > 0 else "runs"


def container(labels: Labels, known: dict[str, Any], moment: float, *, balanced: bool, fails_open: bool) -> dict[str, Any]:
    """Return what the page shows of one container, by the labels of its state and what is known of it at a moment.

    ``known`` has the names of ``NOW``; ``balanced`` and ``fails_open``: see ``condition``.
    """
    state = labels["state"]
    level, words = condition(
        state,
        known.get("health", -1),
        known.get("rotation"),
        known.get("reason", ""),
        balanced=balanced,
        fails_open=fails_open,
        age=moment - known.get("started", 0.0),
    )
    if "exit" in known and state in ("exited", "dead"):
        words = f"{words} with code {known['exit']:.0f}"
    limit, cores = known.get("cpu_limit"), known.get("cpu")
    memory, most = known.get("memory"), known.get("memory_limit")
    return {
        "name": labels["name"],
        "image": labels["image"],
        # Where there are several hosts.
        "node": labels.get("node", ""),
        "service": labels["service"],
        "level": level,
        "running": state == "running",
        "words": words,
        "since": max(known.get("since", 0.0), known.get("rotation_since", 0.0) if state == "running" else 0.0),
        "cpu_share": cores / limit if cores is not None and limit else None,
        "memory_share": memory / most if memory and most else None,
        **{name: known.get(name) for name in MEASURED},
    }


def number(name: str) -> int:
    """Return the number in a container's name, for sorting: the last part, or in a Swarm the second one."""
    last = name.split(".")[1] if name.count(".") == 2 else name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def services(drawn: dict[str, dict[str, str]], found: dict[str, list[Series]], moment: float) -> list[dict[str, Any]]:
    """Return every service with its containers, those that are ``drawn`` in the sketch first."""
    now: dict[str, dict[str, Any]] = {name: by_name(series) for name, series in found.items()}
    now["reason"] = {series.labels["name"]: series.labels["reason"] for series in found["reason"]}
    wanted, fails_open = by_name(found["wanted"], "service"), by_name(found["open"], "service")
    balancers = {key: by_name(found[name], "load_balancer") for key, name in BALANCED.items()}
    states = defaultdict(list)
    for series in found["state"]:
        states[series.labels["service"]].append(series.labels)
    result = []
    for name in [*drawn, *sorted(set(states) - set(drawn))]:
        facts = drawn.get(name, {"balancer": "", "colour": "monitoring", "missing": "", "title": ""})
        open_now = bool(fails_open.get(name))
        containers = []
        for labels in states[name]:
            known = {metric: values[labels["name"]] for metric, values in now.items() if labels["name"] in values}
            containers.append(container(labels, known, moment, balanced=bool(facts["title"]), fails_open=open_now))
        result.append(
            {
                **facts,
                "service": name,
                "sketch": name in drawn,
                "wanted": wanted.get(name, 1),
                "containers": sorted(containers, key=lambda item: (number(item["name"]), item["node"])),
                "fails_open": open_now,
                **{key: values.get(facts["balancer"]) for key, values in balancers.items()},
            }
        )
        if name == "db":
            result[-1]["rate"] = next((series.value for series in found["queries"]), None)
    return result


def alerts(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the alerts that Prometheus tells of, those that are about to fire as well, the oldest first."""
    result = []
    for alert in found:
        labels, notes = alert["labels"], alert.get("annotations", {})
        result.append(
            {
                "name": labels["alertname"],
                "severity": labels["severity"],
                "about": about_of(labels),
                "summary": notes.get("summary", ""),
                "runbook": notes.get("runbook", "").partition("#")[2],
                "fires": alert["state"] == "firing",
                "since": round(datetime.fromisoformat(alert["activeAt"]).timestamp(), 3),
            }
        )
    return sorted(result, key=lambda item: item["since"])


def commonest(reasons: Iterable[str]) -> str:
    """Return the reasons that are given, the most frequent one first, as the end of a sentence."""
    found = ", ".join(reason for reason, _ in Counter(filter(None, reasons)).most_common())
    return f": {found}" if found else ""


def about(service: dict[str, Any], containers: list[dict[str, Any]]) -> tuple[float, list[str]]:
    """Return since when some containers of a service are as they are, and the names that alerts about it bear."""
    names = [service["service"], *(item["name"] for item in containers)]
    return max((item["since"] for item in containers), default=0.0), names


def down(service: dict[str, Any], serving: dict[str, float], answers: bool) -> dict[str, Any] | None:
    """Return what is wrong if a service of the sketch serves nothing, else None.

    Args:
        service: with its containers.
        serving: replicas that get requests, by tier, as far as it is known.
        answers: whether the database answers.
    """
    name, noun, containers = service["service"], service["title"], service["containers"]
    well = any(item["level"] == "well" for item in containers)
    words = [item["words"] for item in containers]
    since, covers = about(service, containers)
    if not noun:
        if well and (name != "db" or answers):
            return None
        why = "it does not answer" if well else f"{name} is {', '.join(dict.fromkeys(words)) or 'missing'}"
        section = "DatabaseDown" if name == "db" else "TierDown"
        return trouble(DOWN, f"{service['missing']}: {why}", section, 0.0 if well else since, covers)
    if not service["wanted"] or well or service["fails_open"] or serving.get(name, 0 if containers else 1):
        return None
    running = [item["words"].partition(": ")[2] for item in containers if item["running"]]
    why = f"no {noun} passes its check{commonest(running)}" if running else f"no {noun} runs{commonest(words)}"
    return trouble(DOWN, f"{service['missing']}: {why}", "TierDown", since, covers)


def failing(service: dict[str, Any]) -> dict[str, Any]:
    """Return what is wrong if a tier's load balancer sends requests also to replicas that fail their checks."""
    containers = [item for item in service["containers"] if item["words"].startswith(FAILS)]
    text = f"Too few {service['title']}s pass their checks: those that fail still receive requests"
    text += commonest(item["words"].partition(": ")[2] for item in containers)
    return trouble(CRITICAL, text, "TierFailsOpen", *about(service, containers))


def missing(
    shown: list[dict[str, Any]], found: dict[str, list[Series]], told: list[dict[str, Any]], seen: float, moment: float
) -> Iterable[dict[str, Any]]:
    """Return what is not known, which is never well; ``seen`` is when a container was seen last, 0 if nobody knows."""
    drawn = [item["service"] for item in shown if item["sketch"]]
    tiers = [item["service"] for item in shown if item["title"]]
    balancers = [f"{name}-lb" for name in tiers]
    needed = [*(f"{name}{what}" for name in balancers for what in ("", "-latency")), "mysql", "containers"]
    up: dict[str, float] = {}
    for series in found["targets"]:
        job = series.labels["job"]
        up[job] = min(series.value, up.get(job, 1.0))
    dead = any(not series.value for series in found["engine"])
    jobs = [job for job in needed if not up.get(job)]
    if not found["state"] or moment - seen > OLD:
        who, section = ("the engine", "EngineNotAnswering") if dead else ("container-exporter", "ScrapeMissing")
        yield trouble(NO_DATA, f"No data of the containers: {who} does not answer", section, seen, ["containers"])
        jobs = [job for job in jobs if job != "containers"]
    elif dead:
        yield trouble(WARNING, "No data of some containers: an engine does not answer", "EngineNotAnswering")
    if jobs:
        begun = [alert["since"] for alert in told if alert["name"] == "ScrapeMissing" and alert["about"] in jobs]
        yield trouble(WARNING, f"No data of {', '.join(jobs)}", "ScrapeMissing", min(begun, default=0.0), jobs)
    if not found["state"]:
        return
    answering = by_name(found["balancers"], "load_balancer")
    for what, known, wanted in (
        ("the servers behind {}", {name for name, value in answering.items() if value}, balancers),
        ("how many {} there shall be", by_name(found["wanted"], "service"), drawn),
        ("how many {} get requests", by_name(found["serving"], "service"), tiers),
        ("{}", {"the database"} if found["mysql"] or "mysql" in jobs else (), ["the database"]),
    ):
        lacking = [name for name in wanted if name not in known]
        if lacking:
            yield trouble(WARNING, f"No data of {what.format(' and '.join(lacking))}", "ScrapeMissing")


def troubles(
    shown: list[dict[str, Any]], found: dict[str, list[Series]], told: list[dict[str, Any]], seen: float, moment: float
) -> list[dict[str, Any]]:
    """Return what is wrong at this moment, the worst first; ``told`` are the alerts."""
    result = list(missing(shown, found, told, seen, moment))
    serving, answers = by_name(found["serving"], "service"), all(series.value for series in found["mysql"])
    for service in shown:
        if not found["state"] and service["service"] not in serving:
            continue
        if service["sketch"] and (worst := down(service, serving, answers)):
            result.append(worst)
            continue
        if service["fails_open"]:
            result.append(failing(service))
        for item in service["containers"]:
            if item["level"] != "well" and not item["words"].startswith(FAILS):
                rank, section = SECTIONS[item["level"]]
                result.append(trouble(rank, f"{item['name']}: {item['words']}", section, item["since"], [item["name"]]))
        lacking = int(service["wanted"] - len(service["containers"]))
        if lacking > 0 and found["state"]:
            name = service["service"]
            result.append(trouble(BROKEN, f"{name}: {lacking} missing", "ContainerMissing", 0.0, [name]))
    for alert in (alert for alert in told if alert["fires"]):
        # What is told already needs no second line, but for what the alert knows of it.
        known = [item for item in result if alert["about"] in item["covers"] or item["runbook"] == alert["name"].lower()]
        if not known:
            rank = CRITICAL if alert["severity"] == "critical" else WARNING
            text = alert["summary"].rstrip(".") or f"{alert['name']} {alert['about']}".strip()
            known = [trouble(rank, text, alert["name"], alert["since"])]
            result += known
        elif known[0]["runbook"] == alert["name"].lower():
            known[0]["summary"] = alert["summary"]
            known[0]["since"] = known[0]["since"] or alert["since"]
    return sorted(result, key=lambda item: item["rank"])
