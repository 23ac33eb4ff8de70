"""Settings of the edge that are off by default: redirect, HSTS, HTTP/3, a certificate of the user's own."""

import asyncio
import json
import ssl

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from cryptography import x509
from stack import changed


@pytest.fixture(scope="module")
def edge(stack, pki):
    settings = {
        "https_redirect": True,
        "hsts_max_age": 300,
        "http3_enabled": True,
        "tls_certificate": str(pki["valid"]),
        "tls_private_key": str(pki["key"]),
    }
    stack.playbook("site.yml", "-e", json.dumps(settings))
    assert changed(stack.playbook("site.yml", "-e", json.dumps(settings)).stdout) == 0
    yield stack
    stack.playbook("site.yml")


def test_http_is_redirected_to_https(edge):
    answer = edge.request("POST", "/users?a=b", headers={"Host": "localhost:1234"})
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://localhost:{edge.port('https')}/users?a=b"


def test_browsers_are_told_to_insist_on_https(edge):
    assert edge.request(scheme="https").headers["Strict-Transport-Security"] == "max-age=300"
    assert "Strict-Transport-Security" not in edge.request().headers


def test_own_certificate_is_served(edge, pki):
    served = ssl.get_server_certificate(("127.0.0.1", edge.port("https")), timeout=5)
    own = x509.load_pem_x509_certificate(pki["valid"].read_bytes())
    assert x509.load_pem_x509_certificate(served.encode()) == own


def test_key_of_the_certificate_is_closed_to_others(edge):
    assert (edge.directory / "fe-lb/config/tls/site.pem.key").stat().st_mode & 0o777 == 0o600


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


def test_http3_is_announced_and_served(edge):
    port = edge.port("https")
    assert edge.request(scheme="https").headers["Alt-Svc"] == f'h3=":{port}"; ma=86400'

    async def ask():
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
            return await client.get(f"localhost:{port}")

    headers = asyncio.run(ask())
    assert headers[b":status"] == b"200"
    assert headers[b"strict-transport-security"] == b"max-age=300"
