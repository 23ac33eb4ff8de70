"""What the table of make status shows."""

import pytest
import stack_haproxy
import stack_status as status


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3600 * 5.9, "5 h"), (86400 * 3, "3 d"), (-5, "0 s")]
)
def test_ages_are_told_in_the_largest_unit(seconds, text):
    assert status.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "value"), [("12.5MiB ", 12.5 * 2**20), ("1GiB", 2**30), ("0B", 0), ("--", 0), ("100kB", 100000)]
)
def test_amounts_of_the_engine_are_bytes(text, value):
    assert status.size(text) == value


def test_columns_stand_one_under_the_other():
    assert status.table([("A", "LONG", ""), ("much", "x", "y")]) == ["A     LONG", "much  x     y"]


@pytest.mark.parametrize(
    ("state", "text", "trouble"),
    [
        ("running", "Up 5 minutes (healthy)", ""),
        ("running", "Up 5 minutes", ""),
        ("running", "Up 2 seconds (health: starting)", "starting"),
        ("running", "Up 2 minutes (unhealthy)", "unhealthy"),
        ("paused", "Up 2 minutes (Paused)", "paused"),
        ("exited", "Exited (1) 5 seconds ago", "exited (1) 5 seconds ago"),
    ],
)
def test_trouble_of_a_container(state, text, trouble):
    assert status.trouble({"state": state, "status": text}) == trouble


STATISTICS = """# pxname,svname,type,addr,stot,req_tot,hrsp_5xx,econ,eresp
application,FRONTEND,0,,10,12,1,,
metrics,FRONTEND,0,,99,99,0,,
fe,fe-1,2,10.0.0.2:8000,7,,2,1,1
fe,fe-2,2,10.0.0.3:8000,5,,0,0,0
fe,BACKEND,1,,7,7,2,1,1
fe-streams,fe-1,2,10.0.0.3:8000,2,,0,0,1
fe-open,fe-1,2,10.0.0.2:8000,1,,0,0,0
"""


def test_requests_are_counted_by_address_in_all_backends_and_at_the_edge():
    counts = stack_haproxy.read_counts(STATISTICS)
    assert counts == {
        "FRONTEND": {"requests": 12, "failed": 1},
        "10.0.0.2": {"requests": 8, "failed": 4},
        "10.0.0.3": {"requests": 7, "failed": 1},
    }


@pytest.mark.parametrize(
    ("judged", "rest", "rate", "fails_open"),
    [
        (2, 2, 0, False),
        # One of them is judged good, and nothing goes the other way.
        (1, 3, 0, False),
        (0, 2, 0, True),
        (1, 3, 5, True),
        # None takes a connection.
        (0, 0, 0, False),
    ],
)
def test_requests_to_servers_that_fail_their_checks_are_noticed(judged, rest, rate, fails_open):
    rows = [f"fe,BACKEND,1,{judged},3", f"fe-open,BACKEND,1,{rest},{rate}", "be,BACKEND,1,0,0", "fe-open,fe-1,2,1,9"]
    statistics = "\n".join(["# pxname,svname,type,act,rate", *rows])
    assert stack_haproxy.fails_open(statistics, "fe") == fails_open


def test_without_the_other_backend_nothing_fails_open():
    assert not stack_haproxy.fails_open("# pxname,svname,type,act,rate\nfe,BACKEND,1,0,0", "fe")


def balancer(moment, requests, failed):
    return status.Balancer(moment, [], {"fe-1": {"requests": requests, "failed": failed}})


def test_rates_are_those_between_two_looks():
    assert status.rates(balancer(0, 100, 5), balancer(2, 120, 6), "fe-1") == (10, 0.5)
    # A process that started anew counts from nothing.
    assert status.rates(balancer(0, 100, 5), balancer(2, 8, 0), "fe-1") == (4, 0)
    assert status.rates(balancer(0, 0, 0), balancer(2, 0, 0), "fe-2") == (0, 0)


def test_of_many_those_in_trouble_and_the_busiest_are_listed():
    rows = [status.Row(f"fe-{number}", "fe:1", healthy=1, cpu=number / 100) for number in range(30)]
    rows[3].trouble, rows[3].healthy = "paused", 0
    service = status.Service("fe", 30, rows)
    listed = [row.name for row in service.listed()]
    assert listed[:3] == ["fe-3", "fe-29", "fe-28"]
    assert len(listed) == status.LISTED
    total = service.total()
    assert (total.wanted, total.healthy, total.image) == (30, 29, "fe:1")
    assert not status.Service("db", 1, [status.Row("db-1", "db:1")]).listed()


def test_a_service_without_containers_has_a_row():
    assert status.Service("fe", 2).total().cells(0)[:5] == ("fe", "2", "0", "-", "-")


@pytest.mark.parametrize("state", ['{"mode": "development"}', "{}", "{", ""])
def test_mode_of_the_stack_is_said_where_it_is_known(tmp_path, monkeypatch, state):
    (tmp_path / "state.json").write_text(state)
    monkeypatch.setattr(status, "examine", lambda *_: ([], []))
    lines = status.report({"project": "web", "path": str(tmp_path), "services": []})["lines"]
    assert ("Mode: development" in lines) == ("development" in state)
    assert not [line for line in lines if line.startswith("Mode") and "development" not in line]
