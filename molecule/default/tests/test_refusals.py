"""Wrong input: one sentence that names the setting, and nothing is changed."""

import json
import shutil
import socket

import pytest
from stack import run


@pytest.fixture
def untouched(stack):
    """Check that containers, files and volumes are the same afterwards."""

    def state():
        files = {p: (p.read_bytes(), p.stat().st_mode) for p in stack.directory.rglob("*") if p.is_file()}
        # Others may work on the same engine meanwhile.
        volumes = run("docker", "volume", "ls", "--quiet", "--filter", f"name={stack.name}").stdout
        return stack.ids(), files, volumes

    before = state()
    yield
    assert state() == before


def refuse(stack, settings, *sentence, environment=None):
    """Run the playbook with settings and check that it refuses with a sentence that has these words."""
    done = stack.playbook("site.yml", "-e", json.dumps(settings), check=False, environment=environment)
    assert done.returncode != 0, done.stdout
    message = " ".join(done.stdout.split())
    for words in sentence:
        assert words in message, done.stdout


SETTINGS = [
    ({"fe_replicas": 0}, "fe_replicas: 0 replicas cannot serve"),
    ({"be_replicas": -1}, "be_replicas: -1 replicas cannot serve"),
    ({"fe_replicas": "many"}, "fe_replicas: 'many' is not a whole number"),
    ({"fe_replicas": 2.5}, "fe_replicas: 2.5 is not a whole number"),
    ({"fe_replicas": 201}, "fe_replicas: 201 replicas are more than the load balancer has room for"),
    ({"lb_slots": 600}, "lb_slots: 600 servers do not fit into a DNS answer of 8192 bytes"),
    (
        {"fe_replicas": 200, "fe_memory_reservation": "64G", "fe_limits": {"memory": "64G"}},
        "fe_replicas: all containers are counted with",
    ),
    ({"fe_replica": 3}, "fe_replica is no setting of this stack: did you mean fe_replicas?"),
    ({"htp_port": 80}, "htp_port is no setting of this stack: did you mean http_port?"),
    ({"http_port": 70000}, "http_port: 70000 is out of range"),
    ({"http_port": 9443, "https_port": 9443}, "https_port: 9443 is http_port as well"),
    ({"bind_address": "198.51.100.1", "http_port": 9080}, "bind_address 198.51.100.1 is no address of this host"),
    ({"bind_address": "everywhere"}, "bind_address: 'everywhere' is no IP address"),
    ({"stack_name": "My Stack"}, "stack_name: 'My Stack' is not valid"),
    ({"database_dumps": ["nowhere.sql"]}, "database_dumps: the file"),
    ({"database_dumps": ["README.md"]}, "database_dumps:"),
    ({"fe_source": "nowhere"}, "fe_source: the folder"),
    ({"be_source": "data/sql"}, "be_source:", "has no Dockerfile"),
    ({"fe_mounts": [{"source": "/nowhere", "target": "/x"}]}, "fe_mounts: the source /nowhere does not exist"),
    ({"be_mounts": [{"source": "/srv", "target": "x"}]}, "be_mounts: the target 'x' is not absolute"),
    ({"be_mounts": ["/srv:/x"]}, "be_mounts: '/srv:/x' is not understood"),
    ({"fe_limits": {"memory": "lots"}}, "fe_limits.memory: 'lots' is no size"),
    ({"fe_limits": {"ram": "1G"}}, "fe_limits: 'ram' is no limit"),
    ({"fe_limits": {"memory": "32M"}}, "fe_memory_reservation: 64M is more than fe_limits.memory, which is 32M"),
    ({"lb_stop_grace_period": "1m30s"}, "lb_stop_grace_period: '1m30s' is not valid"),
    ({"fe_rollout_batch": "0%"}, "fe_rollout_batch: '0%' is not valid"),
    ({"be_rollout_batch": "half"}, "be_rollout_batch: 'half' is not valid"),
    ({"fe_drain_timeout": "a while"}, "fe_drain_timeout: 'a while' is not valid"),
    ({"watchdog_window": "10"}, "watchdog_window: '10' is not valid"),
    ({"watchdog_restarts": -1}, "watchdog_restarts: -1 is out of range"),
    ({"watchdog_restart": 2}, "watchdog_restart is no setting of this stack: did you mean watchdog_restarts?"),
    ({"monitoring_retention": "forever"}, "monitoring_retention: 'forever' is not valid"),
    ({"monitoring_alert_thresholds": {"error_share": 5}}, "monitoring_alert_thresholds.error_share: 5 is out of range"),
    ({"monitoring_docker_socket": "/nowhere"}, "monitoring_docker_socket: /nowhere does not exist on the host"),
    ({"monitoring_console_port": 9443, "https_port": 9443}, "monitoring_console_port: 9443 is https_port as well"),
    ({"monitoring_enable": True}, "monitoring_enable is no setting of this stack: did you mean monitoring_enabled?"),
    ({"database_user": "exporter"}, "database_user: exporter is the account of monitoring"),
    ({"stack_releases_kept": 0}, "stack_releases_kept: 0 is out of range"),
    ({"database_settings": {"inodb_buffer_pool_size": "1G"}}, "The configuration of db (database_settings) is not valid"),
    ({"fe_user": "www-data"}, "fe_user: 'www-data' is not valid"),
    ({"fe_health_path": "healthz"}, "fe_health_path: 'healthz' is not valid"),
    ({"image_source": "internet"}, "image_source: 'internet' is not known"),
    ({"database_user": "root"}, "database_user: root is the server's own account"),
    ({"database_password": "another"}, "database_password: the value differs"),
    ({"network_subnets": {"data": "10.0.0.0/99"}}, "network_subnets: '10.0.0.0/99' for data is no address range"),
    ({"network_subnets": {"dta": "10.0.0.0/24"}}, "network_subnets: dta is no network of the stack"),
    ({"lb_timeouts": {"conect": "1s"}}, "lb_timeouts: 'conect' is no timeout"),
    ({"be_lb_aliases": ["not a name"]}, "be_lb_aliases: 'not a name' is no host name"),
    ({"fe_image": "webstack-test/nowhere:1"}, "fe_image: the image webstack-test/nowhere:1 is neither on the host"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("settings", "sentence"), [(s[0], s[1:]) for s in SETTINGS], ids=[s[1] for s in SETTINGS])
def test_wrong_setting_is_refused(stack, settings, sentence):
    refuse(stack, settings, *sentence)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("valid", "", "tls_private_key: missing beside tls_certificate"),
        ("", "key", "tls_certificate: missing beside tls_private_key"),
        ("valid", "other_key", "does not belong to tls_certificate"),
        ("expired", "key", "tls_certificate:"),
        ("garbage", "key", "holds no PEM certificate"),
        ("valid", "garbage", "holds no PEM private key"),
        ("nowhere", "key", "cannot be read"),
    ],
)
def test_wrong_certificate_is_refused(stack, pki, certificate, key, sentence):
    settings = {
        "tls_certificate": str(pki.get(certificate, certificate and f"/{certificate}")),
        "tls_private_key": str(pki.get(key, key)),
    }
    refuse(stack, settings, sentence)


@pytest.mark.usefixtures("untouched")
def test_port_of_another_process_is_refused(stack):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refuse(stack, {"http_port": port}, f"http_port: port {port} of 127.0.0.1 is taken by", "stop that or choose another")


@pytest.mark.usefixtures("untouched")
def test_engine_that_does_not_answer_is_refused(stack):
    refuse(stack, {}, "The engine does not answer", environment={"DOCKER_HOST": "unix:///nowhere.sock"})


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("engine", "compose", "sentence"),
    [
        ("20.10.24", "2.26.1", "Docker Engine 20.10.24 is too old; upgrade it to 25.0.0 or later"),
        ("26.1.5", "2.20.0", "Docker Compose 2.20.0 is too old; upgrade it to 2.26.0 or later"),
        ("26.1.5", "", "Docker Compose v2 is missing"),
    ],
)
def test_old_engine_or_compose_is_refused(stack, tmp_path, engine, compose, sentence):
    # No machine has every old release, so the client only tells another version; the rest is real.
    real = run("which", "docker").stdout.strip()
    client = tmp_path / "docker"
    answer = f"echo {compose}; exit 0" if compose else "exit 1"
    client.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in\n"info --format") echo \'["{engine}", []]\'; exit 0;;\n"compose version") {answer};;\nesac\n'
        f'exec {real} "$@"\n'
    )
    client.chmod(0o755)
    refuse(stack, {}, sentence, environment={"PATH": f"{tmp_path}:/usr/bin:/bin:/usr/sbin:/sbin"})


VOLUMES = {
    "postgresql": ("echo 17 > PG_VERSION", "holds a PostgreSQL database"),
    "mariadb": ("touch aria_log_control ibdata1", "holds a MariaDB database"),
    "newer": (
        """touch mysql.ibd; echo '{"upgrade_history":[{"version":"99.1.0"}]}' > mysql_upgrade_history""",
        "was written by MySQL 99.1.0",
    ),
    "half": ("touch mysql.ibd .initialization-incomplete", "is only half initialised"),
    "foreign": ("touch holiday.jpg", "holds something else than a MySQL database"),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("kind", VOLUMES)
def test_foreign_data_volume_is_refused(stack, kind):
    content, sentence = VOLUMES[kind]
    name = f"{stack.name}-{kind}"
    directory = stack.directory.parent / name
    image = stack.containers("db")[0]["Image"]
    mount = f"--volume={name}_database:/data"
    run("docker", "run", "--rm", "--user=0", mount, "--entrypoint=bash", image, "-c", f"cd /data; {content}")
    # Without its secrets a volume is refused for that; with them it is looked at.
    (directory / "secrets/db").mkdir(parents=True)
    for secret in ("database_password", "database_root_password"):
        (directory / "secrets/db" / secret).write_text("x")
    try:
        refuse(stack, {"stack_name": name, "http_port": 18997, "https_port": 18996}, f"{name}_database", sentence)
        assert not run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={name}").stdout
    finally:
        run("docker", "volume", "rm", f"{name}_database")
        shutil.rmtree(directory)
        images = run("docker", "images", "--quiet", "--filter", f"label=webstack.stack={name}").stdout.split()
        run("docker", "rmi", "--force", *images)


@pytest.mark.usefixtures("untouched")
def test_database_without_its_passwords_is_refused(stack):
    name = f"{stack.name}-lost"
    labels = [f"--label=com.docker.compose.{label}" for label in (f"project={name}", "service=db", "oneoff=False")]
    run("docker", "create", f"--name={name}-db-1", *labels, stack.containers("db")[0]["Image"])
    try:
        refuse(stack, {"stack_name": name, "http_port": 18997, "https_port": 18996}, "its passwords are not in")
    finally:
        run("docker", "rm", "--volumes", f"{name}-db-1")
