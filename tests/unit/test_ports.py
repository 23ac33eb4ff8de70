"""Ports that a stack may publish: decided by address, port and protocol, whatever it publishes already."""

import contextlib
import json
import socket
from pathlib import Path

import pytest
import stack_ports
import stack_settings
from stack_compose import read_ports, read_published
from stack_ports import port_problem

CHECKOUT = Path(__file__).parents[2]
PROJECT = "web"


def wanted(address="127.0.0.1", port=8080, protocol="tcp", service="fe-lb"):
    """Return what shall be published."""
    return {"address": address, "port": port, "protocol": protocol, "service": service}


def published(address="127.0.0.1", port=8080, protocol="tcp", service="fe-lb", project=PROJECT):
    """Return what a container publishes."""
    return {**wanted(address, port, protocol, service), "project": project, "container": f"{project}-{service}-1"}


@contextlib.contextmanager
def listening(address, port=0, kind=socket.SOCK_STREAM):
    """Take a port of this host, as another process or the engine's proxy does, and yield its number."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as other:
        if ":" in address:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind((address, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("9000/tcp", []),
        ("127.0.0.1:8080->8080/tcp", [("127.0.0.1", 8080, "tcp")]),
        ("127.0.0.1:8443->8443/tcp, 127.0.0.1:8443->8443/udp", [("127.0.0.1", 8443, "tcp"), ("127.0.0.1", 8443, "udp")]),
        ("0.0.0.0:80->8080/tcp, :::80->8080/tcp", [("0.0.0.0", 80, "tcp"), ("::", 80, "tcp")]),  # noqa: S104
        ("[::]:80->8080/tcp, 53/udp", [("::", 80, "tcp")]),
        ("[2001:db8::1]:80->8080/tcp", [("2001:db8::1", 80, "tcp")]),
        ("10.0.0.1:8080-8081->8080-8081/tcp", [("10.0.0.1", 8080, "tcp"), ("10.0.0.1", 8081, "tcp")]),
    ],
)
def test_what_the_engine_lists_is_read(text, found):
    assert [(port["address"], port["port"], port["protocol"]) for port in read_ports(text)] == found


def test_containers_of_others_are_read_with_their_names():
    line = {"ID": "1", "Names": "other", "Image": "i", "State": "running", "Status": "Up"}
    line |= {"Ports": "0.0.0.0:80->80/tcp", "Labels": "a=b,com.docker.compose.project=shop"}
    (found,) = read_published(json.dumps(line) + "\n")
    assert found == {**published("0.0.0.0", 80, project="shop", service=""), "container": "other"}  # noqa: S104


@pytest.mark.parametrize("own", [[], [published(port=8080)], [published("0.0.0.0", 8080)]])  # noqa: S104
@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8::1"])
def test_address_of_another_host_is_refused_whatever_the_stack_publishes(own, address):
    said = port_problem(wanted(address), PROJECT, own)
    assert said == f"bind_address {address} is no address of this host; give one of its own, or 0.0.0.0"


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "0.0.0.0"),  # noqa: S104
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("::1", "::"),
    ],
)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_another_address_of_a_port_that_is_the_stacks_own_is_looked_at(mine, other, kind):
    """By itself it may be had; somebody else on it keeps the stack out."""
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with listening(mine, kind=kind) as port:
        own = [published(mine, port, protocol)]
        assert port_problem(wanted(mine, port, protocol), PROJECT, own) is None
        assert port_problem(wanted(other, port, protocol), PROJECT, own) is None
        third = "127.0.0.3" if ":" not in mine else None
        if third and mine == "127.0.0.1":
            with listening(third, port, kind):
                said = port_problem(wanted("0.0.0.0", port, protocol), PROJECT, own)  # noqa: S104
                assert f"port {port} of 0.0.0.0 is taken by " in said
                assert "(process " in said


def test_ports_of_one_container_may_be_exchanged():
    with listening("127.0.0.1") as http, listening("127.0.0.1") as https:
        own = [published(port=http), published(port=https)]
        for port in (http, https):
            assert port_problem(wanted(port=port), PROJECT, own) is None


@pytest.mark.parametrize("service", ["console", "prometheus", "grafana"])
def test_port_of_another_container_of_the_stack_is_refused(service):
    """It goes on running while the load balancer is replaced."""
    with listening("127.0.0.1") as port:
        said = port_problem(wanted(port=port), PROJECT, [published(port=port, service=service)])
    assert f"taken by the container {PROJECT}-{service}-1 of this stack; choose another one" in said


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize("project", ["shop", ""])
def test_container_of_others_is_named_even_where_no_process_listens(project, address):
    """An engine may publish without its proxy."""
    said = port_problem(wanted(port=1), PROJECT, [published(address, 1, project=project)])
    assert f"port 1 of 127.0.0.1 is taken by the container {project}-fe-lb-1" in said
    assert ("of the project shop" in said) == (project == "shop")


@pytest.mark.parametrize(
    "other",
    [
        published("127.0.0.2", project="shop"),
        published(port=8081, project="shop"),
        published(protocol="udp", project="shop"),
    ],
)
def test_what_others_publish_elsewhere_is_no_obstacle(other):
    with listening("127.0.0.1") as port:
        pass
    other = {**other, "port": other["port"] - 8080 + port}
    assert port_problem(wanted(port=port), PROJECT, [other]) is None


def test_container_is_named_where_the_engine_lists_another_address_than_its_proxy_has():
    with listening("127.0.0.1") as port:
        said = port_problem(wanted(port=port), PROJECT, [published("::", port, project="shop")])
    assert said.startswith(f"port {port} of 127.0.0.1 is taken by the container shop-fe-lb-1 of the project shop; ")


def test_taken_port_names_its_owner():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert port_problem(wanted(port=port), PROJECT, [])
        other.listen()
        assert f"port {port} of 127.0.0.1 is taken by " in port_problem(wanted(port=port), PROJECT, [])
    assert port_problem(wanted(port=port), PROJECT, []) is None


@pytest.mark.parametrize(
    ("port", "first", "capable", "refused"),
    [(80, 1024, False, True), (80, 80, False, False), (1024, 1024, False, False), (80, 1024, True, False)],
)
def test_rootless_engine_is_asked_for_no_port_that_it_may_not_have(monkeypatch, port, first, capable, refused):
    monkeypatch.setattr(stack_ports, "unprivileged", lambda: first)
    monkeypatch.setattr(stack_ports, "may_bind", lambda: capable)
    monkeypatch.setattr(stack_ports, "bind_problem", lambda *_: None)
    said = port_problem(wanted(port=port), PROJECT, [], rootless=True)
    assert bool(said) == refused
    if refused:
        assert f"below {first}" in said
        assert f"net.ipv4.ip_unprivileged_port_start to {port}" in said
    assert port_problem(wanted(port=port), PROJECT, [published(port=port)], rootless=True) is None
    assert port_problem(wanted(port=port), PROJECT, []) is None


def test_every_setting_that_publishes_has_a_container():
    publishers = stack_settings.publishers(CHECKOUT)
    values = dict.fromkeys(publishers, 1) | {"bind_address": "127.0.0.1", "http3_enabled": True}
    values |= {"monitoring_enabled": True, "monitoring_grafana": True}
    assert {name for name, _, _ in stack_settings.published_ports(values)} == set(publishers)
    assert publishers["http_port"] == "fe-lb"
