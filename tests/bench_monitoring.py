"""Measure what monitoring costs at 20 containers of the application: CPU and memory of its containers and of the engine.

Deploys a stack of its own with 9 front ends and 8 back ends, looks at it for some minutes with monitoring and at the engine
alone without, and removes it. Prints rows of a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench import NAME, PLAYBOOK, PROJECT, SETTINGS, run

sys.path[:0] = [str(PROJECT / "module_utils")]

from stack import Stack, wait_until  # noqa: E402

REPLICAS = {"fe_replicas": 9, "be_replicas": 8}
CONTAINERS = 20
MONITORING = "prometheus|console|container-exporter|docker-api|mysql-exporter"


def deploy(*more: str) -> None:
    """Bring the stack to what is measured."""
    values = [f"{name}={value}" for name, value in REPLICAS.items()]
    run(PLAYBOOK, "playbooks/site.yml", *SETTINGS, *(word for value in (*values, *more) for word in ("-e", value)))


def engine_seconds() -> float:
    """Return the CPU time that engine and containerd have used so far, without the containers themselves."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = path.read_text(encoding="utf-8").rpartition(")")[::2]
        except OSError:
            continue
        if name.partition("(")[2] in ("dockerd", "containerd"):
            ticks += sum(int(value) for value in fields.split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def engine_share(seconds: float) -> float:
    """Return the share of one processor that the engine uses in the next ``seconds``."""
    before, begin = engine_seconds(), time.monotonic()
    # What is measured is how much time passes, so this is no wait for something.
    time.sleep(seconds)
    return (engine_seconds() - before) / (time.monotonic() - begin)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="how long to look, each time (default 120)")
    seconds = parser.parse_args().seconds
    os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")
    stack = Stack(NAME, [PROJECT / "inventory/hosts.yml"])
    stack.directory = Path("~/.local/share").expanduser() / NAME
    try:
        deploy()
        own = f'{{service!~"{MONITORING}"}}'
        wait_until(lambda: float(stack.query(f"count(container_last_seen{own})")[0]["value"][1]) == CONTAINERS, 60)
        with_monitoring = engine_share(seconds)
        chosen = f'{{service=~"{MONITORING}"}}'
        cpu = stack.values(f"sum by (service) (rate(container_cpu_usage_seconds_total{chosen}[{seconds}s]))", "service")
        memory = stack.values(
            f"sum by (service) (max_over_time(container_memory_working_set_bytes{chosen}[{seconds}s]))", "service"
        )
        look = float(stack.query(f"max_over_time(container_exporter_collect_seconds[{seconds}s])")[0]["value"][1])
        deploy("monitoring_enabled=false")
        without = engine_share(seconds)
    finally:
        run(PLAYBOOK, "playbooks/teardown.yml", *SETTINGS, "-e", "remove_data=true")
    print("| container | CPU, of one processor | memory |\n|---|---|---|")
    for service in cpu:
        print(f"| {service} | {cpu[service] * 100:.1f} % | {memory[service] / 2**20:.0f} MiB |")
    print(f"| all of them | {sum(cpu.values()) * 100:.1f} % | {sum(memory.values()) / 2**20:.0f} MiB |")
    print(f"| the engine, with monitoring | {with_monitoring * 100:.1f} % | |")
    print(f"| the engine, without | {without * 100:.1f} % | |")
    print(f"\nA look at all containers took at most {look:.2f} s.")


if __name__ == "__main__":
    main()
