"""What `make audit` says of a deployment with the default settings."""

import sys

import audit
import least_access
import pytest
from stack import PROJECT, current, run


@pytest.fixture(scope="module")
def report(stack):
    command = [sys.executable, str(PROJECT / "tests/audit.py"), f"--name={stack.name}", *stack.inventories]
    return run(*command, check=False)


def test_every_check_passes(report):
    *checks, _, count = report.stdout.splitlines()
    failed = [line for line in checks if not line.startswith("passed  ")]
    assert not failed, failed
    assert report.returncode == 0, report.stderr
    assert count.endswith(" passed, 0 failed")
    assert len(checks) == int(count.split()[0])


@pytest.mark.parametrize(
    "said",
    [
        "cert_chain_of_trust",
        "further checks of testssl.sh found nothing",
        "HAProxy accepts the configuration of be-lb",
        "promtool reads the metrics of fe-lb",
        "edge is not masqueraded",
        "data is internal",
        "only its owner reads secrets/be/database_password",
        "a refused run ends with its sentence: fe_replicas",
        *(f"{service} {rule}" for service in current().model["services"] for rule in least_access.RULES),
    ],
)
def test_report_covers(report, said):
    assert said in report.stdout


def test_too_much_access_fails(stack):
    wrong = "--publish=127.0.0.1::8000"
    model = [f"--label=com.docker.compose.project={stack.name}", "--label=com.docker.compose.service=fe"]
    network = f"--network={stack.name}_frontend"
    run(
        "docker",
        "create",
        f"--name={stack.name}-fe-99",
        "--user=0",
        wrong,
        network,
        *model,
        stack.containers("fe")[0]["Image"],
    )
    try:
        found = [text for good, text in audit.containers(stack) if not good]
    finally:
        run("docker", "rm", "--force", f"{stack.name}-fe-99")
    assert any(f"{stack.name}-fe-99 runs as root" in text for text in found)
    assert any(f"{stack.name}-fe-99 publishes port 8000/tcp" in text for text in found)
