"""What several tests of this scenario share."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Return the paths of a valid pair, of an expired certificate and of a key that belongs to neither."""
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key = ec.generate_private_key(ec.SECP256R1())

    def certificate(end):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(end)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def private(value):
        form = serialization.PrivateFormat.PKCS8
        return value.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

    content = {
        "valid": certificate(now + datetime.timedelta(days=9)),
        "expired": certificate(now - datetime.timedelta(days=1)),
        "key": private(key),
        "other_key": private(ec.generate_private_key(ec.SECP256R1())),
        "garbage": b"this is no PEM\n",
    }
    paths = {}
    for item, data in content.items():
        paths[item] = folder / f"{item}.pem"
        paths[item].write_bytes(data)
    return paths
