"""The example of docs/bring-your-own.md: an application that knows nothing of this project."""

import html
import json

import testinfra
from stack import run, wait_until


def test_page_shows_what_the_dump_holds(stack):
    answer = stack.request()
    assert answer.status == 200, answer.text
    assert "Crème brûlée torch: 24.90" in answer.text
    assert "Whisk: 7.50" in answer.text


def test_every_replica_serves(stack):
    assert stack.names("frontend", 20) == {c["Config"]["Hostname"] for c in stack.containers("fe")}
    assert stack.names("backend", 20) == {c["Config"]["Hostname"] for c in stack.containers("be")}


def test_front_end_starts_as_root_and_serves_as_www_data(stack):
    container = stack.containers("fe")[0]
    assert container["Config"]["User"] == ""
    assert sorted(container["HostConfig"]["CapAdd"]) == ["SETGID", "SETUID"]
    assert stack.request().element("user") == "33"


def test_back_end_starts_as_www_data(stack):
    container = stack.containers("be")[0]
    assert container["Config"]["User"] == "33:33"
    assert testinfra.get_host(f"docker://{container['Id']}").check_output("id -u") == "33"


def test_web_root_is_the_folder_of_the_host(stack):
    for service, folder in (("fe", "front"), ("be", "back")):
        mounts = {m["Destination"]: m for m in stack.containers(service)[0]["Mounts"]}
        assert mounts["/var/www/html"]["Source"].endswith(f"docs/examples/php/{folder}")
        assert not mounts["/var/www/html"]["RW"]


def test_edge_tells_the_application_who_asks_and_drops_what_clients_claim(stack):
    forged = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Prefix": "/forged",
        "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "X-Request-ID": "forged",
    }
    for scheme in ("http", "https"):
        answer = stack.request(scheme=scheme, headers=forged)
        seen = {k.lower(): v for k, v in json.loads(html.unescape(answer.element("headers"))).items()}
        assert seen["x-forwarded-proto"] == scheme
        assert seen["x-forwarded-port"] == str(stack.port(scheme))
        assert seen["x-forwarded-host"].startswith("127.0.0.1")
        assert seen["x-request-id"] == answer.headers["X-Request-ID"]
        assert not set(seen) & {"forwarded", "x-real-ip", "x-forwarded-prefix"}
        assert not {"1.2.3.4", "forged"} & set(seen.values())


def test_application_sees_no_more_than_its_schema(stack):
    statement = "SHOW GRANTS FOR shop_user@'%'"
    assert "ON `shop`.*" in stack.mysql(statement)
    assert "ON *.*" not in stack.mysql(statement).replace("GRANT USAGE ON *.*", "")


def test_page_recovers_from_a_lost_database(stack):
    run("docker", "stop", stack.container("db"))
    try:
        assert stack.request().status == 503
    finally:
        run("docker", "start", stack.container("db"))
    wait_until(lambda: stack.request().status == 200)
