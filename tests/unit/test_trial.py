"""How replicas will be judged is tried before it counts, and a configuration that loses servers goes back."""

import subprocess

import haproxy_converge
import pytest
import stack_haproxy
import stack_trial
import yaml
from ansible.module_utils import stack_rehearsal
from hypothesis import given
from hypothesis import strategies as st
from stack import PROJECT
from wiring import HOST, load, render, render_template

OLD = {"port": 8000, "health_path": "/healthz", "health_host": "localhost"}
NEW = {"port": 8010, "health_path": "/ready", "health_host": "shop.example"}
A, B = stack_haproxy.FIRSTS


def running(*needed):
    """Return what the preflight says of a load balancer whose servers are up by some definitions."""
    return {"version": "beef", "up": 2, "needed": list(needed)}


@pytest.mark.parametrize(
    ("wanted", "found", "balancer", "firsts"),
    [
        (OLD, [], {}, [A]),
        # An earlier release wrote one, and did not know the host.
        (OLD, {"port": 8000, "health_path": "/healthz"}, running(A), [A]),
        (NEW, {"port": 8000, "health_path": "/healthz"}, running(A), [B, A]),
        (NEW, [{**OLD, "first": A}], running(A), [B, A]),
        (NEW, [{**OLD, "first": B}], running(B), [A, B]),
        # A run has failed or was interrupted; the same is wanted again, or what was before, or a third.
        (NEW, [{**NEW, "first": B}, {**OLD, "first": A}], running(A), [B, A]),
        (OLD, [{**NEW, "first": B}, {**OLD, "first": A}], running(A), [A]),
        ({**OLD, "port": 1}, [{**NEW, "first": B}, {**OLD, "first": A}], running(A), [B, A]),
        (NEW, [{**NEW, "first": B}, {**OLD, "first": A}], running(A, B), [B, A]),
        (OLD, [{**NEW, "first": B}, {**OLD, "first": A}], running(A, B), [A, B]),
        # No place for a third while replicas of both run.
        ({**OLD, "port": 1}, [{**NEW, "first": B}, {**OLD, "first": A}], running(A, B), [0, B, A]),
        # Nothing serves, so nothing is kept.
        (NEW, [{**OLD, "first": A}], running(), [A]),
        # The load balancer is away: what ran last is kept.
        (NEW, [{**OLD, "first": A}], {"version": "", "up": 0, "needed": []}, [B, A]),
    ],
)
def test_definitions_that_running_replicas_need_are_kept_beside_the_wanted_one(wanted, found, balancer, firsts):
    definitions = stack_trial.check_definitions(wanted, found, balancer)
    assert [definition["first"] for definition in definitions] == firsts
    assert {key: definitions[0][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("servers", "needed"),
    [
        ({"fe-1": "a", "fe-2": "b"}, [A]),
        ({"fe-1": "a", "fe-10001": "b"}, [A, B]),
        ({"fe-10007": "a", "fe-10001": "b"}, [B]),
        ({"fe-1": "a", "fe-2": "b", "fe-10001": "b"}, [A]),
        ({"fe-1": "a", "fe-10002": "a", "fe-10001": "b"}, [B]),
        ({}, []),
    ],
)
def test_definition_is_needed_by_servers_that_no_other_lets_pass(servers, needed):
    found = [stack_haproxy.Server(name, address, stack_haproxy.RUNNING, 0) for name, address in servers.items()]
    assert stack_haproxy.definitions_needed(found) == needed
    down = [stack_haproxy.Server("fe-9", "z", stack_haproxy.STOPPED, 0), stack_haproxy.Server("fe-10009", "", 0, 32)]
    assert stack_haproxy.definitions_needed(found + down) == needed
    assert sorted(server.address for server in stack_haproxy.by_address(found + down)) == sorted({*servers.values(), "z"})


@given(st.permutations([("fe-1", 0), ("fe-10001", 2), ("fe-2", 0)]))
def test_one_slot_of_an_address_is_enough(slots):
    servers = [stack_haproxy.Server(name, "10.0.0.2", operation, 0) for name, operation in slots]
    assert [server.name for server in stack_haproxy.by_address(servers)] == ["fe-10001"]


def configuration(*definitions, tier=0, **settings):
    """Return a load balancer's configuration, as the role renders it."""
    role = "load_balancer"
    tiers = render(load("group_vars/all/load_balancer.yml")["_load_balancer_tiers"], role, **settings)
    facts = {"_preflight_result": {**HOST, "firewalls": []}, "ansible_managed": "", **settings}
    return render_template("haproxy.cfg.j2", role, tier=tiers[tier], definitions=list(definitions), **facts)


def test_each_definition_has_its_servers_and_its_question():
    text = configuration({**NEW, "first": B}, {**OLD, "first": A})
    send, streams = [line for line in text.splitlines() if "http-check send" in line]
    assert send == streams
    assert [part in send for part in ("/healthz", "/ready", "localhost", "shop.example")] == [True] * 4
    templates = [line.split()[1:4] for line in text.splitlines() if "server-template" in line]
    # Where requests go, where streams go, and where the last servers are found by a connection to each port.
    assert templates == 3 * [["fe-", "1-400", "ipv4@fe:8000"], ["fe-", "10001-10400", "ipv4@frontend.fe:8010"]]
    same = configuration({**NEW, "port": 8000, "first": B}, {**OLD, "first": A})
    assert same.partition("\nbackend fe-open\n")[2].count("server-template") == 1
    aliases = yaml.safe_load(
        (PROJECT / "docker-compose.yml.j2").read_text().partition("frontend: {aliases: ")[2].split("}")[0]
    )
    assert aliases == ["frontend.fe"]
    # One kind is satisfied with a connection, so nobody is asked.
    assert "httpchk" not in configuration({**NEW, "first": B}, {**OLD, "health_path": "", "first": A})


def test_one_definition_is_written_as_it_is():
    text = configuration({**OLD, "health_path": "/a,b)%[x]$HOME?c", "first": A}, tier=1)
    assert "uri /a,b)%[x]$HOME?c ver HTTP/1.1 hdr Host localhost " in text
    assert " be- 1-400 ipv4@be:8000 " in text


def test_trial_serves_nobody_and_asks_what_will_be_asked():
    text = stack_trial.trial_configuration(configuration({**OLD, "first": A}, https_port=9), "fe")
    binds = [line for line in text.splitlines() if line.strip().startswith("bind")]
    assert [line.split()[1].startswith("abns@") for line in binds] == [True]
    assert "server-state" not in text
    for part in ("http-check send meth GET uri /healthz", "timeout check 600ms", "timeout connect 1s", "inter 600ms"):
        assert part in text


LOG = """fe/fe-1: IP changed from '(none)' to '10.0.0.2' by 'docker/dns'.
[WARNING]  (38) : fe/fe-2: IP changed from '(none)' to '10.0.0.3' by 'DNS cache'.
fe/fe-10001: IP changed from '(none)' to '10.0.0.2' by 'DNS cache'.
Health check for server fe/fe-2 failed, reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms
Health check for server fe/fe-1 failed, reason: Layer7 wrong status, code: 404, info: "Not Found", check duration: 1ms
Health check for server fe/fe-10001 succeeded, reason: Layer7 check passed, code: 200, check duration: 2ms, status: 2/2 UP.
Health check for server fe/fe-2 succeeded, reason: Layer7 check passed, code: 204, check duration: 2ms, status: 2/2 UP.
"""


def test_last_result_of_each_server_counts():
    assert stack_trial.read_results(LOG) == [
        stack_trial.Check(True, "Layer7 check passed", "204", "10.0.0.3", A),
        stack_trial.Check(False, "Layer7 wrong status", "404", "10.0.0.2", A),
        stack_trial.Check(True, "Layer7 check passed", "200", "10.0.0.2", B),
    ]


SETTINGS = {**NEW, "check": "1ms", "connect": "2ms", "interval": 0.6}


@pytest.mark.parametrize(
    ("kind", "code", "failed", "servers", "changed", "words"),
    [
        ("L7STS", "404", 2, 2, {"health_path"}, "fe_health_path is /ready and both replicas of fe answer it with 404"),
        ("L7STS", "401", 1, 1, set(), "fe_health_path is /ready and the only replica of fe answers it with 401"),
        ("L7STS", "500", 3, 3, {"health_path"}, "fe_health_path is /ready and all 3 replicas of fe answer it with 500"),
        (
            "L7STS",
            "400",
            1,
            3,
            {"health_host"},
            "fe_health_host is shop.example and 1 of 3 replicas of fe answers it with 400",
        ),
        ("L4CON", "", 2, 2, {"port"}, "fe_port is 8010 and both replicas of fe take no connection there"),
        ("L4TOUT", "", 2, 2, set(), "lb_timeouts.connect is 2ms, lb_health_interval is 0.6 and both replicas of fe take no"),
        ("L7TOUT", "", 2, 2, set(), "lb_timeouts.check is 1ms and both replicas of fe answer no check in that time"),
        ("L7RSP", "", 2, 2, set(), "fe_port is 8010 and both replicas of fe do not pass the checks there"),
    ],
)
def test_reason_names_the_setting_and_what_the_replicas_answered(kind, code, failed, servers, changed, words):
    check = stack_trial.Check(False, stack_trial.KINDS.get(kind, kind), code)
    why, advice = stack_trial.reason(check, failed, servers, "fe", {**SETTINGS, "changed": changed})
    assert why.startswith(words)
    assert advice.endswith(".")


STATE = "1\n# be_name srv_name srv_addr srv_op_state srv_admin_state srv_check_status srv_check_result srv_port\n"


class Balancer:
    """A load balancer with two servers, the files of its stack, and an engine that tries and lists containers."""

    def __init__(self, folder, monkeypatch):
        self.file = folder / "fe-lb/config/haproxy.cfg"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("    description aaaa\n")
        self.runs, self.orders = "aaaa", []
        self.refuses, self.loses = False, False
        self.passing = {}
        self.outdated = []
        self.entry = {
            **{"name": "fe-lb", "socket": "fe-lb/run/master.sock", "file": "fe-lb/config/haproxy.cfg", "backend": "fe"},
            **{"version": "bbbb", "configuration": "final", "transition": "between", "before": "", "servers": 2},
            **{"definitions": [{**NEW, "first": B}, {**OLD, "first": A}], "patience": 0.5, "settings": SETTINGS},
        }
        self.parameters = {
            "project": "web",
            "path": str(folder),
            "timeout": 5,
            "compose": "",
            "load_balancers": [self.entry],
        }
        for module in (haproxy_converge, stack_rehearsal):
            monkeypatch.setattr(module, "ask", self.ask)
        monkeypatch.setattr(haproxy_converge, "save_state", lambda *_: self.orders.append("save"))
        monkeypatch.setattr(haproxy_converge, "drop_state", lambda *_: self.orders.append("drop"))
        monkeypatch.setattr(stack_rehearsal, "trial_configuration", lambda text, _: text)
        monkeypatch.setattr(stack_rehearsal, "tried", self.tried)
        monkeypatch.setattr(stack_rehearsal, "outdated_services", lambda *_: self.outdated)
        monkeypatch.setattr(
            stack_rehearsal.subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0, "", "")
        )

    def ask(self, _, command, timeout=10):
        """Answer as HAProxy would."""
        if command == "reload":
            if self.refuses:
                return "Success=0\nno"
            self.runs = self.file.read_text().split()[1]
            self.orders.append(f"reload {self.runs}")
            return "Success=1\n"
        if "info" in command:
            return f"description: {self.runs}\n"
        if "servers state" in command:
            return f"{STATE}fe fe-1 10.0.0.2 2 0 15 3 8000\nfe fe-2 10.0.0.3 2 0 15 3 8000\n"
        lost = self.loses and self.runs == "bbbb"
        check = "DOWN,L7STS,404" if lost else "UP,L7OK,200"
        rows = f"fe,fe-10001,{check},10.0.0.2:8000\nfe,fe-10002,{check},10.0.0.3:8000\n"
        return f"# pxname,svname,status,check_status,check_code,addr\n{rows}"

    def tried(self, container, text, firsts, addresses, _):
        """Return what the checks of a configuration come to."""
        assert (container, addresses) == ("web-fe-lb-1", {"10.0.0.2", "10.0.0.3"})
        return [
            stack_trial.Check(first in self.passing.get(text, ()), "Layer7 wrong status", "404", address, first)
            for first in firsts
            for address in sorted(addresses)
        ]

    def do(self, action):
        """Run the module."""
        return haproxy_converge.converge({**self.parameters, "action": action}, check_mode=False)


@pytest.fixture(name="balancer")
def fixture(tmp_path, monkeypatch):
    return Balancer(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("passing", "replaced", "words"),
    [
        ({"final": [B]}, False, ""),
        (
            {},
            False,
            "fe_health_path is /ready and fe_health_host is shop.example and both replicas of fe answer it with 404;",
        ),
        # New containers come, and those that run pass by what they were judged by.
        ({"between": [A]}, True, ""),
        ({"between": [A]}, False, "fe_health_path is /ready"),
        # Not even that: it is something else than the definition.
        ({}, True, "fe_health_path is /ready and both replicas of fe answer it with 404; fe-lb keeps"),
    ],
)
def test_configuration_that_would_lose_servers_is_refused_before_anything_is_changed(balancer, passing, replaced, words):
    balancer.passing = passing
    balancer.outdated = ["fe"] if replaced else []
    if words:
        with pytest.raises(haproxy_converge.RefusalError, match=words) as refused:
            balancer.do("try")
        assert "\n" not in str(refused.value)
    else:
        assert balancer.do("try")["before"] == {"fe-lb": "    description aaaa\n"}
    assert balancer.orders == []


def test_what_runs_already_is_not_tried(balancer):
    balancer.runs = "bbbb"
    assert balancer.do("try")["before"] == {}


def test_before_is_only_what_runs(balancer):
    """An interrupted run has written another configuration."""
    balancer.passing = {"final": [B]}
    balancer.file.write_text("    description cccc\n")
    assert balancer.do("try")["before"] == {}


@pytest.mark.parametrize(
    ("refuses", "loses", "orders"),
    [
        (False, False, ["save", "reload bbbb", "drop"]),
        (False, True, ["save", "reload bbbb", "reload aaaa", "drop"]),
        (True, False, ["save", "drop"]),
    ],
)
@pytest.mark.parametrize("action", ["reload", "wait"])
def test_configuration_that_loses_servers_goes_back_by_itself(balancer, action, refuses, loses, orders):
    balancer.refuses, balancer.loses = refuses, loses
    before = balancer.file.read_text()
    balancer.entry["before"] = before
    balancer.file.write_text("    description bbbb\n")
    if refuses or loses:
        answered = "both replicas of fe answer it with 404; fe-lb was put back to the previous configuration"
        words = "refused its new" if refuses else answered
        with pytest.raises(haproxy_converge.RefusalError, match=words):
            balancer.do(action)
        assert balancer.file.read_text() == before
    else:
        balancer.do(action)
        assert balancer.file.read_text() == "    description bbbb\n"
    assert balancer.orders == orders


def test_container_that_stays_away_ends_the_wait_with_its_own_reason(balancer, monkeypatch):
    state = {"OOMKilled": True, "Running": False, "ExitCode": 137}
    killed = {"Id": "c1", "State": state, "RestartCount": 3, "HostConfig": {"Memory": 2**28}}
    monkeypatch.setattr(haproxy_converge, "containers_of", lambda *_: [killed])
    balancer.runs, balancer.loses, balancer.parameters["timeout"] = "bbbb", True, 600
    words = r"0 servers of fe in rotation instead of 2: a container of fe was killed for memory \(fe_limits.memory is 256M"
    with pytest.raises(haproxy_converge.RefusalError, match=words):
        balancer.do("wait")


def test_what_a_process_has_counted_that_a_reload_ends_is_returned(balancer, monkeypatch):
    counts = {"aaaa": {"requests": 7, "failed": 1}, "bbbb": {"requests": 2, "failed": 0}}
    monkeypatch.setattr(haproxy_converge, "frontend_counts", lambda _: counts[balancer.runs])
    balancer.file.write_text("    description bbbb\n")
    result = balancer.do("wait")
    assert (result["ended"], result["requests"]) == ([{"fe-lb": counts["aaaa"]}], {"fe-lb": counts["bbbb"]})


def test_next_process_takes_over_servers_and_no_check(tmp_path, monkeypatch):
    """Only on the port of their definition, and no slot whose name has no such address any more.

    They move up: the resolver of HAProxy fills empty slots first, with addresses that later ones still have.
    """
    lines = [
        "fe fe-1 10.0.0.5 0 32 15 3 8000",
        "fe fe-2 10.0.0.4 2 0 15 3 7000",
        "fe fe-3 10.0.0.2 2 0 15 3 8000",
        "fe fe-7 10.0.0.3 2 8 15 3 8000",
        "fe fe-10001 10.0.0.3 0 0 11 2 8000",
        "fe fe-10002 10.0.0.2 0 0 11 2 8010",
        # The slots of another backend are counted for themselves.
        "fe-open fe-2 10.0.0.2 2 0 6 3 8000",
    ]
    monkeypatch.setattr(stack_haproxy, "ask", lambda *_: STATE + "\n".join(lines) + "\n")
    stack_haproxy.save_state(tmp_path / "master.sock", [{"first": B, "port": 8010}, {"first": A, "port": 8000}])
    assert (tmp_path / "state").read_text() == STATE + "".join(
        f"{line}\n"
        for line in (
            *("fe fe-1 10.0.0.2 2 0 1 0 8000", "fe fe-2 10.0.0.3 2 8 1 0 8000", "fe fe-10001 10.0.0.2 0 0 1 0 8010"),
            "fe-open fe-1 10.0.0.2 2 0 1 0 8000",
        )
    )
