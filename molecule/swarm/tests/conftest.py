"""What the tests of the scenario share."""

import pytest
from stack import GATE
from swarm import Swarm


def pytest_collection_modifyitems(items):
    """Look at monitoring first in the gate: after a machine was lost it takes half a minute until metrics are complete."""
    if GATE:
        items.sort(key=lambda item: item.path.name != "test_monitoring.py")


@pytest.fixture(scope="session", name="swarm")
def deployment():
    """Return the deployment."""
    return Swarm()
