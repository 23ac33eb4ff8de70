"""What the scanner of TLS remarks is answered, or fails the audit."""

import audit
import pytest

NEW, OLD = (f"Running on SSL library version : OpenSSL {version} 1 Jan 2026" for version in ("3.6.5", "3.0.17"))
REACHED = {"id": "TLS1_3", "severity": "OK", "finding": "offered"}


@pytest.mark.parametrize(
    ("remark", "severity", "certificate", "library", "good"),
    [
        ("heartbleed", "CRITICAL", "generated", NEW, False),
        ("unheard_of", "LOW", "generated", OLD, False),
        ("HSTS", "LOW", "given", NEW, True),
        ("cert_chain_of_trust", "CRITICAL", "generated", NEW, True),
        ("cert_chain_of_trust", "CRITICAL", "given", NEW, False),
        ("FS_KEMs", "LOW", "given", NEW, False),
        ("FS_KEMs", "LOW", "given", OLD, True),
        ("FS_KEMs", "LOW", "given", OLD.replace("SSL library", "OpenSSL"), True),
    ],
)
def test_remark_has_an_answer_or_fails(remark, severity, certificate, library, good):
    found = [REACHED, {"id": remark, "severity": severity, "finding": "so"}, {"id": "x", "severity": "INFO", "finding": ""}]
    checks = list(audit.judge(found, certificate, library))
    assert [check[0] for check in checks] == [good, True]
    assert checks[0][1].startswith(f"{remark} ({severity}, so): ")
    assert ("not answered" in checks[0][1]) != good


def test_scan_that_reached_nothing_fails():
    assert list(audit.judge([], "given", NEW)) == [(False, "the scan did not reach the edge")]
