"""Serve the console until SIGTERM.

Environment:
    PROMETHEUS: where Prometheus answers, like http://prometheus:9090.
    EXPORTER: where container-exporter answers, like http://metrics.container-exporter:9417.
    STACK: name of the stack, for the title.
    LISTEN_NAME: name that stands for the address to listen on.
    PORT: port to listen on.
"""

import os
import socket

import uvicorn

from console.app import create
from console.exporter import Exporter
from console.prometheus import Prometheus

if __name__ == "__main__":
    uvicorn.run(
        create(Prometheus(os.environ["PROMETHEUS"]), Exporter(os.environ["EXPORTER"]), os.environ["STACK"]),
        host=socket.gethostbyname(os.environ["LISTEN_NAME"]),
        port=int(os.environ["PORT"]),
        access_log=False,
        server_header=False,
    )
