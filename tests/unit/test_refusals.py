"""Wrong settings and hosts that do not fit: what is refused without Ansible, and with which sentence."""

import datetime
import json
import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import compose_filters
import database_filters
import preflight_action
import pytest
import stack_checks as checks
import stack_checks_host
import stack_host
import stack_preflight
import stack_removal
import stack_settings
import stack_status
import stack_survey
import stack_written
from ansible import context
from ansible._internal._datatag._tags import Origin
from ansible.inventory.manager import InventoryManager
from ansible.module_utils import stack_module
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.utils.yaml import from_yaml as from_text
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from stack import PROJECT, run

MYSQL = "webstack/mysql:9.7-debian"
NAMES = sorted(stack_settings.read_settings(PROJECT))
# Words with which the name of a setting says that its value must not be shown.
SECRETS = [name for name in NAMES if re.search(r"password|secret|token|webhook|private_key|environment", name)]
SECRET = "correct-horse-battery-staple"  # noqa: S105 (of no account)
THRESHOLDS = dict.fromkeys(stack_settings.defaults("monitoring_alert_thresholds"), 0.5)
TIMEOUTS = dict.fromkeys(stack_settings.defaults("lb_timeouts"), "1s")
LIMITS = {"body": "100M", "headers": "15K", "connections": 1000, "requests": 2000}
SWARM = {"stack_engine": "swarm"}


class Project:
    """The settings of the checkout as Ansible reads them, for the inventory that comes with it."""

    def __init__(self):
        init_plugin_loader([])
        self.loader = DataLoader()
        self.loader.set_basedir(str(PROJECT))
        inventory = InventoryManager(self.loader, sources=[str(PROJECT / "inventory/hosts.yml")])
        self.variables = VariableManager(self.loader, inventory).get_vars(host=inventory.get_host("localhost"))

    def templar(self, given):
        """Return what resolves templates while some variables are given with ``-e``."""
        return Templar(self.loader, {**self.variables, **given})

    def refusals(self, given):
        """Return values and sentences, as the action plugin of the preflight gets them."""
        variables, templar = {**self.variables, **given}, self.templar(given)
        return checks.refusals(set(variables), lambda name: templar.template(variables[name]), PROJECT)

    def values(self, given):
        """Return the values of settings that are accepted."""
        values, sentences = self.refusals(given)
        assert not sentences
        return values

    def minimum(self):
        """Return the oldest versions that are accepted."""
        return {key: stack_settings.parse_version(self.variables[f"_docker_{key}_minimum"]) for key in ("engine", "compose")}

    def tasks(self, path):
        """Return the tasks of a role's file, with templates that can be resolved."""
        return self.loader.load_from_file(str(PROJECT / "roles" / path), trusted_as_template=True)


@pytest.fixture(scope="session")
def project():
    return Project()


def well_formed(sentence):
    """Tell whether a sentence says what is wrong, then what to do, and ends."""
    return re.fullmatch(r"\S.*\S(?:; |: did you mean |: README).*\S[.?]", sentence, re.DOTALL) is not None


def names_a_setting(sentence):
    """Tell whether a sentence begins with the name of a setting, or with one that is taken for it."""
    name, end = re.match(r"(\w+)(?:\.[\w-]+)?(: | is no setting of this stack: |)", sentence).groups()
    return name in NAMES if end == ": " else bool(end)


WRONG = [
    # Names.
    ({"fe_replica": 3}, "fe_replica is no setting of this stack: did you mean fe_replicas?"),
    ({"htp_port": 80}, "htp_port is no setting of this stack: did you mean http_port?"),
    ({"watchdog_restart": 2}, "watchdog_restart is no setting of this stack: did you mean watchdog_restarts?"),
    ({"monitoring_enable": True}, "monitoring_enable is no setting of this stack: did you mean monitoring_enabled?"),
    ({"database_pasword": "x"}, "database_pasword is no setting of this stack: did you mean database_password?"),
    # Types and choices.
    ({"fe_replicas": "many"}, "fe_replicas: 'many' is not a whole number"),
    ({"fe_replicas": 2.5}, "fe_replicas: 2.5 is not a whole number"),
    ({"be_replicas": None}, "be_replicas: None is not a whole number"),
    ({"https_port": True}, "https_port: True is not a whole number"),
    ({"lb_health_interval": "often"}, "lb_health_interval: 'often' is not a number"),
    ({"http3_enabled": "perhaps"}, "http3_enabled: 'perhaps' is not true or false"),
    ({"database_aliases": "a,b"}, "database_aliases: 'a,b' is not a list; on the command line write it as JSON"),
    ({"fe_limits": "memory=1G"}, "fe_limits: 'memory=1G' is not a dictionary; on the command line write it as JSON"),
    ({"be_image": ["a", "b"]}, "be_image: ['a', 'b'] is not a text"),
    ({"image_source": "internet"}, "image_source: 'internet' is not known; use one of auto"),
    ({"stack_engine": "kubernetes"}, "stack_engine: 'kubernetes' is not known; use one of compose, swarm"),
    ({"app_mode": "staging"}, "app_mode: 'staging' is not known"),
    # Replicas.
    ({"fe_replicas": 0}, "fe_replicas: 0 replicas cannot serve"),
    ({"be_replicas": -1}, "be_replicas: -1 replicas cannot serve"),
    ({"fe_replicas": 201}, "fe_replicas: 201 replicas are more than the load balancer has room for (400 slots"),
    ({"be_replicas": 11, "lb_slots": 20}, "be_replicas: 11 replicas are more than the load balancer has room for (20 slots"),
    ({"lb_slots": 600}, "lb_slots: 600 servers do not fit into a DNS answer of 8192 bytes"),
    # Ports and addresses.
    ({"http_port": 70000}, "http_port: 70000 is out of range"),
    ({"be_port": 0}, "be_port: 0 is out of range"),
    ({"http_port": 9443, "https_port": 9443}, "https_port: 9443 is http_port as well"),
    ({"monitoring_console_port": 9443, "https_port": 9443}, "monitoring_console_port: 9443 is https_port as well"),
    ({"monitoring_grafana": True, "monitoring_grafana_port": 8080}, "monitoring_grafana_port: 8080 is http_port as well"),
    ({"bind_address": "everywhere"}, "bind_address: 'everywhere' is no IP address"),
    ({"network_subnets": {"data": "10.0.0.0/99"}}, "network_subnets: '10.0.0.0/99' for data is no address range"),
    # Names, paths and durations.
    ({"stack_name": "My Stack"}, "stack_name: 'My Stack' is not valid"),
    ({"database_name": "a b"}, "database_name: 'a b' is not valid"),
    ({"database_user": "a@b"}, "database_user: 'a@b' is not valid"),
    ({"database_user": "root"}, "database_user: root is the server's own account"),
    ({"database_user": "exporter"}, "database_user: exporter is the account of monitoring"),
    ({"database_password": "a\nb"}, "database_password: what is given is not valid"),
    ({"image_registry": "registry.example.com"}, "image_registry: 'registry.example.com' is not valid"),
    ({"fe_user": "www-data"}, "fe_user: 'www-data' is not valid"),
    ({"fe_health_path": "healthz"}, "fe_health_path: 'healthz' is not valid"),
    ({"lb_stop_grace_period": "1m30s"}, "lb_stop_grace_period: '1m30s' is not valid"),
    ({"lb_hard_stop_after": "1d"}, "lb_hard_stop_after: '1d' is not valid"),
    ({"fe_health_host": ""}, "fe_health_host: '' is not valid"),
    ({"be_health_host": "shop.example\r\nX: y"}, "be_health_host: 'shop.example\\r\\nX: y' is not valid"),
    ({"fe_health_host": "%[src]"}, "fe_health_host: '%[src]' is not valid"),
    ({"be_health_host": "a b"}, "be_health_host: 'a b' is not valid"),
    ({"fe_init": "tini"}, "fe_init: 'tini' is not true or false"),
    ({"fe_drain_timeout": "a while"}, "fe_drain_timeout: 'a while' is not valid"),
    ({"watchdog_window": "10"}, "watchdog_window: '10' is not valid"),
    ({"fe_rollout_batch": "0%"}, "fe_rollout_batch: '0%' is not valid"),
    ({"be_rollout_batch": "half"}, "be_rollout_batch: 'half' is not valid"),
    ({"be_lb_aliases": ["not a name"]}, "be_lb_aliases: 'not a name' is no host name"),
    # Containers.
    ({"image_build_cache": "much"}, "image_build_cache: 'much' is no size"),
    ({"fe_limits": {"memory": "lots"}}, "fe_limits.memory: 'lots' is no size"),
    ({"fe_limits": {"ram": "1G"}}, "fe_limits: 'ram' is no limit"),
    ({"lb_limits": {"cpus": 0}}, "lb_limits.cpus: 0 is no positive number"),
    ({"database_limits": {"pids": "few"}}, "database_limits.pids: 'few' is no positive number"),
    ({"fe_limits": {"memory": "32M"}}, "fe_memory_reservation: 64M is more than fe_limits.memory, which is 32M"),
    ({"database_memory_reservation": "-1G"}, "database_memory_reservation: '-1G' is no size"),
    ({"monitoring_memory_reservation": "x"}, "monitoring_memory_reservation: 'x' is no size"),
    ({"be_source_target": "srv"}, "be_source_target: 'srv' is not valid"),
    ({"fe_limits": {"cpu": "1.0"}}, "fe_limits: 'cpu' is no limit; did you mean cpus?"),
    ({"lb_limits": {"pids": ""}}, "lb_limits.pids: '' is no positive number"),
    (
        {"fe_memory_reservation": "300M", "fe_limits": {"cpus": "2.0"}},
        "fe_memory_reservation: 300M is more than fe_limits.memory",
    ),
    ({"network_subnets": {"dta": "10.9.5.0/24"}}, "network_subnets: 'dta' is no network; did you mean data?"),
    ({"network_subnets": {"data": 10}}, "network_subnets.data: YAML reads the value as a number; put it in quotes."),
    ({"be_mounts": [{"source": None, "target": "/x"}]}, "be_mounts: source and target are paths; put them in quotes"),
    (
        {"be_mounts": [{"source": "/srv", "target": "/x", "read_only": "no"}]},
        "be_mounts: read_only is 'no'; give true or false",
    ),
    # YAML reads as something else what shall be text.
    ({"fe_environment": {"A": None}}, "fe_environment.A: YAML reads the value as nothing; put it in quotes."),
    ({"be_environment": {"A": 1.1}}, "be_environment.A: YAML reads the value as a number; put it in quotes."),
    ({"backup_environment": {"A": datetime.date(2030, 1, 2)}}, "backup_environment.A: YAML reads the value as a date; put"),
    ({"fe_environment": {False: "x"}}, "fe_environment: YAML reads one of the names as False; put that name in quotes."),
    ({"edge_headers": {"X-A": 1.1}}, "edge_headers.X-A: YAML reads the value as a number; put it in quotes."),
    *(
        ({"database_settings": {name: "1"}}, f"database_settings: {name} stays as it is, because ")
        for name in (
            "port",
            "Port",
            "bind-address",
            "skip_networking",
            "loose-skip-log-bin",
            "log_bin",
            "skip-grant-tables",
            "datadir",
        )
    ),
    *(
        ({"database_settings": {"max-allowed-packet": value}}, f"database_settings.max-allowed-packet: {value} is too small")
        for value in ("1M", 2097151, "64k")
    ),
    ({"database_settings": {"a b": "1"}}, "database_settings: 'a b' is no server variable with a value of one line"),
    (
        {"database_settings": {"sql_mode": "\n[client]"}},
        "database_settings: 'sql_mode' is no server variable with a value of one line",
    ),
    ({"database_settings": {"a": None}}, "database_settings.a: YAML reads the value as nothing; put it in quotes."),
    ({"fe_command": ["serve", True]}, "fe_command: YAML reads element 2 as true or false; put it in quotes."),
    ({"be_lb_aliases": [5]}, "be_lb_aliases: YAML reads element 1 as a number; put it in quotes."),
    ({"database_dumps": 5}, "database_dumps: 5 is not a list"),
    ({"database_password": 42798}, "database_password: what is given is not a text; put it in quotes"),
    ({"database_name": 2024}, "database_name: 2024 is not a text; put it in quotes"),
    ({"backup_schedule": 810}, "backup_schedule: 810 is not a text; put it in quotes"),
    ({"fe_image": None}, "fe_image: None is not a text; put it in quotes"),
    ({"fe_environment": {"A-B": "x"}}, "fe_environment: 'A-B' is no name of a variable"),
    ({"fe_environment": {"A": ["x"]}}, "fe_environment: A is a list; give a text or a number"),
    ({"be_mounts": [{"source": "/srv", "target": "x"}]}, "be_mounts: the target 'x' is not absolute"),
    ({"be_mounts": ["/srv:/x"]}, "be_mounts: '/srv:/x' is not understood"),
    # Load balancers.
    ({"lb_timeouts": {**TIMEOUTS, "conect": "1s"}}, "lb_timeouts: 'conect' is no timeout"),
    ({"lb_timeouts": {**TIMEOUTS, "queue": "50ms"}}, "lb_timeouts.queue: '50ms' is too short; give 100ms or more"),
    ({"fe_max_requests": -1}, "fe_max_requests: -1 is out of range"),
    ({"lb_panic_share": 2}, "lb_panic_share: 2.0 is out of range; give a share of the replicas from 0 to 1"),
    ({"lb_timeouts": {**TIMEOUTS, "queue": "1 s"}}, "lb_timeouts.queue: '1 s' is no duration"),
    ({"lb_slots": 4001, "lb_dns_payload": 65535}, "lb_slots: 4001 is out of range"),
    ({"lb_health_interval": 61}, "lb_health_interval: 61.0 is out of range"),
    ({"lb_dns_payload": 511, "lb_slots": 20}, "lb_dns_payload: 511 is out of range"),
    ({"lb_discovery_interval": 0}, "lb_discovery_interval: 0.0 is out of range"),
    ({"lb_max_connections": 1}, "lb_max_connections: 1 is out of range"),
    ({"hsts_max_age": -1}, "hsts_max_age: -1 is out of range"),
    ({"watchdog_restarts": -1}, "watchdog_restarts: -1 is out of range"),
    ({"stack_releases_kept": 0}, "stack_releases_kept: 0 is out of range"),
    ({"edge_limits": {**LIMITS, "bodies": 1}}, "edge_limits: 'bodies' is no limit"),
    ({"edge_limits": {**LIMITS, "requests": "many"}}, "edge_limits.requests: 'many' is no number"),
    ({"edge_limits": {**LIMITS, "body": "big"}}, "edge_limits.body: 'big' is no size"),
    ({"edge_limits": {**LIMITS, "headers": "7K"}}, "edge_limits.headers: '7K' is out of range"),
    ({"edge_trusted": ["proxy"]}, "edge_trusted: 'proxy' is no address"),
    ({"edge_headers": {"X Frame": "DENY"}}, "edge_headers: 'X Frame' is no name of a header"),
    ({"edge_headers": {"X-Frame": "a\nb"}}, "edge_headers.X-Frame: 'a\\nb' is no value of a header"),
    ({"edge_hidden_headers": ["Server:"]}, "edge_hidden_headers: 'Server:' is no name of a header"),
    # Monitoring and backups.
    ({"monitoring_interval": 301}, "monitoring_interval: 301 is out of range"),
    ({"monitoring_retention": "forever"}, "monitoring_retention: 'forever' is not valid"),
    ({"monitoring_retention_size": "lots"}, "monitoring_retention_size: 'lots' is not valid"),
    ({"monitoring_alert_webhook_url": "mail@example.com"}, "monitoring_alert_webhook_url: what is given is not valid"),
    ({"monitoring_docker_socket": "docker.sock"}, "monitoring_docker_socket: 'docker.sock' is not valid"),
    (
        {"monitoring_alert_thresholds": {**THRESHOLDS, "error_share": 5}},
        "monitoring_alert_thresholds.error_share: 5 is out of range; give a share",
    ),
    (
        {"monitoring_alert_thresholds": {**THRESHOLDS, "backup_hours": "a day"}},
        "monitoring_alert_thresholds.backup_hours: 'a day' is out of range; give a positive number",
    ),
    (
        {"monitoring_alert_thresholds": {"latency_p59": 0.5}},
        "monitoring_alert_thresholds: 'latency_p59' is no threshold; did",
    ),
    ({"backup_repository": "backups"}, "backup_repository: 'backups' is not valid"),
    ({"backup_repository": "local:/backups"}, "backup_repository: 'local:/backups' is not valid"),
    ({"backup_repository": "s3:"}, "backup_repository: 's3:' is not valid"),
    ({"backup_repository": "sftp:me@store:/srv/backups"}, "backup_repository: sftp: needs an SSH key and known hosts"),
    ({"backup_repository": "rclone:store:backups"}, "backup_repository: rclone: needs the program rclone"),
    ({"backup_repository": "gs:bucket:/"}, "backup_repository: gs: needs GOOGLE_ACCESS_TOKEN in backup_environment"),
    ({"backup_password": "a\nb"}, "backup_password: what is given is not valid"),
    ({"backup_schedule": "25:00"}, "backup_schedule: '25:00' is not valid"),
    ({"backup_logs_interval": 0}, "backup_logs_interval: 0 is out of range"),
    ({"backup_logs_days": 0}, "backup_logs_days: 0 is out of range"),
    ({"backup_environment": {"A-B": "x"}}, "backup_environment: 'A-B' is no name of a variable"),
    ({"backup_environment": "A=b"}, "backup_environment: what is given is not a dictionary"),
    ({"backup_keep": {"fortnightly": 1}}, "backup_keep: 'fortnightly' is no period"),
    ({"backup_keep": {"daily": -1}}, "backup_keep.daily: -1 is no number of backups"),
    (
        {"backup_keep": dict.fromkeys(stack_settings.read_settings(PROJECT)["backup_keep"].spec["options"], 0)},
        "backup_keep: with nothing in it no backup would be kept",
    ),
    # One host or several.
    ({"fe_lb_replicas": 2}, "fe_lb_replicas: 2 load balancers of a tier need several hosts"),
    ({"be_lb_replicas": 101, **SWARM}, "be_lb_replicas: 101 is out of range"),
    ({"app_mode": "development", **SWARM}, "app_mode: development is for the machine that has the code"),
    ({"network_driver_options": {"a": "b"}, **SWARM}, "network_driver_options: they are for bridges of one host"),
    ({"backup_schedule": "03:30", **SWARM}, "backup_schedule: no host of a Swarm takes backups by itself"),
    ({"swarm_registry": "r.example.com/"}, "swarm_registry: 'r.example.com/' is not valid"),
    ({"swarm_registry_user": "a:b"}, "swarm_registry_user: 'a:b' is not valid"),
    ({"swarm_registry_password": "a\nb"}, "swarm_registry_password: what is given is not valid"),
    ({"swarm_registry_port": 0}, "swarm_registry_port: 0 is out of range"),
    ({"swarm_drain_delay": 0}, "swarm_drain_delay: 0 is out of range"),
    ({"swarm_floating_number": 256}, "swarm_floating_number: 256 is out of range"),
    ({"swarm_floating_address": "10.0.0.100"}, "swarm_floating_address: '10.0.0.100' is no address with its range"),
    ({"swarm_floating_address": "edge/24"}, "swarm_floating_address: 'edge/24' is no address with its range"),
    # Files on the controller.
    ({"fe_source": "nowhere"}, f"fe_source: the folder {PROJECT}/nowhere does not exist"),
    ({"fe_source": "~nobody-of-that-name/fe"}, f"fe_source: the folder {PROJECT}/~nobody-of-that-name/fe does not exist"),
    ({"be_source": "data/sql"}, f"be_source: {PROJECT}/data/sql has no Dockerfile"),
    ({"database_dumps": ["nowhere.sql"]}, f"database_dumps: the file {PROJECT}/nowhere.sql does not exist"),
    ({"database_dumps": ["README.md"]}, f"database_dumps: {PROJECT}/README.md is no dump"),
    ({"seccomp_profile": "nowhere.json"}, f"seccomp_profile: {PROJECT}/nowhere.json cannot be read"),
    ({"seccomp_profile": "README.md"}, f"seccomp_profile: {PROJECT}/README.md is no JSON"),
    (
        {"seccomp_profile": "roles/monitoring/files/grafana/webstack.json"},
        f"seccomp_profile: {PROJECT}/roles/monitoring/files/grafana/webstack.json has no defaultAction",
    ),
]


def test_settings_of_the_project_are_accepted(project):
    values, sentences = project.refusals({})
    assert sentences == []
    assert sorted(values) == NAMES
    # Templates are resolved.
    assert values["lb_timeouts"]["check"] == "600ms"


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_setting_is_refused(project, given, words):
    (sentence,) = project.refusals(given)[1]
    assert sentence.startswith(words)
    assert well_formed(sentence)
    assert names_a_setting(sentence)


def test_all_wrong_settings_are_named_at_once(project):
    given = {
        "fe_replica": 3,
        "fe_replicas": "many",
        "fe_lb_replicas": 2,
        "http_port": 0,
        "be_source": "nowhere",
        "stack_name": "a b",
    }
    sentences = project.refusals(given)[1]
    assert sorted(re.match(r"\w+", sentence)[0] for sentence in sentences) == sorted(given)


def test_settings_that_are_not_loaded_are_refused_without_a_look_at_the_others():
    def read(name):
        raise AssertionError(f"{name} is read")

    values, (sentence,) = checks.refusals({"ansible_host", *NAMES[2:]}, read, PROJECT)
    assert values == {}
    assert sentence.startswith(f"{NAMES[0]} and 1 other settings are not loaded; put a link group_vars ->")
    assert well_formed(sentence)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """Return the paths of certificates and keys, good and bad, by what they are."""
    folder = tmp_path_factory.mktemp("pki")
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])

    def certificate(begin, end):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(end)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def private(value, encryption):
        return value.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    plain = serialization.NoEncryption()
    content = {
        "valid": certificate(now - day, now + day),
        "expired": certificate(now - 9 * day, now - day),
        "future": certificate(now + day, now + 9 * day),
        "key": private(key, plain),
        "other_key": private(other, plain),
        "closed_key": private(key, serialization.BestAvailableEncryption(b"phrase")),
        "garbage": b"this is no PEM\n",
    }
    for item, data in content.items():
        (folder / item).write_bytes(data)
    return {item: folder / item for item in (*content, "nowhere")}


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("valid", "", "tls_private_key: missing beside tls_certificate"),
        ("", "key", "tls_certificate: missing beside tls_private_key"),
        ("valid", "other_key", "tls_private_key: .* does not belong to tls_certificate"),
        ("valid", "closed_key", "tls_private_key: .* is protected by a passphrase"),
        ("valid", "garbage", "tls_private_key: .* holds no PEM private key"),
        ("valid", "nowhere", "tls_private_key: .* cannot be read"),
        ("expired", "key", "tls_certificate: .* expired on "),
        ("future", "key", "tls_certificate: .* is not valid before "),
        ("garbage", "key", "tls_certificate: .* holds no PEM certificate"),
        ("nowhere", "key", "tls_certificate: .* cannot be read"),
    ],
)
def test_wrong_certificate_is_refused(project, pki, certificate, key, words):
    given = {"tls_certificate": str(pki.get(certificate, "")), "tls_private_key": str(pki.get(key, ""))}
    (sentence,) = project.refusals(given)[1]
    assert re.match(words, sentence)
    assert well_formed(sentence)
    assert names_a_setting(sentence)


def test_a_good_certificate_is_accepted(project, pki):
    assert project.refusals({"tls_certificate": str(pki["valid"]), "tls_private_key": str(pki["key"])})[1] == []


def test_a_private_key_in_the_place_of_its_path_is_not_shown(project, pki):
    (sentence,) = project.refusals({"tls_certificate": str(pki["valid"]), "tls_private_key": pki["key"].read_text()})[1]
    assert sentence.startswith("tls_private_key: the value is PEM text")
    assert well_formed(sentence)
    assert not any(line in sentence for line in pki["key"].read_text().split())


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", [[SECRET], {"KEY": [SECRET]}, f"KEY={SECRET}\nx"], ids=["list", "dictionary", "lines"])
def test_no_sentence_shows_a_secret(project, name, value):
    sentences = project.refusals({name: value})[1]
    # A list is wrong for each of them.
    assert sentences or not isinstance(value, list)
    assert SECRET not in str(sentences)


VALUES = st.none() | st.booleans() | st.integers() | st.lists(st.text(max_size=9), max_size=2)
# No file can have a NUL in its name.
TEXTS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)


@given(given=st.dictionaries(st.sampled_from(NAMES), VALUES | TEXTS, max_size=5))
def test_every_sentence_names_its_setting_and_says_what_to_do(project, given):
    for sentence in project.refusals(given)[1]:
        assert well_formed(sentence)
        assert names_a_setting(sentence)


CLIENT = """#!/bin/sh
case "$1 $2" in
"info --format") {info};;
"compose version") {compose};;
{more}
esac
"""


@pytest.fixture
def look(monkeypatch, tmp_path):
    """Return a function that runs the module of the preflight with a client of its own, and returns what it found.

    ``engine`` and ``compose`` are the versions that the client tells; it fails where there is none.
    """
    (tmp_path / "socket").touch()
    client = tmp_path / "docker"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def found(engine="25.0.0", compose="v2.26.0", more="", **parameters):
        info = f"""echo '["{engine}", []]'""" if engine else "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
        client.write_text(CLIENT.format(info=info, compose=f"echo {compose}" if compose else "exit 1", more=more))
        client.chmod(0o755)
        given = {"project_dir": str(PROJECT), "stack_name": "shop", "stack_dir": str(tmp_path / "shop")}
        asked = {"docker_socket": str(tmp_path / "socket"), "backup_repository": "", "development": False}
        asked |= {"names": [], "ports": [], "mounts": [], "tmpfs": []}
        given |= {**parameters, "asked": {name: parameters.get(name, value) for name, value in asked.items()}}
        results = []

        def module(argument_spec, **_):
            defaults = {name: option.get("default") for name, option in argument_spec.items()}
            return SimpleNamespace(params={**defaults, **given}, exit_json=lambda **result: results.append(result))

        monkeypatch.setattr(stack_module, "AnsibleModule", module)
        stack_preflight.main()
        # A machine on which nothing lacks.
        return {**results[0], "memory": 2**36, "scheduler": "systemd"}

    return found


@pytest.fixture
def judged(project, look):
    """Return a function that judges a host: settings, and either what the module looks at or what it has found."""

    def sentences(given=None, found=None, **parameters):
        values = project.values({"database_password": SECRET, **(given or {})})
        told = stack_checks_host.check_host(
            values, {**look(**parameters), "confirm": "", **(found or {})}, project.minimum()
        )
        assert all(map(well_formed, told))
        assert SECRET not in str(told)
        return told

    return sentences


def test_a_host_with_the_oldest_versions_is_accepted(judged):
    assert judged() == []


@pytest.mark.parametrize(
    ("options", "enforces", "kept"),
    [
        (["name=seccomp,profile=builtin", "name=selinux"], "1", True),
        (["name=selinux"], "0", False),
        (["name=selinux"], None, False),
        (["name=seccomp,profile=builtin"], "1", False),
    ],
)
def test_engine_that_keeps_containers_from_their_files_is_refused(judged, monkeypatch, tmp_path, options, enforces, kept):
    if enforces:
        (tmp_path / "enforce").write_text(f"{enforces}\n")
    monkeypatch.setattr(stack_host, "ENFORCES", tmp_path / "enforce")
    assert stack_host.selinux(options) == kept
    told = judged(found={"selinux": kept})
    assert len(told) == kept
    assert not kept or told[0].startswith("stack_dir: this engine separates containers by SELinux")


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"engine": "20.10.24"}, "Docker Engine 20.10.24 is too old; upgrade it to 25.0.0 or later."),
        ({"compose": "2.20.0"}, "Docker Compose 2.20.0 is too old; upgrade it to 2.26.0 or later."),
        ({"compose": ""}, "Docker Compose v2 is missing; "),
        ({"engine": ""}, "The engine does not answer (Cannot connect to the Docker daemon); start it"),
        ({"engine": "", "compose": ""}, "The engine does not answer ("),
    ],
)
def test_old_or_missing_programs_are_refused(judged, versions, words):
    (sentence,) = judged(**versions)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    "said",
    [
        "permission denied while trying to connect to the Docker daemon socket at unix:///run/own.sock: Get "
        '"http://%2Frun%2Fown.sock/v1.45/info": dial unix /run/own.sock: connect: permission denied',
        "permission denied while trying to connect to the docker API at unix:///run/own.sock",
    ],
)
def test_user_whom_the_engine_refuses_is_told_what_to_do(said, tmp_path, monkeypatch):
    """By the deployment, make status and make down alike."""
    client = tmp_path / "docker"
    client.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    words = "This user may not use the engine (/run/own.sock): run `sudo usermod -aG docker $USER` and log in again, or let"
    told = stack_checks_host.check_host({}, {"engine_version": None, "engine_error": said}, {})
    assert len(told) == 1
    assert told[0].startswith(words)
    with pytest.raises(OSError, match=re.escape(words)):
        stack_status.run("docker", "ps")
    with pytest.raises(stack_removal.RefusalError, match=re.escape(words)):
        stack_removal.docker("ps")


class Closed(BaseException):
    """Stands for the end of a module."""


@pytest.mark.parametrize("part", ["closed/stack", "closed/deep/er/stack", "closed", "open/stack"])
@pytest.mark.parametrize("there", [True, False])
def test_folder_that_cannot_be_written_is_named_before_anything(part, there, tmp_path, monkeypatch):
    """In check mode as well, which takes nothing, and whether or not it is there."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    path = tmp_path / part
    if there:
        path.mkdir(parents=True, exist_ok=True)
    # As for a user who may not write below it; root, who runs these tests, may write anywhere.
    monkeypatch.setattr(os, "access", lambda folder, mode: not Path(folder).is_relative_to(tmp_path / "closed"))
    said = []

    def fail_json(msg):
        said.append(msg)
        raise Closed

    parameters = {"run": {}, "stack_dir": str(path), "stack_name": "web", "lock_only": False, "lock_timeout": 0}
    module = SimpleNamespace(params=parameters, fail_json=fail_json)
    if part.startswith("open"):
        stack_preflight.lock(module, path)
        assert not said
        return
    with pytest.raises(Closed):
        stack_preflight.lock(module, path)
    assert said[0].startswith(f"stack_dir: {path} cannot be written (this user may not write in {tmp_path}/closed")


def test_host_without_a_client_is_refused(judged, monkeypatch):
    monkeypatch.setattr(stack_survey.subprocess, "Popen", lambda argv, **_: open_nothing(argv[0]))
    (sentence,) = judged()
    assert sentence.startswith("The engine does not answer (docker: No such file or directory); start it, or install one")


def open_nothing(program):
    """Fail as a program does that is not installed."""
    raise FileNotFoundError(2, "No such file or directory", program)


MOUNT = {"source": "/nowhere", "target": "/x"}
DEVELOPMENT = {"app_mode": "development"}
# Settings, what the module looks at, what it has found besides, and the sentence.
HOSTS = [
    (
        {"fe_replicas": 200, "fe_memory_reservation": "1G", "fe_limits": {"memory": "1G"}},
        {},
        {},
        "fe_replicas: the containers reserve 201.2 GiB of memory in total and the host can give 57.6 GiB; lower fe_replicas",
    ),
    ({"be_replicas": 199}, {}, {"memory": 2**31}, "be_replicas: the containers reserve"),
    ({"backup_schedule": "03:30"}, {}, {"scheduler": ""}, "backup_schedule: this host has neither systemd nor cron"),
    (
        {"monitoring_docker_socket": "/nowhere"},
        {"docker_socket": "/nowhere"},
        {},
        "monitoring_docker_socket: /nowhere does not exist on the host",
    ),
    (
        {"fe_mounts": [MOUNT]},
        {"mounts": [{"setting": "fe_mounts", **MOUNT}]},
        {},
        "fe_mounts: the source /nowhere does not exist on the host; create it first.",
    ),
    (
        DEVELOPMENT,
        {"mounts": [{"setting": "be_source", **MOUNT}]},
        {},
        "be_source: app_mode is development and /nowhere is not on the host",
    ),
    (
        DEVELOPMENT,
        {},
        {"mounts": [{"setting": "fe_source", **MOUNT, "exists": True, "lost_group": 44}]},
        "fe_source: you may write in /nowhere only as a member of group 44",
    ),
    (
        {**DEVELOPMENT, "be_capabilities": ["CAP_SETUID"]},
        {},
        {"mapping": "rootless"},
        "be_capabilities: a service that becomes another user (SETUID, SETGID) is not you to a rootless engine",
    ),
    (
        {"stack_name": "shop"},
        {},
        {"containers": [{"service": "db"}], "stack_dir": "/srv/shop"},
        "The database of shop is there, but its passwords are not in /srv/shop/secrets (stack_dir)",
    ),
]


@pytest.mark.parametrize(("given", "looked", "found", "words"), HOSTS, ids=[words[:60] for *_, words in HOSTS])
def test_host_that_does_not_fit_is_refused(judged, given, looked, found, words):
    (sentence,) = judged(given, found, **looked)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    ("given", "looked", "found"),
    [
        # Prometheus, which asks the engine, is not there.
        ({"monitoring_enabled": False}, {"docker_socket": "/nowhere"}, {}),
        ({}, {}, {"scheduler": ""}),
        # In development the folder is made, as the user.
        ({**DEVELOPMENT, "fe_mounts": [MOUNT]}, {"mounts": [{"setting": "fe_mounts", **MOUNT}]}, {}),
        ({**DEVELOPMENT, "be_capabilities": ["CAP_SETUID"]}, {}, {"mapping": "userns"}),
        ({"be_capabilities": ["CAP_SETUID"]}, {}, {"mapping": "rootless"}),
        ({}, {}, {"containers": [{"service": "db"}], "secrets_complete": True}),
    ],
)
def test_host_that_fits_in_spite_of_it_is_accepted(judged, given, looked, found):
    assert judged(given, found, **looked) == []


def port_of(kind, listens=True):
    """Return a socket of loopback that is bound, and its port."""
    taken = socket.socket(socket.AF_INET, kind)
    taken.bind(("127.0.0.1", 0))
    if listens and kind == socket.SOCK_STREAM:
        taken.listen()
    return taken, taken.getsockname()[1]


def test_port_of_another_process_is_refused(judged):
    taken, port = port_of(socket.SOCK_STREAM)
    with taken:
        asked = {"setting": "http_port", "address": "127.0.0.1", "port": port, "protocol": "tcp"}
        (sentence,) = judged({"http_port": port}, ports=[asked])
    assert sentence.startswith(f"http_port: port {port} of 127.0.0.1 is taken by ")
    assert sentence.endswith(f" (process {os.getpid()}); stop that or choose another port.")


def test_port_of_udp_that_is_taken_is_refused(judged):
    taken, port = port_of(socket.SOCK_DGRAM)
    with taken:
        asked = {"setting": "https_port", "address": "127.0.0.1", "port": port, "protocol": "udp"}
        (sentence,) = judged({"http3_enabled": True}, ports=[asked])
    assert sentence.startswith(f"https_port: port {port} of 127.0.0.1 is taken by ")


def test_address_of_another_machine_is_refused(judged):
    asked = {"setting": "http_port", "address": "240.0.0.1", "port": 9080, "protocol": "tcp"}
    (sentence,) = judged({"bind_address": "240.0.0.1"}, ports=[asked])
    assert sentence.startswith("http_port: bind_address 240.0.0.1 is no address of this host; give one of its own")


def test_port_that_is_free_is_accepted(judged):
    taken, port = port_of(socket.SOCK_STREAM, listens=False)
    taken.close()
    assert judged({}, ports=[{"setting": "http_port", "address": "127.0.0.1", "port": port, "protocol": "tcp"}]) == []


@pytest.mark.parametrize(
    ("given", "unknown"),
    [
        ({"network_subnets": {"dta": "10.0.0.0/24"}}, "dta"),
        ({"network_subnets": {"monitoring": "10.0.0.0/24"}, "monitoring_enabled": False}, "monitoring"),
        ({"network_subnets": {"data": "10.0.0.0/24"}}, ""),
    ],
)
def test_address_range_of_an_unknown_network_is_refused(project, given, unknown):
    check = project.tasks("network/tasks/main.yml")[0]["ansible.builtin.assert"]
    templar = project.templar(given)
    assert templar.evaluate_conditional(check["that"]) is not bool(unknown)
    sentence = templar.template(check["fail_msg"])
    assert sentence.startswith(f"network_subnets: {unknown} is no network of the stack; use edge, frontend, ")
    assert well_formed(sentence)


@pytest.mark.parametrize(
    ("pulled", "known", "refused"),
    [(1, [], True), (0, [], False), (1, ["shop/fe:1"], False)],
    ids=["away", "pulled", "kept"],
)
def test_image_that_is_nowhere_is_refused(project, pulled, known, refused):
    (task,) = (task for task in project.tasks("images/tasks/pull.yml") if "ansible.builtin.fail" in task)
    given = {
        "__images_item": {"reference": "shop/fe:1", "setting": "fe_image"},
        "__images_pulled": {"rc": pulled, "stderr_lines": ["trying", "no such host"]},
        "_preflight_result": {"images": {name: {} for name in known}},
    }
    templar = project.templar(given)
    assert all(map(templar.evaluate_conditional, task["when"])) is refused
    sentence = templar.template(task["ansible.builtin.fail"]["msg"])
    assert sentence.startswith("fe_image: the image shop/fe:1 is not on the host and cannot be pulled (no such host); ")
    assert well_formed(sentence)


KEPT = "its data is untouched; deploy under another stack_name"
VOLUMES = {
    "empty": ("true", ""),
    "own": ("""touch mysql.ibd; echo '{"upgrade_history":[{"version":"9.0.0"}]}' > mysql_upgrade_history""", ""),
    "postgresql": ("echo 17 > PG_VERSION", f"holds a PostgreSQL database and the stack's is MySQL; {KEPT}"),
    "mariadb": ("touch aria_log_control ibdata1", f"holds a MariaDB database and the stack's is MySQL; {KEPT}"),
    "newer": (
        """touch mysql.ibd; echo '{"upgrade_history":[{"version":"99.1.0"}]}' > mysql_upgrade_history""",
        "was written by MySQL 99.1.0 and the server of this deployment is 9.",
    ),
    "half": (
        "touch mysql.ibd .initialization-incomplete",
        "is only half initialised, because its first start was interrupted",
    ),
    "foreign": ("touch holiday.jpg", f"holds something else than a MySQL database; {KEPT}"),
}


@pytest.fixture
def volume():
    name = "webstack-test-unit-refusals_database"
    run("docker", "volume", "rm", "--force", name)
    run("docker", "volume", "create", name)
    yield name
    run("docker", "volume", "rm", "--force", name)


@pytest.mark.parametrize("kind", VOLUMES)
def test_data_volume_is_judged_by_what_is_in_it(project, volume, kind):
    content, words = VOLUMES[kind]
    fill = ("--rm", "--network=none", "--user=0", f"--volume={volume}:/data", "--workdir=/data", "--entrypoint=bash")
    run("docker", "run", *fill, MYSQL, "-c", content)
    # What the role runs, as Ansible would: the very command of its task.
    task = project.tasks("database/tasks/volume.yml")[0]
    given = {"_database_host": {"run_options": []}, "stack_name": volume.removesuffix("_database")}
    command = project.templar({**given, "_database_image": MYSQL, **task["vars"]})
    sentence = database_filters.data_volume_problem(
        run(*command.template(task["ansible.builtin.command"]["argv"])).stdout, volume
    )
    if words:
        assert sentence.startswith(f"The volume {volume} {words}")
        assert well_formed(sentence)
    else:
        assert sentence == ""


# How values stand in a file, and the text that containers get; none: refused, because YAML reads something else.
WRITTEN = {
    "4": "4",
    "8080": "8080",
    "-1": "-1",
    "0.5": "0.5",
    "true": "true",
    "false": "false",
    '"NO"': "NO",
    "'0755'": "0755",
    '"1.10"': "1.10",
    "1.2.3": "1.2.3",
    "https://example.com:1/": "https://example.com:1/",
    "": None,
    "~": None,
    "null": None,
    "NO": None,
    "yes": None,
    "On": None,
    "True": None,
    "0755": None,
    "0x1F": None,
    "1_000": None,
    "1.10": None,
    "1.0e+3": None,
    "12:30:45": None,
    "33:33": None,
    "2030-01-02": None,
    "2030-01-02 10:00:00": None,
    ".inf": None,
}


@pytest.fixture
def written(project, tmp_path):
    """Return a function that refuses settings as they stand in a text, in a file or on the command line."""

    def refusals(text, inline=False):
        path = tmp_path / "settings.yml"
        path.write_text(text)
        if inline:
            given = from_text(Origin(description="<CLI option '-e'>", line_num=1, col_num=1).tag(text))
        else:
            given = project.loader.load_from_file(str(path), cache="none", trusted_as_template=True)
        # Marked, as Ansible has what stands on its command line.
        sources = stack_written.Sources(lambda name: Path(name).read_text(), ["x=1", trust_as_template(text)])
        variables, templar = {**project.variables, **given}, project.templar(given)
        values, sentences = checks.refusals(set(variables), lambda name: templar.template(variables[name]), PROJECT, sources)
        return values, sentences

    return refusals


@pytest.mark.parametrize("name", ["be_environment", "backup_environment", "edge_headers", "database_settings"])
@pytest.mark.parametrize(("text", "shown"), WRITTEN.items(), ids=[text or "nothing" for text in WRITTEN])
def test_text_arrives_as_it_is_written_or_is_refused(written, name, text, shown):
    for form in (f"{name}:\n  X: first\n  Y: {text}\n", f"{name}: {{X: first, Y: {text}}}\n"):
        values, sentences = written(form)
        if shown is None and not (name == "edge_headers" and text in ("", "~", "null")):
            (sentence,) = sentences
            assert sentence.startswith(f"{name}.Y: YAML reads the value as ")
            assert sentence.endswith("; put it in quotes.")
            assert well_formed(sentence)
        elif shown is not None:
            assert sentences == []
            assert stack_settings.as_text(values[name]["Y"]) == shown
        else:
            assert sentences == []
            assert "Y" not in values[name]


@pytest.mark.parametrize("text", ["NO", "0755", "1.10", "12:30:45"])
def test_text_of_the_command_line_is_looked_at_as_well(written, text):
    (sentence,) = written(f"{{be_environment: {{A: 4, B: {text}}}}}", inline=True)[1]
    assert sentence.startswith("be_environment.B: YAML reads the value as ")


@pytest.mark.parametrize("text", ["", "NO", "0123456", "1.10", "13:30", "2030-01-02"])
def test_each_setting_that_is_text_is_refused_as_something_else(written, text):
    names = [name for name in NAMES if stack_settings.read_settings(PROJECT)[name].type in ("str", "path")]
    # Templates of other settings begin with this one.
    names.remove("stack_name")
    sentences = written("".join(f"{name}: {text}\n" for name in names))[1]
    assert sorted(sentence.partition(":")[0] for sentence in sentences if "; put it in quotes" in sentence) == names


@pytest.mark.parametrize(
    ("name", "value"), [("fe_user", 1000), ("be_rollout_batch", 3), ("fe_memory_reservation", 67108864)]
)
def test_numbers_that_everybody_writes_are_taken(written, name, value):
    values, sentences = written(f"{name}: {value}\n")
    assert sentences == []
    assert values[name] == str(value)


def test_whole_number_is_decimal(written):
    (sentence,) = written("fe_replicas: 010\n")[1]
    assert sentence == "fe_replicas: YAML reads 010 as 8; write it as a whole number in decimal."
    assert written("fe_replicas: 10\n")[1] == []


DICTIONARIES = [name for name, item in stack_settings.read_settings(PROJECT).items() if item.type == "dict" and item.default]


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionary_is_merged_with_the_defaults_that_group_vars_show(project, name):
    defaults = project.values({})[name]
    assert defaults == stack_settings.defaults(name)
    for key in defaults:
        assert project.values({name: {key: defaults[key]}})[name] == defaults
    assert project.values({name: {}})[name] == defaults


# Another value of one key.
CHANGED = {
    "fe_limits": ("memory", "300M"),
    "be_limits": ("pids", 200),
    "lb_limits": ("cpus", "3.0"),
    "database_limits": ("memory", "2G"),
    "monitoring_prometheus_limits": ("memory", "1G"),
    "monitoring_limits": ("cpus", "0.2"),
    "edge_limits": ("body", "1M"),
    "edge_headers": ("X-Frame-Options", "DENY"),
    "lb_timeouts": ("server", "60s"),
    "monitoring_alert_thresholds": ("backup_hours", 50),
    "backup_keep": ("daily", 14),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_one_key_of_a_dictionary_is_changed_and_an_unknown_one_is_refused(project, name):
    key, value = CHANGED[name]
    wanted = {**stack_settings.defaults(name), key: value}
    assert value != stack_settings.defaults(name)[key]
    assert project.values({name: {key: value}})[name] == wanted
    template = trust_as_template(f"{{{{ {name} | with_defaults('{name}') }}}}")
    assert Templar(project.loader, {name: {key: value}}).template(template) == wanted
    for known in stack_settings.defaults(name):
        (sentence,) = project.refusals({name: {known[:-1]: value}})[1]
        assert sentence.startswith(f"{name}: {known[:-1]!r} is no "), sentence
        assert sentence.endswith(f"; did you mean {known}?")


@pytest.mark.parametrize(("value", "sent"), [("DENY", {"x-frame-options": "DENY"}), ("", {})])
def test_header_is_the_same_in_any_case(project, value, sent):
    headers = project.values({"edge_headers": {"x-frame-options": value}})["edge_headers"]
    assert {name: value for name, value in headers.items() if name.lower() == "x-frame-options"} == sent
    assert len(headers) == 2 + len(sent)
    # And others may be given.
    assert len(project.values({"edge_headers": {"Permissions-Policy": "camera=()"}})["edge_headers"]) == 4


@pytest.mark.parametrize("name", DICTIONARIES)
def test_merged_dictionary_is_what_roles_get(name):
    """It is merged where it is read, and read nowhere without."""
    merged = 0
    for path in [*PROJECT.glob("roles/**/*.yml"), *PROJECT.glob("roles/**/*.j2"), PROJECT / "docker-compose.yml.j2"]:
        if not {"meta", "files"} & set(path.parts):
            text = path.read_text()
            used = re.findall(rf"\b{name} \|\s*with_defaults\(['\"]{name}['\"][,)]", text)
            assert len(used) == len(re.findall(rf"(?<![\w'\"]){name}\b(?!['\"])", text)), path
            merged += len(used)
    assert merged


def test_every_dictionary_has_a_rule():
    settings = stack_settings.read_settings(PROJECT)
    dictionaries = {name for name in NAMES if settings[name].type == "dict"}
    assert dictionaries == {*CHANGED} | {name for name in dictionaries if settings[name].default == {}}


def test_defaults_are_dropped_by_empty_values(project):
    assert "X-Frame-Options" not in project.values({"edge_headers": {"X-Frame-Options": ""}})["edge_headers"]
    assert project.values({"edge_headers": {"X-XSS-Protection": 0}})["edge_headers"]["X-XSS-Protection"] == 0
    assert project.values({"backup_keep": {"weekly": 0}})["backup_keep"] == {"last": 3, "daily": 7, "monthly": 6}


@pytest.mark.parametrize(
    "name",
    [
        "database_admin",
        "database_host",
        "monitoring_host",
        "backup_host",
        "frontend_image",
        "backend_servers",
        "edge_router",
    ],
)
def test_names_of_others_are_left_alone(project, name):
    assert project.refusals({name: "db.example"})[1] == []


MARK = '"APP_MODE": "development"'
# Mode of a stack as its files tell it: what state.json holds, and what the Compose file does.
RENDERED = [
    ({}, "", ""),
    ({"mode": "production"}, "services:", "production"),
    ({"mode": "development"}, "services:", "development"),
    # Of a version that did not write it down.
    ({}, "services:", "production"),
    ({}, f"environment: {{{MARK}}}", "development"),
    # Whatever an application is told.
    ({"mode": "production"}, f"environment: {{{MARK}}}", "production"),
]


@pytest.mark.parametrize(("state", "compose", "mode"), RENDERED)
def test_mode_of_a_stack_is_known(look, tmp_path, state, compose, mode):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/state.json").write_text(json.dumps(state))
    if compose:
        (tmp_path / "shop/docker-compose.yml").write_text(compose)
    assert look()["mode"] == mode


def test_development_is_told_by_the_environment_of_both_tiers():
    """That is what a stack of an earlier version is known by."""
    developer = {"user": "1:1", "groups": [], "umask": "0022"}
    settings = {"source": "", "command": [], "init": True, "read_only": True, "tmpfs": [], "capabilities": [], "mounts": []}
    start = {"entrypoint": [], "command": []}
    service = compose_filters.application_service({**settings, "user": ""}, start, developer, "")
    text = compose_filters.compose_environment(service["environment"])
    assert stack_survey.rendered_mode({}, text) == "development"


@pytest.mark.parametrize("there", [{"containers": [{"service": "fe"}]}, {"database_volume": True}, {}])
@pytest.mark.parametrize("mode", ["production", "development", ""])
@pytest.mark.parametrize("confirm", ["", "other", "shop"])
def test_stack_for_production_becomes_one_for_development_only_if_that_is_meant(judged, there, mode, confirm):
    found = {"mode": mode, "confirm": confirm, "secrets_complete": True, **there}
    told = judged({**DEVELOPMENT, "stack_name": "shop"}, found)
    if mode == "production" and there and confirm != "shop":
        (sentence,) = told
        assert sentence.startswith("app_mode: the stack shop is deployed for production")
        assert "make dev ARGS='-e confirm=shop'" in sentence
    else:
        assert told == []
    # The way back is what make up is for.
    assert judged({"stack_name": "shop"}, found) == []


@pytest.mark.parametrize(("changes", "asked"), [(True, "given"), (False, "shop")])
def test_preflight_hands_on_what_is_confirmed(monkeypatch, project, changes, asked):
    """A backup is taken whatever the mode is set to."""
    found = []
    values = project.values({"stack_name": "shop"})
    monkeypatch.setattr(preflight_action.stack_checks, "refusals", lambda *_: (values, []))
    monkeypatch.setattr(preflight_action.stack_checks_host, "check_host", lambda _, host, __: found.append(host) or [])
    monkeypatch.setattr(preflight_action.ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(context, "CLIARGS", {})
    plugin = preflight_action.ActionModule.__new__(preflight_action.ActionModule)
    arguments = {"project_dir": str(PROJECT), "engine_minimum": "25", "compose_minimum": "2", "changes_containers": changes}
    plugin._task = SimpleNamespace(args=arguments, check_mode=True)
    plugin._templar = SimpleNamespace(template=lambda value: value)
    plugin._execute_module = lambda **_: {"lock": {"other": {}, "new": False}}
    plugin.run(task_vars={"confirm": "given"})
    assert found[0]["confirm"] == asked


LISTED = {"ID": "1", "Image": "i", "Status": "Up", "Ports": ""}


def test_containers_that_run_are_counted(look, tmp_path):
    states = ["running", "paused", "restarting", "exited", "created", "dead"]
    lines = [
        {**LISTED, "Names": f"shop-fe-{number}", "State": state, "Labels": "com.docker.compose.service=fe"}
        for number, state in enumerate(states)
    ]
    (tmp_path / "list").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert look(more=f'"ps --all"*) cat {tmp_path}/list;;')["running"] == {"fe": 3}


def test_tasks_of_a_swarm_that_run_are_counted():
    text = "shop_fe 5/5\nshop_fe-lb 1/2 (max 1 per node)\nshop_be 0/3\nshop-2_be 9/9\nmy_shop_fe 7/7\n"
    assert stack_survey.running_tasks(text, "shop") == {"fe": 5, "fe-lb": 1, "be": 0}
