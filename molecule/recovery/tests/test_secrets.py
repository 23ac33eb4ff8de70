"""No secret is where it does not belong, and all of them can be replaced while requests go on."""

import json
import socket
import ssl

import pytest
from ha import Load
from secret_search import search, secrets
from stack import changed, run
from writer import Writer

MYSQL = "webstack/mysql:9.7-debian"
ACCOUNTS = {"app": "database_password", "root": "database_root_password", "exporter": "database_exporter_password"}
# Requests per second, few enough that what else the machine has to do leaves room for them.
RATE = 20
LOG_IN = """
read -r password
MYSQL_PWD=$password exec mysql --user="$0" "$@" --execute='SELECT 1'
"""


@pytest.mark.long
def test_no_secret_shows_anywhere(stack):
    outputs = {
        "output of a run": stack.playbook("site.yml", "--diff", "-vvv").stdout,
        "output of an edit": stack.playbook("site.yml", "--diff", "-vvv", "-e", "hsts_max_age=5").stdout,
        "output of a check": stack.playbook("site.yml", "--check", "--diff", "-vvv").stdout,
        "output of a backup": stack.playbook("backup.yml", "--diff", "-vvv").stdout,
        "output of a restore": stack.playbook("restore.yml", "--diff", "-vvv", "-e", f"confirm={stack.name}").stdout,
        "output of a rotation": stack.playbook("rotate.yml", "--diff", "-vvv").stdout,
    }
    assert len(secrets(stack)) >= 7
    searched, shown = search(stack, outputs)
    print(f"{searched} places searched, {len(shown)} hits")
    assert not shown


def test_search_finds_what_is_there(stack):
    """Put a secret where it does not belong, and find it."""
    value = (stack.directory / "secrets/db/database_password").read_text()
    leaks = {
        "label": ([f"--label=leak={value}", "--entrypoint=sleep"], ["60"]),
        "environment": ([f"--env=LEAK={value}", "--entrypoint=sleep"], ["60"]),
        "log": (["--entrypoint=sh"], ["-c", f"echo {value}; exec sleep 60"]),
        "argument": (["--entrypoint=sh"], ["-c", "sleep 60", value]),
    }
    names = {where: f"{stack.name}-leak-{where}" for where in leaks}
    try:
        for where, (options, arguments) in leaks.items():
            run("docker", "run", "--detach", "--name", names[where], *options, MYSQL, *arguments)
        _, shown = search(stack, {})
    finally:
        run("docker", "rm", "--force", "--volumes", *names.values())
    for where in ("label", "environment", "argument"):
        assert any(place.endswith(f"docker inspect {names[where]}") for place in shown)
    assert any(place.endswith(f"docker logs {names['log']}") for place in shown)
    assert any(place.endswith("/environ") for place in shown)
    assert any(place.endswith("/cmdline") for place in shown)


def certificate(stack):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((stack.address, stack.port("https")), timeout=5)
    with context.wrap_socket(plain, server_hostname="localhost") as secured:
        return secured.getpeercert(binary_form=True)


def test_rotation_under_load_loses_nothing(stack):
    before, shown = secrets(stack), certificate(stack)
    database = stack.containers("db")[0]
    with Load(stack, rate=RATE) as load, Writer(stack, "rotation") as writer, load.event("rotation") as window:
        stack.playbook("rotate.yml")
    print(window.describe())
    print(f"{len(writer.writes)} writes, {sum(not write.acknowledged for write in writer.writes)} failed")
    assert not window.failed
    assert {write.status for write in writer.writes} == {303}
    after = secrets(stack)
    replaced = {name for name in before if before[name] != after[name]}
    assert replaced == set(before) - {"secrets/backup/password"}
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
    assert changed(stack.playbook("site.yml").stdout) == 0
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
    assert changed(stack.playbook("site.yml").stdout) == 0


def test_password_comes_from_a_vault(stack, tmp_path):
    password, key, settings = "out of the vault: 42", tmp_path / "key", tmp_path / "settings.yml"
    key.write_text("opens the vault\n")
    settings.write_text(f"database_password: '{password}'\n")
    run("ansible-vault", "encrypt", "--vault-password-file", str(key), str(settings))
    assert password not in settings.read_text()
    options = ("-e", f"@{settings}", "--vault-password-file", str(key))
    assert password not in stack.playbook("rotate.yml", "--diff", "-vvv", *options).stdout
    assert (stack.directory / "secrets/be/database_password").read_text() == password
    assert stack.request().status == 200
    assert changed(stack.playbook("site.yml", *options).stdout) == 0
