"""What the console makes of Prometheus' answers."""

import asyncio
import json

import httpx
import pytest
from console import app, state
from console.prometheus import Prometheus, PrometheusError, Series

STEP = 10
BEGIN, END = 1000.0, 4600.0


def series(labels, *spans):
    """Return a series from spans (begin, end, value), with a point every step."""
    points = [(moment, value) for begin, end, value in spans for moment in range(begin, end, STEP)]
    return Series(labels, [(float(moment), float(value)) for moment, value in points])


def labels(name, **more):
    """Return the labels of a container."""
    return {"id": name, "name": name, "service": name.split("-")[1], "image": "fe:1", **more}


def before(**found):
    """Return what is known of the time before."""
    return {name: found.get(name, []) for name in state.BEFORE}


@pytest.mark.parametrize(
    ("arguments", "level", "words"),
    [
        (("running", 1, 1), "well", "gets requests"),
        (("running", -1, None), "well", "runs"),
        (("running", 1, None), "well", "healthy"),
        (("running", 0, 1), "starting", "not healthy"),
        (("running", 1, 0), "bad", "gets no requests"),
        (("paused", 1, 0), "bad", "paused"),
        (("exited", -1, None), "bad", "exited"),
    ],
)
def test_condition(arguments, level, words):
    assert state.condition(*arguments) == (level, words)


def test_since_is_the_first_point_with_the_newest_value():
    assert state.since([(1, 1), (2, 0), (3, 1), (4, 1)]) == 3
    assert state.since([(1, 1)]) == 1


def happened(**found):
    """Return the texts of the events, the oldest first."""
    return [event["text"] for event in reversed(state.events(before(**found), BEGIN, END, STEP))]


def test_scaling_is_one_event():
    old = [series(labels(f"web-fe-{n}"), (1000, 4610, 1)) for n in (1, 2)]
    new = [series(labels(f"web-fe-{n}"), (2000 + 20 * n, 4610, 1)) for n in (3, 4, 5)]
    assert happened(state=old + new) == ["fe was scaled from 2 to 5"]
    left = [series(labels(f"web-fe-{n}"), (1000, 3000 + 10 * n, 1)) for n in (3, 4)]
    assert happened(state=old + left) == ["fe was scaled from 4 to 2"]


def test_a_roll_is_one_event():
    old = [series(labels(f"web-fe-{n}"), (1000, 2000 + 30 * n, 1)) for n in (1, 2)]
    new = [series(labels(f"web-fe-{n}"), (1950 + 30 * n - 60, 4610, 1)) for n in (3, 4)]
    other = [series(labels("web-be-1"), (1000, 4610, 1))]
    assert happened(state=old + new + other) == ["fe was rolled: web-fe-3, web-fe-4 instead of web-fe-1, web-fe-2"]


def test_a_container_that_is_made_anew_under_its_old_name_is_another_one():
    old = series(labels("web-db-1"), (1000, 2000, 1))
    new = series(labels("web-db-1", id="another"), (2010, 4610, 1))
    assert happened(state=[old, new]) == ["db was made anew: web-db-1"]


def test_what_is_made_anew_soon_after_the_first_look_is_not_gone():
    old = series(labels("web-console-1"), (2000, 2050, 1))
    new = series(labels("web-console-1", id="another"), (2070, 4610, 1))
    other = [series(labels(f"web-fe-{n}"), (2000 + 20 * n, 4610, 1)) for n in (0, 1, 2)]
    assert happened(state=[old, new, *other]) == ["console was made anew: web-console-1"]


def test_what_happens_to_one_container_is_told():
    well = series(labels("web-fe-1"), (1000, 4610, 1))
    out = series(labels("web-fe-1"), (1000, 2000, 1), (2000, 2100, 0), (2100, 4610, 1))
    started = series(labels("web-fe-1"), (1000, 2050, 5), (2050, 4610, 2045))
    assert happened(state=[well], rotation=[out], started=[started]) == [
        "web-fe-1: gets no requests",
        "web-fe-1: started again",
        "web-fe-1: gets requests again",
    ]
    assert happened(state=[well], health=[out]) == ["web-fe-1: unhealthy", "web-fe-1: healthy again"]
    assert happened(state=[out], health=[out], started=[started]) == [
        "web-fe-1: stopped, unhealthy",
        "web-fe-1: started again",
        "web-fe-1: runs again, healthy again",
    ]


def test_what_happens_to_many_at_once_is_one_event():
    well = [series(labels(f"web-fe-{n}"), (1000, 4610, 1)) for n in range(1, 7)]
    out = [series(labels(f"web-fe-{n}"), (1000, 2000 + 10 * n, 1), (2000 + 10 * n, 4610, 0)) for n in range(1, 7)]
    assert happened(state=well, health=out) == ["6 of fe: unhealthy"]
    assert happened(state=well, health=out[:3]) == [f"web-fe-{n}: unhealthy" for n in (1, 2, 3)]


def test_a_new_container_that_gets_ready_is_no_news_and_one_that_does_not_stay_so_is():
    old = series(labels("web-fe-1"), (1000, 4610, 1))
    new = series(labels("web-fe-2"), (2000, 4610, 1))
    ready = series(labels("web-fe-2"), (2000, 2020, 0), (2020, 3000, 1), (3000, 3100, 0), (3100, 4610, 1))
    assert happened(state=[old, new], health=[ready]) == [
        "fe was scaled from 1 to 2",
        "web-fe-2: unhealthy",
        "web-fe-2: healthy again",
    ]


def test_nothing_has_happened_where_everything_was_there_all_the_time():
    assert (
        happened(state=[series(labels("web-fe-1"), (1000, 4610, 1))], rotation=[series(labels("web-fe-1"), (1000, 4610, 1))])
        == []
    )


def ask(console, path, host="127.0.0.1"):
    """Return what the console answers."""

    async def answer():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(console), base_url=f"http://{host}") as client:
            return await client.get(path)

    return asyncio.run(answer())


def answers(values):
    """Return what a Prometheus would answer, from the labels and values of each expression."""

    def answer(request):
        query = httpx.QueryParams(request.content.decode())
        found = values.get(query["query"], [])
        ranged = request.url.path.endswith("query_range")
        result = [
            {"metric": metric, **({"values": [[2000, str(value)]]} if ranged else {"value": [2000, str(value)]})}
            for metric, value in found
        ]
        return httpx.Response(200, json={"status": "success", "data": {"result": result}})

    return Prometheus("http://prometheus", httpx.MockTransport(answer))


WELL = {
    state.NOW["state"]: [(labels(f"web-{s}-1", state="running"), 1) for s in ("fe", "be", "db")]
    + [(labels("web-fe-2", state="paused"), 1)],
    state.NOW["wanted"]: [({"service": "fe"}, 3), ({"service": "be"}, 1)],
    state.NOW["rotation"]: [(labels("web-fe-1", load_balancer="fe-lb"), 1), (labels("web-fe-2", load_balancer="fe-lb"), 0)],
    state.NOW["cpu"]: [(labels("web-fe-1"), 0.25)],
    state.NOW["cpu_limit"]: [(labels("web-fe-1"), 0.5)],
    state.NOW["requests"]: [({"load_balancer": "fe-lb"}, 12.5)],
    # Of no requests at all.
    state.NOW["p95"]: [({"load_balancer": "fe-lb"}, "NaN")],
    state.NOW["mysql"]: [({"instance": "x"}, 0)],
    state.NOW["targets"]: [({"job": "mysql"}, 0), ({"job": "fe-lb"}, 1)],
    state.NOW["alerts"]: [
        (
            {
                "__name__": "ALERTS",
                "alertname": "DatabaseDown",
                "alertstate": "firing",
                "severity": "critical",
                "instance": "x",
            },
            1,
        )
    ],
    state.NOW["alerts_since"]: [
        ({"__name__": "ALERTS_FOR_STATE", "alertname": "DatabaseDown", "severity": "critical", "instance": "x"}, 1990)
    ],
}


def test_page_is_told_every_container_in_its_place():
    found = ask(app.create(answers(WELL), "web"), "/api/state").json()
    assert [item["service"] for item in found["services"]] == ["fe-lb", "fe", "be-lb", "be", "db"]
    front = found["services"][1]
    assert [(c["name"], c["level"], c["words"]) for c in front["containers"]] == [
        ("web-fe-1", "well", "gets requests"),
        ("web-fe-2", "bad", "paused"),
    ]
    assert front["containers"][0]["cpu_share"] == 0.5
    assert (front["rate"], front["p95"]) == (12.5, None)
    texts = [trouble["text"] for trouble in found["troubles"]]
    assert texts == [
        "fe-lb: 1 missing",
        "web-fe-2: paused",
        "fe: 1 missing",
        "be-lb: 1 missing",
        "no metrics of mysql",
        "the database does not answer",
        "DatabaseDown",
    ]
    assert [trouble["level"] for trouble in found["troubles"]] == ["bad", "bad", "bad", "bad", "starting", "bad", "bad"]
    assert found["alerts"] == [{"name": "DatabaseDown", "severity": "critical", "about": "", "since": 1990.0}]


def test_charts_are_lines_with_the_names_of_what_they_show():
    expression = app.CHARTS["requests"]["lines"]["{load_balancer}"]
    answer = ask(app.create(answers({expression: [({"load_balancer": "fe-lb"}, 2)]}), "web"), "/api/charts?minutes=60")
    charts = {chart["name"]: chart for chart in answer.json()["charts"]}
    assert charts.keys() == app.CHARTS.keys()
    assert charts["requests"]["lines"] == [{"name": "fe-lb", "points": [[2000.0, 2.0]]}]


@pytest.mark.parametrize("path", ["/api/state", "/api/charts"])
def test_page_is_told_when_prometheus_is_away(path):
    def refuse(_):
        raise httpx.ConnectError("refused")

    console = app.create(Prometheus("http://prometheus", httpx.MockTransport(refuse)), "web")
    answer = ask(console, path)
    assert answer.status_code == 503
    assert answer.json()["error"] == "Prometheus does not answer: refused"


def test_a_refused_question_is_an_error_with_its_reason():
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"status": "error", "error": "parse error"}))
    with pytest.raises(PrometheusError, match="refuses a question: parse error"):
        asyncio.run(Prometheus("http://prometheus", transport).now(x="("))


def test_page_loads_nothing_from_elsewhere_and_answers_to_its_own_names_alone():
    console = app.create(answers({}), "web")
    answer = ask(console, "/", "127.0.0.1:9091")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "http" not in answer.text.replace("http-equiv", "")
    assert ask(console, "/plotly.min.js").status_code == 200
    assert ask(console, "/api/state", "elsewhere.example").status_code == 400


def test_every_expression_of_the_page_is_asked():
    asked = []

    def answer(request):
        asked.append(httpx.QueryParams(request.content.decode())["query"])
        return httpx.Response(200, json={"status": "success", "data": {"result": []}})

    console = app.create(Prometheus("http://prometheus", httpx.MockTransport(answer)), "web")
    assert json.loads(ask(console, "/api/state").text)["services"]
    ask(console, "/api/charts")
    wanted = {
        *state.NOW.values(),
        *state.BEFORE.values(),
        *(e for chart in app.CHARTS.values() for e in chart["lines"].values()),
    }
    assert set(asked) == wanted
