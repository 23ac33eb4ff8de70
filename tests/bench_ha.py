"""Measure what changes and faults cost the requests that come in meanwhile, beside the same with plain Docker Compose.

Two applications: one that starts at once and one that needs 4 s. 200 requests come in each second, whatever happens, and
each event has its row: requests, failed, p50, p99 and worst in ms. Writes requests' figures to a CSV file and a Markdown
table, and draws every request over time. Run it as root, because it kills processes in containers. Uses a stack of its
own, which is removed at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import NAME, PLAYBOOK, PROJECT, SETTINGS, run

sys.path[:0] = [str(PROJECT / "module_utils")]
os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")

from ha import RATE, Events, Load, Request, Window  # noqa: E402
from stack import Stack  # noqa: E402

# Milliseconds.
WORST = 3000
SPARE = 50
# Seconds that a replica hangs where nobody restarts it.
HANG = 8

Event = tuple[str, str, Callable[[Events], None]]
PLANNED: list[Event] = [
    ("roll fe", "planned", lambda events: events.roll("fe")),
    ("roll be", "planned", lambda events: events.roll("be")),
    ("roll both", "planned", lambda events: events.roll("fe", "be")),
    ("scale fe 2 to 6", "planned", lambda events: events.scale(6)),
    ("scale fe 6 to 2", "planned", lambda events: events.scale(2)),
]
FAULTS: list[Event] = [
    ("kill -9 of an fe", "fault", lambda events: events.kill("fe")),
    ("kill -9 of a be", "fault", lambda events: events.kill("be")),
    ("hanging fe", "fault", lambda events: events.pause("fe")),
    ("hanging be", "fault", lambda events: events.pause("be")),
    ("rm -f of an fe", "fault", lambda events: events.remove("fe")),
    ("rm -f of a be", "fault", lambda events: events.remove("be")),
]
OTHERS: list[Event] = [
    ("reload of both load balancers, 5 times", "planned", lambda events: events.reload(5)),
    ("another certificate", "planned", lambda events: events.certificate()),
    ("releases, a setting and a certificate in one run", "planned", lambda events: events.change_at_once()),
    ("roll fe, a tenth are POSTs of 5 s", "planned", lambda events: events.roll_slow()),
    ("a broken release, refused", "planned", lambda events: events.broken_release()),
    ("crash of the database", "database", lambda events: events.crash_database()),
]


class Plain(Events):
    """The same with Docker Compose alone, on the same rendered file."""

    def compose(self, *arguments: str) -> None:
        """Run Compose on the rendered file and wait until the load balancers see what there shall be."""
        self.stack.docker("compose", "--file", str(self.stack.directory / "docker-compose.yml"), *arguments)
        self.until_all_serve(90)

    def roll(self, *tiers: str) -> None:
        """Render a new release, then let Compose replace the containers."""
        self.new_release(*tiers)
        self.stack.playbook("site.yml", "--tags", "config", "-e", json.dumps(self.settings))
        self.compose("up", "--detach")

    def scale(self, replicas: int) -> None:
        """Let Compose change the number of front ends."""
        self.settings["fe_replicas"] = replicas
        self.compose("up", "--detach", "--no-recreate", "--scale", f"fe={replicas}")

    def pause(self, tier: str) -> None:
        """Let a replica hang; nobody restarts it."""
        container = self.container(tier)["Id"]
        self.stack.docker("pause", container)
        time.sleep(HANG)
        self.stack.docker("unpause", container)
        self.until_all_serve()


@dataclass
class Row:
    """What one event has cost."""

    application: str
    by: str
    kind: str
    window: Window

    def violation(self, quiet: Window) -> str:
        """Return which bar is missed, or nothing; plain Compose has none."""
        if self.by != "webstack" or self.kind in ("quiet", "database"):
            return ""
        if self.window.failed:
            return self.window.describe()
        if self.kind == "fault":
            return f"worst {self.window.worst:.0f} ms" if self.window.worst >= WORST else ""
        limit = 2 * quiet.percentile(99) + SPARE
        return f"p99 above {limit:.0f} ms" if self.window.percentile(99) > limit else ""

    def cells(self) -> list[str]:
        """Return the figures."""
        window = self.window
        times = [f"{value:.1f}" for value in (window.percentile(50), window.percentile(99), window.worst)]
        return [self.application, window.name, self.by, str(len(window.requests)), str(len(window.failed)), *times]


HEADER = ["application", "event", "by", "requests", "failed", "p50 ms", "p99 ms", "worst ms"]


def measure(events: Events, label: str, by: str, planned: list[Event]) -> tuple[list[Row], list[Request]]:
    """Make events one after the other under load; return their rows and every request."""
    rows = []
    with Load(events.stack) as load:
        for name, kind, event in [("quiet", "quiet", Events.quiet), *planned]:
            print(f"  {label}, {by}: {name}", file=sys.stderr, flush=True)
            with load.event(name) as window:
                event(events)
            rows.append(Row(label, by, kind, window))
            if name.startswith("rm"):
                # Outside the window: the lost replica comes back, piece by piece.
                Events.apply(events)
                events.until_all_serve()
    return rows, load.requests


def draw(series: list[tuple[str, list[Row], list[Request]]], path: Path) -> None:
    """Draw every request over time, failed ones in red, with the events marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(series), 1, figsize=(18, 4.2 * len(series)), squeeze=False, layout="constrained")
    for axis, (title, rows, requests) in zip(axes[:, 0], series, strict=True):
        begin = requests[0].begin
        good = [request for request in requests if request.good]
        failed = [request for request in requests if not request.good]
        axis.scatter([r.begin - begin for r in good], [r.milliseconds for r in good], s=1, color="tab:blue", rasterized=True)
        axis.scatter([r.begin - begin for r in failed], [max(r.milliseconds, 1) for r in failed], s=8, color="tab:red")
        for place, row in enumerate(rows):
            shade = "0.94" if place % 2 else "0.87"
            axis.axvspan(row.window.begin - begin, row.window.end - begin, color=shade, zorder=0)
            axis.text(row.window.begin - begin, 30000, row.window.name, rotation=90, va="top", fontsize=7)
        axis.set(
            yscale="log",
            ylim=(0.5, 40000),
            ylabel="ms",
            title=f"{title}: {len(requests)} requests, {len(failed)} failed (red)",
        )
        axis.set_xlabel("s")
        axis.margins(x=0.005)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def one_round(stack: Stack, folder: Path, number: int, output: Path, alone: bool, short: bool) -> list[str]:
    """Measure everything once; write the files and return what is missed."""
    series, missed = [], []
    for start, label in ((0, "starts at once"), (4, "needs 4 s")):
        environment = {"START_DELAY": str(start), "RELEASE": "1"}
        settings = {"fe_replicas": 2, "be_replicas": 2, "fe_environment": environment, "be_environment": environment}
        for kind, by in ((Events, "webstack"), (Plain, "plain Compose")):
            if kind is Plain and (alone or number > 1):
                # There is no bar for it; once is enough to see the difference.
                continue
            events = kind(stack, dict(settings), folder)
            # Only the project itself restarts what hangs.
            Events.apply(events, watchdog_enabled=kind is Events)
            if kind is Plain:
                events.settings["watchdog_enabled"] = False
            chosen = PLANNED + FAULTS if kind is Events else PLANNED + [item for item in FAULTS if "rm" not in item[0]]
            if kind is Events and start == 0:
                chosen = [*chosen, *OTHERS]
            rows, requests = measure(events, label, by, chosen[:2] if short else chosen)
            series.append((f"{by}, application {label}", rows, requests))
            quiet = rows[0].window
            missed += [f"{label}, {row.window.name}: {text}" for row in rows if (text := row.violation(quiet))]
            within = {id(request) for row in rows for request in row.window.requests}
            between = [request for request in requests if id(request) not in within]
            rows.append(Row(label, by, "between", Window("between the events", 0, 0, between)))
            if by == "webstack" and rows[-1].window.failed:
                missed.append(f"{label}: {rows[-1].window.describe()}")
    everything = [row for _, rows, _ in series for row in rows]
    with (output / f"ha-{number}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(row.cells() for row in everything)
    lines = [
        f"| {' | '.join(HEADER)} |",
        "|" + "---|" * len(HEADER),
        *(f"| {' | '.join(row.cells())} |" for row in everything),
    ]
    (output / f"ha-{number}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(
        [(title, [row for row in rows if row.kind != "between"], requests) for title, rows, requests in series],
        output / f"ha-{number}.png",
    )
    print("\n".join(lines))
    for text in missed:
        print(f"MISSED: {text}")
    return missed


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured (default 1)")
    parser.add_argument("--output", type=Path, default=PROJECT / ".bench", help="folder of the results (default .bench)")
    parser.add_argument("--alone", action="store_true", help="without plain Compose")
    parser.add_argument("--short", action="store_true", help="only the first two events of each series")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    options = [item for setting in ("image_source=debian", "helper=bench:debian") for item in ("-e", setting)]
    run(PLAYBOOK, "tests/helper.yml", *SETTINGS, *options)
    given = dict(setting.split("=") for setting in SETTINGS[1::2])
    scenario = json.loads(
        run(str(Path(PLAYBOOK).with_name("ansible-inventory")), "-i", "molecule/ha/inventory/hosts.yml", "--list")
    )
    host = {**scenario["_meta"]["hostvars"]["localhost"], **given, "image_source": "debian"}
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inventory = folder / "hosts.yml"
        inventory.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}), encoding="utf-8")
        stack = Stack(NAME, [PROJECT / "inventory/hosts.yml", inventory])
        try:
            for number in range(1, arguments.rounds + 1):
                print(f"Round {number} of {arguments.rounds}, {RATE} requests/s", flush=True)
                missed += one_round(stack, folder, number, arguments.output, arguments.alone, arguments.short)
        finally:
            stack.playbook("teardown.yml", "-e", "remove_data=true")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
