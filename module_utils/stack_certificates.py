"""Read certificates and keys as people have them, and write them as load balancers want them.

PEM blocks may stand in any order, on one line, with text between them, with CRLF, with the key among them (RFC 7468, 2 and
what OpenSSL takes). What is written is certificates alone, the server's own first, then those that issued it, in order.
"""

from __future__ import annotations

import base64
import datetime
import re
import textwrap
from typing import Any

BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")


class CertificateError(Exception):
    """Why certificate and key cannot be used: ``setting`` that is wrong, and a sentence of what and what to do."""

    def __init__(self, setting: str, sentence: str) -> None:
        super().__init__(sentence)
        self.setting = setting


def certificates_only(text: str) -> str:
    """Return the certificates of a PEM text, without keys and everything else."""
    return "".join(
        f"-----BEGIN {kind}-----{body}-----END {kind}-----\n" for kind, body in BLOCK.findall(text) if kind in CERTIFICATES
    )


def pair(certificate: bytes, key: bytes) -> dict[str, str]:
    """Return the chain (``certificate``) and the private ``key`` of the contents of two files, each as it is served.

    Raises:
        CertificateError: they do not fit, are not valid now, or are no PEM.
    """
    chain = _certificates(certificate)
    served_key, private = _key(key, chain)
    public = _public(private)
    leaf = next((item for item in chain if _public(item) == public), None)
    if leaf is None:
        raise CertificateError("tls_private_key", "does not belong to {certificate}; give its own key")
    ordered = _ordered(leaf, chain)
    _check_dates(ordered)
    from cryptography.hazmat.primitives.serialization import Encoding

    return {"certificate": "".join(item.public_bytes(Encoding.PEM).decode() for item in ordered), "key": served_key}


def _blocks(content: bytes, setting: str) -> list[tuple[str, str]]:
    """Return kind and content of each PEM block."""
    text = content.decode("utf-8-sig", errors="replace")
    blocks = BLOCK.findall(text)
    if len(blocks) != len(re.findall(r"-----BEGIN [A-Z0-9 ]+-----", text)):
        raise CertificateError(setting, "has a PEM block without its end; copy the file again")
    if not blocks and content[:1] == b"\x30":
        raise CertificateError(setting, "holds no PEM certificate or key but DER or PKCS#12; convert it with openssl")
    return blocks


def _data(body: str) -> bytes:
    """Return what a block holds, without its headers (RFC 1421); ValueError: it is no base64."""
    lines = [line for line in body.split("\n") if ":" not in line]
    return base64.b64decode("".join("".join(lines).split()), validate=True)


def _certificates(content: bytes) -> list[Any]:
    """Return the certificates of a file, each once."""
    from cryptography import x509

    found: dict[bytes, Any] = {}
    bodies = [body for kind, body in _blocks(content, "tls_certificate") if kind in CERTIFICATES]
    for number, body in enumerate(bodies, 1):
        try:
            data = _data(body)
            found.setdefault(data, x509.load_der_x509_certificate(data))
        except ValueError:
            raise CertificateError(
                "tls_certificate", f"has a certificate, number {number}, that cannot be read; copy it again"
            ) from None
    if not found:
        raise CertificateError("tls_certificate", "holds no PEM certificate; give the certificate with its chain")
    return list(found.values())


def _key(content: bytes, chain: list[Any]) -> tuple[str, Any]:
    """Return the key that belongs to one of the certificates, or else the first, as PEM and as it was read."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    keys = []
    for kind, body in _blocks(content, "tls_private_key"):
        if kind == "ENCRYPTED PRIVATE KEY" or (kind in KEYS and "ENCRYPTED" in body):
            raise CertificateError("tls_private_key", "is protected by a passphrase; give it without one")
        if kind in KEYS:
            try:
                pem = _pem(kind, _data(body))
                keys.append((pem, load_pem_private_key(pem.encode(), password=None)))
            except (ValueError, TypeError):
                raise CertificateError("tls_private_key", "has a private key that cannot be read; copy it again") from None
    if not keys:
        raise CertificateError("tls_private_key", "holds no PEM private key; give the key of tls_certificate")
    wanted = [_public(item) for item in chain]
    return next((found for found in keys if _public(found[1]) in wanted), keys[0])


def _ordered(leaf: Any, certificates: list[Any]) -> list[Any]:
    """Return the server's certificate and those above it, in the order in which they issued each other."""
    ordered, rest = [leaf], [item for item in certificates if item is not leaf]
    for below in ordered:
        for above in list(rest):
            if below.issuer == above.subject and _issued(below, above):
                ordered.append(above)
                rest.remove(above)
    if rest:
        names = "; ".join(f"'{item.subject.rfc4514_string()}'" for item in rest)
        raise CertificateError(
            "tls_certificate",
            f"has a certificate that is not in the chain of '{leaf.subject.rfc4514_string()}': {names}; take it out, or add"
            " what is missing between them",
        )
    return ordered


def _issued(below: Any, above: Any) -> bool:
    """Tell whether one certificate is signed by another one's key."""
    try:
        below.verify_directly_issued_by(above)
    except Exception:  # An invalid signature, or a kind that the library does not know.
        return False
    return True


def _check_dates(ordered: list[Any]) -> None:
    """Refuse certificates that clients would not accept now; a root in the chain is not looked at by them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    for number, item in enumerate(ordered):
        if number and item.issuer == item.subject:
            continue
        name = f"the intermediate certificate '{item.subject.rfc4514_string()}' " if number else ""
        if item.not_valid_after_utc <= now:
            said = f"{name}expired on {item.not_valid_after_utc:%Y-%m-%d}; renew it"
        elif item.not_valid_before_utc > now:
            said = f"{name}is not valid before {item.not_valid_before_utc:%Y-%m-%d}; check the clock"
        else:
            continue
        raise CertificateError("tls_certificate", f"holds a chain in which {said}" if number else said)


def _public(item: Any) -> bytes:
    """Return the public key of a certificate or of a private key in a form that can be compared."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return item.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(kind: str, data: bytes) -> str:
    """Return a PEM block."""
    lines = textwrap.wrap(base64.b64encode(data).decode(), 64)
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])
