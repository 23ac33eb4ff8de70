"""The database moves to another node and back, and keeps every row that was acknowledged."""

import itertools
import json
import time

import pytest
from stack import wait_until
from writer import Writer

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", name="home")
def first(swarm):
    """Return the machine that has the database before anything moves."""
    return swarm.places("db")[0]


def acknowledged(writer):
    return [write for write in writer.writes if write.acknowledged]


def emails(swarm):
    return swarm.mysql("SELECT email FROM app.users").split()


@pytest.mark.parametrize("back", [False, True], ids=["away", "back"])
def test_a_move_loses_no_acknowledged_row(swarm, capsys, home, back):
    source = swarm.places("db")[0]
    # Not where the playbook runs: files and images have to get there, too.
    target = home if back else next(m for m in swarm.machines[::-1] if m != source)
    with Writer(swarm.edge(swarm.edges()[0]), "move") as writer:
        wait_until(lambda: len(acknowledged(writer)) > 20, 30)
        swarm.playbook("move_database.yml", "-e", json.dumps({"swarm_database_host": target}))
        moved = len(writer.writes)
        wait_until(lambda: any(write.acknowledged for write in writer.writes[moved:]), 30)
    assert swarm.places("db") == [target]
    sent = acknowledged(writer)
    there = emails(swarm)
    gap = max(later.begin - earlier.begin for earlier, later in itertools.pairwise(sent))
    with capsys.disabled():
        print(f" [{len(sent)} rows acknowledged, {gap:.1f} s without writes]", end="")
    assert {write.email for write in sent} <= set(there)
    assert len(there) == len(set(there))


def test_a_deployment_does_not_move_it(swarm, home):
    other = next(machine for machine in swarm.machines if machine != home)
    done = swarm.deploy("-e", json.dumps({"swarm_database_host": other}), check=False)
    assert done.returncode
    text = " ".join(done.stdout.split())
    assert f"swarm_database_host: the database and its volume are on {home}, and a deployment does not move them;" in text
    assert swarm.places("db") == [home]


def test_a_backup_is_taken_and_brought_back(swarm):
    swarm.playbook("backup.yml")
    edge = swarm.edge(swarm.edges()[0])
    name = f"after-{time.time():.0f}@example.com"
    assert edge.post_user("Later", name).status == 303
    assert name in emails(swarm)
    swarm.playbook("restore.yml", "-e", f"confirm={swarm.name}")
    assert name not in emails(swarm)
    wait_until(lambda: edge.request().status == 200, 30)
