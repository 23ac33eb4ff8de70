"""What a person does with a running stack: scale, look ahead, stop and start, lose a container."""

import time
import uuid

import pytest
from stack import run, wait_until
from test_application import post_user

pytestmark = pytest.mark.usefixtures("restored")


@pytest.fixture(scope="module")
def restored(stack):
    yield
    stack.playbook("site.yml")


def neighbours(stack):
    return {name: value for name, value in stack.ids().items() if "-fe-" not in name or "-fe-lb-" in name}


def test_scaling_is_seen_within_two_seconds_and_touches_nobody_else(stack):
    before, old = neighbours(stack), stack.ids()
    stack.playbook("site.yml", "-e", "fe_replicas=5")
    # The playbook waits for the load balancers, so nothing has to be waited for here.
    assert len(stack.names("frontend", 50)) == 5
    assert neighbours(stack) == before
    assert old.items() <= stack.ids().items()
    stack.playbook("site.yml")
    assert len(stack.names("frontend", 20)) == 2
    assert stack.ids() == old


def test_forty_replicas_stay_in_rotation(stack):
    before = neighbours(stack)
    stack.playbook("site.yml", "-e", "fe_replicas=40")
    names = {c["Config"]["Hostname"] for c in stack.containers("fe")}
    assert len(names) == 40
    assert stack.names("frontend", 160) == names
    # A truncated DNS answer takes the tier out after half a minute; this is well beyond it.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert stack.request().status == 200
    assert stack.names("frontend", 160) == names
    assert neighbours(stack) == before
    stack.playbook("site.yml")


def test_check_mode_says_what_would_change_and_changes_nothing(stack):
    before, files = stack.ids(), {p: p.read_bytes() for p in stack.directory.rglob("*") if p.is_file()}
    output = stack.playbook("site.yml", "--check", "--diff", "-e", "fe_replicas=3").stdout
    assert '+    deploy: {"replicas": 3' in output
    assert f"{stack.name}-fe-3 would change" in output
    assert stack.ids() == before
    assert {p: p.read_bytes() for p in stack.directory.rglob("*") if p.is_file()} == files


def test_check_mode_runs_through_where_nothing_is_deployed(stack):
    name = f"{stack.name}-absent"
    ports = ["-e", "http_port=18999", "-e", "https_port=18998"]
    output = stack.playbook("site.yml", "--check", "--diff", "-e", f"stack_name={name}", *ports).stdout
    assert "Nothing is deployed yet" in output
    assert not (stack.directory.parent / name).exists()
    assert not run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={name}").stdout


def test_new_setting_of_a_load_balancer_reloads_it_in_place(stack):
    before = stack.ids()
    output = stack.playbook("site.yml", "-e", "lb_health_interval=2").stdout
    assert stack.ids() == before
    assert "changed=2" in output, "the files and the reload"
    wait_until(lambda: stack.request().status == 200, 5)
    stack.playbook("site.yml")


def test_user_survives_stop_start_and_loss_of_the_container(stack):
    email = f"{uuid.uuid4().hex}@example.com"
    assert post_user(stack, "Somebody", email).status == 303
    stack.playbook("teardown.yml", "-e", "remove_data=false")
    assert not stack.ids()
    stack.playbook("site.yml")
    assert email in stack.request().text
    run("docker", "rm", "--force", stack.container("db"))
    stack.playbook("site.yml")
    assert email in stack.request().text
    run("docker", "kill", stack.container("db"))
    stack.playbook("site.yml")
    assert email in stack.request().text
