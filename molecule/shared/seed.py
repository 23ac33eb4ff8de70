"""Keep the platform's images in a volume, from which test machines get theirs within seconds.

Usage:
    seed.py make ENGINE REGISTRY IMAGE...  print the name of the volume, and make it where it is missing
    seed.py fill SEED SHELL VOLUME[=REGISTRY]...  copy the images to the volumes of machines

Making it takes a minute: the engine of this machine pushes the images to a registry, and an engine on the volume pulls
them. ENGINE and REGISTRY are the images of these two, SHELL is one that has bash. What the registry has stays in the volume
as well: with =REGISTRY a machine gets it, as a volume of that name, so that pushing the images there again is short.

The volume is kept for the next scenario. To remove it: docker volume rm $(docker volume ls -qf label=webstack.seed)
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

LABEL = "webstack.seed"
# Seconds that engine and registry may take to start.
PATIENCE = 60
# Pushes compress, and a machine has a few processors.
THREADS = 2
# An engine that runs no containers needs no network; both folders of the volume are made here.
ENGINE = "dockerd --data-root /seed/docker --bridge none --iptables=false --ip6tables=false"
STORE = "/seed/registry"
# Leaves what an engine knows of images, and nothing that makes it this engine.
FINISH = """
cd /seed/docker
find . -mindepth 1 -maxdepth 1 ! -name image ! -name overlay2 -exec rm -rf {} +
rm -f overlay2/backingFsBlockDev
touch /seed/complete
"""
# An engine never changes layers in place, nor a registry its blobs, so all machines share them by hard links. These need
# both volumes below one mount point. Everything else is changed in place, and is copied.
FILL = """
seed=/volumes/$1/_data
shift
test -e "$seed/complete"
for name; do
    machine=/volumes/${name%%=*}/_data
    registry=${name#"${name%%=*}"}
    cp -al "$seed/docker/overlay2" "$machine/"
    cp -a "$seed/docker/image" "$machine/"
    [ "$registry" ] || continue
    store=$machine/volumes/${registry#=}/_data/docker/registry/v2
    mkdir -p "$store"
    cp -al "$seed/registry/docker/registry/v2/blobs" "$store/"
    cp -a "$seed/registry/docker/registry/v2/repositories" "$store/"
    # The user of the registry.
    chown -R 65534:65534 "$machine/volumes/${registry#=}/_data"
    chmod 0701 "$machine/volumes"
done
"""


def docker(*argv: str, check: bool = True) -> str:
    """Run Docker's client and return what it prints, which is nothing where it fails and need not succeed.

    Raises:
        SystemExit: it failed; the text says why.
    """
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"docker {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode == 0 else ""


def wait_for(*argv: str) -> None:
    """Wait until a command of Docker's client succeeds with an answer.

    Raises:
        SystemExit: it did not in time.
    """
    deadline = time.monotonic() + PATIENCE
    while not docker(*argv, check=False):
        if time.monotonic() > deadline:
            sys.exit(f"docker {' '.join(argv)}: no answer within {PATIENCE} s")
        time.sleep(0.2)


@contextmanager
def alone():
    """Keep other scenarios of this machine waiting, which would make the same volume."""
    with (Path(tempfile.gettempdir()) / "webstack-seed.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def carry(image: str, port: str, engine: str) -> None:
    """Bring an image from the engine of this machine through a registry, which listens on a port, to another engine."""
    here, there = f"127.0.0.1:{port}/{image}", f"127.0.0.1:5000/{image}"
    docker("tag", image, here)
    try:
        docker("push", "--quiet", here)
    finally:
        docker("rmi", here)
    docker("exec", engine, "docker", "pull", "--quiet", there)
    docker("exec", engine, "docker", "tag", there, image)
    docker("exec", engine, "docker", "rmi", there)


def make(engine: str, registry: str, *images: str) -> str:
    """Return the name of the volume that has these images, after making it where it is missing."""
    ids = docker("image", "inspect", "--format", "{{.Id}}", engine, registry, *images).split()
    told = [*sorted(zip(images, ids[2:], strict=True)), *ids[:2], ENGINE, STORE, FINISH]
    name = f"webstack-seed-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"
    helpers = f"{name}-engine", f"{name}-registry"
    inside = "run", "--rm", "--user=0", "--network=none", f"--volume={name}:/seed", "--entrypoint=bash", engine, "-euc"
    docker("volume", "create", "--label", f"{LABEL}=true", name)
    if docker(*inside, "ls /seed/complete", check=False):
        return name
    docker("rm", "--force", "--volumes", *helpers)
    # Of a run that was broken off, and of other images.
    for old in docker("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        docker("volume", "rm", old, check=False)
    docker("volume", "create", "--label", f"{LABEL}=true", name)
    docker(*inside, f"install -d -o 65534 {STORE}")
    try:
        store = f"--env=REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={STORE}"
        docker(
            "run", "--detach", f"--name={helpers[1]}", "--publish=127.0.0.1::5000", f"--volume={name}:/seed", store, registry
        )
        start = [f"--name={helpers[0]}", f"--network=container:{helpers[1]}", "--privileged", "--tmpfs=/run"]
        docker(
            "run", "--detach", *start, f"--volume={name}:/seed", "--entrypoint=tini", engine, "--", *ENGINE.split(),
        )  # fmt: skip
        wait_for("exec", helpers[0], "docker", "version", "--format", "{{.Server.Version}}")
        port = docker("port", helpers[1], "5000/tcp").rpartition(":")[2]
        wait_for("exec", helpers[0], "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5000 && echo open")
        # All others are built on the first one, which is pushed once that way.
        carry(images[0], port, helpers[0])
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda image: carry(image, port, helpers[0]), images[1:]))
        docker("stop", "--time", str(PATIENCE), *helpers)
    finally:
        docker("rm", "--force", "--volumes", *helpers)
    docker(*inside, FINISH)
    return name


def fill(seed: str, shell: str, *volumes: str) -> None:
    """Give the volumes of machines, which are made here, the images of a seed; ``volume=registry`` the blobs as well."""
    for volume in volumes:
        docker("volume", "create", volume.partition("=")[0])
    root = docker("info", "--format", "{{.DockerRootDir}}")
    options = "--rm", "--user=0", "--network=none", f"--volume={root}/volumes:/volumes", "--entrypoint=bash"
    docker("run", *options, shell, "-euc", FILL, "fill", seed, *volumes)


def main() -> None:
    """Do what is asked for."""
    command, *arguments = sys.argv[1:]
    with alone():
        if command == "make":
            print(make(*arguments))
        else:
            fill(*arguments)


if __name__ == "__main__":
    main()
