"""keepalived's own word on the configuration of a floating address, which it is asked for before it gets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stack import PROJECT, run
from wiring import load, render_template, tasks

ENGINE = "webstack/engine:debian"


@pytest.fixture(scope="module", autouse=True)
def image():
    """Make the image with keepalived where no scenario has made it yet."""
    if not run("docker", "image", "inspect", ENGINE, check=False).returncode:
        return
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory=molecule/shared/inventory/hosts.yml"]
    settings = {"stack_name": "webstack-test-unit", "image_source": "debian", "helper": ENGINE.partition("/")[2]}
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    run(*command, "tests/helper.yml", "-e", json.dumps(settings), cwd=PROJECT, env=environment)


def configuration(folder, **facts):
    """Write what a node gets, and return the command that the role checks it with, in a container."""
    usual = {
        "inventory_hostname": "one",
        "ansible_managed": "",
        "__swarm_interface": {"stdout": "eth0"},
        "__swarm_edge_addresses": {"one": "10.0.0.1", "two": "10.0.0.2"},
        "__swarm_edges_there": ["one", "two"],
        "swarm_floating_address": "10.0.0.100/24",
    }
    facts = {**usual, **facts}
    for name in ("keepalived.conf", "edge.sh"):
        (folder / name).write_text(render_template(f"{name}.j2", "swarm", **facts))
    (folder / "edge.sh").chmod(0o755)
    (check,) = [
        entry["ansible.builtin.template"]["validate"]
        for entry in tasks(load("roles/swarm/tasks/floating.yml"))
        if entry.get("ansible.builtin.template", {}).get("src") == "keepalived.conf.j2"
    ]
    mounts = [
        f"--volume={folder}/keepalived.conf:/new.conf:ro",
        f"--volume={folder}/edge.sh:/etc/keepalived/webstack-edge.sh:ro",
    ]
    return [
        "docker",
        "run",
        "--rm",
        "--pull=never",
        *mounts,
        "--entrypoint=",
        ENGINE,
        *(check % "/new.conf").split(),
    ]


@pytest.mark.parametrize(
    ("facts", "accepted"),
    [
        ({}, True),
        ({"__swarm_edge_addresses": {"one": "10.0.0.1"}, "__swarm_edges_there": ["one"]}, True),
        ({"__swarm_interface": {"stdout": ""}}, False),
        ({"__swarm_edge_addresses": {"one": "nowhere", "two": "10.0.0.2"}}, False),
    ],
    ids=["two edges", "one edge", "no interface", "no address"],
)
def test_keepalived_is_asked_before_it_gets_a_configuration(tmp_path, facts, accepted):
    done = subprocess.run(configuration(tmp_path, **facts), capture_output=True, text=True, check=False)
    # 125: Docker's own failure.
    assert done.returncode != 125, done.stderr
    assert (done.returncode == 0) == accepted, done.stdout + done.stderr


def test_what_keepalived_refuses_is_said_with_the_setting():
    (block,) = [entry for entry in tasks(load("roles/swarm/tasks/floating.yml")) if "rescue" in entry]
    assert block["rescue"][0]["ansible.builtin.fail"]["msg"].startswith("swarm_floating_address: keepalived of ")
    assert (PROJECT / "roles/swarm/templates/keepalived.conf.j2").exists()
