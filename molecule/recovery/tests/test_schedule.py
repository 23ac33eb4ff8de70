"""The host takes backups by itself."""

import json
import subprocess

import pytest
from stack import changed, run, wait_until


def crontab(stack):
    lines = run("crontab", "-l", check=False).stdout.splitlines()
    return [line for line in lines if line.endswith(f"# backups of {stack.name}")]


def stored(stack, kind):
    return json.loads((stack.directory / "backup/status.json").read_text())[kind]


@pytest.mark.long
def test_cron_takes_backups(stack):
    stack.playbook("backup.yml")
    settings = ("-e", "backup_schedule=03:30", "-e", "backup_logs_interval=1")
    stack.playbook("site.yml", *settings)
    lines = crontab(stack)
    assert [line.split()[:5] for line in lines] == [["30", "3", "*", "*", "*"], ["*/1", "*", "*", "*", "*"]]
    assert changed(stack.playbook("site.yml", *settings).stdout) == 0
    before = stored(stack, "logs")
    cron = subprocess.Popen(["cron", "-f"])
    try:
        # It looks once a minute.
        wait_until(lambda: stored(stack, "logs") > before, 90)
    finally:
        cron.terminate()
        cron.wait()
    # The line of the night does what it shall, too.
    before = stored(stack, "backup")
    run("sh", "-c", lines[0].split(None, 5)[5])
    assert stored(stack, "backup") > before
    stack.playbook("site.yml")
    assert not crontab(stack)
