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


def working_set(memory: dict[str, Any]) -> int:
    """Return the bytes of memory that cannot be given back at once: all of it without the inactive part of the page cache.

    Control groups of version 1 call that total_inactive_file, those of version 2 inactive_file.
    """
    details = memory.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return max(0, memory.get("usage", 0) - inactive)


def cache(memory: dict[str, Any]) -> int:
    """Return the bytes of the page cache (``total_cache`` in version 1, ``file`` in version 2)."""
    details = memory.get("stats") or {}
    return details.get("total_cache", details.get("file", 0))


def resident(memory: dict[str, Any]) -> int:
    """Return the bytes of anonymous memory (``total_rss`` in version 1, ``anon`` in version 2)."""
    details = memory.get("stats") or {}
    return details.get("total_rss", details.get("anon", 0))


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

    def add(self, kind: type, name: str, text: str, value: float, labels: dict[str, str]) -> None:
        """Add a sample to the metric called ``name``."""
        if name not in self._families:
            self._families[name] = kind(name, text, labels=tuple(labels))
        self._families[name].add_metric(tuple(labels.values()), value)

    def gauge(self, name: str, text: str, value: float, labels: dict[str, str]) -> None:
        """Add a value that goes up and down."""
        self.add(GaugeMetricFamily, name, text, value, labels)

    def counter(self, name: str, text: str, value: float, labels: dict[str, str]) -> None:
        """Add a value that only grows."""
        self.add(CounterMetricFamily, name, text, value, labels)

    def __iter__(self) -> Iterator[Metric]:
        """Return the metrics."""
        return iter(self._families.values())


def describe(container: Found, labels: dict[str, str], families: Families) -> None:
    """Add what is known of a container whether it runs or not."""
    host = container.details["HostConfig"]
    for state in STATES:
        text = "Whether the engine calls the container's state that."
        families.gauge("container_state", text, container.state == state, {**labels, "state": state})
    text = "Result of the container's health check: 1 healthy, 0 not (yet), -1 nobody checks."
    families.gauge("container_health_state", text, container.health, labels)
    families.gauge(
        "container_start_time_seconds", "Last start of the container, seconds of the epoch.", container.started, labels
    )
    text = "Since when the container is as it is (runs, has ended, fails its health check), seconds of the epoch."
    families.gauge("container_since_seconds", text, container.since, labels)
    if container.finished:
        families.gauge(
            "container_finish_time_seconds", "Last end of the container, seconds of the epoch.", container.finished, labels
        )
    if container.state in ("exited", "dead"):
        text = "Exit code of a container that has ended."
        families.gauge("container_exit_code", text, container.details["State"].get("ExitCode", 0), labels)
    text = "How often the engine has started the container again after it ended."
    families.counter("container_restarts", text, container.details["RestartCount"], labels)
    text = "Memory limit of the container in bytes; 0: none."
    families.gauge("container_spec_memory_limit_bytes", text, host["Memory"], labels)
    families.gauge(
        "container_spec_cpu_limit", "Processors that the container may use; 0: no limit.", processors(host), labels
    )


def measure(container: Found, labels: dict[str, str], families: Families) -> None:
    """Add what a running container uses."""
    stats = container.stats
    families.gauge("container_last_seen", "When the container was seen last, seconds of the epoch.", time.time(), labels)
    usage = stats["cpu_stats"]["cpu_usage"]
    for name, key, text in (
        ("container_cpu_usage_seconds", "total_usage", "CPU time used, in seconds."),
        ("container_cpu_user_seconds", "usage_in_usermode", "CPU time used in user mode, in seconds."),
        ("container_cpu_system_seconds", "usage_in_kernelmode", "CPU time used in the kernel, in seconds."),
    ):
        families.counter(name, text, usage.get(key, 0) / NANO, labels)
    throttling = stats["cpu_stats"].get("throttling_data") or {}
    for name, key, text, unit in (
        ("container_cpu_cfs_periods", "periods", "Periods in which the CPU limit was looked at.", 1),
        (
            "container_cpu_cfs_throttled_periods",
            "throttled_periods",
            "Periods in which the container had to wait for it.",
            1,
        ),
        ("container_cpu_cfs_throttled_seconds", "throttled_time", "Time for which the container had to wait for it.", NANO),
    ):
        families.counter(name, text, throttling.get(key, 0) / unit, labels)
    memory = stats["memory_stats"]
    for name, value, text in (
        ("container_memory_usage_bytes", memory.get("usage", 0), "Memory in use, page cache included."),
        ("container_memory_working_set_bytes", working_set(memory), "Memory that cannot be given back at once."),
        ("container_memory_rss", resident(memory), "Anonymous memory in bytes."),
        ("container_memory_cache", cache(memory), "Page cache in bytes."),
        ("container_threads", (stats.get("pids_stats") or {}).get("current", 0), "Processes and threads."),
    ):
        families.gauge(name, text, value, labels)
    for interface, counts in (stats.get("networks") or {}).items():
        for direction, short in (("receive", "rx"), ("transmit", "tx")):
            for what, key in (
                ("bytes", "bytes"),
                ("packets", "packets"),
                ("errors", "errors"),
                ("packets_dropped", "dropped"),
            ):
                text = f"Network {direction}: {what}."
                place = {**labels, "interface": interface}
                families.counter(f"container_network_{direction}_{what}", text, counts[f"{short}_{key}"], place)
    families.counter("container_fs_reads_bytes", "Bytes read from block devices.", block_bytes(stats, "read"), labels)
    families.counter("container_fs_writes_bytes", "Bytes written to block devices.", block_bytes(stats, "write"), labels)


def serve(server: balancers.Server, labels: dict[str, str], path: str, families: Families) -> None:
    """Add what a load balancer says of a replica, whose checks ask for ``path``."""
    labels = {**labels, "load_balancer": server.balancer}
    families.gauge("container_in_rotation", "Whether the load balancer has the replica in rotation.", server.up, labels)
    if server.since:
        text = "When the replica was put into rotation or taken out of it, seconds of the epoch."
        families.gauge("container_rotation_since_seconds", text, server.since, labels)
    if server.reason:
        why = f"{server.reason} on {path}" if server.asked and path and server.reason != balancers.DRAINED else server.reason
        text = "Why the load balancer does not have the replica in rotation."
        families.gauge("container_out_of_rotation", text, 1, {**labels, "reason": why})
    text = "Requests that the load balancer has sent to the replica's slots, streams included."
    families.counter("container_requests", text, server.requests, labels)
    text = "Requests to the replica's slots that ended with a status of 5xx or without an answer."
    families.counter("container_request_errors", text, server.errors, labels)
    text = "How long the replica took to answer, as the average of the last 1024 requests."
    families.gauge("container_response_time_seconds", text, server.response_time, labels)


def promise(deployment: dict[str, Any], families: Families) -> None:
    """Add what the deployment shall be, which alerts compare with."""
    for service, number in deployment["containers"].items():
        text = "How many containers of the service there shall be."
        families.gauge("stack_containers_wanted", text, number, {"service": service})
    for name, value in deployment["thresholds"].items():
        families.gauge("stack_alert_threshold", "From which value on alerts fire.", float(value), {"name": name})
    text = "Seconds after which the host stores the binary logs by itself; 0: it takes no backups."
    families.gauge("stack_backup_interval_seconds", text, deployment["backup_interval"], {})
    text = "Until when the certificate of the edge is valid, seconds of the epoch."
    families.gauge("stack_certificate_not_after_seconds", text, deployment["certificate_not_after"], {})


def tell_backups(path: Path, families: Families) -> None:
    """Add when the last good backup of each kind was taken, if there was one."""
    if not path.exists():
        return
    for kind, at in json.loads(path.read_text(encoding="utf-8")).items():
        text = "When the last good backup was taken, seconds of the epoch."
        families.gauge("stack_backup_last_success_seconds", text, at, {"kind": kind})


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
            text = "Whether the load balancer has answered."
            families.gauge("container_exporter_load_balancer_up", text, servers is not None, {"load_balancer": name})
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
        families.gauge("container_exporter_engine_up", "Whether the engine has answered.", containers is not None, node)
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
        text = "Size of the file system of images, containers and volumes."
        families.gauge("engine_filesystem_size_bytes", text, system.f_blocks * system.f_frsize, node)
        text = "Free bytes of the file system of images, containers and volumes, without what is kept for root."
        families.gauge("engine_filesystem_avail_bytes", text, system.f_bavail * system.f_frsize, node)
        text = "How long this answer took to collect."
        families.gauge("container_exporter_collect_seconds", text, time.monotonic() - begin, node)
        yield from families
