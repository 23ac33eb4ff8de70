"""Measure one hop through the project's HAProxy configuration, nginx and Caddy, and what fe-lb adds to the whole way.

The three stand in turn before the same two trivial servers, with the same certificate, kept connections, a request id,
forwarded headers and a line of log for each request. The load balancer has one core, everything else the others. The
load is closed (wrk: each connection sends its next request when the last is answered), bounded in time, and never
leaves the engine's networks. Prints Markdown. Needs an engine; the images are built where they are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import NAME, PLAYBOOK, PROJECT, SETTINGS, run

BENCH = "webstack/bench:debian"
HAPROXY = "webstack/haproxy:3.2-debian"
BALANCERS = ("HAProxy", "nginx", "Caddy")
# Clients are counted as always, and the one of the measurement is not stopped.
LIMITS = {"body": "100M", "headers": "15K", "connections": 100_000, "requests": 1_000_000}
URLS = {"http": "http://lb:8080/", "https": "https://lb:8443/"}
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Figures:
    """Requests per second, median and 99th percentile in ms, and CPU time of the load balancer per request in µs."""

    rate: float
    p50: float
    p99: float
    cpu: float = 0.0


def playbook(name: str, *more: str) -> None:
    """Run a playbook with the settings of the measurement."""
    run(PLAYBOOK, name, *SETTINGS, *(item for setting in ("image_source=debian", *more) for item in ("-e", setting)))


def cores() -> tuple[str, str]:
    """Return the core of the load balancer and those of everything else, as Docker wants them."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        sys.exit("The measurement needs two cores: one for the load balancer alone.")
    return str(available[0]), ",".join(map(str, available[1:]))


def certificate(folder: Path, name: str = "lb") -> None:
    """Write a self-signed certificate for a name and its key."""
    specification = importlib.util.spec_from_file_location("certificates", PROJECT / "plugins/filter/certificates.py")
    filters = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(filters)
    pair = filters.self_signed_certificate([name])
    folder.chmod(0o755)
    for name, content in (("site.pem", pair["certificate"]), ("site.pem.key", pair["key"])):
        (folder / name).write_text(content, encoding="ascii")
        # Each of the three runs as a user of its own.
        (folder / name).chmod(0o644)


def start(name: str, *arguments: str) -> None:
    """Start a container of the measurement."""
    run("docker", "run", "--detach", "--pull=never", "--log-driver=none", f"--name={NAME}-{name}", *arguments)


@contextlib.contextmanager
def balancer(kind: str, folder: Path) -> Iterator[str]:
    """Run a load balancer under the name ``lb``; yield its container."""
    network = [f"--network={NAME}-lb", "--network-alias=lb", f"--cpuset-cpus={cores()[0]}"]
    tls = f"--volume={folder}/fe-lb/config/tls:/tls:ro"
    if kind == "HAProxy":
        # The names that the configuration binds to.
        names = ["--network-alias=edge.fe-lb", "--network-alias=metrics.fe-lb", "--tmpfs=/run/haproxy"]
        config = f"--volume={folder}/fe-lb/config:/usr/local/etc/haproxy:ro"
        start("lb", *network, *names, config, HAPROXY)
    elif kind == "nginx":
        config = f"--volume={PROJECT}/tests/bench_lb/nginx.conf:/nginx.conf:ro"
        start("lb", *network, tls, config, BENCH, "nginx", "-c", "/nginx.conf")
    else:
        config = f"--volume={PROJECT}/tests/bench_lb/Caddyfile:/Caddyfile:ro"
        start("lb", *network, tls, config, BENCH, "caddy", "run", "--config", "/Caddyfile", "--adapter", "caddyfile")
    try:
        yield f"{NAME}-lb"
    finally:
        run("docker", "rm", "--force", f"{NAME}-lb")


def cpu_seconds(container: str) -> float:
    """Return the CPU time that the processes of a container have used (proc(5): utime and stime)."""
    total = 0
    for line in run("docker", "top", container, "-eo", "pid").splitlines()[1:]:
        fields = Path(f"/proc/{line.strip()}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def load(network: str, url: str, seconds: int, connections: int, container: str = "") -> Figures:
    """Send requests for so many seconds; every answer has to be good."""
    before = cpu_seconds(container) if container else 0.0
    command = ["docker", "run", "--rm", "--pull=never", f"--network={network}", f"--cpuset-cpus={cores()[1]}", BENCH]
    output = run(*command, "wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", url)
    if bad := re.search(r"(Socket errors|Non-2xx).*", output):
        sys.exit(f"{url}: {bad[0]}")
    percentile = {name: float(value) * UNITS[unit] for name, value, unit in re.findall(r"(\d+)% +([\d.]+)(us|ms|s)", output)}
    rate, requests = (float(re.search(pattern, output)[1]) for pattern in (r"Requests/sec: +([\d.]+)", r"(\d+) requests in"))
    used = cpu_seconds(container) - before if container else 0.0
    return Figures(rate, percentile["50"], percentile["99"], used / requests * 1e6)


def wait_for(network: str, url: str) -> None:
    """Wait until a URL answers well."""
    deadline = time.monotonic() + 30
    command = ["docker", "run", "--rm", "--pull=never", f"--network={network}", BENCH, "wrk", "-t1", "-c1", "-d1s", url]
    while True:
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if "requests in" in output and not re.search(r"Socket errors|Non-2xx| 0 requests in", output):
            return
        if time.monotonic() > deadline:
            sys.exit(f"{url} does not answer:\n{output}")


def one_hop(folder: Path, rounds: int, seconds: int, connections: int) -> dict[tuple[str, str], list[Figures]]:
    """Return the figures of each load balancer for each scheme, the three in turn."""
    found: dict[tuple[str, str], list[Figures]] = {}
    run("docker", "network", "create", "--internal", f"{NAME}-lb")
    try:
        for number in (1, 2):
            config = f"--volume={PROJECT}/tests/bench_lb/server.conf:/server.conf:ro"
            network = [f"--network={NAME}-lb", "--network-alias=fe", f"--cpuset-cpus={cores()[1]}"]
            start(f"server-{number}", *network, config, BENCH, "nginx", "-c", "/server.conf")
        for _ in range(rounds):
            for kind in BALANCERS:
                with balancer(kind, folder) as container:
                    for scheme, url in URLS.items():
                        wait_for(f"{NAME}-lb", url)
                        figures = load(f"{NAME}-lb", url, seconds, connections, container)
                        found.setdefault((kind, scheme), []).append(figures)
    finally:
        subprocess.run(["docker", "rm", "--force", f"{NAME}-server-1", f"{NAME}-server-2"], capture_output=True, check=False)
        run("docker", "network", "rm", f"{NAME}-lb")
    return found


def whole_way(rounds: int, seconds: int) -> dict[str, list[Figures]]:
    """Return the figures of the sample's page through the edge, and of one front end asked directly, in turn."""
    found: dict[str, list[Figures]] = {"through fe-lb": [], "fe directly": []}
    playbook("playbooks/site.yml", "fe_replicas=1")
    try:
        for _ in range(rounds):
            found["through fe-lb"].append(load(f"{NAME}_edge", "http://edge.fe-lb:8080/", seconds, 1))
            found["fe directly"].append(load(f"{NAME}_frontend", "http://frontend.fe:8000/", seconds, 1))
    finally:
        playbook("playbooks/teardown.yml", "remove_data=true")
    return found


def median(figures: list[Figures], name: str) -> float:
    """Return the median of one figure."""
    return statistics.median(getattr(item, name) for item in figures)


def ratio(ours: list[Figures], theirs: list[Figures], name: str) -> float:
    """Return the median of ours to theirs, round by round."""
    return statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each time (default 5)")
    parser.add_argument("--connections", type=int, default=32, help="connections at a time (default 32)")
    arguments = parser.parse_args()
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    playbook("tests/helper.yml", "helper=bench:debian")
    way = whole_way(arguments.rounds, arguments.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        playbook("playbooks/render.yml", f"render_dir={folder}/rendered", json.dumps({"edge_limits": LIMITS}))
        certificate(folder / "rendered/fe-lb/config/tls")
        hop = one_hop(folder / "rendered", arguments.rounds, arguments.seconds, arguments.connections)
    print("| one hop | | requests/s | p50 | p99 | CPU per request | HAProxy to it: requests/s | p99 |")
    print("|---|---|---|---|---|---|---|---|")
    for scheme in URLS:
        for kind in BALANCERS:
            ours, theirs = hop["HAProxy", scheme], hop[kind, scheme]
            cells = [f"{median(theirs, 'rate'):.0f}", *(f"{median(theirs, item):.2f} ms" for item in ("p50", "p99"))]
            cells += [f"{median(theirs, 'cpu'):.0f} µs", *(f"{ratio(ours, theirs, item):.2f}" for item in ("rate", "p99"))]
            print(f"| {kind} | {scheme} | {' | '.join(cells)} |")
    print("\n| the sample's page, one connection | requests/s | p50 | p99 |\n|---|---|---|---|")
    for name, figures in way.items():
        print(
            f"| {name} | {median(figures, 'rate'):.0f} | {median(figures, 'p50'):.2f} ms | {median(figures, 'p99'):.2f} ms |"
        )
    print(f"\np50 through fe-lb is {ratio(way['through fe-lb'], way['fe directly'], 'p50'):.2f} times that of fe directly.")


if __name__ == "__main__":
    main()
