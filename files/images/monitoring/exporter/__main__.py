"""Serve the metrics, and what the console asks beside them, until SIGTERM.

Environment:
    PROJECT: project name of Compose, or name of a Swarm's stack.
    NODE: in a Swarm, the host whose engine is asked; it becomes a label.
    DOCKER_HOST: the read-only proxy before the engine, like tcp://docker-api:2375 or unix:///run/docker-api/api.sock.
    LOAD_BALANCERS: the load balancers to ask for their statistics, as NAME=URL with spaces between them; each address that
        the name of a URL stands for is one of them.
    LISTEN_NAME: name that stands for the address to listen on.
    PORT: port to listen on.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import docker
import requests
from prometheus_client import REGISTRY, start_http_server

# What is shared with the playbook comes with the configuration (stack_secrets.py).
sys.path.append("/etc/container-exporter")
from exporter.collector import Containers
from exporter.engine import Engine
from exporter.questions import Questions


def connect(url: str, project: str, node: str) -> Engine:
    """Return the engine, once it answers; the proxy may be starting at the same time."""
    while True:
        try:
            return Engine(url, project, node)
        except (docker.errors.DockerException, requests.RequestException) as error:
            print(f"The engine does not answer yet: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def main() -> None:
    """Serve."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    urls = dict(item.split("=", 1) for item in os.environ["LOAD_BALANCERS"].split())
    address = socket.gethostbyname(os.environ["LISTEN_NAME"])
    engine = connect(os.environ["DOCKER_HOST"], os.environ["PROJECT"], os.environ.get("NODE", ""))
    REGISTRY.register(Containers(engine, urls))
    server, _ = start_http_server(int(os.environ["PORT"]), addr=address)
    server.set_app(Questions(engine, server.get_app()))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
