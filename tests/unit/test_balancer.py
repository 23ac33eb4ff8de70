"""The load balancers as the role renders them: a real HAProxy between small servers, without a stack."""

import asyncio
import contextlib
import csv
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import balancer
import certificates_filters
import pytest
import stack_haproxy
import stack_trial
import tiers_filters
import yaml
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from ha import reload_balancer
from stack import PROJECT, Stack, run, wait_until

PYTHON = "webstack/python:3.14-debian"
NAME = "webstack-test-balancer"
# Of ranges for documentation, which no network has, and which the engine need not choose from its own few. Not the addresses
# that other tests take for nobody's.
SUBNETS = {
    "plain": {
        "edge": "192.0.2.32/27",
        "frontend": "192.0.2.64/27",
        "fe-lb-metrics": "192.0.2.96/27",
        "middle": "192.0.2.128/27",
        "be-lb-metrics": "192.0.2.160/27",
        "backend": "192.0.2.192/26",
    },
    "strict": {"edge": "198.51.100.32/27", "frontend": "198.51.100.64/27", "fe-lb-metrics": "198.51.100.96/27"},
}
# As which clients on this machine appear: the first address of the edge.
GATEWAYS = {"plain": "192.0.2.33", "strict": "198.51.100.33"}
STARTED = {"plain": ["fe-lb", "be-lb"], "strict": ["fe-lb"]}
CONNECTIONS, REQUESTS = 10, 20
# Requests that a server of the strict edge gets at a time.
PLACES = 2
QUOTED = '50% of "it" costs \\ $HOME'
# An answer of Docker's DNS holds 30 addresses, where nobody asks for more.
CROWD = 32
# Within so many seconds a load balancer knows of a new server, or no longer of one that is gone.
DISCOVERY = 2
SETTINGS = {
    # So short that a connection which is closed with a reload is seen to be.
    "plain": {
        "fe_health_host": "fe.example",
        "be_health_host": "be.example:8000",
        "lb_stop_grace_period": "1s",
        "be_max_requests": 3,
        "lb_panic_share": 0.4,
    },
    "strict": {
        "fe_health_host": "strict.example",
        "fe_max_requests": PLACES,
        "lb_max_connections": 100,
        "https_redirect": True,
        "hsts_max_age": 300,
        "http3_enabled": True,
        "edge_limits": {"body": "1K", "headers": "8K", "connections": CONNECTIONS, "requests": REQUESTS},
        "edge_trusted": [GATEWAYS["strict"]],
        "edge_headers": {"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Quoted": QUOTED},
        "edge_hidden_headers": ["X-Secret"],
        "lb_timeouts": {
            **{
                "connect": "1s",
                "client": "30s",
                "server": "30s",
                "queue": "1s",
                "http_request": "1s",
                "http_keep_alive": "10s",
            },
            **{"fe_keep_alive": "100s", "tunnel": "1h", "check": "600ms"},
        },
    },
}


class Edge(Stack):
    """The load balancers of one rendered folder, started by its Compose file, or as much of it as concerns them."""

    def __init__(self, label: str, directory: Path, ports: dict[str, int], pair: dict[str, str]) -> None:
        """Know the settings, plain or strict, a folder, its published ports and the certificate (PEM) with its key."""
        super().__init__(f"{NAME}-{label}", [])
        self.label = label
        self.directory, self.ports, self.pair = directory, ports, pair
        self.address = "127.0.0.1"
        self.before, self.timed = None, ""

    def port(self, scheme: str) -> int:
        """Return the published port of http or https."""
        return self.ports[scheme]

    def compose(self, *arguments: str) -> None:
        """Run Compose with the rendered file."""
        run("docker", "compose", "--file", str(self.directory / "load-balancers.json"), *arguments)

    def log(self, service: str, identity: str) -> dict:
        """Return the line of a load balancer's log that names a request by its X-Request-ID."""
        found = []

        def look():
            lines = run("docker", "logs", f"{self.name}-{service}-1").stdout.splitlines()
            found[:] = [json.loads(line) for line in lines if identity in line]
            return found

        # Logs pass through the engine, so they may come a moment later.
        wait_until(look, 10)
        assert len(found) == 1
        return found[0]


def render(name, settings, folder):
    """Write the configuration with some settings to a folder, and the certificate, which the playbook leaves out."""
    pair = certificates_filters.self_signed_certificate(["localhost"])
    ports = {}
    with contextlib.ExitStack() as opened:
        for scheme in ("http", "https"):
            probe = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports[scheme] = probe.getsockname()[1]
    own = {}
    if name == "strict":
        own = {"tls_certificate": str(folder / "given.pem"), "tls_private_key": str(folder / "given.key")}
        (folder / "given.pem").write_text(pair["certificate"])
        (folder / "given.key").write_text(pair["key"])
    variables = {
        **{
            "stack_name": f"{NAME}-{name}",
            "image_prefix": "webstack",
            "image_source": "debian",
            "monitoring_enabled": False,
        },
        **{"http_port": ports["http"], "https_port": ports["https"], "render_dir": str(folder / "rendered")},
        # An isolated network takes a newer engine than some that tests run on.
        **{"_network_isolated": [], "network_subnets": SUBNETS[name], **own, **settings},
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(PROJECT / "playbooks/render.yml")]
    nowhere = {"DOCKER_HOST": "unix:///nowhere.sock", "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    run(*command, "--extra-vars", json.dumps(variables), env={**os.environ, **nowhere})
    model = yaml.safe_load((folder / "rendered/docker-compose.yml").read_text())
    model["services"] = {service: model["services"][service] for service in STARTED[name]}
    model["networks"] = {network: model["networks"][network] for network in SUBNETS[name]}
    model["secrets"] = model["volumes"] = {}
    (folder / "rendered/load-balancers.json").write_text(json.dumps(model))
    config = folder / "rendered/fe-lb/config"
    (config / "tls").mkdir(exist_ok=True)
    (config / "tls/site.pem").write_text(pair["certificate"])
    (config / "tls/site.pem.key").write_text(pair["key"])
    # Whoever runs the tests need not be root, and HAProxy is a user of its own.
    for tier in ("fe-lb", "be-lb"):
        (folder / "rendered" / tier / "run").chmod(0o777)
    (config / "tls").chmod(0o755)
    return Edge(name, folder / "rendered", ports, pair)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """Render once for each set of settings; return a dictionary of edges that are not started."""
    folders = {name: tmp_path_factory.mktemp(name) for name in SETTINGS}
    with ThreadPoolExecutor() as pool:
        return dict(zip(SETTINGS, pool.map(render, SETTINGS, SETTINGS.values(), folders.values()), strict=True))


def start(name, networks, *arguments):
    """Start a container of tests/balancer.py that has its name as host name."""
    mounts = [f"--volume={PROJECT}/tests/{file}:/{file}:ro" for file in ("balancer.py", "rude.py")]
    options = [f"--name={NAME}-{name}", f"--hostname={name}", "--log-driver=json-file", *mounts]
    options += [f"--network=name={network}" for network in networks]
    run("docker", "run", "--detach", *options, "--entrypoint=python", PYTHON, *("-S", "-E", "/balancer.py"), *arguments)


def remove(*names):
    run("docker", "rm", "--force", *(f"{NAME}-{name}" for name in names), check=False)


def clean(edges, *names):
    """Remove containers and then the load balancers with their networks."""
    remove(*names)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda edge: edge.compose("down", "--timeout=0"), edges.values()))


@pytest.fixture(scope="module")
def edges(rendered):
    """Start the load balancers, see what they answer without a server, then start servers a and b and the client."""
    names = ("a", "b", "client")
    try:
        clean(rendered, *names)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda edge: edge.compose("up", "--detach", "--pull=never"), rendered.values()))
            for edge in rendered.values():
                wait_until_begun(edge)
                edge.before = edge.request(scheme="https")
                # So early that nothing else can ask for it.
                script = "exec 3<>/dev/tcp/metrics.fe-lb/8405 && printf 'GET /latency HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
                edge.timed = run("docker", "exec", f"{edge.name}-fe-lb-1", "bash", "-c", script).stdout
            fronts = [f"{edge.name}_frontend,alias=fe,alias=frontend.fe" for edge in rendered.values()]
            everywhere = [f"{edge.name}_{network}" for edge in rendered.values() for network in SUBNETS[edge.label]]
            begun = [
                pool.submit(start, "a", fronts, "serve"),
                pool.submit(start, "b", fronts, "serve"),
                pool.submit(start, "client", everywhere, "serve"),
            ]
            for item in begun:
                item.result()
        for edge in rendered.values():
            wait_until(lambda edge=edge: known(edge) == {"a", "b"}, 20)
        yield rendered
    finally:
        clean(rendered, *names)


@pytest.fixture(scope="module")
def plain(edges):
    return edges["plain"]


@pytest.fixture(scope="module")
def strict(edges):
    return edges["strict"]


@pytest.fixture(scope="module")
def crowd(plain):
    """Start many back ends; return their names."""
    names = [f"be{number}" for number in range(CROWD)]
    remove(*names)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: start(name, [f"{plain.name}_backend,alias=be"], "serve"), names))
        yield names
    finally:
        remove(*names)


@contextlib.contextmanager
def server(edge, name, *state):
    """Run one more front end, sick if that is its state; yield when its container has started."""
    remove(name)
    try:
        start(name, [f"{edge.name}_frontend,alias=fe"], "serve", *state)
        yield
    finally:
        remove(name)


def wait_until_begun(edge):
    """Wait until a load balancer answers; else fail with what it has said."""

    def answers():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return edge.request(scheme="https").status
        return 0

    try:
        wait_until(answers, 20)
    except AssertionError:
        pytest.fail(run("docker", "logs", "--tail=20", f"{edge.name}-fe-lb-1").stderr)


def known(edge):
    """Return the names of the servers that answer some requests."""
    answers = [edge.request(scheme="https") for _ in range(8)]
    return {json.loads(answer.text)["name"] for answer in answers if answer.status == 200}


def client(function, *arguments):
    """Call a function of tests/balancer.py in a container, as a client with an address of its own."""
    command = ("docker", "exec", f"{NAME}-client", "python", "-S", "-E", "/balancer.py", function, json.dumps(arguments))
    return json.loads(run(*command).stdout)


def requests_of(name, query):
    """Return the methods of the requests with this query that a server has seen."""
    seen = [json.loads(line) for line in run("docker", "logs", f"{NAME}-{name}").stdout.splitlines()]
    return [item["method"] for item in seen if item["query"] == query]


def addresses(container):
    """Return the address of a container in each network, by the last part of the network's name."""
    networks = json.loads(run("docker", "inspect", container).stdout)[0]["NetworkSettings"]["Networks"]
    return {name.rpartition("_")[2]: value["IPAddress"] for name, value in networks.items()}


def raw(edge, data, scheme="http"):
    """Send bytes; return the beginning of the answer and how many seconds it took."""
    begin = time.monotonic()
    with connection(edge, scheme) as opened:
        with contextlib.suppress(ConnectionError):
            opened.sendall(data)
        return opened.recv(1000).decode(), time.monotonic() - begin


@contextlib.contextmanager
def connection(edge, scheme, **limits):
    """Open a connection, with TLS for https, on which a test can set limits such as maximum_version; yield its socket."""
    with socket.create_connection((edge.address, edge.port(scheme)), timeout=10) as opened:
        if scheme == "http":
            yield opened
            return
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Else the client itself refuses TLS 1.1.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        for name, value in limits.items():
            if name == "protocols":
                context.set_alpn_protocols(value)
            else:
                setattr(context, name, value)
        with context.wrap_socket(opened, server_hostname="localhost") as secured:
            yield secured


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http_is_redirected_to_https_with_its_path(strict, method):
    answer = strict.request(method, "/users?a=b", headers={"Host": "localhost:1234"})
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://localhost:{strict.port('https')}/users?a=b"
    assert answer.headers["Strict-Transport-Security"] is None
    assert answer.headers["Alt-Svc"] is None


def test_https_is_insisted_on_and_http3_is_announced(strict):
    headers = strict.request(scheme="https").headers
    assert headers["Strict-Transport-Security"] == "max-age=300"
    assert headers["Alt-Svc"] == f'h3=":{strict.port("https")}"; ma=86400'


def test_http_is_served_by_default_and_nothing_is_insisted_on(plain):
    for scheme in ("http", "https"):
        answer = plain.request(scheme=scheme)
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] is None
        assert answer.headers["Alt-Svc"] is None


class Client(QuicConnectionProtocol):
    """Sends one request over HTTP/3 and keeps the headers of the answer."""

    def __init__(self, *arguments, **options) -> None:
        """Prepare for the answer."""
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.answered = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        """Keep the headers."""
        for item in self.http.handle_event(event):
            if isinstance(item, HeadersReceived) and not self.answered.done():
                self.answered.set_result(dict(item.headers))

    async def get(self, authority: str) -> dict:
        """Return the headers that answer ``GET /``."""
        headers = {b":method": b"GET", b":scheme": b"https", b":authority": authority.encode(), b":path": b"/"}
        self.http.send_headers(self._quic.get_next_available_stream_id(), list(headers.items()), end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.answered, 10)


def test_http3_is_served(strict):
    port = strict.port("https")

    async def ask():
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as opened:
            return await opened.get(f"localhost:{port}")

    headers = asyncio.run(ask())
    assert headers[b":status"] == b"200"
    assert headers[b"strict-transport-security"] == b"max-age=300"
    logged = strict.log("fe-lb", headers[b"x-request-id"].decode())
    assert (logged["version"], logged["status"]) == ("HTTP/3.0", 200)


@pytest.mark.parametrize("name", SETTINGS)
def test_certificate_of_its_folder_is_served(edges, name):
    edge = edges[name]
    assert ssl.get_server_certificate((edge.address, edge.port("https")), timeout=5) == edge.pair["certificate"]


@pytest.mark.parametrize(
    ("version", "negotiated"),
    [
        (ssl.TLSVersion.TLSv1_1, None),
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_begins_with_version_1_2(plain, version, negotiated):
    with contextlib.ExitStack() as opened:
        if negotiated is None:
            opened.enter_context(pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"))
        limits = {"minimum_version": version, "maximum_version": version}
        assert opened.enter_context(connection(plain, "https", **limits)).version() == negotiated


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")])
def test_http2_is_chosen_where_the_client_has_it(plain, offered, chosen):
    with connection(plain, "https", protocols=offered) as opened:
        assert opened.selected_alpn_protocol() == chosen


@pytest.mark.parametrize(("name", "fits"), [("strict", 1024), ("plain", 100 * 1024 * 1024)])
def test_body_that_is_too_large_is_refused_at_once(edges, name, fits):
    head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\nname="
    answer, seconds = raw(edges[name], head.format(fits + 1).encode())
    assert answer.startswith("HTTP/1.1 413 ")
    assert seconds < 0.9


def test_body_within_the_limit_passes(strict):
    answer = strict.request("POST", scheme="https", body=b"x" * 1024)
    assert (answer.status, json.loads(answer.text)["body"]) == (200, 1024)


@pytest.mark.parametrize(("name", "fits", "large"), [("strict", 7500, 9000), ("plain", 14500, 16000)])
def test_headers_that_are_too_large_are_refused(edges, name, fits, large):
    for size, statuses in ((fits, {200}), (large, {400, 431})):
        request = f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {'a' * size}\r\n\r\n"
        assert int(raw(edges[name], request.encode(), "https")[0].split()[1]) in statuses


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nname="],
    ids=["headers", "body"],
)
def test_client_that_stops_amid_a_request_is_not_waited_for(strict, data):
    answer, seconds = raw(strict, data)
    assert answer.startswith("HTTP/1.1 408 ")
    assert 0.9 < seconds < 3


def test_requests_beyond_the_limit_are_refused_and_those_of_trusted_addresses_are_not_counted(strict):
    number = 3 * REQUESTS
    assert balancer.flood(strict.address, strict.port("http"), number)[0] == {308: number}
    found, headers = client("flood", addresses(f"{strict.name}-fe-lb-1")["edge"], 8080, number)
    assert set(found) == {"308", "429"}
    # More where the flood has taken longer than the second that is counted.
    assert found["308"] >= REQUESTS
    assert (headers["retry-after"], headers["cache-control"]) == ("1", "no-store")
    # Who slows down is served again.
    wait_until(lambda: client("get", "http://" + addresses(f"{strict.name}-fe-lb-1")["edge"] + ":8080")[0] == 308, 5)


def test_connections_beyond_the_limit_are_refused_and_those_of_trusted_addresses_are_not_counted(strict):
    number = CONNECTIONS + 5
    assert balancer.hold(strict.address, strict.port("http"), number) == [True] * number
    held = client("hold", addresses(f"{strict.name}-fe-lb-1")["edge"], 8080, number)
    assert held == [True] * CONNECTIONS + [False] * 5


@pytest.mark.parametrize(
    ("kind", "number", "refused"),
    [("flood", 10 * REQUESTS, {"429"}), ("slow", 3 * CONNECTIONS, {"refused", "408"})],
)
def test_others_get_every_answer_beside_a_client_that_takes_too_much(strict, kind, number, refused):
    found = []
    edge = addresses(f"{strict.name}-fe-lb-1")["edge"]
    command = ("docker", "exec", f"{NAME}-client", "python", "-S", "-E", "/rude.py", edge, "8080", kind, str(number), "3")
    with ThreadPoolExecutor() as pool:
        rude = pool.submit(run, *command)
        while not rude.done():
            found.append(strict.request(scheme="https").status)
    assert found == [200] * len(found)
    assert len(found) > REQUESTS / 2
    assert refused <= set(json.loads(rude.result().stdout.splitlines()[-1])["found"])


def test_headers_are_added_where_the_application_sends_none(strict, plain):
    # First an answer of a server, then one of the load balancer itself.
    for answer in (strict.request(scheme="https"), strict.request()):
        headers = {name: answer.headers[name] for name in ("X-Frame-Options", "Referrer-Policy", "X-Quoted")}
        assert headers == {"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Quoted": QUOTED}
    assert strict.request(path="/own", scheme="https").headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    headers = plain.request().headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"


def test_headers_that_tell_what_is_running_are_taken_away(strict, plain):
    names = ("Server", "X-Powered-By", "X-Secret")
    found = {
        edge.name: [edge.request(path="/own", scheme="https").headers[name] for name in names] for edge in (plain, strict)
    }
    assert found == {plain.name: [None, None, "own"], strict.name: ["own/1.0", "own", None]}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_application_is_told_who_asks_and_nothing_that_clients_claim(plain, scheme):
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "forged.example",
        "X-Forwarded-Port": "70",
        "X-Forwarded-Prefix": "/forged",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "X-Request-ID": "forged",
    }
    answer = plain.request(scheme=scheme, headers={"Host": "site.example:81", **forged})
    seen = [(name.lower(), value) for name, value in json.loads(answer.text)["headers"]]
    identity = answer.headers["X-Request-ID"]
    wanted = {
        "x-forwarded-for": GATEWAYS["plain"],
        "x-forwarded-proto": scheme,
        "x-forwarded-host": "site.example:81",
        "x-forwarded-port": str(plain.port(scheme)),
        "x-request-id": identity,
    }
    assert sorted(item for item in seen if re.match("forwarded|x-", item[0])) == sorted(wanted.items())
    assert str(uuid.UUID(identity)) == identity


def test_log_names_each_request(plain):
    answer = plain.request("POST", "/somewhere?secret=1", headers={"X-Request-ID": "forged"})
    line = plain.log("fe-lb", answer.headers["X-Request-ID"])
    logged = {name: line[name] for name in ("method", "path", "status", "backend", "retries", "request_id")}
    wanted = {"method": "POST", "path": "/somewhere", "status": 200, "backend": "fe", "retries": 0}
    assert logged == {**wanted, "request_id": answer.headers["X-Request-ID"]}


@pytest.mark.parametrize("name", SETTINGS)
def test_people_see_a_page_while_no_server_is_there(edges, name):
    answer = edges[name].before
    assert (answer.status, answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (503, "2", "no-store")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text == (PROJECT / "roles/load_balancer/files/503.html").read_text()
    assert answer.headers["Strict-Transport-Security"] == {"strict": "max-age=300"}.get(name)


def test_get_that_a_server_drops_is_answered_by_another(plain):
    query = uuid.uuid4().hex
    answers = []
    wait_until(lambda: answers.append(plain.request(path=f"/drop/a?{query}")) or requests_of("a", query), 10)
    assert {(answer.status, json.loads(answer.text)["name"]) for answer in answers} == {(200, "b")}
    retried = [plain.log("fe-lb", answer.headers["X-Request-ID"])["retries"] for answer in answers]
    wait_until(lambda: len(requests_of("a", query)) == sum(value != 0 for value in retried), 10)


def test_post_that_a_server_drops_is_not_repeated(plain):
    query = uuid.uuid4().hex
    found = Counter()

    def post():
        found[plain.request("POST", f"/drop/a?{query}", body=b"x").status] += 1
        return found[502]

    wait_until(post, 10)
    wait_until(lambda: found == Counter({502: len(requests_of("a", query)), 200: len(requests_of("b", query))}), 10)


def test_server_that_takes_no_connection_costs_nothing(plain):
    with server(plain, "c"):
        wait_until(lambda: "c" in known(plain), 10)
        wait_until(lambda: json.loads(plain.request(path="/deaf/c").text)["name"] == "c", 10)
        # At once, before a health check has told.
        answers = [plain.request(method) for _ in range(5) for method in ("GET", "POST")]
        assert [answer.status for answer in answers] == [200] * 10
        assert any(plain.log("fe-lb", answer.headers["X-Request-ID"])["retries"] for answer in answers)


def test_requests_of_a_server_that_is_cut_off_are_answered_by_others_within_seconds(plain):
    """As where a machine is lost: nobody closes its connections, and nothing that is sent on them is acknowledged."""
    query = uuid.uuid4().hex

    def ask():
        return plain.request(path=f"/wait?{query}", timeout=40).status, time.monotonic()

    with server(plain, "c"), ThreadPoolExecutor(12) as pool:
        wait_until(lambda: "c" in known(plain), 10)
        process = run("docker", "inspect", "--format={{.State.Pid}}", f"{NAME}-c").stdout.strip()
        answers = [pool.submit(ask) for _ in range(6)]
        wait_until(lambda: requests_of("c", query), 5)
        run("nsenter", f"--target={process}", "--net", "ip", "link", "set", "dev", "eth0", "down")
        cut = time.monotonic()
        # The first ones have been acknowledged, some of these will not be.
        answers += [pool.submit(ask) for _ in range(6)]
        found = [answer.result() for answer in answers]
    assert {status for status, _ in found} == {200}
    # Two seconds of silence, up to one until it is noticed, and one that the answer takes.
    assert max(moment for _, moment in found) - cut < 6


def test_server_is_found_and_left_within_two_seconds(plain):
    with server(plain, "d"):
        wait_until(lambda: "d" in known(plain), DISCOVERY)
        address = addresses(f"{NAME}-d")["frontend"]
        assert address in slots("fe")
    # A health check alone would leave it there, as a server that is down.
    wait_until(lambda: address not in slots("fe"), DISCOVERY)
    wait_until(lambda: known(plain) == {"a", "b"}, 10)


def slots(tier):
    """Return the state of each server that a load balancer has an address of, by that address."""
    text = client("get", f"http://metrics.{tier}-lb:8405/;csv")[2]
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    found = [row for row in rows if row["pxname"] == tier and row["svname"].startswith(f"{tier}-")]
    return {row["addr"].rpartition(":")[0]: row["status"] for row in found if row["status"] != "MAINT (resolution)"}


def test_more_servers_than_an_answer_of_the_dns_holds_are_all_found(plain, crowd):
    found = set()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: found.update(client("names", "http://middle.be-lb", CROWD)) or found == set(crowd), 10)
    assert found == set(crowd), f"{len(found)} of {len(crowd)} servers of be answer"


@pytest.mark.parametrize("given", ["named-by-the-edge", ""])
def test_inner_load_balancer_keeps_the_name_of_a_request(plain, crowd, given):
    wait_until(lambda: "UP" in slots("be").values(), 10)
    mark = uuid.uuid4().hex
    headers = {"X-Request-ID": f"{given}-{mark}"} if given else {}
    status, _, text = client("get", f"http://middle.be-lb/{mark}", headers)
    seen = {name.lower(): value for name, value in json.loads(text)["headers"]}["x-request-id"]
    assert status == 200
    assert seen == f"{given}-{mark}" if given else uuid.UUID(seen)
    line = plain.log("be-lb", mark)
    assert (line["status"], line["backend"]) == (200, "be")


def test_ports_are_open_on_one_network_each(plain):
    ports = [80, 8080, 8443, 8404, 8405]
    for tier, wanted in {
        "fe-lb": {"edge": [8080, 8443], "frontend": [], "fe-lb-metrics": [8405]},
        "be-lb": {"middle": [80], "backend": [], "be-lb-metrics": [8405]},
    }.items():
        places = addresses(f"{plain.name}-{tier}-1")
        found = client("listening", list(places.values()), ports)
        assert {network: found[address] for network, address in places.items()} == wanted


@pytest.mark.parametrize("tier", ["fe-lb", "be-lb"])
def test_metrics_are_told(plain, tier):
    plain.request()
    client("get", "http://middle.be-lb")
    metrics, latency, page = (client("get", f"http://metrics.{tier}:8405{path}") for path in ("/metrics", "/latency", "/"))
    assert [answer[0] for answer in (metrics, latency, page)] == [200] * 3
    assert re.search(r'^haproxy_frontend_http_requests_total\{proxy="application"} [1-9]', metrics[2], re.MULTILINE)
    buckets = [int(value) for value in re.findall(r'_bucket\{le="[^"]+"} ([0-9]+)', latency[2])]
    assert buckets == sorted(buckets)
    assert re.search(r"^http_request_duration_seconds_count ([0-9]+)$", latency[2], re.MULTILINE)[1] == str(buckets[-1])
    # Of a request that took less than the longest time that is told apart.
    assert buckets[-2] > 0
    assert tier in page[2]


@pytest.mark.parametrize("name", STARTED)
def test_what_the_load_balancer_answers_itself_has_no_response_time(edges, name):
    assert edges[name].before.status == 503
    counted = re.findall(
        r'^http_request_duration_seconds_(?:count|bucket\{le="[^"]+"}) ([0-9]+)', edges[name].timed, re.MULTILINE
    )
    assert set(counted) == {"0"}


# Key and its answer are the example of RFC 6455.
UPGRADE = (
    "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_websocket_outlives_reloads(plain):
    def loaded():
        done = run("docker", "logs", f"{plain.name}-fe-lb-1")
        return (done.stdout + done.stderr).count("Loading success")

    with connection(plain, "https") as opened, opened.makefile("rb") as answer:
        opened.sendall(UPGRADE.encode())
        assert b" 101 " in next(iter(answer.readline, b""))
        while answer.readline() != b"\r\n":
            pass
        for _ in range(2):
            before = loaded()
            run("docker", "kill", "--signal=USR2", f"{plain.name}-fe-lb-1")
            wait_until(lambda before=before: loaded() > before, 10)
        wait_until(lambda: known(plain) == {"a", "b"}, 20)
        # That nothing happens cannot be awaited.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            opened.sendall(b"ping")
            assert answer.read(4) == b"ping"
            time.sleep(0.1)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_websocket_passes(plain, scheme):
    with connection(plain, scheme) as opened, opened.makefile("rb") as answer:
        opened.sendall(UPGRADE.encode())
        head = b"".join(iter(answer.readline, b"\r\n")).decode().lower()
        assert head.startswith("http/1.1 101 ")
        assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head
        for message in (b"one", b"two"):
            opened.sendall(message)
            assert answer.read(3) == message


def slow(edge, number, pause=0.0, path="/slow", scheme="https"):
    """Send slow requests, one after each pause; return each answer with the seconds that it took, as they were sent."""

    def ask(index):
        time.sleep(index * pause)
        begin = time.monotonic()
        answer = edge.request(path=path, scheme=scheme)
        return answer, time.monotonic() - begin

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(ask, range(number)))


def refused(edge):
    """Return how many requests the edge says that it has refused."""
    text = client("get", f"http://{addresses(f'{edge.name}-fe-lb-1')['fe-lb-metrics']}:8405/latency")[2]
    return int(re.search(r"^load_balancer_refused_requests_total ([0-9]+)$", text, re.MULTILINE)[1])


def test_requests_beyond_the_limit_of_each_server_wait_and_are_served(strict):
    # As many as two servers answer in half of the time that a request may wait.
    answers = slow(strict, 2 * PLACES * 2)
    assert [answer.status for answer, _ in answers] == [200] * len(answers)
    # Health checks come beside them.
    assert max(json.loads(answer.text)["busy"] for answer, _ in answers) <= PLACES + 2
    assert max(seconds for _, seconds in answers) > 0.3


def test_what_does_not_fit_is_refused_with_a_page_and_counted_and_nothing_is_taken_out(strict):
    """Twice as many requests as two servers can serve, for three seconds."""
    before, lost = refused(strict), restarts(strict)
    answers = slow(strict, 120, pause=0.025)
    turned = [(answer, seconds) for answer, seconds in answers if answer.status != 200]
    assert {answer.status for answer, _ in answers} == {200, 503}
    for answer, _ in turned:
        assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("2", "no-store")
        assert answer.text == (PROJECT / "roles/load_balancer/files/503.html").read_text()
    # The time in which a request may wait, and that in which it is served.
    assert max(seconds for _, seconds in answers) < 1 + 0.2 + 0.5
    # Most are told at once, not after they have waited in vain.
    assert sum(seconds < 0.5 for _, seconds in turned) > len(turned) / 2
    # Two servers with two places serve twenty in a second.
    assert len(answers) - len(turned) >= 0.8 * 3 * 20
    assert refused(strict) == before + len(turned)
    assert restarts(strict) == lost
    # And then it is over.
    assert [answer.status for answer, _ in slow(strict, 2 * PLACES)] == [200] * 2 * PLACES


def test_limit_follows_what_a_replica_can_serve(plain):
    """Two with one worker each, which serve 166 requests in a second, get twice as many for three seconds."""
    lost = restarts(plain)
    answers = slow(plain, 1000, pause=0.003, path="/work", scheme="http")
    assert {answer.status for answer, _ in answers} == {200, 503}
    # Of 128 at a time most would wait in a replica for more than a second, health checks as well.
    assert max(busy(answers)) < 64
    # While more come than fit, with 32 at a time as in the beginning none would meet fewer.
    assert min(busy(answers[200:800])) < 28
    assert sum(answer.status == 200 for answer, _ in answers) >= 0.7 * 3 * 166
    assert restarts(plain) == lost
    # Those that only wait are more.
    answers = slow(plain, 300, pause=0.01, path="/wait", scheme="http")
    assert {answer.status for answer, _ in answers} == {200}
    assert max(busy(answers)) > 40


def test_limit_outlives_a_reload(plain):
    """Fifty requests at a time for each of two replicas, before and after: nothing waits for their number to be learned."""
    master = plain.directory / "fe-lb/run/master.sock"
    master.chmod(0o666)

    def reload():
        time.sleep(2.5)
        reload_balancer(master, 8000)

    with ThreadPoolExecutor() as pool:
        reloaded = pool.submit(reload)
        answers = slow(plain, 500, pause=0.01, path="/wait", scheme="http")
        reloaded.result()
    assert {answer.status for answer, _ in answers} == {200}
    kept = (plain.directory / "fe-lb/run/limits").read_text()
    assert all(int(line.split()[1]) > 40 for line in kept.splitlines()), kept


def busy(answers):
    """Return how many requests its server was serving when each of those came that were answered."""
    return [json.loads(answer.text)["busy"] for answer, _ in answers if answer.status == 200]


def restarts(edge):
    """Return how often checks have taken servers out of rotation (HAProxy's chkdown), by backend and server."""
    text = client("get", f"http://{addresses(f'{edge.name}-fe-lb-1')['fe-lb-metrics']}:8405/;csv")[2]
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {
        (row["pxname"], row["svname"]): row["chkdown"]
        for row in rows
        if row["svname"].startswith("fe-") and stack_haproxy.address_of(row)
    }


def test_slow_server_gets_less_and_slows_nobody_else(plain):
    """One of four pauses for five seconds in each second request, while 40 requests come each second."""
    with server(plain, "i"), server(plain, "j"):
        wait_until(lambda: known(plain) == {"a", "b", "i", "j"}, 20)

        def ask(index):
            time.sleep(index * 0.025)
            begin = time.monotonic()
            answer = plain.request(path="/odd/j")
            return answer.status, json.loads(answer.text)["name"], time.monotonic() - begin

        with ThreadPoolExecutor(160) as pool:
            answers = list(pool.map(ask, range(160)))
    assert {status for status, *_ in answers} == {200}
    served = Counter(name for _, name, _ in answers)
    assert served["j"] < min(served[name] for name in "abi")
    # Far less than the pause, on a machine that does other things as well.
    assert max(seconds for _, name, seconds in answers if name != "j") < 2
    assert max(seconds for _, name, seconds in answers if name == "j") > 5


def test_streams_take_no_place_of_requests(strict):
    with contextlib.ExitStack() as opened:
        for _ in range(3 * 2 * PLACES):
            stream = opened.enter_context(connection(strict, "https"))
            stream.sendall(UPGRADE.encode())
            assert stream.recv(100).startswith(b"HTTP/1.1 101 ")
        assert [answer.status for answer, _ in slow(strict, 2 * PLACES)] == [200] * 2 * PLACES
    # What only names the type among those that it accepts, or sends something, is a request like any other.
    for method, accept, backend in (
        ("GET", "text/event-stream", "fe-streams"),
        ("GET", "application/json, text/event-stream", "fe"),
        ("POST", "text/event-stream", "fe"),
    ):
        identity = strict.request(method, scheme="https", headers={"Accept": accept}).headers["X-Request-ID"]
        assert strict.log("fe-lb", identity)["backend"] == backend


def test_metrics_are_told_while_no_connection_is_left(strict):
    with contextlib.ExitStack() as opened:
        for _ in range(110):
            opened.enter_context(socket.create_connection((strict.address, strict.port("http")), timeout=10))
        assert refused(strict) >= 0


def turn(name, state):
    """Let the health check of a server fail (sick) or pass (well), whatever its load balancer thinks of it."""
    assert client("get", f"http://{NAME}-{name}:8000/{state}")[0] == 200


def serving(edge, number=12):
    """Return the names of the servers that answer some requests, all of which are answered."""
    answers = [edge.request() for _ in range(number)]
    assert {answer.status for answer in answers} == {200}
    return {json.loads(answer.text)["name"] for answer in answers}


def test_last_servers_stay_in_rotation_whatever_their_checks_say(plain):
    assert serving(plain) == {"a", "b"}
    try:
        # One of two is enough, and the other one gets nothing.
        turn("a", "sick")
        wait_until(lambda: "DOWN" in slots("fe").values(), 10)
        assert serving(plain) == {"b"}
        # Nobody passes: both go on, and none of the requests is lost while that is found out.
        turn("b", "sick")
        end = time.monotonic() + 3
        found = set()
        while time.monotonic() < end:
            found |= serving(plain, 2)
        assert set(slots("fe").values()) == {"DOWN"}
        assert found == {"a", "b"}
        # One that takes no connection gets none.
        with server(plain, "e", "sick"):
            wait_until(lambda: json.loads(plain.request(path="/deaf/e").text)["name"] == "e", 20)
            wait_until(lambda: serving(plain) == {"a", "b"}, 10)
    finally:
        turn("a", "well")
        turn("b", "well")
    wait_until(lambda: set(slots("fe").values()) == {"UP"}, 10)
    identity = plain.request().headers["X-Request-ID"]
    assert plain.log("fe-lb", identity)["backend"] == "fe"


def test_servers_that_start_are_not_those_that_were_there(plain):
    """Of five, two pass their checks, less than the share; the others have never served."""
    names = ("f", "g", "h")
    try:
        for name in names:
            remove(name)
            start(name, [f"{plain.name}_frontend,alias=fe"], "serve", "sick")
        wait_until(lambda: sorted(slots("fe").values()) == ["DOWN"] * 3 + ["UP"] * 2, 20)
        # Nor are they for a process that has just started.
        master = plain.directory / "fe-lb/run/master.sock"
        master.chmod(0o666)
        reload_balancer(master, 8000)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert serving(plain, 2) <= {"a", "b"}
        # Once they have, they are.
        for name in names:
            turn(name, "well")
        wait_until(lambda: set(slots("fe").values()) == {"UP"}, 20)
        assert serving(plain) >= set(names)
        for name in (*names, "a"):
            turn(name, "sick")
        wait_until(lambda: sorted(slots("fe").values()) == ["DOWN"] * 4 + ["UP"], 20)
        assert serving(plain) > {"b"}
    finally:
        remove(*names)
        turn("a", "well")
    wait_until(lambda: slots("fe") and set(slots("fe").values()) == {"UP"} and known(plain) == {"a", "b"}, 20)


# Replacements in a configuration, and what the health checks of the servers then come to.
TRIALS = {
    "as it is": ({}, "Layer7 check passed 200"),
    "host that is not served": ({" Host fe.example": " Host localhost"}, "Layer7 wrong status 400"),
    "port that nobody listens on": ({"@fe:8000 ": "@fe:8001 "}, "Layer4 connection problem "),
    "time that is too short": ({" uri /healthz ": " uri /slow ", "check 600ms": "check 20ms"}, "Layer7 timeout "),
    "the same, and time enough": ({" uri /healthz ": " uri /slow "}, "Layer7 check passed 200"),
}


def try_checks(edge, text, firsts, seconds=6):
    """Return what the health checks of a configuration of fe-lb come to for servers a and b, tried in its container."""
    container = f"{edge.name}-fe-lb-1"
    fronts = [json.loads(run("docker", "inspect", f"{NAME}-{name}").stdout)[0] for name in ("a", "b")]
    there = {front["NetworkSettings"]["Networks"][f"{edge.name}_frontend"]["IPAddress"] for front in fronts}
    checks = stack_trial.tried(container, stack_trial.trial_configuration(text, "fe"), firsts, there, seconds)
    assert {check.address for check in checks} == there
    return checks


@pytest.mark.parametrize(("changes", "comes"), TRIALS.values(), ids=TRIALS)
def test_new_checks_are_tried_from_the_place_of_the_balancer_that_serves_meanwhile(plain, changes, comes):
    text = (plain.directory / "fe-lb/config/haproxy.cfg").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    before = run("docker", "top", f"{plain.name}-fe-lb-1").stdout.count("haproxy")
    assert {f"{check.kind} {check.code}" for check in try_checks(plain, text, [1])} == {comes}
    assert known(plain) == {"a", "b"}
    # Nothing of the trial is left.
    assert run("docker", "top", f"{plain.name}-fe-lb-1").stdout.count("haproxy") == before


def test_replicas_of_two_kinds_are_judged_at_once_by_what_each_serves(plain):
    """Whatever signs a path is made of, it is asked as it is written."""
    query = "a=,b)('%25$HOME&[x]+{y}"
    definitions = [
        {"first": 10001, "port": 8000, "health_path": f"/own?{query}", "health_host": "new.example:8000"},
        {"first": 1, "port": 8000, "health_path": "/healthz", "health_host": "localhost"},
    ]
    text = (plain.directory / "fe-lb/config/haproxy.cfg").read_text()
    path, host = (tiers_filters.check_field(definitions, key) for key in ("health_path", "health_host"))
    text = text.replace("uri /healthz", f"uri-lf {path}").replace("Host fe.example", f"Host {host}")
    line = re.search("^ +server-template fe- 1-.*\n", text, re.MULTILINE)[0]
    text = text.replace(line, line + re.sub("fe- 1-[0-9]+ ipv4@fe:", "fe- 10001-10400 ipv4@frontend.fe:", line))
    found = {first: {(check.passed, check.code) for check in try_checks(plain, text, [first])} for first in (1, 10001)}
    assert found == {1: {(False, "400")}, 10001: {(True, "200")}}
    assert requests_of("a", query)


def test_reload_keeps_servers_behind_empty_slots(plain):
    """As a change of all replicas at once leaves them; the first answer of the DNS must not move one of them."""
    run_folder = plain.directory / "fe-lb/run"
    (run_folder / "master.sock").chmod(0o666)

    def slots():
        servers = stack_haproxy.read_servers(stack_haproxy.ask(run_folder / "master.sock", "@1 show servers state fe"))
        return {server.name: server.address for server in servers if server.up}

    fronts = [f"{name}_frontend,alias=fe,alias=frontend.fe" for name in (f"{NAME}-plain", f"{NAME}-strict")]
    try:
        start("c", fronts, "serve")
        wait_until(lambda: len(slots()) == 3, 20)
        remove("a")
        wait_until(lambda: len(slots()) == 2 and "fe-3" in slots(), 20)
        before = set(slots().values())
        reload_balancer(run_folder / "master.sock", 8000)
        # Until the new process has asked the DNS some times.
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert set(slots().values()) == before
            time.sleep(0.02)
    finally:
        remove("a", "c")
        start("a", fronts, "serve")
        wait_until(lambda: known(plain) == {"a", "b"}, 20)
