"""What the tests of the scenario share."""

import pytest
from stack import GATE
from swarm import Swarm


def pytest_collection_modifyitems(items):
    """Look at monitoring first in the gate and lose a machine last: metrics are complete half a minute later."""
    if GATE:
        items.sort(key=lambda item: (item.path.name != "test_monitoring.py", item.path.name == "test_faults.py"))


@pytest.fixture(scope="session", name="swarm")
def deployment():
    """Return the deployment."""
    return Swarm()
