"""How many address ranges an engine has left."""

import json

import pytest
import stack_checks_host
import stack_pools
from hypothesis import given
from hypothesis import strategies as st

# As `docker network inspect` says it: of a bridge, of one without a range, of one with two families.
RANGES = '[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]\nnull\n[{"Subnet":"172.18.0.0/16"},{"Subnet":"fd00::/64"}]\n'
# The default route, a network behind a gateway, and one that the host is on: 192.168.16.0/20.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0110A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000014AC\t0110A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0010A8C0\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0
"""
SMALL = [{"Base": "10.9.0.0/24", "Size": 26}, {"Base": "fd00::/48", "Size": 64}]


def test_usual_engine_has_31_ranges_less_those_of_networks_and_of_the_host():
    pools = stack_pools.read_pools("null")
    assert stack_pools.free_ranges(pools, [], 1000) == 31
    taken = [*stack_pools.read_ranges(RANGES), *stack_pools.read_routes(ROUTES)]
    assert taken == ["172.17.0.0/16", "172.18.0.0/16", "fd00::/64", "192.168.16.0/255.255.240.0"]
    assert stack_pools.free_ranges(pools, taken, 1000) == 28
    # A range of somebody's own may lie in two, or in none.
    assert stack_pools.free_ranges(pools, ["172.20.0.0/15", "10.0.0.0/8", "192.168.5.0/24"], 1000) == 28


def test_pools_of_the_engine_are_counted():
    pools = stack_pools.read_pools(json.dumps(SMALL))
    assert stack_pools.free_ranges(pools, [], 1000) == 4
    assert stack_pools.free_ranges(pools, ["10.9.0.64/27", "10.9.0.200/32"], 1000) == 2
    assert stack_pools.free_ranges([{"Base": "10.0.0.0/8", "Size": 30}], [], 12) == 12
    assert stack_pools.free_ranges([{"Base": "10.9.0.0/24", "Size": 16}], [], 12) == 0


@given(st.lists(st.integers(0, 63), max_size=80))
def test_each_taken_range_is_one_less(numbers):
    pools = [{"Base": "10.9.0.0/18", "Size": 24}]
    taken = [f"10.9.{number}.0/24" for number in numbers]
    assert stack_pools.free_ranges(pools, taken, 1000) == 64 - len(set(numbers))


@pytest.mark.parametrize(("free", "refused"), [(0, True), (1, True), (2, False)])
def test_too_few_are_refused_with_the_setting(judged_pools, free, refused):
    problems = judged_pools({"missing": ["edge", "data"], "free": free})
    assert bool(problems) is refused
    if refused:
        assert problems[0].startswith(
            f"network_subnets: the engine has {free} address ranges left and the stack needs 2 (edge, data); give networks"
        )
        assert "edge: 10.9.5.0/27" in problems[0]


@pytest.fixture(name="judged_pools")
def judge(monkeypatch):
    """Return what is refused of a host with such pools that fits in all else."""
    monkeypatch.setattr(stack_checks_host, "memory_needed", lambda _: 0)
    monkeypatch.setattr(stack_checks_host, "check_mounts", lambda *_: [])
    host = {"engine_version": "28.0.0", "compose_version": "2.30.0", "folder_problems": [], "engine": "", "strangers": []}
    host |= {"foreign": [], "memory": 2**36, "scheduler": "cron", "selinux": False, "ports": [], "secrets_complete": True}
    values = {"stack_engine": "compose", "backup_schedule": "", "monitoring_enabled": False, "app_mode": "production"}
    minimum = {"engine": (25,), "compose": (2, 26)}
    return lambda pools: stack_checks_host.check_host(values, {**host, "pools": pools}, minimum)
