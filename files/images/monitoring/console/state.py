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
# Of these there is nothing while all is well.
QUIET = ("exit", "reason")
# When a container was seen last, where none is.
LAST_SEEN = "max(last_over_time(container_last_seen[1d]))"
# In the order of the sketch, then what watches over it.
SERVICES = ("fe-lb", "fe", "be-lb", "be", "db")
BALANCER = {"fe-lb": "fe-lb", "fe": "fe-lb", "be-lb": "be-lb", "be": "be-lb"}
# Jobs of Prometheus that the page needs.
JOBS = ("fe-lb", "fe-lb-latency", "be-lb", "be-lb-latency", "mysql", "containers")
# How people call the replicas of a tier that a load balancer checks, and what it means for visitors if a service is away.
TIERS = {"fe": "front end", "be": "back end"}
MEANING = {
    "fe-lb": "The site is down",
    "fe": "The site is down",
    "be-lb": "The site has no back end",
    "be": "The site has no back end",
    "db": "The site has no database",
}
# How a replica is that serves although it fails its check, because too few of its tier pass.
FAILS = "fails its check, still receives requests"
# Seconds from its start in which a container is taken to be starting.
START = 30.0
# Seconds after which what Prometheus knows is old.
OLD = 60.0
# The worst first.
DOWN, NO_DATA, CRITICAL, BROKEN, WARNING = range(5)


def by_name(series: Iterable[Series], label: str = "name") -> dict[str, float]:
    """Return the newest values by a label."""
    return {item.labels[label]: item.value for item in series if label in item.labels}


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


def container(
    labels: Labels, now: dict[str, dict[str, float]], reasons: dict[str, str], fails_open: bool, moment: float
) -> dict[str, Any]:
    """Return what the page shows of one container, by the labels of its state; ``fails_open``: see ``condition``."""
    name, state = labels["name"], labels["state"]
    health, rotation = now["health"].get(name, -1), now["rotation"].get(name)
    level, words = condition(
        state,
        health,
        rotation,
        reasons.get(name, ""),
        balanced=labels["service"] in TIERS,
        fails_open=fails_open,
        age=moment - now["started"].get(name, 0.0),
    )
    if (code := now["exit"].get(name)) is not None and state in ("exited", "dead"):
        words = f"{words} with code {code:.0f}"
    limit, cores = now["cpu_limit"].get(name, 0), now["cpu"].get(name)
    memory, most = now["memory"].get(name), now["memory_limit"].get(name)
    return {
        "name": name,
        "service": labels["service"],
        "image": labels["image"],
        # Where there are several hosts.
        "node": labels.get("node", ""),
        "level": level,
        "running": state == "running",
        "words": words,
        "since": max(now["since"].get(name, 0.0), now["rotation_since"].get(name, 0.0) if state == "running" else 0.0),
        "restarts": now["restarts"].get(name),
        "cpu": cores,
        "cpu_share": cores / limit if cores is not None and limit else None,
        "memory": memory,
        "memory_share": memory / most if memory and most else None,
        "rate": now["rate"].get(name),
        "errors": now["errors"].get(name),
        "response": now["response"].get(name),
    }


def number(name: str) -> int:
    """Return the number in a container's name, for sorting: the last part, or in a Swarm the second one."""
    last = name.split(".")[1] if name.count(".") == 2 else name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def services(found: dict[str, list[Series]], moment: float) -> list[dict[str, Any]]:
    """Return every service with its containers, those of the sketch first."""
    now = {name: by_name(series) for name, series in found.items()}
    reasons = {series.labels["name"]: series.labels["reason"] for series in found["reason"]}
    wanted, fails_open = by_name(found["wanted"], "service"), by_name(found["open"], "service")
    containers = defaultdict(list)
    for series in found["state"]:
        service = series.labels["service"]
        shown = container(series.labels, now, reasons, bool(fails_open.get(service)), moment)
        containers[service].append(shown)
    balancers = {name: by_name(found[name], "load_balancer") for name in ("requests", "failures", "refused", "queue", "p95")}
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
                "refused": balancers["refused"].get(balancer),
                "queue": balancers["queue"].get(balancer),
                "fails_open": bool(fails_open.get(name)),
                "p95": balancers["p95"].get(balancer),
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


def down(service: dict[str, Any], serving: dict[str, float], answers: bool) -> dict[str, Any] | None:
    """Return what is wrong if a service of the sketch serves nothing, else None.

    Args:
        service: with its containers.
        serving: replicas that get requests, by tier, as far as it is known.
        answers: whether the database answers.
    """
    name, containers = service["service"], service["containers"]
    well = any(item["level"] == "well" for item in containers)
    words = Counter(item["words"] for item in containers)
    since = max((item["since"] for item in containers), default=0.0)
    covers = [name, *(item["name"] for item in containers)]
    if name not in TIERS:
        if well and (name != "db" or answers):
            return None
        why = "it does not answer" if well else f"{name} is {', '.join(words) or 'missing'}"
        section = "DatabaseDown" if name == "db" else "TierDown"
        return trouble(DOWN, f"{MEANING[name]}: {why}", section, 0.0 if well else since, covers)
    if not service["wanted"] or well or service["fails_open"] or serving.get(name, 0 if containers else 1):
        return None
    noun = TIERS[name]
    running = [item for item in containers if item["running"]]
    why = f"no {noun} passes its check" if running else f"no {noun} runs"
    reasons = Counter(text for item in running if (text := item["words"].partition(": ")[2])) if running else words
    if reasons:
        why += f": {', '.join(text for text, _ in reasons.most_common())}"
    return trouble(DOWN, f"{MEANING[name]}: {why}", "TierDown", since, covers)


def failing(service: dict[str, Any]) -> dict[str, Any]:
    """Return what is wrong if a tier's load balancer sends requests also to replicas that fail their checks."""
    containers = [item for item in service["containers"] if item["words"].startswith(FAILS)]
    text = f"Too few {TIERS[service['service']]}s pass their checks: those that fail still receive requests"
    reasons = Counter(reason for item in containers if (reason := item["words"].partition(": ")[2]))
    if reasons:
        text += f": {', '.join(reason for reason, _ in reasons.most_common())}"
    since = max((item["since"] for item in containers), default=0.0)
    covers = [service["service"], *(item["name"] for item in containers)]
    return trouble(CRITICAL, text, "TierFailsOpen", since, covers)


def missing(
    found: dict[str, list[Series]], told: list[dict[str, Any]], seen: float, moment: float
) -> Iterable[dict[str, Any]]:
    """Return what is not known, which is never well; ``seen`` is when a container was seen last, 0 if nobody knows."""
    up: dict[str, float] = {}
    for series in found["targets"]:
        job = series.labels["job"]
        up[job] = min(series.value, up.get(job, 1.0))
    dead = any(not series.value for series in found["engine"])
    jobs = [job for job in JOBS if not up.get(job)]
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
        ("the servers behind {}", {name for name, value in answering.items() if value}, ("fe-lb", "be-lb")),
        ("how many {} there shall be", by_name(found["wanted"], "service"), SERVICES),
        ("how many {} get requests", by_name(found["serving"], "service"), tuple(TIERS)),
        ("{}", {"the database"} if found["mysql"] or "mysql" in jobs else (), ("the database",)),
    ):
        lacking = [name for name in wanted if name not in known]
        if lacking:
            yield trouble(WARNING, f"No data of {what.format(' and '.join(lacking))}", "ScrapeMissing")


def troubles(
    shown: list[dict[str, Any]], found: dict[str, list[Series]], told: list[dict[str, Any]], seen: float, moment: float
) -> list[dict[str, Any]]:
    """Return what is wrong at this moment, the worst first; ``told`` are the alerts."""
    result = list(missing(found, told, seen, moment))
    serving, answers = by_name(found["serving"], "service"), all(series.value for series in found["mysql"])
    for service in shown:
        if not found["state"] and service["service"] not in serving:
            continue
        if service["service"] in MEANING and (worst := down(service, serving, answers)):
            result.append(worst)
            continue
        if service["fails_open"]:
            result.append(failing(service))
        for item in service["containers"]:
            if item["level"] != "well" and not item["words"].startswith(FAILS):
                rank, section = (
                    (BROKEN, "ReplicaOutOfRotation") if item["level"] == "bad" else (WARNING, "ContainerUnhealthy")
                )
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
