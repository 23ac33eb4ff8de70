"""The application through the edge: pages, form, headers, failure of the tiers behind."""

import json
import socket
import ssl
import time
import uuid

import pytest
from cryptography import x509
from stack import run, wait_until


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_page_shows_the_whole_way(stack, scheme):
    answer = stack.request(scheme=scheme)
    assert answer.status == 200
    assert answer.element("frontend") in {c["Config"]["Hostname"] for c in stack.containers("fe")}
    assert answer.element("backend") in {c["Config"]["Hostname"] for c in stack.containers("be")}
    assert "Ada Lovelace" in answer.text
    assert "Zoë Müller-García" in answer.text, "dumps are loaded as UTF-8"


def test_requests_meet_every_replica(stack):
    port = stack.port("http")
    answers = [stack.request(port=port) for _ in range(20)]
    assert {a.element("frontend") for a in answers} == {c["Config"]["Hostname"] for c in stack.containers("fe")}
    assert {a.element("backend") for a in answers} == {c["Config"]["Hostname"] for c in stack.containers("be")}


def test_form_adds_a_user_and_escapes_it(stack):
    email = f"{uuid.uuid4().hex}@example.com"
    assert stack.post_user("<script>alert(1)</script>", email).status == 303
    page = stack.request().text
    assert email in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("name", "email", "reason"),
    [
        ("", "a@example.com", "name"),
        ("   ", "a@example.com", "name"),
        ("x" * 81, "a@example.com", "name"),
        ("Somebody", "not an address", "email"),
        ("Somebody", "x" * 250 + "@example.com", "email"),
    ],
)
def test_form_refuses_wrong_input_with_a_reason(stack, name, email, reason):
    answer = stack.post_user(name, email)
    assert answer.status == 422
    assert answer.element("problem").startswith(reason)


def test_form_refuses_an_address_that_is_there(stack):
    answer = stack.post_user("Ada again", "ada@example.com")
    assert answer.status == 409
    assert "already" in answer.element("problem")


@pytest.mark.parametrize("body", ['{"name": 5, "email": "a@example.com"}', "[]", "not json", '{"name": "x"}'])
def test_back_end_refuses_wrong_types(stack, body):
    script = (
        "import sys, httpx; r = httpx.post('http://be-lb/users', content=sys.argv[1],"
        " headers={'content-type': 'application/json'}); print(r.status_code, r.json()['error'])"
    )
    status, _, reason = stack.execute("fe", "python", "-c", script, body).stdout.partition(" ")
    assert status == "422"
    assert reason.strip()


def test_health_of_the_front_end_does_not_depend_on_the_back_end(stack):
    assert json.loads(stack.request(path="/healthz").text)["status"] == "ok"


def test_request_id_is_made_at_the_edge_and_reaches_the_log_of_both_tiers(stack):
    mark = f"/?{uuid.uuid4().hex}"
    answer = stack.request(path=mark, headers={"X-Request-ID": "forged"})
    identity = answer.headers["X-Request-ID"]
    assert uuid.UUID(identity)
    for service in ("fe-lb", "be-lb"):
        # Logs pass through the engine, so they may come a moment later.
        for _ in range(50):
            log = run("docker", "logs", "--tail", "50", stack.container(service)).stdout
            if identity in log:
                break
            time.sleep(0.1)
        assert f'"request_id": "{identity}"' in log, service
        assert "forged" not in log


def test_http2_and_tls_versions(stack):
    port = stack.port("https")

    def negotiate(**limits):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        for name, value in limits.items():
            setattr(context, name, value)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.version(), connection.selected_alpn_protocol()

    assert negotiate() == ("TLSv1.3", "h2")
    assert negotiate(maximum_version=ssl.TLSVersion.TLSv1_2)[0] == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        negotiate(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_certificate_names_localhost(stack):
    certificate = (stack.directory / "fe-lb/config/tls/site.pem").read_text()
    names = x509.load_pem_x509_certificate(certificate.encode()).extensions
    names = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


@pytest.mark.parametrize("service", ["fe", "be"])
def test_application_stops_gracefully(stack, service):
    container = stack.container(service)
    begin = time.monotonic()
    run("docker", "stop", container)
    try:
        assert time.monotonic() - begin < 10, "it was killed after its grace period"
        assert "Application shutdown complete" in run("docker", "logs", "--tail", "5", container).stderr
    finally:
        run("docker", "start", container)
    wait_until(lambda: len(stack.names(f"{'front' if service == 'fe' else 'back'}end", 10)) == 2)


def test_edge_answers_503_while_no_front_end_is_there(stack):
    ids = [c["Id"] for c in stack.containers("fe")]
    run("docker", "stop", *ids)
    try:
        wait_until(lambda: stack.request().status == 503, 10)
        answer = stack.request()
        assert answer.headers["Retry-After"] == "2"
        assert "Back in a moment" in answer.text
    finally:
        run("docker", "start", *ids)
    wait_until(lambda: stack.request().status == 200)


def test_page_says_so_while_the_database_is_away_and_recovers(stack):
    run("docker", "stop", stack.container("db"))
    try:
        answer = stack.request()
        assert answer.status == 503
        assert "database" in answer.element("error")
        assert answer.element("frontend")
    finally:
        run("docker", "start", stack.container("db"))
    wait_until(lambda: stack.request().status == 200)
