"""What the console makes of the answers of Prometheus and container-exporter."""

import asyncio
import json
import re
import time

import httpx
import pytest
from console import app, history, runbook, state
from console.exporter import Exporter
from console.prometheus import Prometheus, PrometheusError, Series
from stack import PROJECT

NOW = 2000.0
TIERS = [
    {"name": "fe", "title": "front end", "missing": "The site is down"},
    {"name": "be", "title": "back end", "missing": "The site has no back end"},
]
SKETCH = state.sketch(TIERS)
JOBS = ("fe-lb", "fe-lb-latency", "be-lb", "be-lb-latency", "mysql", "containers")
RUNBOOK = (PROJECT / "docs/runbook.md").read_text()


def labels(name, **more):
    """Return the labels of a container."""
    return {"id": f"/docker/{name}", "name": name, "service": name.rpartition("-")[0][4:], "image": "fe:1", **more}


@pytest.mark.parametrize(
    ("arguments", "options", "level", "words"),
    [
        (("running", 1, 1), {}, "well", "gets requests"),
        (("running", -1, None), {}, "well", "runs"),
        (("running", 1, None), {}, "well", "healthy"),
        # A load balancer should know it, and says nothing.
        (("running", 1, None), {"balanced": True}, "starting", "not known to its load balancer"),
        (("running", 0, 1), {}, "starting", "not healthy"),
        (("running", 1, 0), {}, "bad", "gets no requests"),
        (("running", 1, 0, "HTTP 404 on /nope"), {}, "bad", "gets no requests: HTTP 404 on /nope"),
        (("running", 1, 0, "connection refused"), {"age": 3.0}, "starting", "starts: connection refused"),
        (("running", 1, 0, "drained"), {}, "starting", "drained: ends its requests"),
        # Too few of its tier pass their checks.
        (("running", 1, 0, "HTTP 404 on /"), {"fails_open": True}, "starting", f"{state.FAILS}: HTTP 404 on /"),
        (("running", 1, 0, ""), {"fails_open": True}, "starting", state.FAILS),
        (("running", 1, 0, "drained"), {"fails_open": True}, "starting", "drained: ends its requests"),
        (("running", 1, 0, "HTTP 404 on /"), {"fails_open": True, "age": 3.0}, "starting", "starts: HTTP 404 on /"),
        (("exited", -1, 0), {"fails_open": True}, "bad", "exited"),
        (("paused", 1, 0), {}, "bad", "paused"),
        (("exited", -1, None), {}, "bad", "exited"),
    ],
)
def test_condition(arguments, options, level, words):
    assert state.condition(*arguments, **options) == (level, words)


NAMES = ("web-fe-lb-1", "web-fe-1", "web-fe-2", "web-be-lb-1", "web-be-1", "web-be-2", "web-db-1")


def stack(**changed):
    """Return what Prometheus knows of a stack where all is well, but for some metrics: series by the names of state.NOW."""
    replicas = [name for name in NAMES if "lb" not in name and "db" not in name]
    known = {
        "state": [(labels(name, state="running"), 1) for name in NAMES],
        "seen": [(labels(name), NOW) for name in NAMES],
        "since": [(labels(name), 1000) for name in NAMES],
        "started": [(labels(name), 1000) for name in NAMES],
        "rotation": [(labels(name, load_balancer=f"{name[4:6]}-lb"), 1) for name in replicas],
        "wanted": [({"service": service}, 2 if service in ("fe", "be") else 1) for service in SKETCH],
        "serving": [({"service": "fe"}, 2), ({"service": "be"}, 2)],
        "mysql": [({"instance": "x"}, 1)],
        "engine": [({}, 1)],
        "balancers": [({"load_balancer": name}, 1) for name in ("fe-lb", "be-lb")],
        "targets": [({"job": job}, 1) for job in JOBS],
        **changed,
    }
    return {name: [Series(item, [(NOW, float(value))]) for item, value in known.get(name, [])] for name in state.NOW}


def alert(alertname, severity="critical", *, fires=True, since=1990, **about):
    """Return an alert as Prometheus tells it."""
    return {
        "labels": {"alertname": alertname, "severity": severity, **about},
        "annotations": {"summary": f"Summary of {alertname}.", "runbook": f"docs/runbook.md#{alertname.lower()}"},
        "state": "firing" if fires else "pending",
        "activeAt": time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(since)),
    }


def wrong(*told, seen=NOW, **changed):
    """Return what is wrong, the worst first."""
    found = stack(**changed)
    return state.troubles(state.services(SKETCH, found, NOW), found, state.alerts(list(told)), seen, NOW)


def without(kind, *names):
    """Return the series of stack() of a kind, without those of some containers."""
    return [(series.labels, series.value) for series in stack()[kind] if series.labels.get("name") not in names]


def out(reasons):
    """Return changes of stack() by which replicas are out of rotation for some reasons, since 1900."""
    names = [name for name in NAMES if name[4:6] in ("fe", "be") and "lb" not in name]
    tiers = {tier: sum(name not in reasons for name in names if name[4:6] == tier) for tier in ("fe", "be")}
    return {
        "rotation": [(labels(name), int(name not in reasons)) for name in names],
        "reason": [(labels(name, reason=reason), 1) for name, reason in reasons.items()],
        "rotation_since": [(labels(name), 1900) for name in reasons],
        "serving": [({"service": tier}, number) for tier, number in tiers.items()],
    }


def ended(*names, code=137):
    """Return changes of stack() by which some containers have ended."""
    return {
        "state": [(labels(name, state="exited" if name in names else "running"), 1) for name in NAMES],
        "exit": [(labels(name), code) for name in names],
        "since": [(labels(name), 1950) for name in names],
        "rotation": without("rotation", *names),
    }


BOTH = ("web-fe-1", "web-fe-2")
FAILING = out(dict.fromkeys(BOTH, "HTTP 404 on /nope"))


@pytest.mark.parametrize(
    ("changed", "told", "worst"),
    [
        (FAILING, [], ("The site is down: no front end passes its check: HTTP 404 on /nope", 1900, "tierdown")),
        (
            out({"web-fe-1": "connection refused", "web-fe-2": "no answer in time on /healthz"}),
            [],
            (
                "The site is down: no front end passes its check: connection refused, no answer in time on /healthz",
                1900,
                "tierdown",
            ),
        ),
        (
            out(dict.fromkeys(("web-be-1", "web-be-2"), "HTTP 500 on /")),
            [],
            ("The site has no back end: no back end passes its check: HTTP 500 on /", 1900, "tierdown"),
        ),
        (
            ended(*BOTH) | {"serving": [({"service": "fe"}, 0), ({"service": "be"}, 2)]},
            [],
            ("The site is down: no front end runs: exited with code 137", 1950, "tierdown"),
        ),
        (
            {
                "state": without("state", *BOTH),
                "rotation": without("rotation", *BOTH),
                "serving": [({"service": "fe"}, 0), ({"service": "be"}, 2)],
            },
            [],
            ("The site is down: no front end runs", 0, "tierdown"),
        ),
        (ended("web-fe-lb-1"), [], ("The site is down: fe-lb is exited with code 137", 1950, "tierdown")),
        (ended("web-be-lb-1"), [], ("The site has no back end: be-lb is exited with code 137", 1950, "tierdown")),
        (ended("web-db-1"), [], ("The site has no database: db is exited with code 137", 1950, "databasedown")),
        ({"mysql": [({}, 0)]}, [], ("The site has no database: it does not answer", 0, "databasedown")),
        (
            {"mysql": [({}, 0)]},
            [alert("DatabaseDown", instance="x")],
            ("The site has no database: it does not answer", 1990.123, "databasedown"),
        ),
        # Worse than what is listed first.
        (ended("web-fe-2") | {"mysql": [({}, 0)]}, [], ("The site has no database: it does not answer", 0, "databasedown")),
        ({}, [alert("ManyErrors", load_balancer="fe-lb")], ("Summary of ManyErrors", 1990.123, "manyerrors")),
        (
            out({"web-fe-1": "HTTP 404 on /nope"}),
            [],
            ("web-fe-1: gets no requests: HTTP 404 on /nope", 1900, "replicaoutofrotation"),
        ),
        ({"state": without("state", "web-be-2")}, [], ("be: 1 missing", 0, "containermissing")),
    ],
)
def test_worst_is_said_first_with_its_reason_and_its_section_of_the_runbook(changed, told, worst):
    found = wrong(*told, **changed)
    assert (found[0]["text"], found[0]["since"], found[0]["runbook"]) == worst
    assert found[0]["level"] == "bad"
    assert f'<h2 id="{found[0]["runbook"]}">' in runbook.page(RUNBOOK)


def test_alert_about_what_is_told_already_gives_its_summary_and_no_second_line():
    told = [alert("TierDown", service="fe"), alert("ReplicaOutOfRotation", "warning", name="web-fe-1")]
    assert [(item["text"], item["summary"]) for item in wrong(*told, **FAILING)] == [
        ("The site is down: no front end passes its check: HTTP 404 on /nope", "Summary of TierDown.")
    ]
    assert wrong(alert("TierDown", fires=False, service="fe")) == []


OPEN = {"open": [({"service": "fe"}, 1), ({"service": "be"}, 0)]}


def test_tier_that_fails_open_is_said_and_not_that_the_site_is_down():
    text = "Too few front ends pass their checks: those that fail still receive requests: HTTP 404 on /nope"
    [found] = wrong(**FAILING, **OPEN)
    assert (found["text"], found["since"], found["runbook"], found["level"]) == (text, 1900, "tierfailsopen", "bad")
    assert f'<h2 id="{found["runbook"]}">' in runbook.page(RUNBOOK)
    told = [alert("TierFailsOpen", service="fe"), alert("ReplicaOutOfRotation", "warning", name="web-fe-1")]
    assert [item["summary"] for item in wrong(*told, **FAILING, **OPEN)] == ["Summary of TierFailsOpen."]
    # Some pass, and some are wrong in another way.
    one = {**out({"web-fe-1": "no answer in time on /"}), **OPEN, "state": ended("web-fe-2")["state"]}
    assert [item["text"] for item in wrong(**one)] == [
        "Too few front ends pass their checks: those that fail still receive requests: no answer in time on /",
        "web-fe-2: exited",
    ]
    # The other tier's checks still count.
    assert wrong(**out({"web-be-1": "HTTP 500 on /"}), **OPEN)[1]["text"] == "web-be-1: gets no requests: HTTP 500 on /"


def test_tier_that_fails_open_is_said_without_data_of_containers():
    found = wrong(seen=1500.0, state=[], serving=[({"service": "fe"}, 0), ({"service": "be"}, 2)], **OPEN)
    text = "Too few front ends pass their checks: those that fail still receive requests"
    assert [item["text"] for item in found if item["rank"] in (state.DOWN, state.CRITICAL)] == [text]


def test_requests_that_wait_or_are_refused_are_told_with_their_tier():
    changed = {"queue": [({"load_balancer": "fe-lb"}, 7)], "refused": [({"load_balancer": "fe-lb"}, 2.5)], **OPEN}
    found = {item["service"]: item for item in state.services(SKETCH, stack(**changed), NOW)}
    for tier, queue, refused in (("fe", 7, 2.5), ("fe-lb", 7, 2.5), ("be", None, None)):
        assert (found[tier]["queue"], found[tier]["refused"]) == (queue, refused)
    assert [name for name, item in found.items() if item["fails_open"]] == ["fe"]
    script = (PROJECT / "files/images/monitoring/console/static/console.js").read_text()
    for fact in ("queue", "refused", "fails_open"):
        assert f"if (item.{fact}) figures.push(" in script
    [told] = wrong(alert("Overloaded", "warning", load_balancer="fe-lb"))
    assert (told["text"], told["runbook"], told["level"]) == ("Summary of Overloaded", "overloaded", "starting")


# All that the page needs to know whether all is well.
NEEDED = ("state", "wanted", "rotation", "serving", "mysql", "balancers", "targets")


@pytest.mark.parametrize("kind", NEEDED)
def test_nothing_is_well_that_is_not_known(kind):
    assert wrong() == []
    assert wrong(**{kind: []}, seen=1500.0 if kind == "state" else NOW) != []


@pytest.mark.parametrize("job", JOBS)
def test_target_that_does_not_answer_or_is_not_asked_is_no_data(job):
    others = [({"job": other}, 1) for other in JOBS if other != job]
    for targets in (others, [*others, ({"job": job}, 0)]):
        pending = alert("ScrapeMissing", "warning", fires=False, since=1980, job=job)
        assert [(item["text"], item["since"]) for item in wrong(pending, targets=targets)] == [
            (f"No data of {job}", 1980.123)
        ]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"state": []}, "No data of the containers: container-exporter does not answer"),
        ({"state": [], "engine": [({}, 0)]}, "No data of the containers: the engine does not answer"),
        # What Prometheus still calls the present is old.
        ({}, "No data of the containers: container-exporter does not answer"),
    ],
)
def test_no_data_is_said_and_since_when(changed, text):
    found = wrong(seen=1500.0, **changed)[0]
    assert (found["text"], found["since"], found["level"]) == (text, 1500.0, "bad")


def test_tier_that_the_load_balancer_calls_down_is_said_without_data_of_containers():
    found = wrong(seen=1500.0, state=[], serving=[({"service": "fe"}, 0), ({"service": "be"}, 2)])
    assert found[0]["text"] == "The site is down: no front end runs"


def series(name, values, **more):
    """Return a series of a container from values by time."""
    return Series(labels(name, **more), [(float(moment), float(value)) for moment, value in values.items()])


def past(written=(), finished=(), started=(), alerts=(), begin=1000.0, end=5000.0, step=20):
    """Return the texts of what has happened by their times, the oldest first."""
    found = {"finished": list(finished), "started": list(started), "alerts": list(alerts)}
    events = history.events(list(written), found, begin, end, step)
    return [(event["time"], event["text"]) for event in reversed(events)]


def written(moment, kind="rollout", text="fe was scaled from 2 to 3", **more):
    """Return an event that was written down."""
    return {"time": moment, "kind": kind, "text": text, **more}


def test_what_was_written_down_is_told_as_it_was():
    steps = [written(1990 + n, "step", f"fe: step {n}", service="fe") for n in range(5)]
    told = [*steps, written(2000.5, service="fe"), written(2100.25, "failed", "A rollout failed: be is unhealthy")]
    assert past(told) == [(2000.5, "fe was scaled from 2 to 3"), (2100.25, "A rollout failed: be is unhealthy")]
    assert past(told, begin=2050.0) == past(told)[1:]


def test_a_first_start_and_a_run_that_failed_are_no_events():
    # New containers have never ended, whatever their number does.
    assert past(started=[]) == []
    assert past([written(2000, "failed", "A rollout failed", service="fe")], [series("web-fe-3", {2010: 2005})]) == [
        (2000, "A rollout failed")
    ]


@pytest.mark.parametrize("grid", [range(1000, 5000, 20), range(1007, 5000, 20), range(1000, 5000, 333)])
def test_times_are_those_of_the_engine_whenever_it_was_asked(grid):
    finished = series("web-fe-1", {moment: 2003.25 for moment in grid if moment > 2003})
    started = series("web-fe-1", {moment: 2009.5 for moment in grid if moment > 2010})
    assert past(finished=[finished], started=[started]) == [(2003.25, "web-fe-1 ended and was started again after 6 s")]
    assert past(finished=[finished]) == [(2003.25, "web-fe-1 ended")]


def test_each_end_is_told_once():
    finished = series("web-fe-1", {2100: 2003, 2120: 2003, 2200: 2150, 2220: 2150, 3000: 2900})
    started = series("web-fe-1", {2100: 2003.4, 2120: 2003.4, 2200: 2160, 3000: 2160})
    assert past(finished=[finished], started=[started]) == [
        (2003, "web-fe-1 ended and was started again at once"),
        (2150, "web-fe-1 ended and was started again after 10 s"),
        (2900, "web-fe-1 ended"),
    ]


def test_what_a_rollout_or_the_watchdog_ends_is_told_by_them_alone():
    ends = [series("web-fe-1", {2100: 2003}), series("web-be-1", {2100: 2003})]
    rollout = [written(2000, "step", "fe: stopping web-fe-1", service="fe"), written(2005, service="fe")]
    assert past(rollout, ends) == [(2003, "web-be-1 ended"), (2005, "fe was scaled from 2 to 3")]
    event = written(2004, "watchdog", "web-fe-1 was restarted by the watchdog", service="fe", id="web-fe-1")
    assert past([event], ends) == [(2003, "web-be-1 ended"), (2004, "web-fe-1 was restarted by the watchdog")]


def test_what_happens_to_many_at_once_is_one_event():
    ends = [series(f"web-fe-{n}", {2100: 2000 + n}) for n in range(1, 7)]
    assert past(finished=ends) == [(2001, "fe: 6 times, a container ended")]
    assert len(past(finished=ends[:3])) == 3


def test_alerts_are_told_by_when_they_began():
    labels_of = {"alertname": "TierDown", "severity": "critical", "service": "fe"}
    points = [(float(moment), 2001.5) for moment in range(2020, 2200, 20)]
    assert past(alerts=[Series(labels_of, points)]) == [(2001.5, "Alert TierDown of fe, for about 2 min")]
    assert past(alerts=[Series(labels_of, points)], end=2200.0) == [(2001.5, "Alert TierDown of fe")]


def test_deployments_are_marks_and_those_that_belong_together_one():
    events = [written(2000, text="fe was rolled"), written(2030, "release", "Release 2"), written(3000, "failed", "no")]
    happened = history.events(
        [*events, written(2500, "watchdog", "restarted")], {key: [] for key in history.QUERIES}, 0, 5000, 5
    )
    assert [(mark["time"], mark["text"]) for mark in history.marks(happened)] == [
        (2030, "fe was rolled; Release 2"),
        (3000, "no"),
    ]


@pytest.mark.parametrize(
    ("events", "working"),
    [
        ([], False),
        ([written(1990, "step", "fe: starting 2")], True),
        ([written(1990, "step"), written(1995, "watchdog")], True),
        ([written(1990, "step"), written(1995)], False),
        ([written(1990, "step"), written(1995, "failed")], False),
        # Of a run that was killed.
        ([written(1000, "step")], False),
    ],
)
def test_a_rollout_at_work_is_known_by_its_steps(events, working):
    assert bool(history.at_work(events, NOW)) == working


def ask(console, path, host="127.0.0.1"):
    """Return what the console answers."""

    async def answer():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(console), base_url=f"http://{host}") as client:
            return await client.get(path)

    return asyncio.run(answer())


def console(metrics=None, alerts=(), ranges=None, exporter=None):
    """Return the console before a Prometheus and an exporter that answer what is given, and the list of what was asked."""
    asked = []

    def answer(request):
        if request.url.path.endswith("/alerts"):
            return httpx.Response(200, json={"status": "success", "data": {"alerts": list(alerts)}})
        query = httpx.QueryParams(request.content.decode())["query"]
        asked.append(query)
        if request.url.path.endswith("query_range"):
            found = (ranges or {}).get(query, [])
            result = [{"metric": metric, "values": [[NOW, str(value)]]} for metric, value in found]
        else:
            result = [
                {"metric": {**item.labels, "__name__": state.NOW[name]}, "value": [NOW, str(item.value)]}
                for name, series in (metrics or {}).items()
                for item in series
            ]
        return httpx.Response(200, json={"status": "success", "data": {"result": result}})

    def tell(request):
        status, content = (exporter or {}).get(request.url.path, (200, {"events": []}))
        return httpx.Response(status, json=content)

    prometheus = Prometheus("http://prometheus", httpx.MockTransport(answer))
    return app.create(prometheus, Exporter("http://127.0.0.1:1", httpx.MockTransport(tell)), "web", TIERS), asked


def test_page_is_told_every_container_in_its_place():
    changed = {
        "cpu": [(labels("web-fe-1"), 0.25)],
        "cpu_limit": [(labels("web-fe-1"), 0.5)],
        "requests": [({"load_balancer": "fe-lb"}, 12.5)],
        # Of no requests at all.
        "p95": [({"load_balancer": "fe-lb"}, "NaN")],
        # All states of a container are told; one of them is true.
        "state": [*without("state"), (labels("web-fe-1", state="paused"), 0)],
    }
    found = ask(console(stack(**changed))[0], "/api/state").json()
    assert [item["service"] for item in found["services"]] == ["fe-lb", "fe", "be-lb", "be", "db"]
    front = found["services"][1]
    assert [(c["name"], c["level"], c["since"]) for c in front["containers"]] == [
        ("web-fe-1", "well", 1000),
        ("web-fe-2", "well", 1000),
    ]
    assert front["containers"][0]["cpu_share"] == 0.5
    assert (front["rate"], front["p95"]) == (12.5, None)


def test_charts_are_lines_with_the_names_and_colours_of_their_tiers():
    ranges = {"load_balancer:errors:rate": [({"load_balancer": "fe-lb"}, 2), ({"load_balancer": "be-lb"}, 1)]}
    answer = ask(console(ranges=ranges)[0], "/api/past?last=3600").json()
    charts = {chart["name"]: chart for chart in answer["charts"]}
    assert charts.keys() == app.CHARTS.keys()
    assert charts["requests"]["lines"] == [
        {"name": "fe-lb, failed", "colour": "bad", "dashed": False, "points": [[NOW, 2.0]]},
        {"name": "be-lb, failed", "colour": "bad", "dashed": True, "points": [[NOW, 1.0]]},
    ]
    ranges = {"service:replicas:serving": [({"service": name}, 2) for name in ("fe", "be", "more")]}
    answer = ask(console(ranges=ranges)[0], "/api/past?last=3600").json()
    (lines,) = (chart["lines"] for chart in answer["charts"] if chart["name"] == "replicas")
    assert [line["colour"] for line in lines] == ["tier-1", "tier-3", "monitoring"]
    # Red is for failures alone, and each service has one colour in light and in dark.
    style = (PROJECT / "files/images/monitoring/console/static/console.css").read_text()
    colours = re.findall(r"--([\w-]+): (#[0-9a-f]+);", style)
    shown = {*(facts["colour"] for facts in SKETCH.values()), "monitoring", "bad"}
    assert {name for name, _ in colours} >= shown
    values = [value for name, value in colours if name in shown]
    assert len(set(values)) == len(values) == 2 * 7
    assert {line[2] for line in app.LINES} <= {"{service}", "{load_balancer}", "monitoring", "db", "failed"}
    assert {line[2] for line in app.LINES if "errors" in line[4]} == {"failed"}


def test_memory_is_told_in_mib():
    assert app.CHARTS["memory"]["unit"] == " MiB"
    assert all(line[4].endswith("/ 2^20") for line in app.LINES if line[0] == "memory")
    script = (PROJECT / "files/images/monitoring/console/static/console.js").read_text()
    assert not re.search(r"GiB|\bMB\b|\bGB\b", script)


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("", (6400, 10000)),
        ("last=900", (9100, 10000)),
        ("begin=1000&end=1500", (1000, 1500)),
        ("begin=1000", (1000, 10000)),
        # Not the future, and not less than a chart can show.
        ("begin=1000&end=1e9", (1000, 10000)),
        ("begin=1490&end=1500", (1440, 1500)),
    ],
)
def test_any_time_can_be_asked_for(query, given):
    assert app.span(httpx.QueryParams(query), 10000.0) == given


@pytest.mark.parametrize(
    "query",
    ["begin=x", "begin=nan", "begin=1500&end=1000", "end=-inf", "last=inf", "last=-5", "begin=-1e12", "end=1000&begin=1e5"],
)
def test_what_is_no_time_is_refused(query):
    assert ask(console()[0], f"/api/past?{query}").status_code == 400


def test_all_that_is_kept_can_be_shown():
    asked = console()
    assert ask(asked[0], "/api/past?last=all").status_code == 200
    assert app.OLDEST in asked[1]


REQUESTS = [
    {"path": f"GET /{n}", "requests": 2, "failed": 0, "seconds": 1.0, "slowest": n / 10, "statuses": {}} for n in range(30)
] + [{"path": "GET /bad", "requests": 3, "failed": 2, "seconds": 0.1, "slowest": 0.05, "statuses": {"503": 2}}]


def test_failing_requests_come_first_and_then_the_slowest():
    found = ask(console(exporter={"/requests": (200, {"requests": REQUESTS})})[0], "/api/requests").json()
    assert [row["path"] for row in found["requests"]][:3] == ["GET /bad", "GET /29", "GET /28"]
    assert len(found["requests"]) == app.ROWS


@pytest.mark.parametrize(
    ("exporter", "status", "content"),
    [
        ((200, {"lines": [{"time": 1.0, "text": "x"}]}), 200, {"lines": [{"time": 1.0, "text": "x"}]}),
        (
            (403, {"error": "Logs are switched off (monitoring_show_logs)."}),
            404,
            {"error": "Logs are switched off (monitoring_show_logs)."},
        ),
    ],
)
def test_end_of_a_log_is_handed_on(exporter, status, content):
    answer = ask(console(exporter={"/logs": exporter})[0], "/api/log?name=web-fe-1")
    assert (answer.status_code, answer.json()) == (status, content)


@pytest.mark.parametrize("path", ["/api/state", "/api/past"])
def test_page_is_told_when_prometheus_is_away_and_since_when(path):
    away = False

    def answer(request):
        if away:
            raise httpx.ConnectError("refused")
        data = {"alerts": []} if request.url.path.endswith("/alerts") else {"result": []}
        return httpx.Response(200, json={"status": "success", "data": data})

    exporter = Exporter("http://127.0.0.1:1", httpx.MockTransport(lambda _: httpx.Response(200, json={"events": []})))
    served = app.create(Prometheus("http://prometheus", httpx.MockTransport(answer)), exporter, "web", TIERS)
    begin = time.time()
    assert ask(served, "/api/state").status_code == 200
    away = True
    answered = ask(served, path)
    assert answered.status_code == 503
    assert answered.json()["error"].startswith("Prometheus does not answer: refused")
    if path == "/api/state":
        assert begin <= answered.json()["since"] <= time.time()


def test_a_refused_question_is_an_error_with_its_reason():
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"status": "error", "error": "parse error"}))
    with pytest.raises(PrometheusError, match="refuses a question: parse error"):
        asyncio.run(Prometheus("http://prometheus", transport).value("("))


@pytest.mark.parametrize("content", [[], {"lines": 5}, "text"])
def test_exporter_that_answers_something_else_is_an_error(content):
    exporter = Exporter("http://127.0.0.1:1", httpx.MockTransport(lambda _: httpx.Response(200, json=content)))
    answers = asyncio.run(exporter.ask("/events"))
    assert len(answers) == 1
    assert isinstance(answers[0], dict)


def test_page_loads_nothing_from_elsewhere_and_answers_to_its_own_names_alone():
    served = console()[0]
    answer = ask(served, "/", "127.0.0.1:9091")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "http" not in answer.text.replace("http-equiv", "")
    assert ask(served, "/plotly.min.js").status_code == 200
    for path in ("/api/state", "/api/log?name=x", "/api/requests", "/runbook"):
        assert ask(served, path, "elsewhere.example").status_code == 400


def test_script_takes_no_text_for_html():
    script = (PROJECT / "files/images/monitoring/console/static/console.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_runbook_is_served_with_a_section_for_each_alert(tmp_path, monkeypatch):
    monkeypatch.setattr(runbook, "PATH", tmp_path / "runbook.md")
    assert ask(console()[0], "/runbook").status_code == 404
    (tmp_path / "runbook.md").write_text(RUNBOOK)
    page = ask(console()[0], "/runbook").text
    rules = (PROJECT / "roles/monitoring/files/alerts.yml").read_text()
    for name in re.findall(r"- alert: (\w+)", rules):
        assert f'<h2 id="{name.lower()}">{name}</h2>' in page
    sections = re.findall(r'"[A-Z]\w+"', (PROJECT / "files/images/monitoring/console/state.py").read_text())
    for name in {name.strip('"') for name in sections} - {"Z"}:
        assert f'id="{name.lower()}"' in page, name
    # Its own links work there, and nothing of the Markdown is left.
    targets = re.findall(r'href="#([\w-]+)"', page)
    assert targets
    assert all(f'id="{target}"' in page for target in targets)
    assert "](" not in page
    assert "`" not in page


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "`<img src=x>`", '[x](#a"onclick=)', "[x](javascript:alert(1))"]
)
def test_runbook_is_text_and_not_html(text):
    page = runbook.page(text)
    body = page.partition("<main")[2]
    assert "<script" not in body
    assert "<img" not in body
    assert not re.search(r'href="(?!#|/)', body)
    assert not re.search(r"<[^>]*onclick", body)


def test_every_expression_of_the_page_is_asked():
    served, asked = console()
    assert json.loads(ask(served, "/api/state").text)["services"]
    ask(served, "/api/past")
    metrics = f'{{__name__=~"{"|".join(state.NOW.values())}"}}'
    lines = {line[4] for line in app.LINES}
    assert set(asked) == {metrics, state.LAST_SEEN, *history.QUERIES.values(), *lines}
