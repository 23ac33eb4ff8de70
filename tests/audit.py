"""Examine a running stack with second opinions; one line for each check, exit code 1 if one fails.

What is looked at: the edge's TLS (testssl.sh), the rendered files (Docker Compose, HAProxy, promtool), every container
by the rule of least access and by the checks of the CIS Docker Benchmark, networks, secrets and where they could show,
and what links in shared folders could lead root to.
Remarks that are accepted stand with their answer in tests/audit_findings.yml.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
import least_access
import runtime_checks
import stack_haproxy
import yaml
from secret_search import search
from stack import PROJECT, Stack, run

Check = tuple[bool, str]
# From this on a remark of the scanner has to be answered.
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN")


def judge(found: list[dict], certificate: str, library: str) -> Iterator[Check]:
    """Judge what testssl.sh found, for a given or generated certificate and what ``haproxy -vv`` says of its library."""
    answers = yaml.safe_load((PROJECT / "tests/audit_findings.yml").read_text(encoding="utf-8"))
    accepted = dict(answers["always"])
    if certificate == "generated":
        accepted |= answers["self_signed"]
    if not re.search(r"Running on (?:SSL library|OpenSSL) version : OpenSSL (3\.([5-9]|\d\d)|[4-9])", library):
        accepted |= answers["old_library"]
    if not any(item["id"] == "TLS1_3" and item["severity"] == "OK" for item in found):
        yield False, "the scan did not reach the edge"
        return
    for item in found:
        if item["severity"] in SEVERITIES:
            answer = accepted.get(item["id"])
            yield bool(answer), f"{item['id']} ({item['severity']}, {item['finding']}): {answer or 'not answered'}"
    yield True, f"{sum(item['severity'] == 'OK' for item in found)} further checks of testssl.sh found nothing"


def tls(stack: Stack, image: str) -> Iterator[Check]:
    """Scan protocols, forward secrecy, certificate, headers and known weaknesses of the edge."""
    scan = "testssl --quiet --color 0 --warnings off --jsonfile /tmp/found.json --ip one -p -f -S -h -U"
    address = "127.0.0.1" if stack.address in ("0.0.0.0", "::") else stack.address  # noqa: S104 (compared only)
    script = f"{scan} {address}:{stack.port('https')} > /tmp/log 2>&1; cat /tmp/found.json || cat /tmp/log"
    command = ("docker", "run", "--rm", "--pull=never", "--network=host", image, "bash", "-c", script)
    found = json.loads(run(*command).stdout)
    state = json.loads((stack.directory / "state.json").read_text(encoding="utf-8"))
    yield from judge(found, state["certificate"], stack.execute("fe-lb", "haproxy", "-vv").stdout)


def files(stack: Stack, image: str) -> Iterator[Check]:
    """Let Compose, HAProxy and promtool read what is rendered and what is served."""
    done = run("docker", "compose", "--file", str(stack.directory / "docker-compose.yml"), "config", "--quiet", check=False)
    yield done.returncode == 0, f"Docker Compose accepts docker-compose.yml {done.stderr.strip()}".strip()
    for service in ("fe-lb", "be-lb"):
        done = stack.execute(service, "haproxy", "-c", "-q", "-f", "/usr/local/etc/haproxy/haproxy.cfg", check=False)
        yield done.returncode == 0, f"HAProxy accepts the configuration of {service} {done.stderr.strip()}".strip()
        script = f"set -o pipefail; curl -sf http://metrics.{service}:8405/metrics | promtool check metrics --extended"
        network = f"--network={stack.name}_{service}-metrics"
        done = run("docker", "run", "--rm", "--pull=never", network, image, "bash", "-c", script, check=False)
        # 3: readable, with remarks about names, which are HAProxy's own.
        yield done.returncode in (0, 3), f"promtool reads the metrics of {service}"


def containers(stack: Stack) -> Iterator[Check]:
    """Hold every container against the rule of least access."""
    for service in stack.model["services"]:
        found = stack.containers(service)
        yield bool(found), f"{service} runs in {len(found)} container{'s' if len(found) != 1 else ''}"
        for name, rule in least_access.RULES.items():
            wrong = [f"{c['Name'].lstrip('/')} {sentence}" for c in found for sentence in rule(c, stack.settings)]
            yield not wrong, "; ".join(wrong) or f"{service} {name}"


def networks(stack: Stack) -> Iterator[Check]:
    """Look whether internal networks are internal, and without an address of the host; others let nobody out."""
    for name, network in stack.model["networks"].items():
        found = json.loads(run("docker", "network", "inspect", network["name"]).stdout)[0]
        options = found["Options"] or {}
        if name in least_access.OPEN:
            closed = options.get("com.docker.network.bridge.enable_ip_masquerade") == "false"
            # Alerts leave by theirs.
            yield (
                closed or name == "alerts",
                f"{name} is not masqueraded" if closed else f"{name} is, so that alerts get out",
            )
        else:
            closed = found["Internal"] and options.get("com.docker.network.bridge.inhibit_ipv4") == "true"
            yield closed, f"{name} is internal and has no address of the host"


def secrets(stack: Stack) -> Iterator[Check]:
    """Look whether only their readers can read the secrets."""
    yield stat.S_IMODE(stack.directory.stat().st_mode) == 0o700, f"only its owner enters {stack.directory}"
    paths = [path for path in (stack.directory / "secrets").rglob("*") if path.is_file()]
    for path in [*paths, stack.directory / "fe-lb/config/tls/site.pem.key"]:
        mode = stat.S_IMODE(path.stat().st_mode)
        yield mode == 0o600, f"only its owner reads {path.relative_to(stack.directory)} (mode {mode:04o})"
    options = ("-e", f"stack_name={stack.name}", "--check", "--diff", "-vvv")
    outputs = {
        "output of a check": stack.playbook("site.yml", *options, check=False).stdout,
        "output of a refused run": stack.playbook("site.yml", *options, "-e", "fe_replicas=0", check=False).stdout,
    }
    last = outputs["output of a refused run"].splitlines()[-1]
    yield last.startswith("fe_replicas: 0 replicas cannot serve; "), f"a refused run ends with its sentence: {last}"
    searched, shown = search(stack, outputs)
    for place in shown:
        yield False, f"shown: {place}"
    yield (
        searched > 0,
        f"{searched} places searched for every secret: outputs, inspect, logs, processes, files, image layers",
    )


def shared(stack: Stack) -> Iterator[Check]:
    """Try, as the user of each container that can write to a folder of the project, to lead root astray by links there."""
    for service, tier in (("fe-lb", "fe"), ("be-lb", "be")):
        container = stack.containers(service)[0]
        for mount in container["Mounts"]:
            source = Path(mount["Source"])
            if mount["Type"] != "bind" or not mount["RW"] or stack.directory.resolve() not in source.parents:
                continue
            state = json.loads((stack.directory / "state.json").read_text(encoding="utf-8"))
            with tempfile.TemporaryDirectory(dir=stack.directory) as folder:
                precious = Path(folder, "precious")
                precious.write_text("root's", encoding="utf-8")
                precious.chmod(0o600)
                before = precious.stat()
                laid = [f"{mount['Destination']}/{name}" for name in ("state", ".state.new", ".lock", ".staged")]
                for link in laid:
                    stack.execute(service, "ln", "-sfn", str(precious), link)
                try:
                    # What a reload and a replacement do.
                    stack_haproxy.save_state(source / "master.sock", state["tiers"][tier])
                    written = source / "state"
                    good = not written.is_symlink() and written.is_file()
                    yield good, f"the state of {service} is written to a file of its own, whatever link lies there"
                    stack_haproxy.drop_state(source / "master.sock")
                finally:
                    stack.execute(service, "rm", "-f", *laid)
                after = precious.stat()
                untouched = (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)
                untouched = untouched and precious.read_text(encoding="utf-8") == "root's"
                yield untouched, f"{service} cannot lead root to another file by a link in {mount['Destination']}"


def judge_containers(found: list[dict], security: list[str]) -> Iterator[Check]:
    """Go through the container runtime section of the CIS Docker Benchmark; a warning needs an answer."""
    answers = yaml.safe_load((PROJECT / "tests/audit_findings.yml").read_text(encoding="utf-8"))["runtime"]
    for number, (title, warns) in runtime_checks.CHECKS.items():
        warned = sorted({least_access.identity(container)[1] for container in found if warns(container, security)})
        accepted = answers.get(number, {})
        for service in warned:
            answer = accepted.get(service, accepted.get("every service"))
            yield bool(answer), f"{number} {title}, but not {service}: {answer or 'not answered'}"
        if not warned:
            yield True, f"{number} {title}"


def runtime(stack: Stack) -> Iterator[Check]:
    """Judge the containers of the stack on its engine."""
    options = run("docker", "info", "--format", "{{json .SecurityOptions}}").stdout
    return judge_containers(stack.containers(), json.loads(options) or [])


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", action="append", type=Path, help="that of the deployment; more may be given")
    parser.add_argument("--name", help="stack_name, if it does not stand in the inventory")
    arguments = parser.parse_args()
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    stack = Stack("", arguments.inventory or [PROJECT / "inventory/hosts.yml"])
    stack.name = arguments.name or stack.settings["stack_name"]
    if not stack.containers():
        print(f"Nothing of {stack.name} runs here: make up starts it.")
        return 2
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    run(
        playbook, *stack.inventories, str(PROJECT / "tests/helper.yml"), "-e", f"stack_name={stack.name} helper=audit:debian"
    )
    image = f"{stack.text('image_prefix')}/audit:debian"
    parts = {
        "TLS": tls(stack, image),
        "files": files(stack, image),
        "containers": containers(stack),
        "networks": networks(stack),
        "secrets": secrets(stack),
        "shared": shared(stack),
        "runtime": runtime(stack),
    }
    count = {True: 0, False: 0}
    for part, checks in parts.items():
        for good, text in checks:
            count[good] += 1
            print(f"{'passed' if good else 'FAILED'}  {part + ':':<12}{text}", flush=True)
    print(f"\n{count[True]} passed, {count[False]} failed")
    return 1 if count[False] else 0


if __name__ == "__main__":
    sys.exit(main())
