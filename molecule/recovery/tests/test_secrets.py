"""No secret is where it does not belong, and all of them can be replaced while requests go on."""

import json
import socket
import ssl
import tarfile
import tempfile
from pathlib import Path

import pytest
from ha import Load
from stack import run
from writer import Writer

PROCESSES = Path("/proc")
MYSQL = "webstack/mysql:9.7-debian"
ACCOUNTS = {"app": "database_password", "root": "database_root_password", "exporter": "database_exporter_password"}
LOG_IN = """
read -r password
MYSQL_PWD=$password exec mysql --user="$0" "$@" --execute='SELECT 1'
"""


def secrets(stack):
    """Return every secret of the deployment by its file, the key of the certificate as one of its lines."""
    folder = stack.directory / "secrets"
    found = {str(path.relative_to(stack.directory)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    key = stack.directory / "fe-lb/config/tls/site.pem.key"
    found[str(key.relative_to(stack.directory))] = key.read_text().splitlines()[1]
    return found


def layers(reference):
    """Yield the content of every file in the layers of an image, and the description of the image."""
    with tempfile.NamedTemporaryFile() as saved:
        run("docker", "save", "--output", saved.name, reference)
        with tarfile.open(saved.name) as image:
            for member in image:
                if member.isfile():
                    yield image.extractfile(member).read()


def places(stack):
    """Yield the name and the content of every place in which a secret could show."""
    names = run("docker", "ps", "--all", "--format", "{{.Names}}").stdout.split()
    for name in names:
        yield f"docker inspect {name}", run("docker", "inspect", name).stdout.encode()
        logs = run("docker", "logs", name, check=False)
        yield f"docker logs {name}", (logs.stdout + logs.stderr).encode()
    for kind in ("network", "volume"):
        for name in run("docker", kind, "ls", "--format", "{{.Name}}").stdout.split():
            yield f"docker {kind} inspect {name}", run("docker", kind, "inspect", name).stdout.encode()
    for path in PROCESSES.glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            try:
                yield f"{path}/{part}", (path / part).read_bytes()
            except OSError:
                # It has ended, or is the kernel's.
                continue
    # What is written beside the secrets, and what Compose makes of it.
    for path in stack.directory.rglob("*"):
        inside = path.relative_to(stack.directory)
        if path.is_file() and inside.parts[0] != "secrets" and path.suffix != ".key":
            yield f"file {inside}", path.read_bytes()
    compose = ("compose", "--file", str(stack.directory / "docker-compose.yml"), "config")
    yield "docker compose config", stack.docker(*compose).stdout.encode()
    own = run("docker", "images", "--quiet", "--no-trunc", "--filter", f"label=webstack.stack={stack.name}")
    for reference in sorted(set(own.stdout.split())):
        yield f"docker history {reference}", run("docker", "history", "--no-trunc", reference).stdout.encode()
        for number, content in enumerate(layers(reference)):
            yield f"layer file {number} of {reference}", content


def hits(stack, found, name, content):
    return [f"{secret} in {name}" for secret, value in found.items() if value.encode() in content]


def search(stack, outputs):
    """Return how many places were searched and where which secret was found."""
    found = secrets(stack)
    assert len(found) >= 7
    searched, shown = 0, []
    for name, content in [*outputs.items(), *places(stack)]:
        searched += 1
        shown += hits(stack, found, name, content if isinstance(content, bytes) else content.encode())
    return searched, shown


def test_no_secret_shows_anywhere(stack):
    outputs = {
        "output of a run": stack.playbook("site.yml", "--diff", "-vvv").stdout,
        "output of an edit": stack.playbook("site.yml", "--diff", "-vvv", "-e", "hsts_max_age=5").stdout,
        "output of a check": stack.playbook("site.yml", "--check", "--diff", "-vvv").stdout,
        "output of a backup": stack.playbook("backup.yml", "--diff", "-vvv").stdout,
        "output of a restore": stack.playbook("restore.yml", "--diff", "-vvv", "-e", f"confirm={stack.name}").stdout,
        "output of a rotation": stack.playbook("rotate.yml", "--diff", "-vvv").stdout,
    }
    searched, shown = search(stack, outputs)
    print(f"{searched} places searched, {len(shown)} hits")
    assert not shown


@pytest.mark.parametrize("where", ["label", "environment", "log", "argument"])
def test_search_finds_what_is_there(stack, where):
    """Put a secret where it does not belong, and find it."""
    value = (stack.directory / "secrets/db/database_password").read_text()
    name = f"{stack.name}-leak"
    options = {
        "label": ([f"--label=leak={value}"], "sleep", ["60"]),
        "environment": ([f"--env=LEAK={value}"], "sleep", ["60"]),
        "log": ([f"--env=LEAK={value}"], "sh", ["-c", "echo $LEAK; exec sleep 60"]),
        "argument": ([], "sh", ["-c", "sleep 60", value]),
    }[where]
    run(
        "docker",
        "run",
        "--detach",
        "--name",
        name,
        *options[0],
        "--entrypoint",
        options[1],
        "webstack/mysql:9.7-debian",
        *options[2],
    )
    try:
        _, shown = search(stack, {})
        assert any(name in place or "/proc" in place for place in shown)
    finally:
        run("docker", "rm", "--force", name)


def certificate(stack):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((stack.address, stack.port("https")), timeout=5)
    with context.wrap_socket(plain, server_hostname="localhost") as secured:
        return secured.getpeercert(binary_form=True)


def test_rotation_under_load_loses_nothing(stack):
    before, shown = secrets(stack), certificate(stack)
    database = stack.containers("db")[0]
    with Load(stack, rate=100) as load, Writer(stack, "rotation") as writer, load.event("rotation") as window:
        stack.playbook("rotate.yml")
    print(window.describe())
    print(f"{len(writer.writes)} writes, {sum(not write.acknowledged for write in writer.writes)} failed")
    assert not window.failed
    assert {write.status for write in writer.writes} == {303}
    after = secrets(stack)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == set(before) - {"secrets/backup/password"}
    assert certificate(stack) != shown
    # The database went on, and knows the old passwords no more.
    assert stack.containers("db")[0]["State"]["StartedAt"] == database["State"]["StartedAt"]
    for user, file in ACCOUNTS.items():
        way = ("--protocol=socket",) if user == "root" else ("--protocol=tcp", "--host=127.0.0.1")
        for passwords, code in ((before, 1), (after, 0)):
            login = ("docker", "exec", "--interactive", database["Id"], "bash", "-c", LOG_IN, user, *way)
            done = run(*login, input=passwords[f"secrets/db/{file}"] + "\n", check=False)
            assert done.returncode == code, (user, code, done.stderr)
    assert stack.request().status == 200
    assert "changed=0" in stack.playbook("site.yml").stdout
    assert json.loads((stack.directory / "state.json").read_text())["secrets"] >= 1


def test_interrupted_rotation_is_continued(stack):
    before = secrets(stack)
    # It ends where new and old passwords are accepted.
    done = stack.playbook("rotate.yml", "-e", "stack_wait_timeout=nonsense", check=False)
    assert done.returncode != 0
    assert secrets(stack) == before
    plan = stack.directory / "secrets/rotation.json"
    generation = json.loads((stack.directory / "state.json").read_text())["secrets"]
    passwords = {
        name: f"planned-{name}" for name in ("database_password", "database_root_password", "database_exporter_password")
    }
    plan.write_text(json.dumps({"generation": generation + 1, "passwords": passwords}))
    stack.playbook("rotate.yml")
    assert not plan.exists()
    assert (stack.directory / "secrets/be/database_password").read_text() == "planned-database_password"
    assert stack.request().status == 200
    assert "changed=0" in stack.playbook("site.yml").stdout
