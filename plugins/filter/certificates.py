"""Filters that read certificates, and make those that nobody has given."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleFilterError

# ansible-lint loads filters without the inventory plugin that does the same; this file is the first of them.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
from ansible.module_utils import stack_certificates  # noqa: E402


def certificate_pair(certificate: str, key: str) -> dict[str, str]:
    """Return chain and key of what two files hold, as load balancers want them; ``stack_certificates`` says how.

    Raises:
        AnsibleFilterError: they do not fit, which the preflight has refused before.
    """
    try:
        return stack_certificates.pair(certificate.encode(), key.encode())
    except stack_certificates.CertificateError as error:
        raise AnsibleFilterError(f"{error.setting}: {error}") from None


def certificate_end(pem: str) -> int:
    """Return until when a PEM certificate is valid, in seconds of the epoch.

    Raises:
        ValueError: it is no certificate.
    """
    from cryptography import x509

    return int(x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp())


def certificate_expires_within(pem: str, days: int) -> bool:
    """Tell whether a PEM certificate ends within ``days``; true for what is no certificate."""
    try:
        end = certificate_end(pem)
    except ValueError:
        return True
    return end <= (datetime.now(UTC) + timedelta(days=days)).timestamp()


def self_signed_certificate(names: list[str], days: int = 825) -> dict[str, str]:
    """Return a new self-signed certificate for ``names`` (host names and addresses) and its key, PEM.

    825 days is the longest that Apple's systems accept (their requirement of 2019 for TLS servers).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if not names:
        raise AnsibleFilterError("self_signed_certificate needs at least one name")
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A little earlier, for clocks that differ.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "certificate_pair": certificate_pair,
            "certificate_end": certificate_end,
            "certificate_expires_within": certificate_expires_within,
            "self_signed_certificate": self_signed_certificate,
        }
