"""A newer release of the database is tried on a copy first; what was there is kept."""

import base64
import json
import time

import pytest
from stack import run
from writer import rows

MYSQL = "webstack/mysql:9.7-debian"
# Says what it is and starts nothing.
BROKEN = """#!/bin/bash
case " $* " in *--version*|*--validate-config*) exec /usr/sbin/mysqld.real "$@" ;; esac
echo "[ERROR] This server opens nothing." >&2
exit 1
"""
HISTORY = "/var/lib/mysql/mysql_upgrade_history"


def history(stack, *argv):
    return stack.execute("db", *argv).stdout


@pytest.fixture(name="older")
def written_by_an_older_server(stack):
    """Let the data look as if an older server had written it, and the image as if it were another one."""
    text = history(stack, "cat", HISTORY)
    version = stack.mysql("SELECT @@version").strip()
    history(stack, "sed", "-i", f"s/{version.split('-')[0]}/9.6.0/", HISTORY)
    assert "9.6.0" in history(stack, "cat", HISTORY)
    yield stack
    if "9.6.0" in history(stack, "cat", HISTORY):
        history(stack, "sh", "-c", f"printf '%s' '{text}' > {HISTORY}")


def image(stack, name, *lines):
    """Make an image that is the server's with something else in it, and return the setting that names it."""
    reference = f"{stack.name}/mysql:{name}"
    text = "\n".join([f"FROM {MYSQL}", *lines, f"LABEL webstack.stack={stack.name}"])
    run("docker", "build", "--quiet", "--tag", reference, "-", input=text)
    digest = json.loads(run("docker", "image", "inspect", MYSQL).stdout)[0]["Config"]["Labels"]["webstack.context"]
    run("docker", "build", "--quiet", "--tag", reference, "-", input=f"{text}\nLABEL webstack.context={digest}")
    images = dict(stack.settings["_images_stack"], mysql={"official": "mysql:9.7", "debian": f"mysql:{name}"})
    return ("-e", json.dumps({"_images_stack": images, "image_prefix": "webstack"})), reference


def test_upgrade_begins_with_a_backup_and_a_trial(older):
    before = rows(older)
    settings, reference = image(older, "next", "ENV NEXT=1")
    run("docker", "tag", reference, "webstack/mysql:next")
    begin = time.time()
    try:
        output = older.playbook("site.yml", *settings).stdout
        assert "was written by MySQL 9.6.0" in output
        assert "has opened a copy of the data and finds every row" in " ".join(output.split())
        assert json.loads((older.directory / "backup/status.json").read_text())["backup"] > begin
        assert rows(older) == before
        assert "9.6.0" not in json.loads(history(older, "cat", HISTORY))["upgrade_history"][-1]["version"]
        older.playbook("site.yml")
        assert rows(older) == before
    finally:
        run("docker", "rmi", "--force", reference, "webstack/mysql:next")


def test_server_that_cannot_take_over_the_data_changes_nothing(older):
    before, ids = rows(older), older.ids()
    settings, reference = image(
        older,
        "broken",
        "USER root",
        f"RUN mv /usr/sbin/mysqld /usr/sbin/mysqld.real && echo {base64.b64encode(BROKEN.encode()).decode()} | base64 -d"
        " > /usr/sbin/mysqld && chmod 0755 /usr/sbin/mysqld",
    )
    run("docker", "tag", reference, "webstack/mysql:broken")
    try:
        done = older.playbook("site.yml", *settings, check=False)
        assert done.returncode != 0
        assert "cannot take over the data, and nothing was changed" in " ".join(done.stdout.split())
        assert (rows(older), older.ids()) == (before, ids)
    finally:
        run("docker", "rmi", "--force", reference, "webstack/mysql:broken")
