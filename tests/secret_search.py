"""Search every place in which a secret could show, for tests and for the audit."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stack import Stack, run

PROCESSES = Path("/proc")


def secrets(stack: Stack) -> dict[str, str]:
    """Return every secret of the deployment by its file, the key of the certificate as one of its lines."""
    folder = stack.directory / "secrets"
    found = {str(path.relative_to(stack.directory)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    key = stack.directory / "fe-lb/config/tls/site.pem.key"
    found[str(key.relative_to(stack.directory))] = key.read_text().splitlines()[1]
    return found


def layers(reference: str) -> Iterator[bytes]:
    """Yield the content of every file in the layers of an image, and the description of the image."""
    with tempfile.NamedTemporaryFile() as saved:
        run("docker", "save", "--output", saved.name, reference)
        with tarfile.open(saved.name) as image:
            for member in image:
                if member.isfile():
                    yield image.extractfile(member).read()


def places(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of every place in which a secret could show."""
    names = run("docker", "ps", "--all", "--format", "{{.Names}}").stdout.split()
    for name in names:
        # Somebody else's may be gone by now.
        yield f"docker inspect {name}", run("docker", "inspect", name, check=False).stdout.encode()
        logs = run("docker", "logs", name, check=False)
        yield f"docker logs {name}", (logs.stdout + logs.stderr).encode()
    for kind in ("network", "volume"):
        for name in run("docker", kind, "ls", "--format", "{{.Name}}").stdout.split():
            yield f"docker {kind} inspect {name}", run("docker", kind, "inspect", name, check=False).stdout.encode()
    for path in PROCESSES.glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            # It may have ended, or be the kernel's.
            with contextlib.suppress(OSError):
                yield f"{path}/{part}", (path / part).read_bytes()
    # What is written beside the secrets, and what Compose makes of it.
    for path in stack.directory.rglob("*"):
        inside = path.relative_to(stack.directory)
        if path.is_file() and inside.parts[0] != "secrets" and path.suffix != ".key":
            # What is replaced meanwhile has had another name.
            with contextlib.suppress(FileNotFoundError):
                yield f"file {inside}", path.read_bytes()
    compose = ("compose", "--file", str(stack.directory / "docker-compose.yml"), "config")
    yield "docker compose config", stack.docker(*compose).stdout.encode()
    own = run("docker", "images", "--quiet", "--no-trunc", "--filter", f"label=webstack.stack={stack.name}")
    for reference in sorted(set(own.stdout.split())):
        yield f"docker history {reference}", run("docker", "history", "--no-trunc", reference).stdout.encode()
        for number, content in enumerate(layers(reference)):
            yield f"layer file {number} of {reference}", content


def search(stack: Stack, outputs: dict[str, str]) -> tuple[int, list[str]]:
    """Return how many places were searched, ``outputs`` of commands among them, and where which secret was found.

    Secrets of fewer than eight characters are left out: they would be found everywhere.
    """
    found = {name: value.encode() for name, value in secrets(stack).items() if len(value) >= 8}
    searched, shown = 0, []
    for name, content in [*((name, output.encode()) for name, output in outputs.items()), *places(stack)]:
        searched += 1
        shown += [f"{secret} in {name}" for secret, value in found.items() if value in content]
    return searched, shown
