"""How replicas are judged may be changed, wrongly as well, while requests come in; none of them fails."""

import json
import re

import pytest
from ha import Load
from stack import changed, wait_until
from stack_haproxy import backends

# Requests a second: enough to notice a gap of a tenth of a second.
RATE = 60
PATH = "fe_health_path is /nope and both replicas of fe answer it with 404; fe-lb keeps the configuration"
WRONG = {
    "path": ({"fe_health_path": "/nope"}, PATH),
    "path of be": ({"be_health_path": "/nope"}, PATH.replace("fe", "be")),
}
# New code, and a path that it does not have; the new container is waited for no longer than this.
NEW = {"fe_environment": {"RELEASE": "2"}, "stack_wait_timeout": 5}


def last_line(done):
    """Return the last line that a run has said."""
    return [line for line in done.stdout.splitlines() if line.strip()][-1]


@pytest.fixture(scope="module", name="change", autouse=True)
def deploy(stack):
    """Return a function that runs the playbook with settings under load; in the end those of the inventory hold again."""

    def change(settings, good):
        with Load(stack, RATE) as load, load.event(str(settings)) as window:
            done = stack.playbook("site.yml", "-e", json.dumps(settings), check=False)
        assert (done.returncode == 0) is good, done.stdout
        assert not window.failed, window.describe()
        assert len(window.requests) > RATE
        return done

    yield change
    stack.playbook("site.yml")


@pytest.mark.parametrize(("settings", "words"), WRONG.values(), ids=WRONG)
def test_wrong_checks_are_refused_and_no_request_fails(stack, change, settings, words):
    before = stack.ids(), (stack.directory / "fe-lb/config/haproxy.cfg").read_text()
    done = change(settings, good=False)
    assert last_line(done).startswith(words)
    assert "changed: [" not in done.stdout
    assert before == (stack.ids(), (stack.directory / "fe-lb/config/haproxy.cfg").read_text())


def test_new_code_with_wrong_checks_goes_and_no_request_fails(stack, change):
    before = stack.ids()
    done = change({**NEW, "fe_health_path": "/nope"}, good=False)
    assert "health checks are answered with 404: give fe_health_path a path that is open" in last_line(done)
    assert stack.ids() == before
    # After it, too, nobody takes for broken what serves.
    status = stack.playbook("status.yml").stdout
    assert "gets no requests" not in status


def test_new_code_comes_with_another_port_and_another_path_and_no_request_fails(stack, change):
    before = stack.ids()
    settings = {"fe_port": 8010, "fe_health_path": "/healthz?kind=new", "be_port": 8020, "be_health_path": ""}
    change(settings, good=True)
    kept = {name.rpartition("-")[0] for name in before if stack.ids().get(name) == before[name]}
    assert {f"{stack.name}-{service}" for service in ("fe-lb", "be-lb", "db")} <= kept
    text = (stack.directory / "fe-lb/config/haproxy.cfg").read_text()
    # One kind of replicas is left, by their second name, in each of the backends.
    assert re.findall(r"server-template \S+ \S+ (\S+) ", text) == ["frontend.fe:8010"] * len(backends("fe"))
    assert "uri /healthz?kind=new " in text
    assert changed(stack.playbook("site.yml", "-e", json.dumps(settings)).stdout) == 0
    wait_until(lambda: stack.request().status == 200)
    # And back.
    change({}, good=True)
