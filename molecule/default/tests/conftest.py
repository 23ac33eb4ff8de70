"""What several tests of this scenario share."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Return the paths of a certificate (valid) and its key."""
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(now + datetime.timedelta(days=9))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = {"valid": folder / "valid.pem", "key": folder / "key.pem"}
    paths["valid"].write_bytes(certificate)
    paths["key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return paths
