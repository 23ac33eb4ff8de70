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


def running(service, **host):
    """Return what the engine says of a container that no check warns of."""
    return {
        "Id": "1",
        "AppArmorProfile": "docker-default",
        "Config": {"Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": service}},
        "State": {"Running": False, "Health": {}},
        "Mounts": [],
        "NetworkSettings": {"Networks": {"shop_x": {}}},
        "HostConfig": {
            "CapAdd": None,
            "Privileged": False,
            "PortBindings": {},
            "NetworkMode": "shop_x",
            "Memory": 1,
            "NanoCpus": 1,
            "CpuShares": 0,
            "ReadonlyRootfs": True,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "PidMode": "",
            "IpcMode": "private",
            "UTSMode": "",
            "UsernsMode": "",
            "SecurityOpt": ["no-new-privileges:true"],
            "CgroupParent": "",
            "PidsLimit": 1,
        }
        | host,
    }


def test_container_without_a_warning():
    checks = list(audit.judge_containers([running("fe")], ["name=seccomp,profile=builtin", "name=apparmor"]))
    assert all(good for good, _ in checks)
    assert len(checks) == len(audit.runtime_checks.CHECKS)


@pytest.mark.parametrize(
    ("number", "host"),
    [
        ("5.4", {"CapAdd": ["SYS_ADMIN"]}),
        ("5.5", {"Privileged": True}),
        ("5.8", {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "80"}]}}),
        ("5.9", {"PublishAllPorts": True}),
        ("5.10", {"NetworkMode": "host"}),
        ("5.11", {"Memory": 0}),
        ("5.12", {"NanoCpus": 0}),
        ("5.13", {"ReadonlyRootfs": False}),
        ("5.14", {"PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}]}}),  # noqa: S104 (compared only)
        ("5.16", {"PidMode": "host"}),
        ("5.17", {"IpcMode": "host"}),
        ("5.18", {"Devices": [{}]}),
        ("5.19", {"Ulimits": [{"Hard": -1}]}),
        ("5.21", {"UTSMode": "host"}),
        ("5.22", {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}),
        ("5.25", {"CgroupParent": "/x"}),
        ("5.26", {"SecurityOpt": None}),
        ("5.29", {"PidsLimit": None}),
    ],
)
def test_warning_that_has_no_answer_fails(number, host):
    checks = list(audit.judge_containers([running("db", **host)], ["name=seccomp,profile=builtin"]))
    (wrong,) = [text for good, text in checks if not good]
    assert wrong.startswith(f"{number} ")
    assert "db: not answered" in wrong


def test_answered_warning_is_told_and_passes():
    always = {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}
    checks = list(audit.judge_containers([running("db", **always)], ["name=seccomp"]))
    assert all(good for good, _ in checks)
    assert any(text.startswith("5.15 ") and "reboot" in text for _, text in checks)
