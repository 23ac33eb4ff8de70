"""The playbook refuses with sentences and changes nothing; which input it refuses stands in tests/unit/test_refusals.py."""

import json
import socket

import pytest
from stack import changed, run, wait_until

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.fixture
def untouched(stack):
    """Check that containers, files and volumes are the same afterwards."""

    def state():
        # The lock of the last run goes in the moment after its end.
        files = {
            p: (p.read_bytes(), p.stat().st_mode) for p in stack.directory.rglob("*") if p.is_file() and p.name != ".run"
        }
        # Others may work on the same engine meanwhile.
        volumes = run("docker", "volume", "ls", "--quiet", "--filter", f"name={stack.name}").stdout
        return stack.ids(), files, volumes

    before = state()
    yield
    assert state() == before


def refuse(stack, settings, *sentences, environment=None, options=()):
    """Run the playbook with settings; check that it changes nothing and that its last words are these sentences alone."""
    done = stack.playbook("site.yml", *options, "-e", json.dumps(settings), check=False, environment=environment)
    assert done.returncode != 0, done.stdout
    last = done.stdout
    if options:
        # With -v the sentences come once, after the recap.
        assert changed(done.stdout) == 0, done.stdout
        recap, _, last = done.stdout.rpartition("PLAY RECAP")[2].partition("\n\n")
        assert "failed=1" in recap, done.stdout
    assert "FAILED!" not in done.stdout
    assert "Origin: " not in done.stdout
    for sentence in sentences:
        assert sentence in " ".join(last.split()), done.stdout
    if not options:
        # Nothing but them, and before them what a slow machine is doing.
        own = [line for line in done.stdout.splitlines() if ": " in line]
        assert done.stdout.endswith("\n".join(own) + "\n"), done.stdout
        assert "PLAY" not in done.stdout
        assert not done.stderr, done.stderr
        assert len(done.stdout.splitlines()) <= 15, done.stdout
    return done.stdout


def test_all_wrong_settings_are_named_in_one_run(stack):
    planted = {
        "database_password": "planted-database",
        "backup_password": "planted-backup",
        "be_environment": {"API_TOKEN": "planted-token", "BROKER": "amqp://app:planted-broker@mq:5672"},
        "monitoring_alert_webhook_url": "https://hooks.example.com/planted-hook",
    }
    wrong = {"fe_replica": 3, "be_replicas": 0, "http_port": 70000, "be_source": "data/sql", "tls_private_key": "key.pem"}
    said = refuse(
        stack,
        {**wrong, **planted},
        "fe_replica is no setting of this stack: did you mean fe_replicas?",
        "be_replicas: 0 replicas cannot serve; give 1 or more",
        "http_port: 70000 is out of range; give a port from 1 to 65535.",
        "data/sql has no Dockerfile; add one or set be_image.",
        "tls_certificate: missing beside tls_private_key; give both or neither.",
        options=("-vvv", "--diff"),
    )
    assert "planted-" not in said


def test_host_that_does_not_fit_is_refused(stack):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refuse(
            stack,
            {"http_port": port, "fe_mounts": [{"source": "/nowhere", "target": "/x"}]},
            f"http_port: port {port} of 127.0.0.1 is taken by",
            "stop that or choose another port.",
            "fe_mounts: the source /nowhere does not exist on the host; create it first.",
        )


def test_engine_that_does_not_answer_is_refused(stack):
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock"}
    refuse(stack, {}, "The engine does not answer (", "start it, or install one", environment=nowhere)


def test_settings_that_the_database_does_not_know_are_refused(stack):
    # The server itself reads the file that is rendered.
    refuse(
        stack,
        {"database_settings": {"inodb_buffer_pool_size": "1G"}},
        "The configuration of db (database_settings) is not valid, nothing was changed:",
        "unknown variable 'inodb_buffer_pool_size=1G'",
    )


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (False, "stack_name: another project owns the volume {}_database; choose another name, or remove it."),
        (True, "The volume {}_database holds something else than a MySQL database; its data is untouched"),
    ],
    ids=["another project's", "of this name"],
)
def test_data_volume_of_something_else_is_refused(stack, own, words):
    name = f"{stack.name}-foreign"
    labels = [f"--label=com.docker.compose.project={name}"] if own else []
    run("docker", "volume", "create", *labels, f"{name}_database")
    fill = ("--rm", "--network=none", "--user=0", f"--volume={name}_database:/data", "--entrypoint=touch")
    run("docker", "run", *fill, stack.containers("db")[0]["Image"], "/data/holiday.jpg")
    # Nothing has to be built for a deployment that ends before it begins.
    settings = {f"{tier}_image": stack.containers(tier)[0]["Config"]["Image"] for tier in ("fe", "be")}
    settings["image_source"] = json.loads((stack.directory / "state.json").read_text())["image_source"]
    settings |= stack.another(name)
    try:
        refuse(stack, settings, words.format(name))
        # What keeps the stack for the run gives it back when the run has ended.
        wait_until(lambda: not (stack.directory.parent / name).exists())
        assert not run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={name}").stdout
        kept = run("docker", "run", *fill[:-1], "--entrypoint=ls", stack.containers("db")[0]["Image"], "-A", "/data")
        assert kept.stdout == "holiday.jpg\n"
    finally:
        run("docker", "volume", "rm", f"{name}_database")
