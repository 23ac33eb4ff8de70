"""Offer a stack more requests than it can serve, and measure what it answers, beside nginx and a stack without limits.

The load is open: connections come at a constant rate, whether earlier ones are answered or not (h2load, one request each,
http). First the closed-loop capacity is measured, then shares and multiples of it are offered, each in turn to this
project's defaults, to the same stack without limits (``fe_max_requests``, ``be_max_requests`` and ``lb_panic_share`` 0, a
queue of 5 s), and to nginx before the same front ends. The application is the sample, whose page takes 10 ms more of
processor time here, as much as a page of a usual framework: 8 times the capacity can be offered then. The load
generator has the machine in common with all of them, and the machine changes its speed, so all of it is done in rounds.
Shares of the best are those within a round. The table has the medians of the rounds, and the worst of what must not happen
(no answer, replicas taken out, a late recovery). Prints each result at once, then a Markdown table, and draws the curve.
Needs an engine; the images are built where they are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path

from bench import DIRECTORY, NAME, PLAYBOOK, PROJECT, SETTINGS, run
from matplotlib import pyplot

sys.path.insert(0, str(PROJECT / "module_utils"))
from stack_haproxy import ask, read_rows

BENCH = "webstack/bench:debian"
EDGE = "http://edge.fe-lb:8080/"
FACTORS = (0.5, 1, 2, 4, 8)
COMMON = {
    # All requests come from one address, whose limits are not what is measured.
    "edge_limits": {"connections": 1_000_000, "requests": 1_000_000},
    "fe_mounts": [{"source": "tests/bench_overload", "target": "/bench"}],
}
WITHOUT = {"fe_max_requests": 0, "be_max_requests": 0, "lb_panic_share": 0, "lb_timeouts": {"queue": "5s"}}
OURS, BEFORE, NGINX = "webstack", "without limits", "nginx"
# The bars of docs/performance.md: goodput as a share of the best, by factor; seconds of the 99th percentile; seconds until
# requests are answered again once the load has ended.
GOODPUT = {2: 0.9, 4: 0.9, 8: 0.8}
SLOWEST, RECOVERY = 3.0, 2.0
# A generator that offers less than this share of what it shall has not measured the stack.
OFFERED = 0.8
# Connections are created this often, as many as are due.
PERIOD = 0.05


@dataclass
class Figures:
    """What became of a load: requests per second offered and answered with 200, seconds of answered ones, and the rest."""

    offered: float
    goodput: float
    p50: float
    p99: float
    refused: int
    broken: int
    taken_out: int
    recovery: float
    # Goodput over the best of the same round.
    share: float = 0.0


def generate(url: str, *options: str) -> list[tuple[float, int, float]]:
    """Run the load generator; return begin (seconds), status (-1: no answer) and seconds of each request."""
    log = "/tmp/requests.tsv"  # noqa: S108 (in its container)
    load = ["h2load", "--h1", *options, f"--log-file={log}", url]
    script = f"{' '.join(load)} >&2 && cat {log}"
    command = ["docker", "run", "--rm", "--pull=never", f"--network={NAME}_edge", BENCH, "bash", "-c", script]
    lines = [line.split("\t") for line in run(*command).splitlines()]
    return [(int(begin) / 1e6, int(status), int(taken) / 1e6) for begin, status, taken in lines]


def capacity(url: str, seconds: int) -> float:
    """Return the requests per second that 32 clients get who wait for each answer."""
    requests = generate(url, "-c32", f"-D{seconds}")
    ends = [begin + taken for begin, status, taken in requests if status == 200]
    return len(ends) / (max(ends) - min(begin for begin, _, _ in requests))


def taken_out() -> int:
    """Return how often checks have taken servers out of rotation so far."""
    total = 0
    for tier in ("fe", "be"):
        rows = read_rows(ask(DIRECTORY / f"{tier}-lb/run/master.sock", "@1 show stat"))
        total += sum(int(row["chkdown"] or 0) for row in rows if row["pxname"] == tier and row["svname"] != "BACKEND")
    return total


def recovered(requests: list[tuple[float, int, float]], end: float) -> float:
    """Return the seconds from the end of a load until the first of ten requests in a row that are answered with 200.

    Not a number where there are no requests after the end.
    """
    since, good = 0.0, 0
    if not requests:
        return float("nan")
    for begin, status, taken in requests:
        good = good + 1 if status == 200 and taken < SLOWEST else 0
        since = begin if good == 1 else since
        if good == 10:
            return max(0.0, since - end)
    return float("inf")


def offer(url: str, rate: float, seconds: int) -> Figures:
    """Offer so many requests a second, each on a connection of its own."""
    number = max(1, round(rate * PERIOD))
    total = round(number / PERIOD * seconds)
    before = taken_out()
    with ThreadPoolExecutor(1) as pool:
        # A client who comes ten times a second, during the load and for some seconds after it.
        light = pool.submit(generate, url, "-r1", "--rate-period=100ms", *(f"-{key}{10 * seconds + 60}" for key in "nc"))
        requests = generate(url, f"-r{number}", f"--rate-period={round(PERIOD * 1000)}ms", f"-n{total}", f"-c{total}")
        # The generator may be late with its last requests on a busy machine.
        begin, end = min(start for start, _, _ in requests), max(start for start, _, _ in requests)
        back = recovered([item for item in sorted(light.result()) if item[0] > end], end)
    # What comes at the end is answered after the load has ended, which is no throughput.
    good = sum(status == 200 and start + taken <= end for start, status, taken in requests)
    answered = sorted(taken for _, status, taken in requests if status == 200) or [0.0]
    return Figures(
        total / (end - begin),
        good / (end - begin),
        statistics.median(answered),
        answered[int(len(answered) * 0.99)],
        sum(status == 503 for _, status, _ in requests),
        total - sum(status in (200, 503) for _, status, _ in requests),
        taken_out() - before,
        back,
    )


def converge(settings: dict) -> None:
    """Deploy the stack with settings."""
    run(PLAYBOOK, "playbooks/site.yml", *SETTINGS, "-e", "image_source=debian", "-e", json.dumps({**COMMON, **settings}))


@contextlib.contextmanager
def nginx() -> Iterator[None]:
    """Run nginx before the front ends, on a port of its own."""
    config = f"--volume={PROJECT}/tests/bench_overload/nginx.conf:/nginx.conf:ro"
    options = [f"--name={NAME}-nginx", f"--network={NAME}_edge", config]
    run("docker", "create", "--pull=never", "--log-driver=none", *options, BENCH, "nginx", "-c", "/nginx.conf")
    try:
        run("docker", "network", "connect", f"{NAME}_frontend", f"{NAME}-nginx")
        run("docker", "start", f"{NAME}-nginx")
        yield
    finally:
        run("docker", "rm", "--force", f"{NAME}-nginx")


def measure(variant: str, rates: dict[float, float], seconds: int) -> dict[float, Figures]:
    """Offer loads, by factor, to one of the variants; return what became of each."""
    converge({} if variant == OURS else WITHOUT)
    found = {}
    with nginx() if variant == NGINX else contextlib.nullcontext():
        url = f"http://{NAME}-nginx:8080/" if variant == NGINX else EDGE
        generate(url, "-c32", "-D2")
        for factor, rate in rates.items():
            found[factor] = offer(url, rate, seconds)
            print(f"{variant}, {factor:g} × capacity: {found[factor]}", flush=True)
    best = max(figures.goodput for figures in found.values()) or 1
    return {factor: replace(figures, share=figures.goodput / best) for factor, figures in found.items()}


def unknown_last(number: float) -> float:
    """Return a number, or infinity for one that was not measured."""
    return math.inf if math.isnan(number) else number


def median(rounds: list[Figures]) -> Figures:
    """Return the median of each figure; of what may not happen at all, the worst."""
    found = Figures(*(statistics.median(map(attrgetter(field.name), rounds)) for field in fields(Figures)))
    worst = {name: max(map(attrgetter(name), rounds), key=unknown_last) for name in ("broken", "taken_out", "recovery")}
    return replace(found, **worst)


def missed(found: dict[float, Figures], rates: dict[float, float]) -> list[str]:
    """Return the bars that the project's own figures, by factor, do not reach, and rates that could not be offered."""
    wrong = []
    for factor, figures in found.items():
        bars = {
            f"goodput {figures.share:.0%} of the best": figures.share < GOODPUT.get(factor, 0),
            f"p99 {figures.p99:.2f} s": figures.p99 >= SLOWEST,
            f"{figures.taken_out} servers taken out": figures.taken_out > 0,
            f"{figures.broken} requests without an answer": figures.broken > 0,
            f"recovery after {figures.recovery:.1f} s": unknown_last(figures.recovery) > RECOVERY,
            f"only {figures.offered:.0f}/s were offered, not {rates[factor]:.0f}/s": figures.offered
            < OFFERED * rates[factor],
        }
        wrong += [f"{factor:g} × capacity: {text}" for text, bad in bars.items() if bad]
    return wrong


def draw(found: dict[str, dict[float, Figures]], path: Path) -> None:
    """Draw answered over offered requests."""
    figure, axis = pyplot.subplots(figsize=(8, 4.2))
    styles = {OURS: ("#1666c0", "o-", 2.5), BEFORE: ("#c43c2c", "s--", 1.5), NGINX: ("#4a8a3a", "^:", 1.5)}
    for variant, rows in found.items():
        color, style, width = styles[variant]
        offered, goodput = ([getattr(item, name) for item in rows.values()] for name in ("offered", "goodput"))
        axis.plot(offered, goodput, style, color=color, linewidth=width, label=variant)
    axis.set(xlabel="requests offered each second", ylabel="answered with 200 each second")
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.grid(visible=True, alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6, help="how long each load lasts (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all of it is measured (default 3)")
    parser.add_argument("--page", type=int, default=10, help="milliseconds of processor time of a page (default 10)")
    parser.add_argument("--alone", action="store_true", help="without the two others")
    parser.add_argument("--limits", type=int, nargs="*", help="only measure the capacity with these limits of requests")
    parser.add_argument("--set", default="{}", help="more settings of the stack, as JSON")
    parser.add_argument("--output", type=Path, default=PROJECT / ".bench", help="folder of the picture (default .bench)")
    arguments = parser.parse_args()
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    arguments.output.mkdir(exist_ok=True)
    COMMON.update({"fe_command": ["python", "/bench/page.py", str(arguments.page)], **json.loads(arguments.set)})
    run(PLAYBOOK, "tests/helper.yml", *SETTINGS, "-e", "image_source=debian", "-e", "helper=bench:debian")
    try:
        converge({})
        generate(EDGE, "-c32", "-D2")
        if arguments.limits:
            limits(arguments.limits, EDGE, arguments.seconds)
            return
        most = capacity(EDGE, arguments.seconds)
        print(f"Capacity in a closed loop: {most:.0f} requests/s")
        rates = {factor: factor * most for factor in FACTORS}
        variants = (OURS,) if arguments.alone else (OURS, BEFORE, NGINX)
        rounds = [{name: measure(name, rates, arguments.seconds) for name in variants} for _ in range(arguments.rounds)]
    finally:
        subprocess.run(["docker", "rm", "--force", f"{NAME}-nginx"], capture_output=True, check=False)
        run(PLAYBOOK, "playbooks/teardown.yml", *SETTINGS, "-e", "remove_data=true")
    found = {name: {factor: median([one[name][factor] for one in rounds]) for factor in FACTORS} for name in variants}
    print("| | offered | answered | of its best | p50 | p99 | refused | no answer | servers taken out | recovery |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for variant, rows in found.items():
        for factor, row in rows.items():
            cells = [f"{factor:g} × = {row.offered:.0f}/s", f"{row.goodput:.0f}/s", f"{row.share:.0%}"]
            cells += [f"{row.p50:.2f} s", f"{row.p99:.2f} s", f"{row.refused:.0f}", str(row.broken), str(row.taken_out)]
            print(f"| {variant} | {' | '.join(cells)} | {row.recovery:.1f} s |")
    offered = {
        name: {factor: row for factor, row in rows.items() if row.offered >= OFFERED * rates[factor]}
        for name, rows in found.items()
    }
    draw(offered, arguments.output / "overload.png")
    wrong = missed(found[OURS], rates)
    for text in wrong:
        print(f"MISSED: {text}")
    sys.exit(bool(wrong))


def limits(numbers: list[int], url: str, seconds: int) -> None:
    """Print capacity and times with each limit of requests at a time, for each server, with 256 clients."""
    print("| requests at a time | requests/s | p50 | p99 |\n|---|---|---|---|")
    for number in numbers:
        converge({"fe_max_requests": number, "be_max_requests": number, "lb_timeouts": {"queue": "30s"}})
        requests = [item for item in generate(url, "-c256", f"-D{seconds}") if item[1] == 200]
        taken = sorted(seconds for _, _, seconds in requests)
        rate = len(requests) / seconds
        p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
        print(f"| {number or 'unlimited'} | {rate:.0f} | {p50:.2f} s | {p99:.2f} s |")


if __name__ == "__main__":
    main()
