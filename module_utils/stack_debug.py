"""A session with a debugger: one replica with a terminal serves alone, and afterwards everything is as it was.

The replica is a container beside the others, which the load balancer finds like any new one. Once it serves, the balancer
sends nothing to the others, and checks it no more: code that is held at a breakpoint answers no check.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from ansible.module_utils import stack_lock, stack_run
from ansible.module_utils.stack_haproxy import MAINTENANCE, RUNNING, Server, ask, tier_servers

# Seconds that the others have to pass a check before the replica of the session goes.
TAKE_BACK = 5.0
# Seconds between two looks at the load balancer.
LOOK = 0.3
# Becomes a connection to a port of loopback, in the network of another container.
RELAY = 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit; cat <&3 & cat >&3; kill $!'


class Session:
    """One replica of a tier that serves alone."""

    def __init__(self, client: list[str], stack: dict, folder: Path, tier: str, port: int) -> None:
        """Prepare a session.

        Args:
            client: how Compose is called for the stack.
            stack: what its Compose file says.
            folder: of the stack.
            tier: ``fe`` or ``be``.
            port: of 127.0.0.1, on the host and in the container, for a debugger; 0: none.
        """
        self.client, self.stack, self.folder, self.tier, self.port = client, stack, folder, tier, port
        self.container = f"{stack['name']}-{tier}-debug"
        self.run = stack_run.describe(os.getpid(), f"make debug SERVICE={tier}", True)
        self.over = threading.Event()

    def balancer(self, command: str) -> str:
        """Return what the tier's load balancer answers."""
        return ask(self.folder / f"{self.tier}-lb/run/master.sock", f"@1 {command}", timeout=5)

    def command(self, terminal: bool) -> list[str]:
        """Return what starts the replica."""
        options = ["--rm", "--no-deps", "--use-aliases", "--name", self.container, "--env", "APP_MODE=debug"]
        options += ["--env", f"DEBUG_PORT={self.port}"] if self.port else []
        return [*self.client, "run", *options, *([] if terminal else ["--no-TTY"]), self.tier]

    def address(self) -> str:
        """Return where the load balancer reaches the replica; empty while it does not run."""
        command = ["docker", "container", "inspect", "--format", "{{json .NetworkSettings.Networks}}", self.container]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        services = self.stack["services"]
        # On which its load balancer reaches it.
        (shared,) = set(services[self.tier]["networks"]) & set(services[f"{self.tier}-lb"]["networks"])
        return json.loads(done.stdout)[f"{self.stack['name']}_{shared}"]["IPAddress"] if done.returncode == 0 else ""

    def take_over(self) -> None:
        """Let the replica serve alone from when it passes its first check until the session is over."""
        address, own = "", []
        while not self.over.wait(LOOK):
            with contextlib.suppress(OSError, KeyError, ValueError):
                address = address or self.address()
                servers = self.servers() if address else []
                for server in servers:
                    if server.address == address and server.operation == RUNNING and server.path not in own:
                        self.balancer(f"disable health {server.path}")
                        own.append(server.path)
                        if server.backend == self.tier:
                            print(f"\r\n{self.container} serves alone now.\r", file=sys.stderr, flush=True)
                alone = any(path.startswith(f"{self.tier}/") for path in own)
                for server in servers if alone else []:
                    if server.address not in ("", address) and not server.administration & MAINTENANCE:
                        self.balancer(f"set server {server.path} state maint")

    def servers(self) -> list[Server]:
        """Return the slots of every backend of the tier (OSError: the load balancer does not answer)."""
        return tier_servers(self.balancer("show servers state"), self.tier)

    def others_serve(self) -> bool:
        """Tell whether a replica that is no session's gets requests (OSError: the load balancer does not answer)."""
        return any(server.up and server.backend == self.tier and not server.unchecked for server in self.servers())

    def restore(self) -> None:
        """Put everything right, whoever has ended the session, and let the next run have the stack."""
        if stack_lock.running(self.folder).get("id") == self.run["id"]:
            self.clean()
            (self.folder / stack_lock.RUN).unlink(missing_ok=True)

    def clean(self) -> None:
        """Let the replica of a session go, and the others serve."""
        # A balancer that is away has forgotten it all when it is back.
        with contextlib.suppress(OSError):
            freed = [server.path for server in self.servers() if server.kept_out]
            for path in freed:
                self.balancer(f"set server {path} state ready")
            # They are checked before they get requests, and this one serves until then.
            deadline = time.monotonic() + TAKE_BACK
            while freed and time.monotonic() < deadline and not self.others_serve():
                time.sleep(LOOK)
        subprocess.run(["docker", "rm", "--force", self.container], capture_output=True, check=False)
        with contextlib.suppress(OSError):
            for server in self.servers():
                # A slot keeps this for the container that it gets next.
                if server.unchecked:
                    self.balancer(f"enable health {server.path}")

    def relay(self, listener: socket.socket) -> None:
        """Hand what comes to a port of the host to that of the container's loopback, which no other container reaches."""
        image = self.stack["services"]["fe-lb"]["image"]
        command = ["docker", "run", "--rm", "--interactive", "--pull=never", "--read-only", "--cap-drop=ALL", "--user=65534"]
        command += ["--network", f"container:{self.container}", "--entrypoint=bash", image, "-c", RELAY, str(self.port)]
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    subprocess.Popen(command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL)


def debug(client: list[str], stack: dict, folder: Path, tier: str, port: int) -> int | str:
    """Run a session in this terminal; return its exit code, or the sentence why there is none."""
    session = Session(client, stack, folder, tier, port)
    other = stack_lock.claim(folder, session.run, 0)
    if other:
        return stack_lock.refusal(other)
    # What a session has left that nobody has put right: its machine was switched off, perhaps.
    session.clean()
    # However this process ends, everything is put right; what it leaves in the terminal ends with the container.
    stack_run.keep(os.getpid(), lambda: os.utime(folder / stack_lock.RUN), session.restore, patient=False)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    # What runs in the terminal gets it as well, and ends.
    signal.signal(signal.SIGINT, lambda *_: None)
    watcher = threading.Thread(target=session.take_over, daemon=True)
    try:
        with socket.create_server(("127.0.0.1", port)) if port else contextlib.nullcontext() as listener:
            watcher.start()
            if listener:
                threading.Thread(target=session.relay, args=[listener], daemon=True).start()
            where = f" A debugger may attach to 127.0.0.1:{port}." if port else ""
            print(f"Starting {session.container}; breakpoint() stops here, Ctrl-C ends.{where}", file=sys.stderr, flush=True)
            code = subprocess.call(session.command(os.isatty(0)))
            return 0 if code in (0, 130, 143) else code
    except OSError as error:
        return f"debug_port: {port} cannot be used ({os.strerror(error.errno)}); give another one."
    finally:
        session.over.set()
        if watcher.is_alive():
            watcher.join()
        session.restore()
