"""What settings may be."""

import contextlib
import string
from pathlib import Path

import pytest
import stack_settings as settings
from hypothesis import given
from hypothesis import strategies as st

PROJECT = Path(__file__).parents[2]


@given(st.integers(1, 4000), st.integers(512, 65535), st.text(string.ascii_lowercase, min_size=1, max_size=60))
def test_capacity_fits_into_slots_and_payload(slots, payload, name):
    capacity = settings.replica_capacity(slots, payload, name)
    assert capacity * 2 <= slots
    question = len(name) + 6
    assert (
        settings.DNS_HEADER + question + settings.DNS_EDNS + capacity * 2 * settings.DNS_RECORD <= payload or capacity == 0
    )


@given(st.integers(1, 4000), st.integers(512, 65535))
def test_one_more_than_the_capacity_is_refused(slots, payload):
    capacity = settings.replica_capacity(slots, payload, "fe")
    values = {"fe_replicas": capacity + 1, "lb_slots": slots, "lb_dns_payload": payload}
    assert settings.check_replicas(values)
    if capacity:
        values["fe_replicas"] = capacity
        assert not settings.check_replicas(values) or slots > settings.dns_capacity(payload, "fe")


def test_capacity_is_what_was_measured():
    # Docker answers 30 addresses in the 512 bytes of plain DNS, and about 510 in 8192.
    assert settings.dns_capacity(512, "fe") == 30
    assert 500 <= settings.dns_capacity(8192, "fe") <= 510


@given(st.integers(1, 10**6), st.sampled_from(["", "b", "k", "m", "g", "K", "M", "G", "kb", "MB"]))
def test_sizes_are_read_as_docker_does(number, unit):
    factor = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}[unit.lower().rstrip("b") or unit.lower()[:1]]
    assert settings.parse_size(f"{number}{unit}") == number * factor


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_is_refused(text):
    with contextlib.suppress(ValueError):
        assert settings.parse_size(text) >= 0


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("fe_replica", "fe_replicas"), ("be_envronment", "be_environment"), ("htps_port", "https_port"), ("fe_zzz", "fe_")],
)
def test_mistaken_names_get_a_suggestion(name, suggestion):
    known = settings.known_names(PROJECT)
    (problem,) = settings.unknown_settings({name}, known, set(settings.read_settings(PROJECT)))
    assert suggestion in problem


@pytest.mark.parametrize("name", ["http_proxy", "my_company", "ansible_user", "environment", "domain", "_private"])
def test_other_variables_of_an_inventory_are_left_alone(name):
    known = settings.known_names(PROJECT)
    assert not settings.unknown_settings({name}, known, set(settings.read_settings(PROJECT)))


@given(
    st.dictionaries(
        st.sampled_from(sorted(settings.read_settings(PROJECT))), st.none() | st.booleans() | st.text() | st.integers()
    )
)
def test_no_value_makes_the_checks_fail_themselves(values):
    converted, problems = settings.convert(settings.read_settings(PROJECT), values)
    assert len(converted) + len(problems) >= len(values)
    for problem in settings.check_settings(converted, PROJECT):
        assert problem.endswith(".")


def test_defaults_are_accepted():
    everything = settings.read_settings(PROJECT)
    # Templates are resolved by Ansible; the rest is checked as it stands.
    values = {name: s.default for name, s in everything.items() if "{{" not in str(s.default)}
    converted, problems = settings.convert(everything, values)
    assert not problems
    assert not settings.check_settings(converted, PROJECT)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.sampled_from(["", "-4", "+dfsg1", "~rc1"]))
def test_versions_compare_by_their_numbers(numbers, suffix):
    text = ".".join(map(str, numbers))
    assert settings.parse_version(f"v{text}{suffix}") == tuple(numbers)


@given(st.text("abcdefgh", min_size=8))
def test_a_password_is_never_quoted(secret):
    everything = settings.read_settings(PROJECT)
    _, wrong_type = settings.convert(everything, {"database_password": [secret]})
    wrong_form = settings.check_names({"database_password": f"{secret}\n"})
    assert wrong_type
    assert wrong_form
    assert secret not in str(wrong_type + wrong_form)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"monitoring_interval": 0}, "monitoring_interval: 0 is out of range"),
        ({"monitoring_retention": "2 weeks"}, "monitoring_retention: '2 weeks' is not valid"),
        ({"monitoring_retention_size": "lots"}, "monitoring_retention_size: 'lots' is not valid"),
        ({"monitoring_alert_webhook_url": "mail@example.com"}, "monitoring_alert_webhook_url:"),
        ({"monitoring_docker_socket": "docker.sock"}, "monitoring_docker_socket: 'docker.sock' is not valid"),
        ({"monitoring_alert_thresholds": {"errors": 1}}, "'errors' is no threshold"),
        ({"monitoring_alert_thresholds": {"error_share": 5}}, "monitoring_alert_thresholds.error_share: 5 is out of range"),
        ({"monitoring_alert_thresholds": {"error_share": 0.5}}, "monitoring_alert_thresholds: latency_p95 is missing"),
        ({"monitoring_console_port": 80, "http_port": 80}, "monitoring_console_port: 80 is http_port as well"),
    ],
)
def test_settings_of_monitoring(values, words):
    assert any(words in problem for problem in settings.check_monitoring(values) + settings.check_ports(values))


def test_thresholds_of_the_defaults_are_all_there_are():
    defaults = settings.read_settings(PROJECT)["monitoring_alert_thresholds"].default
    assert sorted(defaults) == sorted(settings.THRESHOLDS)
    assert not settings.check_monitoring({"monitoring_alert_thresholds": defaults})
