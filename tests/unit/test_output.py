"""What a run prints: each step as it happens, a failure once and last, and no secret in anything that Ansible displays."""

import json
import time
from types import SimpleNamespace

import output
import preflight_action
import pytest
import stack_secrets
from ansible import context
from ansible.utils.display import Display
from hypothesis import given
from hypothesis import strategies as st
from stack import PROJECT

KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIPlantedPlanted\noAoGCCqGSM49AwEHoUQDQgAE\n-----END EC PRIVATE KEY-----\n"
# Variables with a secret in each, and the secret.
PLANTED = {
    "database_password": ("planted-Database-1", "planted-Database-1"),
    "backup_password": ('quo"ted \\ $planted', 'quo"ted \\ $planted'),
    "ansible_become_password": ("planted become", "planted become"),
    "swarm_registry_password": (1234567890, "1234567890"),
    "monitoring_alert_webhook_url": ("https://hooks.example.com/planted/T0/B1", "planted/T0"),
    "be_environment": ({"API_TOKEN": "planted-token", "LEVEL": "info"}, "planted-token"),
    "fe_environment": ({"ADDRESS": "abcdefgh12345678planted"}, "abcdefgh12345678planted"),
    "backup_environment": ({"AWS_SECRET_ACCESS_KEY": "planted/key+1"}, "planted/key+1"),
}
SENTENCES = "http_port: 80 is taken; choose another.\nfe_replicas: 0 replicas cannot serve; give 1 or more."


class Screen:
    """Keeps what is displayed."""

    def __init__(self):
        self.text = ""

    def show(self, msg, *_, **__):
        """Keep a message."""
        self.text += f"{msg}\n"


@pytest.fixture(params=[0, 1, 3], ids=["", "-v", "-vvv"])
def screen(request, monkeypatch):
    """Return what is displayed with each verbosity."""
    screen = Screen()
    monkeypatch.setattr(Display(), "verbosity", request.param)
    monkeypatch.setattr(Display(), "display", screen.show)
    return screen


@pytest.fixture
def callback(screen, monkeypatch):
    """Return the callback with options as ansible.cfg has them, and the variables of PLANTED known to it."""
    plugin = output.CallbackModule()
    options = {"result_format": "yaml", "result_indentation": 4, "display_skipped_hosts": False, "display_ok_hosts": True}
    monkeypatch.setattr(context, "CLIARGS", {"check": False})
    monkeypatch.setattr(plugin, "get_option", lambda name: options.get(name, False))
    manager = SimpleNamespace(
        _inventory=SimpleNamespace(get_hosts=lambda _: [SimpleNamespace(name="one")]),
        get_vars=lambda **_: {name: value for name, (value, _) in PLANTED.items()},
    )
    # Tests look at the clock themselves.
    monkeypatch.setattr(plugin, "_watch", lambda: None)
    play = SimpleNamespace(
        hosts="all",
        check_mode=False,
        strategy="linear",
        get_name=lambda: "Deploy",
        get_variable_manager=lambda: manager,
        get_loader=lambda: None,
    )
    plugin.v2_playbook_on_play_start(play)
    return plugin


def task_of(action="stack_preflight", loop=None, name="Check the host"):
    """Return a task, as a callback is told of it."""
    return SimpleNamespace(
        action=action,
        loop=loop,
        delegate_to=None,
        no_log=False,
        check_mode=False,
        ignore_errors=False,
        _uuid=name,
        name=name,
        get_name=lambda: f"role : {name}",
        get_path=lambda: "here:1",
    )


def ended(content, action="stack_preflight", host="one", loop=None, name="Check the host"):
    """Return the end of a task, as a callback is told of it."""
    place = SimpleNamespace(name=host, get_name=lambda: host)
    return SimpleNamespace(
        task=task_of(action, loop, name), host=place, result=content, exception=None, task_name="Check the host"
    )


def recap(plugin, **failures):
    """Let the run end; ``failures`` are those of each host."""
    counts = {"ok": 1, "changed": 0, "unreachable": 0, "skipped": 0, "rescued": 0, "ignored": 0}

    def summarize(host):
        return {**counts, "failures": failures[host]}

    stats = SimpleNamespace(processed=failures, failures=failures, summarize=summarize, custom={})
    plugin.v2_playbook_on_stats(stats)


@pytest.mark.parametrize("action", ["ansible.builtin.fail", "ansible.builtin.assert", "stack_preflight", "compose_rollout"])
def test_refusal_is_printed_once_and_last(screen, callback, action):
    found = {"tree": {"a": 1}, "certificate": KEY, "exception": "(traceback unavailable)", "invocation": {"module_args": {}}}
    callback.v2_runner_on_failed(ended({"msg": SENTENCES, "failed": True, **found}, action))
    recap(callback, one=1)
    assert f"\n{screen.text}".endswith(f"\n{SENTENCES}\n")
    assert screen.text.count(SENTENCES.splitlines()[0]) == 1
    for word in ("tree", "certificate", "FAILED", "Origin", "msg:", "module_args"):
        assert word not in screen.text
    if not Display().verbosity:
        assert screen.text == f"{SENTENCES}\n"


def test_preflight_hands_on_its_sentences_and_nothing_that_it_found(monkeypatch):
    """What -v would print, and what a registered result would keep."""
    values = {
        "stack_engine": "swarm",
        "stack_name": "web",
        "monitoring_docker_socket": "",
        "app_mode": "production",
        "fe_tmpfs": [],
        "be_tmpfs": [],
        "backup_repository": "",
    }
    monkeypatch.setattr(preflight_action.stack_checks, "refusals", lambda *_: (values, []))
    monkeypatch.setattr(preflight_action.stack_checks_host, "check_host", lambda *_: SENTENCES.splitlines())
    monkeypatch.setattr(preflight_action.stack_settings, "mounts", lambda _: [])
    monkeypatch.setattr(preflight_action.ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(context, "CLIARGS", {})
    plugin = preflight_action.ActionModule.__new__(preflight_action.ActionModule)
    arguments = {"project_dir": str(PROJECT), "engine_minimum": "25", "compose_minimum": "2"}
    plugin._task = SimpleNamespace(args=arguments, check_mode=True)
    plugin._templar = SimpleNamespace(template=lambda value: value)
    plugin._execute_module = lambda **_: {"changed": False, "certificate": KEY, "lock": {"other": {}, "new": False}}
    assert plugin.run(task_vars={}) == {"failed": True, "msg": SENTENCES}


def test_callback_is_that_of_the_checkout():
    assert "stdout_callback = webstack\n" in (PROJECT / "ansible.cfg").read_text()


def test_refusals_of_a_loop_are_all_printed(screen, callback):
    items = [{"msg": f"{place}: not a host of the inventory; correct it.", "failed": True} for place in ("one", "two")]
    for item in items:
        callback.v2_runner_item_on_failed(ended(item, "ansible.builtin.assert", loop=["x"]))
    callback.v2_runner_on_failed(
        ended({"results": items, "msg": "One or more items failed"}, "ansible.builtin.assert", loop=[1])
    )
    recap(callback, one=1)
    assert screen.text.endswith("\n".join(item["msg"] for item in items) + "\n")
    assert "One or more items failed" not in screen.text


def test_refusal_of_one_host_of_several_names_it(screen, callback):
    for host in ("one", "two"):
        callback.v2_runner_on_failed(ended({"msg": SENTENCES}, host=host))
    recap(callback, one=1, two=1, three=0)
    assert screen.text.endswith(f"one, two:\n{SENTENCES}\n")


def test_refusal_that_was_made_good_is_not_printed(screen, callback):
    callback.v2_runner_on_failed(ended({"msg": SENTENCES}))
    recap(callback, one=0)
    assert SENTENCES not in screen.text


@pytest.mark.parametrize(
    ("content", "action"),
    [
        ({"msg": "non-zero return code", "rc": 1, "stderr": "no space left on device"}, "ansible.builtin.command"),
        ({"msg": "failed", "module_stderr": "no space left on device"}, "stack_preflight"),
        ({"censored": "the output has been hidden", "stderr": "no space left on device"}, "stack_preflight"),
    ],
)
def test_other_failures_are_printed_last_with_their_reason_and_as_they_are_with_v(screen, callback, content, action):
    noise = {"invocation": {"module_args": {"name": "noise"}}, "stdout_lines": ["noise"], "failed": True}
    callback.v2_runner_on_failed(ended({**content, **noise}, action))
    recap(callback, one=1)
    assert "no space left on device" in screen.text
    if Display().verbosity:
        assert "FAILED!" in screen.text
        return
    assert len(screen.text.splitlines()) <= 3
    assert "noise" not in screen.text
    last = screen.text.splitlines()[-1]
    assert last.startswith("Check the host failed: ")
    assert last.endswith("Run it again with -v to see all of it.")


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_sentence_of_a_rescue_stands_for_the_task_that_has_failed(screen, callback):
    callback.v2_runner_on_failed(ended({"msg": "Missing sudo password", "rc": 1}, "command", name="Become root"))
    callback.v2_runner_on_failed(ended({"msg": SENTENCES}, "ansible.builtin.fail", name="Refuse to go on"))
    recap(callback, one=1)
    assert screen.text == f"{SENTENCES}\n"


def test_warnings_of_a_refusal_are_printed_with_v_only(screen, callback, monkeypatch):
    warned = []
    monkeypatch.setattr(callback, "_handle_warnings", warned.append)
    callback.v2_runner_on_failed(ended({"msg": SENTENCES, "warnings": ["old"]}))
    assert bool(warned) is bool(Display().verbosity)


def begin(plugin, name, action="command", now=0.0):
    """Let a task begin on one host, ``now`` seconds ago."""
    task = task_of(action, name=name)
    plugin.v2_playbook_on_task_start(task, False)
    plugin.v2_runner_on_start(None, task)
    plugin._since = plugin._spoken = time.monotonic() - now


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_heading_of_a_task_stands_before_it_has_ended_and_nothing_is_silent(screen, callback):
    """The clock is looked at several times a second, so that these are the longest times."""
    begin(callback, "Build webstack/fe:1")
    start = callback._since
    callback._tick(start + 1)
    assert screen.text == ""
    callback._tick(start + 2)
    assert screen.text == "Build webstack/fe:1\n"
    # Everything that is displayed ends the silence.
    spoken = callback._spoken
    callback._tick(spoken + 3)
    assert screen.text == "Build webstack/fe:1\n"
    callback._tick(spoken + 4)
    assert screen.text.splitlines()[1:] == [f"  … {spoken + 4 - start:.0f} s"]
    callback.v2_runner_on_ok(ended({"changed": True}, "command", name="Build webstack/fe:1"))
    assert len(screen.text.splitlines()) == 2
    assert output.SILENCE + output.TICK < 5


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_many_short_tasks_are_not_silent_either(screen, callback):
    for number in range(20):
        begin(callback, f"Look at {number}")
        callback._spoken = time.monotonic() - number
        callback._tick(time.monotonic())
        callback.v2_runner_on_ok(ended({"changed": False}, name=f"Look at {number}"))
    assert screen.text.splitlines() == [f"Look at {number}" for number in range(4, 20)]


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_steps_of_a_module_stand_under_its_heading_which_is_printed_once(screen, callback):
    """The action plugin asks for it with its first step, the clock after a while, the result at the end."""
    begin(callback, "Replace the containers in batches", "compose_rollout")
    for step in ("one", "two"):
        Display().display("Replace the containers in batches:")
        Display().display(f"  fe: {step}")
    callback._tick(callback._since + 2)
    callback.v2_runner_on_ok(ended({"changed": True}, "compose_rollout", name="Replace the containers in batches"))
    assert screen.text.splitlines() == ["Replace the containers in batches", "  fe: one", "  fe: two"]


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_run_without_changes_prints_what_runs_and_nothing_of_other_plays(screen, callback, monkeypatch):
    monkeypatch.setattr(context, "CLIARGS", {"args": ("bootstrap.yml", "site.yml"), "check": False})
    said = "webstack runs at http://127.0.0.1:8080/\nNo container has changed."
    for last in (False, True):
        callback.v2_playbook_on_start(None)
        for number in range(40):
            begin(callback, f"Look at {number}")
            callback._tick(time.monotonic())
            callback.v2_runner_on_ok(ended({"changed": False, "rc": 0}, name=f"Look at {number}"))
        if last:
            begin(callback, "Say what runs", "debug")
            callback.v2_runner_on_ok(ended({"msg": f"{said}\n", "_ansible_verbose_always": True}, "debug"))
        callback.v2_playbook_on_no_hosts_matched()
        recap(callback, one=0)
    lines = screen.text.splitlines()
    assert lines[:2] == said.splitlines()
    assert lines[2].startswith("PLAY RECAP after 0.")
    assert lines[3].split()[:4] == ["one", ":", "ok=1", "changed=0"]
    assert len(lines) == 4


@pytest.mark.parametrize("screen", [0], indirect=True)
@pytest.mark.parametrize("names", [["one"], ["one", "a-host-with-a-long-name.of.a.long.domain.example.com"]])
def test_recap_has_its_columns_one_under_the_other(screen, callback, names):
    recap(callback, **dict.fromkeys(names, 0))
    lines = screen.text.splitlines()[1:]
    assert len({line.index(" : ok=") for line in lines}) == 1
    assert len({line.index("changed=") for line in lines}) == 1


@pytest.mark.parametrize("screen", [0], indirect=True)
def test_worker_takes_no_lock_of_the_run(screen, callback, monkeypatch):
    """It may have been forked while the clock's thread had it."""
    begin(callback, "Build")
    monkeypatch.setattr(output.os, "getpid", lambda: -1)
    monkeypatch.setattr(callback, "_is_heading", lambda _: pytest.fail("asked for the heading"))
    Display().display("hello")
    assert screen.text == "hello\n"


def test_v_prints_what_ansible_prints(screen, callback):
    callback.v2_runner_on_ok(ended({"changed": True}))
    recap(callback, one=0)
    usual = "TASK [" in screen.text and "changed: [one]" in screen.text and "PLAY RECAP ***" in screen.text
    assert usual is bool(Display().verbosity)


def test_setting_that_cannot_be_filled_in_is_named_wherever_it_is_read(screen, callback, monkeypatch):
    failed = "Finalization of task args for 'ansible.builtin.set_fact' failed: 'nothing' is undefined"
    monkeypatch.setattr(
        output.stack_checks, "check_templates", lambda *_: ["stack_dir: Ansible takes {{ }} for a template."]
    )
    callback.v2_runner_on_failed(ended({"msg": failed}, "ansible.builtin.set_fact"))
    callback.v2_runner_on_failed(ended({"msg": failed}, "stack_preflight"))
    recap(callback, one=1)
    assert f"\n{screen.text}".endswith("\nstack_dir: Ansible takes {{ }} for a template.\n")
    assert "Finalization" not in screen.text


def test_what_is_ignored_is_no_refusal_and_printed_with_v_only(screen, callback):
    verbose = bool(Display().verbosity)
    callback.v2_runner_on_failed(ended({"msg": SENTENCES}), ignore_errors=True)
    assert ("...ignoring" in screen.text) is verbose
    recap(callback, one=0)
    assert screen.text.count("http_port") == verbose


def test_what_changes_nothing_is_printed_with_v_only(screen, callback):
    callback.v2_runner_on_ok(ended({"changed": False, "msg": "looked"}))
    assert ("Check the host" in screen.text) is bool(Display().verbosity)
    callback.v2_runner_on_ok(ended({"msg": "It runs at", "_ansible_verbose_always": True}, "ansible.builtin.debug"))
    assert "It runs at" in screen.text


def leaks(text):
    """Return which planted secrets stand in a text, in whatever spelling."""
    secrets = {name: secret for name, (_, secret) in PLANTED.items()} | {"key": KEY.splitlines()[1]}
    return [name for name, secret in secrets.items() for way in (secret, json.dumps(secret)[1:-1]) if way in text]


def test_no_secret_is_printed_whoever_prints_it(screen, callback):
    everything = {name: value for name, (value, _) in PLANTED.items()}
    result = {"changed": True, "invocation": {"module_args": everything}, "stdout": KEY, "lines": KEY.splitlines()}
    callback.v2_runner_on_ok(ended(result))
    callback.v2_runner_on_failed(
        ended({"msg": "no", "rc": 1, "stderr": json.dumps(everything), "cmd": str(everything)}, "command")
    )
    callback.v2_runner_on_failed(ended({"msg": f"refused {everything} {KEY}; correct it."}))
    diff = {"before": "", "after": json.dumps(everything).replace("$", "$$") + "\n" + KEY}
    callback.v2_on_file_diff(ended({"changed": True, "diff": [diff]}))
    # The connection plugins, warnings and other plugins display by themselves.
    Display().display(f"<one> EXEC login {everything}")
    recap(callback, one=1)
    assert "refused" in screen.text
    assert leaks(screen.text) == []
    # What is no secret is shown.
    assert "info" in screen.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pip from https://user:planted@index.example.com/simple", "pip from https://********@index.example.com/simple"),
        ("amqp://u:planted@mq:5672 up", "amqp://********@mq:5672 up"),
        (
            "docker swarm join --token SWMTKN-1-planted-x 10.0.0.1:2377",
            "docker swarm join --token SWMTKN-******** 10.0.0.1:2377",
        ),
        ("SWMKEY-1-planted", "SWMKEY-********"),
        (f"a\n{KEY}b", "a\n-----BEGIN EC PRIVATE KEY-----********-----END EC PRIVATE KEY-----\nb"),
        ('-  {"API_TOKEN": "of \\"before\\"", "A": "b"}', '-  {"API_TOKEN": "********", "A": "b"}'),
        ('{"DATABASE_PASSWORD_FILE": "/run/x"}', '{"DATABASE_PASSWORD_FILE": "/run/x"}'),
        # Cut off, and in JSON.
        (f"a\n{KEY[:50]}", "a\n-----BEGIN EC PRIVATE KEY-----********"),
        (json.dumps(KEY), '"-----BEGIN EC PRIVATE KEY-----********-----END EC PRIVATE KEY-----\\n"'),
        ("http://127.0.0.1:8080/ and https://127.0.0.1:8443/@x", "http://127.0.0.1:8080/ and https://127.0.0.1:8443/@x"),
    ],
)
def test_secrets_are_known_by_their_form(text, shown):
    assert stack_secrets.Masks().apply(text) == shown


def test_short_password_is_masked_as_a_word():
    masks = stack_secrets.Masks()
    masks.add(["app"])
    assert masks.apply("password: app, application") == "password: ********, application"


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=8).filter(str.strip))
def test_any_password_is_masked_in_json_and_text(secret):
    masks = stack_secrets.Masks()
    masks.add([secret])
    for text in (
        secret,
        json.dumps({"a": secret}),
        json.dumps({"a": secret}, ensure_ascii=False),
        secret.replace("$", "$$"),
    ):
        assert secret not in masks.apply(f"x {text} x") or secret in stack_secrets.MASK


def test_masking_takes_time_in_proportion_to_what_is_printed():
    """Long runs of letters, as in archives that -vvv shows: with retries from each of them these would take hours."""
    masks = stack_secrets.Masks()
    masks.add(["correct-horse"])
    for text in ("x" * 10**6, '"' + "KEY_" * 2000, "A" * 10**6):
        assert masks.apply(text) == text
