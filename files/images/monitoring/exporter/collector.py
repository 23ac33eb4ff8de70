"""Turns what engine and load balancers say into metrics, by cAdvisor's names and units where it has them.

Everything is asked anew for each scrape, so a container that has gone leaves no series behind.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter import balancers
from exporter.engine import Engine, Found

# The id as cAdvisor writes it: a container that is recreated under its old name is another one.
LABELS = ("id", "name", "service", "image")
NANO = 1e9
# What the deployment shall be; the playbook replaces it with every run that changes it.
DEPLOYMENT = Path("/etc/container-exporter/deployment.json")
# When backups were taken; what takes them replaces it.
BACKUPS = Path("/etc/container-exporter/backup.json")
STATES = ("created", "running", "paused", "restarting", "exited", "dead")
# Name of a metric, its value, and what it says.
Sample = tuple[str, float, str]


def part(memory: dict[str, Any], *names: str) -> int:
    """Return the bytes of a part of memory, by its name in version 1 or 2 of control groups."""
    details = memory.get("stats") or {}
    return next((details[name] for name in names if name in details), 0)


def working_set(memory: dict[str, Any]) -> int:
    """Return the bytes of memory that cannot be given back at once: all but the inactive part of the page cache."""
    return max(0, memory.get("usage", 0) - part(memory, "total_inactive_file", "inactive_file"))


def block_bytes(stats: dict[str, Any], operation: str) -> int:
    """Return the bytes read or written so far on all block devices."""
    entries = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    return sum(entry["value"] for entry in entries if entry["op"].lower() == operation)


def processors(host: dict[str, Any]) -> float:
    """Return how many processors a container may use; 0: no limit."""
    if host.get("NanoCpus"):
        return host["NanoCpus"] / NANO
    return host["CpuQuota"] / host["CpuPeriod"] if host.get("CpuQuota", 0) > 0 and host.get("CpuPeriod") else 0.0


class Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        """Begin without any."""
        self._families: dict[str, Metric] = {}

    def add(self, kind: type, labels: dict[str, str], samples: Iterable[Sample]) -> None:
        """Add a sample to each of some metrics."""
        for name, value, text in samples:
            if name not in self._families:
                self._families[name] = kind(name, text, labels=tuple(labels))
            self._families[name].add_metric(tuple(labels.values()), value)

    def gauges(self, labels: dict[str, str], *samples: Sample) -> None:
        """Add values that go up and down."""
        self.add(GaugeMetricFamily, labels, samples)

    def counters(self, labels: dict[str, str], *samples: Sample) -> None:
        """Add values that only grow."""
        self.add(CounterMetricFamily, labels, samples)

    def __iter__(self) -> Iterator[Metric]:
        """Return the metrics."""
        return iter(self._families.values())


def describe(container: Found, labels: dict[str, str], families: Families) -> None:
    """Add what is known of a container whether it runs or not."""
    host = container.details["HostConfig"]
    text = "Whether the engine calls the container's state that."
    for state in STATES:
        families.gauges({**labels, "state": state}, ("container_state", container.state == state, text))
    checked = "Result of the container's health check: 1 healthy, 0 not (yet), -1 nobody checks."
    text = "Since when the container is as it is (runs, has ended, fails its health check), seconds of the epoch."
    families.gauges(
        labels,
        ("container_health_state", container.health, checked),
        ("container_start_time_seconds", container.started, "Last start of the container, seconds of the epoch."),
        ("container_since_seconds", container.since, text),
        ("container_spec_memory_limit_bytes", host["Memory"], "Memory limit of the container in bytes; 0: none."),
        ("container_spec_cpu_limit", processors(host), "Processors that the container may use; 0: no limit."),
    )
    text = "How often the engine has started the container again after it ended."
    families.counters(labels, ("container_restarts", container.details["RestartCount"], text))
    if container.finished:
        text = "Last end of the container, seconds of the epoch."
        families.gauges(labels, ("container_finish_time_seconds", container.finished, text))
    if container.state in ("exited", "dead"):
        code = container.details["State"].get("ExitCode", 0)
        families.gauges(labels, ("container_exit_code", code, "Exit code of a container that has ended."))


def measure(container: Found, labels: dict[str, str], families: Families) -> None:
    """Add what a running container uses."""
    stats, memory = container.stats, container.stats["memory_stats"]
    cpu, cfs = stats["cpu_stats"]["cpu_usage"], stats["cpu_stats"].get("throttling_data") or {}
    used, user, kernel = (cpu.get(key, 0) / NANO for key in ("total_usage", "usage_in_usermode", "usage_in_kernelmode"))
    waits, waited = cfs.get("throttled_periods", 0), cfs.get("throttled_time", 0) / NANO
    families.counters(
        labels,
        ("container_cpu_usage_seconds", used, "CPU time used, in seconds."),
        ("container_cpu_user_seconds", user, "CPU time used in user mode, in seconds."),
        ("container_cpu_system_seconds", kernel, "CPU time used in the kernel, in seconds."),
        ("container_cpu_cfs_periods", cfs.get("periods", 0), "Periods in which the CPU limit was looked at."),
        ("container_cpu_cfs_throttled_periods", waits, "Periods in which the container had to wait for it."),
        ("container_cpu_cfs_throttled_seconds", waited, "Time for which the container had to wait for it."),
        ("container_fs_reads_bytes", block_bytes(stats, "read"), "Bytes read from block devices."),
        ("container_fs_writes_bytes", block_bytes(stats, "write"), "Bytes written to block devices."),
    )
    families.gauges(
        labels,
        ("container_last_seen", time.time(), "When the container was seen last, seconds of the epoch."),
        ("container_memory_usage_bytes", memory.get("usage", 0), "Memory in use, page cache included."),
        ("container_memory_working_set_bytes", working_set(memory), "Memory that cannot be given back at once."),
        ("container_memory_rss", part(memory, "total_rss", "anon"), "Anonymous memory in bytes."),
        ("container_memory_cache", part(memory, "total_cache", "file"), "Page cache in bytes."),
        ("container_threads", (stats.get("pids_stats") or {}).get("current", 0), "Processes and threads."),
    )
    for interface, counts in (stats.get("networks") or {}).items():
        for direction, short in (("receive", "rx"), ("transmit", "tx")):
            for what in ("bytes", "packets", "errors", "packets_dropped"):
                value = counts[f"{short}_{what.removeprefix('packets_')}"]
                sample = (f"container_network_{direction}_{what}", value, f"Network {direction}: {what}.")
                families.counters({**labels, "interface": interface}, sample)


def serve(server: balancers.Server, labels: dict[str, str], path: str, families: Families) -> None:
    """Add what a load balancer says of a replica, whose checks ask for ``path``."""
    labels = {**labels, "load_balancer": server.balancer}
    text = "How long the replica took to answer, as the average of the last 1024 requests."
    families.gauges(
        labels,
        ("container_in_rotation", server.up, "Whether the load balancer has the replica in rotation."),
        ("container_response_time_seconds", server.response_time, text),
    )
    if server.since:
        text = "When the replica was put into rotation or taken out of it, seconds of the epoch."
        families.gauges(labels, ("container_rotation_since_seconds", server.since, text))
    if server.reason:
        why = f"{server.reason} on {path}" if server.asked and path and server.reason != balancers.DRAINED else server.reason
        text = "Why the load balancer does not have the replica in rotation."
        families.gauges({**labels, "reason": why}, ("container_out_of_rotation", 1, text))
    sent = "Requests that the load balancer has sent to the replica's slots, streams included."
    text = "Requests to the replica's slots that ended with a status of 5xx or without an answer."
    families.counters(
        labels,
        ("container_requests", server.requests, sent),
        ("container_request_errors", server.errors, text),
    )


def promise(deployment: dict[str, Any], families: Families) -> None:
    """Add what the deployment shall be, which alerts compare with."""
    for service, number in deployment["containers"].items():
        text = "How many containers of the service there shall be."
        families.gauges({"service": service}, ("stack_containers_wanted", number, text))
    for name, value in deployment["thresholds"].items():
        families.gauges({"name": name}, ("stack_alert_threshold", float(value), "From which value on alerts fire."))
    text = "Seconds after which the host stores the binary logs by itself; 0: it takes no backups."
    families.gauges({}, ("stack_backup_interval_seconds", deployment["backup_interval"], text))
    text = "Until when the certificate of the edge is valid, seconds of the epoch."
    families.gauges({}, ("stack_certificate_not_after_seconds", deployment["certificate_not_after"], text))


def tell_backups(path: Path, families: Families) -> None:
    """Add when the last good backup of each kind was taken, if there was one."""
    if path.exists():
        text = "When the last good backup was taken, seconds of the epoch."
        for kind, at in json.loads(path.read_text(encoding="utf-8")).items():
            families.gauges({"kind": kind}, ("stack_backup_last_success_seconds", at, text))


class Containers(Collector):
    """Asks engine and load balancers for each scrape."""

    def __init__(self, engine: Engine, urls: dict[str, str]) -> None:
        """Ask an engine, and the load balancers at ``urls`` by their names."""
        self._engine, self._urls = engine, urls

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is, is known when it is asked for."""
        return []

    def servers(self, families: Families) -> dict[str, balancers.Server]:
        """Return what the load balancers say, by address."""
        found = {}
        for name, url in self._urls.items():
            try:
                servers = balancers.ask(name, url)
            except (OSError, requests.RequestException):
                servers = None
            sample = ("container_exporter_load_balancer_up", servers is not None, "Whether the load balancer has answered.")
            families.gauges({"load_balancer": name}, sample)
            found.update({server.address: server for server in servers or []})
        return found

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        begin, families = time.monotonic(), Families()
        node = {"node": self._engine.node} if self._engine.node else {}
        try:
            containers = list(self._engine.containers())
        except (DockerException, requests.RequestException) as error:
            print(f"The engine does not answer: {error}", flush=True)
            containers = None
        sample = ("container_exporter_engine_up", containers is not None, "Whether the engine has answered.")
        families.gauges(node, sample)
        servers = self.servers(families)
        deployment = json.loads(DEPLOYMENT.read_text(encoding="utf-8"))
        paths = deployment.get("health_paths", {})
        for container in containers or []:
            values = (f"/docker/{container.details['Id']}", container.name, container.service, container.image)
            labels = {**dict(zip(LABELS, values, strict=True)), **node}
            describe(container, labels, families)
            if container.stats:
                measure(container, labels, families)
            for address in container.addresses & set(servers):
                serve(servers[address], labels, paths.get(container.service, ""), families)
        promise(deployment, families)
        tell_backups(BACKUPS, families)
        # The root of a container lies on the same file system as the volumes of the engine.
        system = os.statvfs("/")
        size, free = (number * system.f_frsize for number in (system.f_blocks, system.f_bavail))
        text = "Free bytes of the file system of images, containers and volumes, without what is kept for root."
        families.gauges(
            node,
            ("engine_filesystem_size_bytes", size, "Size of the file system of images, containers and volumes."),
            ("engine_filesystem_avail_bytes", free, text),
            ("container_exporter_collect_seconds", time.monotonic() - begin, "How long this answer took to collect."),
        )
        yield from families
