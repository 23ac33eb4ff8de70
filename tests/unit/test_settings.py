"""What settings may be."""

import contextlib
import fnmatch
import string
from pathlib import Path

import pytest
import stack_checks as checks
import stack_checks_files
import stack_checks_host
import stack_checks_services
import stack_forms
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
    values = {"fe_replicas": capacity + 1, "fe_lb_replicas": 0, "lb_slots": slots, "lb_dns_payload": payload}
    assert checks.check_replicas(values)
    if capacity:
        values["fe_replicas"] = capacity
        assert not checks.check_replicas(values) or slots > settings.dns_capacity(payload, "fe")


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
    [
        ("fe_replica", "fe_replicas"),
        ("be_envronment", "be_environment"),
        ("htps_port", "https_port"),
        ("database_pasword", "database_password"),
    ],
)
def test_mistaken_names_get_a_suggestion(name, suggestion):
    known = settings.known_names(PROJECT)
    (problem,) = settings.unknown_settings({name}, known, set(settings.read_settings(PROJECT)))
    assert suggestion in problem


@pytest.mark.parametrize("name", ["http_proxy", "my_company", "ansible_user", "environment", "domain", "_private", "fe_zzz"])
def test_other_variables_of_an_inventory_are_left_alone(name):
    known = settings.known_names(PROJECT)
    assert not settings.unknown_settings({name}, known, set(settings.read_settings(PROJECT)))


# Texts that Python takes for numbers, among them some that no number of a computer holds.
NUMERIC = ["inf", "-Infinity", "nan", "1e400", "9" * 400, "9" * 400 + "M", "9" * 400 + "s", "٣", "1_000", "0x10"]
VALUES = st.none() | st.booleans() | st.text() | st.integers() | st.floats() | st.sampled_from(NUMERIC)


@given(st.dictionaries(st.sampled_from(sorted(settings.read_settings(PROJECT))), VALUES))
def test_no_value_makes_the_checks_fail_themselves(values):
    converted, problems = settings.convert(settings.read_settings(PROJECT), values)
    assert len(converted) + len(problems) >= len(values)
    for problem in checks.check_settings(converted, PROJECT):
        assert problem.endswith(".")


def test_defaults_are_accepted():
    everything = settings.read_settings(PROJECT)
    # Templates are resolved by Ansible; the rest is checked as it stands.
    values = {name: s.default for name, s in everything.items() if "{{" not in str(s.default)}
    converted, problems = settings.convert(everything, values)
    assert not problems
    assert not checks.check_settings(converted, PROJECT)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.sampled_from(["", "-4", "+dfsg1", "~rc1"]))
def test_versions_compare_by_their_numbers(numbers, suffix):
    text = ".".join(map(str, numbers))
    assert settings.parse_version(f"v{text}{suffix}") == tuple(numbers)


@pytest.mark.parametrize("name", ["fe_source", "be_source", "database_dumps"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing", "does not exist"),
        ("file/below", "does not exist"),
        ("zero\0", "does not exist"),
        ("x" * 400, "cannot be read (File name too long)"),
        ("loop", "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_path_that_cannot_be_used_is_refused_with_its_reason(tmp_path, name, path, why):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    value = [path] if name == "database_dumps" else path
    tiers = dict.fromkeys(("fe_replicas", "fe_lb_replicas", "be_replicas", "be_lb_replicas"), 1)
    (problem,) = stack_checks_files.check_files({**tiers, name: value}, tmp_path)
    assert problem.startswith(f"{name}: the ")
    assert f"{path} {why}; correct the path or" in problem


@given(st.text("abcdefgh", min_size=8))
def test_a_password_is_never_quoted(secret):
    everything = settings.read_settings(PROJECT)
    _, wrong_type = settings.convert(everything, {"database_password": [secret]})
    wrong_form = checks.check_settings({"database_password": f"{secret}\n"}, PROJECT)
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
        ({"monitoring_console_port": 80, "http_port": 80}, "monitoring_console_port: 80 is http_port as well"),
    ],
)
def test_settings_of_monitoring(values, words):
    assert any(words in problem for problem in checks.check_settings(values, PROJECT))


def test_thresholds_of_the_defaults_are_all_there_are():
    defaults = settings.read_settings(PROJECT)["monitoring_alert_thresholds"].default
    assert sorted(defaults) == sorted(settings.read_settings(PROJECT)["monitoring_alert_thresholds"].spec["options"])
    assert not checks.check_settings({"monitoring_alert_thresholds": defaults}, PROJECT)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backup_repository": "backups"}, "backup_repository"),
        ({"backup_password": "a\nb"}, "backup_password"),
        ({"backup_schedule": "25:00"}, "03:30"),
        ({"backup_logs_interval": 0}, "minutes"),
        ({"backup_logs_days": 0}, "days"),
        ({"backup_environment": {"A-B": "x"}}, "backup_environment"),
        ({"backup_keep": {"fortnightly": 1}}, "fortnightly"),
        ({"backup_keep": {"daily": 0}}, "backup_keep.daily"),
        ({"backup_keep": {}}, "last: 3"),
    ],
)
def test_settings_of_backups(values, words):
    (problem,) = checks.check_settings(values, PROJECT)
    assert words in problem


@pytest.mark.parametrize(
    "place", ["/srv/my backups", "~/backups", *(f"{kind}:place" for kind in stack_checks_services.REPOSITORIES)]
)
def test_repositories_that_restic_reaches_from_its_container_are_accepted(place):
    assert not stack_checks_services.check_backup(
        {"backup_repository": place, "backup_environment": {"GOOGLE_ACCESS_TOKEN": "x"}}
    )


LIMITS = {"body": "100M", "headers": "15K", "connections": 1000, "requests": 2000}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"edge_limits": {**LIMITS, "bodies": 1}}, "bodies"),
        ({"edge_limits": {**LIMITS, "connections": "many"}}, "edge_limits.connections"),
        ({"edge_limits": {**LIMITS, "requests": -1}}, "edge_limits.requests"),
        ({"edge_limits": {**LIMITS, "body": "big"}}, "edge_limits.body"),
        ({"edge_limits": {**LIMITS, "headers": "7K"}}, "from 8K to 1M"),
        ({"edge_trusted": ["proxy.example.com"]}, "10.1.2.0/24"),
        ({"edge_headers": {"X Frame": "DENY"}}, "X Frame"),
        ({"edge_headers": {"X-Frame": "a\nb"}}, "edge_headers.X-Frame"),
        ({"edge_hidden_headers": ["Server:"]}, "edge_hidden_headers: 'Server:' is no name"),
    ],
)
def test_settings_of_the_edge(values, words):
    (problem,) = checks.check_settings(values, PROJECT)
    assert words in problem


def test_limits_of_the_edge_can_be_lifted():
    lifted = {"body": 0, "headers": "15K", "connections": 0, "requests": "0"}
    assert checks.check_settings({"edge_limits": lifted, "edge_trusted": ["10.1.2.3", "fd00::/8"]}, PROJECT) == []


def test_build_cache_is_a_size():
    assert checks.check_settings({"image_build_cache": "10G"}, PROJECT) == []
    assert checks.check_settings({"image_build_cache": "0"}, PROJECT) == []
    (problem,) = checks.check_settings({"image_build_cache": "much"}, PROJECT)
    assert "image_build_cache" in problem


@pytest.mark.parametrize(("text", "words"), [("{", "no JSON"), ("[]", "defaultAction"), (None, "cannot be read")])
def test_profile_of_system_calls(tmp_path, text, words):
    if text is not None:
        (tmp_path / "profile.json").write_text(text)
    (problem,) = stack_checks_files.check_files({"seccomp_profile": "profile.json"}, tmp_path)
    assert "seccomp_profile" in problem
    assert words in problem
    assert stack_checks_files.check_files({"seccomp_profile": "files/seccomp.json"}, PROJECT) == []


def test_schedule_needs_somebody_who_keeps_it():
    own = settings.read_settings(PROJECT)
    values, _ = settings.convert(own, {name: setting.default for name, setting in own.items()})
    values["backup_schedule"] = "03:30"
    host = {
        "engine_version": "28.0.0",
        "compose_version": "2.30.0",
        "memory": 2**36,
        "socket_group": 0,
        "ports": [],
        "selinux": False,
    }
    host |= {"mounts": [], "missing": [], "containers": [], "secrets_complete": True, "scheduler": "", "mapping": ""}
    host |= {"developer": {}, "docker_socket": "/var/run/docker.sock", "stack_dir": "/srv", "uid": 0}
    host |= {
        "folder_problems": [],
        "engine": "unix:///var/run/docker.sock",
        "strangers": [],
        "foreign": [],
        "pools": {"missing": [], "free": 0},
    }
    minimum = {"engine": (25,), "compose": (2, 26)}
    (problem,) = stack_checks_host.check_host(values, host, minimum)
    assert "backup_schedule" in problem
    assert stack_checks_host.check_host(values, {**host, "scheduler": "cron"}, minimum) == []


@pytest.mark.parametrize("glob", [glob for globs, _ in stack_forms.FORMS for glob in globs.split()])
def test_every_form_is_of_a_setting(glob):
    """A mistaken name would check nothing."""
    everything = settings.read_settings(PROJECT).values()
    dictionaries = [setting for setting in everything if setting.type == "dict"]
    paths = [f"{item.name}.{key}" for item in dictionaries for key in item.spec.get("options", item.default)]
    assert fnmatch.filter([*(setting.name for setting in everything), *paths], glob)


def test_variable_that_is_called_like_a_setting_is_none():
    names = ["fe_health_path", "x_stop_grace_period", "A_environment", "api_memory_reservation"]
    assert checks.check_settings({"fe_environment": dict.fromkeys(names, "anything at all")}, PROJECT) == []


def test_key_that_was_taken_out_of_group_vars_is_missed():
    shorter = {"cpus": "1.0", "memory": "256M"}
    (problem,) = checks.check_settings({"lb_limits": shorter}, PROJECT)
    assert problem == "lb_limits: pids has no value; give one in group_vars."
    assert checks.check_settings({"backup_keep": {"last": 3}}, PROJECT) == []
