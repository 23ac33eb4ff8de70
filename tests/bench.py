"""Time this project against plain Docker Compose on the rendered file, the two in turn.

Prints rows of a Markdown table. Uses a stack of its own, which is removed at the end. Needs an engine and the
images, both of which ``make up`` provides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NAME = "webstack-bench"
DIRECTORY = Path("~/.local/share").expanduser() / NAME
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
PORTS = {"http_port": 18095, "https_port": 18495, "monitoring_console_port": 18091, "monitoring_prometheus_port": 18090}
VALUES = {"stack_name": NAME, "image_prefix": "webstack", **PORTS}
SETTINGS = [word for name, value in VALUES.items() for word in ("-e", f"{name}={value}")]
ONE_TASK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Converge the containers
      community.docker.docker_compose_v2:
        project_src: {directory}
        state: present
"""


# The one task beside ours is run as Ansible itself would.
PLAIN = {"ANSIBLE_CALLBACK_PLUGINS": os.devnull, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}


def run(*argv: str, **environment: str) -> str:
    """Return what a command prints; its failure ends the measurement."""
    everything = {**os.environ, **environment}
    done = subprocess.run(argv, cwd=PROJECT, env=everything, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(*argv: str, **environment: str) -> float:
    """Return the seconds that a command takes."""
    begin = time.monotonic()
    run(*argv, **environment)
    return time.monotonic() - begin


def site() -> float:
    """Return the seconds of the playbook."""
    return timed(PLAYBOOK, "playbooks/site.yml", *SETTINGS)


def compose(*arguments: str) -> float:
    """Return the seconds of a Compose command on the rendered file."""
    return timed("docker", "compose", "--file", str(DIRECTORY / "docker-compose.yml"), *arguments)


def printed(*argv: str) -> int:
    """Return how many lines a command prints, errors and progress included."""
    done = subprocess.run(argv, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return len(done.stdout.splitlines())


def row(what: str, beside: str, pairs: list[tuple[float, float]]) -> str:
    """Return a row with the medians of both sides and of the ratio pair by pair."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return f"| {what} | {ours:.1f} s | {beside}: {theirs:.1f} s | {ratio:.2f} |"


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs (default 5)")
    runs = parser.parse_args().runs
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    try:
        # Once beforehand, so that images are there and caches are warm.
        site()
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as playbook:
            playbook.write(ONE_TASK.format(directory=DIRECTORY))
            playbook.flush()
            unchanged = [(site(), timed(PLAYBOOK, playbook.name, **PLAIN)) for _ in range(runs)]
            # What `make up` runs, which prints that command as well.
            up = (PLAYBOOK, "playbooks/bootstrap.yml", "playbooks/site.yml", *SETTINGS)
            plain = ("docker", "compose", "--file", str(DIRECTORY / "docker-compose.yml"), "up", "--detach")
            nothing = [(timed(*up), timed(*plain)) for _ in range(runs)]
            lines = (1 + printed(*up), printed(*plain))
        first = []
        for _ in range(max(2, runs // 2)):
            compose("down", "--volumes")
            ours = site()
            compose("down", "--volumes")
            first.append((ours, compose("up", "--detach", "--wait")))
    finally:
        timed(PLAYBOOK, "playbooks/teardown.yml", *SETTINGS, "-e", "remove_data=true")
    print(row("a rerun of `site.yml` without changes", "a playbook of the one task `docker_compose_v2`", unchanged))
    print(row("`make up` without changes", "`docker compose up --detach`", nothing))
    print(f"| what that prints | {lines[0]} lines | the same: {lines[1]} lines | {lines[0] / lines[1]:.2f} |")
    print(row("a first deployment, images present", "`docker compose up --detach --wait`", first))


if __name__ == "__main__":
    main()
