"""What a person does with a running stack: look ahead, change a load balancer, begin with an empty volume."""

import json
import re
import shutil
import time

import pytest
import yaml
from stack import PROJECT, changed, run, wait_until

pytestmark = pytest.mark.usefixtures("restored")


@pytest.fixture(scope="module")
def restored(stack):
    yield
    stack.playbook("site.yml")


def patched(text, output, name):
    """Return a file as it would be after the difference that ``--diff`` shows of it in the output of a playbook."""
    _, _, shown = output.partition(f"+++ after: {name}\n")
    assert shown, f"no difference of {name} is shown"
    before, after, place = text.splitlines(), [], 0
    for line in shown.splitlines():
        if hunk := re.match(r"@@ -(\d+)", line):
            after += before[place : int(hunk[1]) - 1]
            place = int(hunk[1]) - 1
        elif line[:1] == "+":
            after.append(line[1:])
        elif line[:1] in ("-", " "):
            assert before[place] == line[1:], "the difference is that of another file"
            after += [before[place]] if line[0] == " " else []
            place += 1
        else:
            break
    return "\n".join(after + before[place:])


def test_check_mode_says_what_would_change_and_changes_nothing(stack):
    def state():
        # The lock of the last run goes in the moment after its end.
        return {p: p.read_bytes() for p in stack.directory.rglob("*") if p.is_file() and p.name != ".run"}

    before, files = stack.ids(), state()
    output = stack.playbook("site.yml", "--check", "--diff", "-e", "fe_replicas=3").stdout
    text = (stack.directory / "docker-compose.yml").read_text()
    wanted, shown = yaml.safe_load(text), yaml.safe_load(patched(text, output, stack.directory / "docker-compose.yml"))
    wanted["services"]["fe"]["deploy"]["replicas"] += 1
    assert shown == wanted
    assert wanted["services"]["fe"]["deploy"]["replicas"] == 3
    assert "fe: 1 would start in batches of 1." in output
    assert "No other container would change." in output
    assert stack.ids() == before
    assert state() == files


def test_check_mode_runs_through_where_nothing_is_deployed(stack):
    name = f"{stack.name}-absent"
    output = stack.playbook("site.yml", "--check", "--diff", "-e", json.dumps(stack.another(name))).stdout
    assert "Nothing is deployed yet" in output
    assert not (stack.directory.parent / name).exists()
    assert not run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={name}").stdout


def test_new_setting_of_a_load_balancer_reloads_it_in_place(stack):
    before = stack.ids()
    output = stack.playbook("site.yml", "-e", "lb_health_interval=2").stdout
    assert stack.ids() == before
    assert changed(output) == 2, "the files and the reload"
    wait_until(lambda: stack.request().status == 200, 5)
    stack.playbook("site.yml")


def test_rerun_prints_at_most_15_lines_and_what_runs(stack):
    stack.playbook("site.yml")
    lines = stack.playbook("bootstrap.yml", str(PROJECT / "playbooks" / "site.yml")).stdout.splitlines()
    assert len(lines) <= 15, lines
    said = "\n".join(lines)
    for part in (
        f"{stack.name} runs at http",
        "Mode: production, release ",
        "No container has changed.",
        "PLAY RECAP after ",
    ):
        assert part in said, said
    changed_ = stack.playbook("site.yml", "-e", "fe_replicas=3").stdout
    assert re.search(r"^  fe  2 → 3 containers$", changed_, re.MULTILINE), changed_
    assert re.search(r"^Requests that failed meanwhile: 0 of \d+ at fe-lb, 0 of \d+ at be-lb$", changed_, re.MULTILINE), (
        changed_
    )
    # The heading before the steps, and they before the result.
    heading, step = (changed_.index(text) for text in ("Replace the containers in batches\n", "  fe: starting 1"))
    assert heading < step < changed_.index("PLAY RECAP")
    stack.playbook("site.yml")


def test_release_that_listens_on_loopback_is_told_within_ten_seconds(stack):
    command = ["python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"]
    before = stack.ids()
    done = stack.playbook("site.yml", "-e", json.dumps({"fe_command": command}), check=False)
    assert done.returncode != 0
    assert "listens on 127.0.0.1:8000 alone, where no other container reaches it" in done.stdout.splitlines()[-1], (
        done.stdout
    )
    steps = [json.loads(line) for line in (stack.directory / "rollout.log").read_text().splitlines()]
    begin, end = (max(step["time"] for step in steps if step["gate"] == gate) for gate in ("health", "abort"))
    assert end - begin < 10
    assert stack.ids() == before
    stack.playbook("site.yml")


def test_render_needs_no_engine_and_shows_no_secret(stack, tmp_path):
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock"}
    stack.playbook("render.yml", "-e", f"render_dir={tmp_path}/r", "-e", "fe_replicas=7", environment=nowhere)
    rendered = {str(p.relative_to(tmp_path / "r")): p.read_text() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert '"replicas": 7' in rendered["docker-compose.yml"]
    assert {"fe-lb/config/haproxy.cfg", "be-lb/config/haproxy.cfg", "db/config/webstack.cnf"} <= set(rendered)
    # Programs that mask keys name how one begins.
    assert not any(re.search(r"PRIVATE KEY-----\s+[\w+/=]{16}", text) for text in rendered.values())
    assert not any("secrets/" in name for name in rendered)


def test_volume_that_is_empty_gets_the_dumps(stack):
    stack.playbook("teardown.yml", "-e", "remove_data=false")
    run("docker", "volume", "rm", f"{stack.name}_database")
    # As somebody makes it who has to choose where it lies: one without these labels is taken for another project's.
    labels = {"com.docker.compose.project": stack.name, "com.docker.compose.volume": "database"}
    options = [f"--label={name}={value}" for name, value in labels.items()]
    run("docker", "volume", "create", *options, f"{stack.name}_database")
    shutil.rmtree(stack.directory / "db/dumps")
    stack.playbook("site.yml")
    assert "Ada Lovelace" in stack.request().text


def test_interrupted_initialisation_is_never_served(stack):
    stack.playbook("teardown.yml", "-e", "remove_data=false")
    run("docker", "volume", "rm", f"{stack.name}_database")
    compose = ("docker", "compose", "--file", str(stack.directory / "docker-compose.yml"))
    run(*compose, "up", "--detach", "--no-deps", "db")
    # Killed while it initialises: the marker is there and the account is not yet.
    look = ("docker", "exec", f"{stack.name}-db-1", "test", "-e", "/var/lib/mysql/.initialization-incomplete")
    wait_until(lambda: run(*look, check=False).returncode == 0)
    run("docker", "kill", f"{stack.name}-db-1")
    run("docker", "start", f"{stack.name}-db-1")
    state = ("docker", "inspect", "--format={{.State.ExitCode}}", f"{stack.name}-db-1")
    wait_until(lambda: run(*state).stdout.strip() == "78")
    # It holds nothing but the dumps, so it is recreated.
    stack.playbook("site.yml")
    assert "Ada Lovelace" in stack.request().text


def test_dumps_that_fail_end_the_run_at_once_and_the_mended_rerun_works(stack, tmp_path):
    stack.playbook("teardown.yml", "-e", "remove_data=true")
    dump, settings = tmp_path / "data.sql", tmp_path / "settings.yml"
    dump.write_text("INSERT INTO users (name, email) VALUES ('Ada Lovelace', 'a@example.com');\n" * 2)
    settings.write_text(json.dumps({"database_dumps": ["data/sql/10-schema.sql", str(dump)]}))
    begin = time.monotonic()
    refused = stack.playbook("site.yml", "-e", f"@{settings}", check=False)
    took = time.monotonic() - begin
    assert refused.returncode != 0
    assert "database_dumps: data.sql cannot be loaded: ERROR 1062 (23000) at line 2" in " ".join(refused.stdout.split())
    dump.write_text(dump.read_text().splitlines()[0])
    stack.playbook("site.yml", "-e", f"@{settings}")
    assert "Ada Lovelace" in stack.request().text
    # Far less than stack_wait_timeout.
    assert took < 120
