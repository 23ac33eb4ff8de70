"""What a deployment says at its end: what has changed, from what to what, and which requests failed meanwhile."""

import pytest
import stack_summary
from tiers_filters import FilterModule


def containers(service, numbers, image="fe:1", digest="a" * 64):
    """Return containers as the engine lists them."""
    return [{"service": service, "id": f"{service}{n}", "image": image, "hash": digest} for n in numbers]


OLD = containers("fe", [1, 2])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (OLD, OLD, []),
        ([], OLD, ["fe  started 2 containers, fe:1"]),
        (OLD, [], ["fe  removed 2 containers"]),
        (OLD, containers("fe", [1, 2, 3]), ["fe  2 → 3 containers"]),
        (OLD, containers("fe", [2]), ["fe  2 → 1 container"]),
        (OLD, containers("fe", [3, 4], "fe:2"), ["fe  image fe:1 → fe:2, 2 recreated"]),
        (OLD, containers("fe", [3, 4, 5], "fe:2"), ["fe  2 → 3 containers, image fe:1 → fe:2, 2 recreated"]),
        (OLD, containers("fe", [3, 4], digest="b" * 64), [f"fe  configuration {'a' * 12} → {'b' * 12}, 2 recreated"]),
        (OLD, containers("fe", [1, 3]), ["fe  1 recreated"]),
        (
            containers("fe", [1], f"sha256:{'c' * 64}"),
            containers("fe", [2], "fe:2"),
            [f"fe  image {'c' * 12} → fe:2, 1 recreated"],
        ),
    ],
)
def test_each_service_says_what_it_was_and_is(before, after, said):
    assert stack_summary.changes(before, after) == said


def test_load_balancer_that_was_not_recreated_says_that_it_reloaded():
    balancers = containers("fe-lb", [1]) + containers("be-lb", [1])
    assert stack_summary.changes(balancers, balancers, ["fe-lb"]) == ["fe-lb  reloaded its configuration"]
    assert "recreated" in stack_summary.changes(balancers, containers("fe-lb", [2]) + balancers[1:], ["fe-lb"])[0]


def test_columns_hold_for_long_names():
    names = ["fe", "a-service-with-a-very-long-name-of-its-own"]
    lines = stack_summary.changes([], [item for name in names for item in containers(name, [1])])
    assert len({line.index("started") for line in lines}) == 1


def counts(requests, failed, name="fe-lb"):
    """Return what a load balancer counts."""
    return {name: {"requests": requests, "failed": failed}}


@pytest.mark.parametrize(
    ("begin", "ended", "end", "said"),
    [
        (counts(100, 5), [], counts(150, 7), "2 of 50 at fe-lb"),
        # A process that reloads begins at 0.
        (counts(100, 5), [counts(120, 5)], counts(30, 1), "1 of 50 at fe-lb"),
        (counts(100, 5), [counts(120, 6), counts(10, 0)], counts(3, 0), "1 of 33 at fe-lb"),
        # Somebody else has started it anew.
        (counts(100, 5), [], counts(4, 1), "1 of 4 at fe-lb"),
        # It did not answer then, or does not now; or this is its first deployment.
        ({"fe-lb": {}}, [], counts(4, 1), ""),
        (counts(100, 5), [{"fe-lb": {}}], counts(104, 5), "0 of 4 at fe-lb"),
        (counts(100, 5), [], {"fe-lb": {}}, ""),
        (
            counts(1, 0) | counts(2, 0, "be-lb"),
            [counts(3, 0, "be-lb")],
            counts(2, 0) | counts(1, 1, "be-lb"),
            "0 of 1 at fe-lb, 1 of 2 at be-lb",
        ),
    ],
)
def test_requests_that_failed_are_counted_over_reloads(begin, ended, end, said):
    assert stack_summary.failed_requests(begin, ended, end) == said
    assert FilterModule().filters()["failed_requests"] is not None
