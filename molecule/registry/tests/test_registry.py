"""Images pulled from a registry, and a deployment that stays well when the registry is gone."""

import json

import pytest
from stack import changed, run

OFFICIAL = {
    "fe-lb": "haproxy:3.2",
    "be-lb": "haproxy:3.2",
    "db": "mysql:9.7",
    "docker-api": "haproxy:3.2",
    "prometheus": "prom/prometheus:v3.5.0",
    "mysql-exporter": "prom/mysqld-exporter:v0.17.2",
}


@pytest.mark.parametrize("service", OFFICIAL)
def test_image_comes_from_the_registry_under_its_official_name(stack, service):
    image = stack.containers(service)[0]["Config"]["Image"]
    assert image.startswith("127.0.0.1:")
    assert image.endswith(f"/{OFFICIAL[service]}")


def test_choice_is_kept(stack):
    assert json.loads((stack.directory / "state.json").read_text())["image_source"] == "registry"


def test_page_is_served(stack):
    assert "Ada Lovelace" in stack.request().text


def test_registry_outage_changes_nothing(stack):
    before, images = stack.ids(), {c["Image"] for c in stack.containers()}
    run("docker", "stop", f"{stack.name}-registry")
    output = stack.playbook("site.yml").stdout
    assert changed(output) == 0
    assert stack.ids() == before
    assert {c["Image"] for c in stack.containers()} == images
    # A refresh cannot reach the registry either, and keeps what is there.
    stack.playbook("site.yml", "-e", "fe_replicas=3")
    assert before.items() <= stack.ids().items()
