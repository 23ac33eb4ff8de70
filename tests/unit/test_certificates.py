"""Certificates and keys in every form that OpenSSL takes: written in one form, or refused with the true reason."""

import datetime
import re

import certificates_filters
import pytest
import stack_certificates
import stack_checks_files
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

NOW, DAY = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)


def issue(subject, key, issuer=None, issuer_key=None, begin=-1, end=9):
    """Return a certificate, signed by itself if nobody else issues it, that is valid between two days from now."""
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer or subject)]
    builder = x509.CertificateBuilder().subject_name(named[0]).issuer_name(named[1]).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW + begin * DAY)
    signing = issuer_key or key
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.not_valid_after(NOW + end * DAY).sign(signing, algorithm).public_bytes(Encoding.PEM).decode()


def pem(key, form=PrivateFormat.PKCS8, encryption=None):
    """Return a private key as PEM."""
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


ROOT, MIDDLE, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
KEYS = {
    "EC": ec.generate_private_key(ec.SECP256R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
LEAVES = {kind: issue("localhost", key, "middle", MIDDLE) for kind, key in KEYS.items()}
INTERMEDIATE, AUTHORITY = issue("middle", MIDDLE, "root", ROOT), issue("root", ROOT)
LEAF, KEY = LEAVES["EC"], pem(KEYS["EC"])
CHAIN = LEAF + INTERMEDIATE + AUTHORITY
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
OLD_FORM = pem(KEYS["EC"], PrivateFormat.TraditionalOpenSSL)

FORMS = {
    "in order": (CHAIN, KEY),
    "the other way round": (AUTHORITY + INTERMEDIATE + LEAF, KEY),
    "leaf in the middle": (INTERMEDIATE + LEAF + AUTHORITY, KEY),
    "twice": (CHAIN + CHAIN, KEY),
    "key first": (KEY + CHAIN, KEY + CHAIN),
    "key in the middle": (LEAF + KEY + INTERMEDIATE + AUTHORITY, LEAF + KEY),
    "no line break between": (CHAIN.replace("-----\n-----", "----------"), KEY),
    "CRLF": (CHAIN.replace("\n", "\r\n"), KEY.replace("\n", "\r\n")),
    "old line ends": (CHAIN.replace("\n", "\r"), KEY.replace("\n", "\r")),
    "text between": (
        "Bag Attributes\n  name: a: b\n" + CHAIN.replace("-----BEGIN", "subject=CN=x\n-----BEGIN") + "end",
        KEY,
    ),
    "mark of the encoding": ("\ufeff" + CHAIN, "\ufeff" + KEY),
    "no line break at the end": (CHAIN.rstrip("\n"), KEY.rstrip("\n")),
    "blanks": (CHAIN.replace("\n", " \n  "), KEY),
    "another line length": (re.sub(r"(?<=[A-Za-z0-9+/])\n(?=[A-Za-z0-9+/=])", "", CHAIN), KEY),
    "old name": (CHAIN.replace(" CERTIFICATE", " X509 CERTIFICATE"), KEY),
    "parameters before the key": (CHAIN, PARAMETERS + OLD_FORM),
    "several keys": (CHAIN, pem(OTHER) + KEY),
}


@pytest.mark.parametrize(("certificate", "key"), FORMS.values(), ids=FORMS)
def test_what_differs_in_form_alone_is_written_in_one(certificate, key):
    found = stack_certificates.pair(certificate.encode(), key.encode())
    assert found["certificate"] == CHAIN
    assert found["key"] in (KEY, OLD_FORM)
    assert certificates_filters.certificate_pair(certificate, key) == found


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS#8", "traditional"])
def test_every_kind_of_key_is_taken(kind, form):
    if kind == "Ed25519":
        form = PrivateFormat.PKCS8
    found = stack_certificates.pair((INTERMEDIATE + LEAVES[kind]).encode(), pem(KEYS[kind], form).encode())
    assert found == {"certificate": LEAVES[kind] + INTERMEDIATE, "key": pem(KEYS[kind], form)}
    load_pem_private_key(found["key"].encode(), password=None)


EXPIRED = issue("middle", MIDDLE, "root", ROOT, begin=-9, end=-1)
PHRASE = BestAvailableEncryption(b"phrase")
WRONG = {
    "expired": (issue("localhost", KEYS["EC"], begin=-9, end=-1), KEY, "tls_certificate: .* expired on "),
    "not yet valid": (issue("localhost", KEYS["EC"], begin=1), KEY, "tls_certificate: .* is not valid before "),
    "expired intermediate": (
        LEAF + EXPIRED,
        KEY,
        "tls_certificate: .* the intermediate certificate 'CN=middle' expired on ",
    ),
    "expired intermediate first": (
        EXPIRED + LEAF,
        KEY,
        "tls_certificate: .* the intermediate certificate 'CN=middle' expired",
    ),
    "somebody else's": (
        LEAF + issue("else", OTHER),
        KEY,
        "tls_certificate: .* not in the chain of 'CN=localhost': 'CN=else'",
    ),
    "same name, another key": (LEAF + issue("middle", OTHER), KEY, "tls_certificate: .* not in the chain of 'CN=localhost'"),
    "no certificate": (KEY, KEY, "tls_certificate: .* holds no PEM certificate"),
    "nothing": ("", KEY, "tls_certificate: .* holds no PEM certificate"),
    "cut off": (CHAIN[:-40], KEY, "tls_certificate: .* has a PEM block without its end"),
    "damaged": (LEAF[:60] + "!" + LEAF[61:], KEY, "tls_certificate: .* has a certificate, number 1, that cannot be read"),
    "second one damaged": (
        LEAF + INTERMEDIATE[:60] + INTERMEDIATE[64:],
        KEY,
        "tls_certificate: .* number 2, that cannot be read",
    ),
    "another key": (CHAIN, pem(OTHER), "tls_private_key: .* does not belong to tls_certificate /"),
    "no key": (CHAIN, CHAIN, "tls_private_key: .* holds no PEM private key"),
    "damaged key": (CHAIN, KEY[:60] + KEY[64:], "tls_private_key: .* has a private key that cannot be read"),
    "closed key": (CHAIN, pem(KEYS["EC"], encryption=PHRASE), "tls_private_key: .* is protected by a passphrase"),
    "closed key of old": (
        CHAIN,
        pem(KEYS["EC"], PrivateFormat.TraditionalOpenSSL, PHRASE),
        "tls_private_key: .* is protected by a passphrase",
    ),
}


@pytest.mark.parametrize(("certificate", "key", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_with_the_true_reason(tmp_path, certificate, key, words):
    for name, text in (("site.pem", certificate), ("site.key", key)):
        (tmp_path / name).write_text(text)
    given = {"tls_certificate": str(tmp_path / "site.pem"), "tls_private_key": str(tmp_path / "site.key")}
    (sentence,) = stack_checks_files.check_certificate(given, tmp_path)
    assert re.match(words, sentence)
    assert re.fullmatch(r"\S.*; \S.*[.]", sentence)


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "site.der").write_bytes(x509.load_pem_x509_certificate(LEAF.encode()).public_bytes(Encoding.DER))
    (tmp_path / "site.key").write_text(KEY)
    given = {"tls_certificate": "site.der", "tls_private_key": "site.key"}
    (sentence,) = stack_checks_files.check_certificate(given, tmp_path)
    assert "DER or PKCS#12; convert it with openssl" in sentence


def test_expired_root_is_nothing_that_clients_look_at():
    old = issue("root", ROOT, begin=-9, end=-1)
    assert (
        stack_certificates.pair((LEAF + INTERMEDIATE + old).encode(), KEY.encode())["certificate"]
        == LEAF + INTERMEDIATE + old
    )


@given(
    st.permutations([LEAF, INTERMEDIATE, AUTHORITY, KEY, "text: x\n", PARAMETERS]), st.sampled_from(["\n", "\r\n", "\r", ""])
)
def test_no_private_key_is_written_among_certificates(parts, ends):
    text = "".join(parts).replace("\n", ends) if ends else "".join(parts).replace("-----\n-----", "----------")
    found = stack_certificates.pair(text.encode(), text.encode())
    assert found["certificate"] == CHAIN
    assert "CERTIFICATE" not in found["key"]
    # Nor is one taken from where an earlier release has left it.
    assert "PRIVATE" not in stack_certificates.certificates_only(text)
    assert stack_certificates.certificates_only(text).count("BEGIN CERTIFICATE") == 3
