"""The sample applications as processes of their own, before a real MySQL from the project's image."""

import contextlib
import html
import http.server
import importlib.util
import json
import os
import signal
import socket
import socketserver
import statistics
import subprocess
import sys
import threading
import time
import uuid

import httpx
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack import PROJECT, run, wait_until

MYSQL = "webstack/mysql:9.7-debian"
NAME = "webstack-test-samples"
PASSWORD = 'it\'s "a" $ecret'  # noqa: S105 (of a server on loopback that lives for a minute)


@pytest.fixture(scope="module")
def database():
    """Start a server with the sample's dumps, by the contract of the official image; yield its port."""
    run("docker", "rm", "--force", "--volumes", NAME, check=False)
    environment = {
        "MYSQL_RANDOM_ROOT_PASSWORD": "yes",
        "MYSQL_DATABASE": "app",
        "MYSQL_USER": "app",
        "MYSQL_PASSWORD": PASSWORD,
        # What the client takes for the encoding of the dumps.
        "LANG": "C.UTF-8",
    }
    options = [item for name, value in environment.items() for item in ("--env", f"{name}={value}")]
    # A port of our own choice, because the engine would choose another one after a restart.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mount = f"--volume={PROJECT}/data/sql:/docker-entrypoint-initdb.d:ro"
    run("docker", "run", "--detach", "--name", NAME, f"--publish=127.0.0.1:{port}:3306", mount, *options, MYSQL)
    try:
        wait_until(lambda: answers(port))
        yield port
    finally:
        run("docker", "rm", "--force", "--volumes", NAME)


def answers(port):
    try:
        connection = pymysql.connect(host="127.0.0.1", port=port, user="app", password=PASSWORD, database="app")
    except pymysql.Error:
        return False
    with connection, connection.cursor() as cursor:
        return cursor.execute("SELECT * FROM users") == 5


@contextlib.contextmanager
def application(tier, **environment):
    """Run a sample as its image does; yield a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    everything = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PORT": str(port), **environment}
    command = [sys.executable, "-m", "app"]
    with subprocess.Popen(
        command, cwd=PROJECT / "data" / tier, env=everything, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
                check = [sys.executable, "-SE", "app/healthcheck.py"]
                folder = PROJECT / "data" / tier
                wait_until(lambda: subprocess.run(check, cwd=folder, env=everything, check=False).returncode == 0)
                yield client
        finally:
            process.terminate()
            output = process.communicate(timeout=30)[1]
            # The server ends by the signal that it was sent, after it has finished.
            assert process.returncode == -signal.SIGTERM, output
            assert "Application shutdown complete" in output


@pytest.fixture(scope="module")
def back(database, tmp_path_factory):
    file = tmp_path_factory.mktemp("secrets") / "password"
    file.write_text(PASSWORD + "\n")
    settings = {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": str(database), "DATABASE_PASSWORD_FILE": str(file)}
    with application("be", **settings) as client:
        yield client


@pytest.fixture(scope="module")
def front(back):
    with application("fe", BACKEND_URL=str(back.base_url)) as client:
        yield client


def address():
    return f"{uuid.uuid4().hex}@example.com"


def test_back_end_lists_the_newest_first(back):
    email = address()
    added = back.post("/users", json={"name": "Somebody", "email": email})
    assert added.status_code == 201
    users = back.get("/").json()["users"]
    assert users[0]["email"] == email
    assert users[0]["id"] == added.json()["user"]["id"]
    assert [user["id"] for user in users] == sorted((user["id"] for user in users), reverse=True)
    assert {"Ada Lovelace", "Zoë Müller-García"} <= {user["name"] for user in users}


@pytest.mark.parametrize(("limit", "status"), [(1, 200), (1000, 200), (0, 422), (1001, 422), ("x", 422)])
def test_back_end_bounds_what_it_lists(back, limit, status):
    answer = back.get("/", params={"limit": limit})
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["error"].startswith("limit: ")
    if limit == 1:
        assert len(answer.json()["users"]) == 1


def test_back_end_refuses_an_address_that_is_there_whatever_its_case(back):
    answer = back.post("/users", json={"name": "Ada", "email": "ADA@example.com"})
    assert answer.status_code == 409
    assert answer.json()["error"] == "email: ada@example.com is already there"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"name": "x"}, "email: "),
        ({"name": 5, "email": "a@example.com"}, "name: "),
        ({"name": "x", "email": "a@example.com", "admin": True}, "admin: "),
        ({"name": "x", "email": "no address"}, "email: "),
    ],
)
def test_back_end_names_what_is_wrong(back, body, reason):
    answer = back.post("/users", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(reason)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=80))
def test_any_name_is_stored_as_it_is_or_refused_with_a_reason(back, name):
    email = address()
    # JSON can carry what UTF-8 cannot: half a surrogate pair.
    content = json.dumps({"name": name, "email": email}).encode()
    answer = back.post("/users", content=content, headers={"Content-Type": "application/json"})
    if answer.status_code == 201:
        stored = back.get("/", params={"limit": 1}).json()["users"][0]
        # Python's idea of blanks is wider than the back end's.
        assert (stored["name"].strip(), stored["email"]) == (name.strip(), email)
    else:
        assert answer.status_code == 422
        assert answer.json()["error"]


def test_front_end_shows_and_escapes_what_the_back_end_has(front, back):
    email = address()
    name = "<b>&\"'"
    answer = front.post("/users", data={"name": name, "email": email})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = front.get("/").text
    assert email in page
    assert name not in page
    assert html.escape("<b>&") in page


def test_front_end_keeps_a_refused_form(front):
    answer = front.post("/users", data={"name": "Some <one>", "email": "nonsense"})
    assert answer.status_code == 422
    assert 'value="nonsense"' in answer.text
    assert "Some &lt;one&gt;" in answer.text


def test_front_end_allows_nothing_of_others(front):
    headers = front.get("/").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "server" not in headers


def test_both_say_so_while_the_database_is_away_and_recover(front, back, database):
    run("docker", "stop", NAME)
    try:
        begin = time.monotonic()
        answer = back.get("/")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "2"
        assert "database" in answer.json()["error"]
        assert back.get("/healthz").status_code == 200
        page = front.get("/")
        assert page.status_code == 503
        assert "database" in page.text
        assert time.monotonic() - begin < 10
    finally:
        run("docker", "start", NAME)
    wait_until(lambda: back.get("/").status_code == 200)
    assert front.get("/").status_code == 200


def test_front_end_says_so_without_a_back_end():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with application("fe", BACKEND_URL=f"http://127.0.0.1:{port}") as client:
        answer = client.get("/")
        assert answer.status_code == 503
        assert "No back end answers." in answer.text
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("method", "path", "sent", "status"), [("GET", "/", 2, 200), ("POST", "/users", 1, 503)])
def test_front_end_repeats_what_changes_nothing_where_a_connection_ends_without_an_answer(method, path, sent, status):
    seen = []

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.command)
            if len(seen) > 1:
                self.send_response(200)
                self.send_header("Content-Length", "13")
                self.end_headers()
                self.wfile.write(b'{"users": []}')
            self.close_connection = True

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with application("fe", BACKEND_URL=f"http://127.0.0.1:{server.server_port}") as client:
            answer = client.request(method, path, data={"name": "A", "email": "a@example.com"} if method == "POST" else None)
        server.shutdown()
    assert seen.count(method) == sent
    assert answer.status_code == status


SENDING = """
import asyncio, sys, aiohttp, httpx
from app.backend import send
class BackEnd:
    said = sys.argv[2].split()
    async def request(self, method, path):
        word = self.said.pop(0)
        if word == "answer":
            return word
        causes = {"Refused": aiohttp.ClientConnectorError(None, OSError()), "TooLate": aiohttp.ConnectionTimeoutError()}
        cause = causes.get(word)
        word = "ConnectTimeout" if cause else word
        raise getattr(httpx, word)("") from cause
try:
    print(asyncio.run(send(BackEnd(), sys.argv[1], "/")), len(BackEnd.said))
except httpx.HTTPError as error:
    print(type(error).__name__, len(BackEnd.said))
"""


@pytest.mark.parametrize(
    ("method", "said", "outcome"),
    [
        ("GET", "ReadTimeout answer", "answer 0"),
        # Back ends that are all slow are not given more to do.
        ("GET", "ReadTimeout ReadTimeout answer", "ReadTimeout 1"),
        ("GET", "ReadError ReadTimeout answer", "answer 0"),
        ("GET", "ReadError ReadError ReadError answer", "ReadError 1"),
        ("POST", "ReadTimeout answer", "ReadTimeout 1"),
        ("POST", "ReadError answer", "ReadError 1"),
        # Closed before the answer, which the transport calls by the same name as a refused one.
        ("GET", "ConnectTimeout answer", "answer 0"),
        ("POST", "ConnectTimeout answer", "ConnectTimeout 1"),
        ("POST", "Refused Refused answer", "answer 0"),
        ("POST", "TooLate Refused answer", "answer 0"),
    ],
)
def test_front_end_asks_another_back_end_once_where_one_is_silent(method, said, outcome):
    command = (sys.executable, "-B", "-c", SENDING, method, said)
    assert run(*command, cwd=PROJECT / "data/fe").stdout.strip() == outcome


def test_front_end_survives_a_back_end_that_does_not_speak_http():
    class Noise(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(b"nonsense\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Noise) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with application("fe", BACKEND_URL=f"http://127.0.0.1:{server.server_address[1]}") as client:
            answer = client.get("/")
        server.shutdown()
    assert (answer.status_code, "No back end answers" in answer.text) == (503, True)


@pytest.mark.parametrize(("body", "status"), [(b"[1, 2]", 502), (b"no JSON", 503)])
def test_front_end_survives_a_back_end_that_talks_nonsense_and_passes_headers_on(body, status):
    seen = []

    class Nonsense(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with application("fe", BACKEND_URL=f"http://127.0.0.1:{server.server_port}") as client:
            answer = client.get("/", headers={"X-Request-ID": "abc", "X-Forwarded-For": "192.0.2.1", "Cookie": "a=b"})
        server.shutdown()
    assert answer.status_code == status
    assert (seen[0]["X-Request-ID"], seen[0]["X-Forwarded-For"], seen[0]["Cookie"]) == ("abc", "192.0.2.1", None)


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_samples_listen_where_their_name_says(tier):
    specification = importlib.util.spec_from_file_location(f"{tier}_listen", PROJECT / f"data/{tier}/app/listen.py")
    listen = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(listen)
    with contextlib.ExitStack() as stack:
        everywhere = [stack.enter_context(s) for s in listen.listening_sockets(0, "")]
        assert [s.getsockname()[0] for s in everywhere] == ["0.0.0.0"]  # noqa: S104 (what is meant)
    assert "127.0.0.1" in listen.own_addresses()
    with pytest.raises(OSError, match=r"192\.0\.2\.1 stands for no address of this container"):
        listen.listening_sockets(0, "192.0.2.1")


def test_answers_on_a_kept_connection_are_sent_at_once(front, back):
    # A delayed acknowledgement takes 40 ms or more.
    for client in (front, back):
        seconds = []
        for _ in range(15):
            begin = time.monotonic()
            assert client.get("/").status_code == 200
            seconds.append(time.monotonic() - begin)
        assert statistics.median(seconds) < 0.03


def test_samples_share_what_listens_and_checks():
    # Each is a build context of its own that a user replaces alone, so the files stand twice.
    for name in ("listen.py", "healthcheck.py", "__main__.py", "develop.py", "reload.py", "libraries.py"):
        front, back = ((PROJECT / f"data/{tier}/app/{name}").read_text() for tier in ("fe", "be"))
        assert front.replace("front end", "back end") == back


def test_libraries_are_loaded_before_the_code_and_nothing_of_the_code(tmp_path):
    files = {
        "app/__init__.py": "",
        "app/libraries.py": (PROJECT / "data/be/app/libraries.py").read_text(),
        "app/main.py": "import beside, faulty, library.part\nfrom app import other\nfrom . import third\n\nimport missing\n",
        "app/other.py": "def late():\n    import never\n",
        "app/third.py": "def fault(:\n",
        "beside.py": "",
        "elsewhere/faulty.py": "raise RuntimeError('at once')\n",
        "elsewhere/library/__init__.py": "",
        "elsewhere/library/part.py": "",
        "elsewhere/never.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    program = "import sys; old = set(sys.modules); import app.libraries; print(*sys.modules.keys() - old)"
    environment = {"PYTHONPATH": str(tmp_path / "elsewhere"), "PATH": os.environ["PATH"]}
    loaded = set(run(sys.executable, "-c", program, cwd=tmp_path, env=environment).stdout.split())
    assert {"library", "library.part"} <= loaded
    assert {name for name in loaded if name.partition(".")[0] == "app"} == {"app", "app.libraries"}
    assert not loaded & {"beside", "faulty", "missing", "never"}
