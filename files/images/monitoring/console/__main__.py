"""Serve the console until SIGTERM.

Environment:
    PROMETHEUS: where Prometheus answers, like http://prometheus:9090.
    EXPORTER: where container-exporter answers, like http://metrics.container-exporter:9417.
    STACK: name of the stack, for the title.
    TIERS: its tiers as JSON, for state.sketch.
    LISTEN_NAME: name that stands for the address to listen on.
    PORT: port to listen on.
"""

import json
import os
import socket

import uvicorn

from console.app import create
from console.exporter import Exporter
from console.prometheus import Prometheus

if __name__ == "__main__":
    prometheus, exporter = Prometheus(os.environ["PROMETHEUS"]), Exporter(os.environ["EXPORTER"])
    uvicorn.run(
        create(prometheus, exporter, os.environ["STACK"], json.loads(os.environ["TIERS"])),
        host=socket.gethostbyname(os.environ["LISTEN_NAME"]),
        port=int(os.environ["PORT"]),
        access_log=False,
        server_header=False,
    )
