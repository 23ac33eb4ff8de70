"""What the tests of the scenario share."""

import pytest
from swarm import Swarm


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs when the scenario is named (make test SCENARIO=swarm)")


@pytest.fixture(scope="session", name="swarm")
def deployment():
    """Return the deployment."""
    return Swarm()
