"""What the tests of the scenario share."""

import pytest
from swarm import Swarm


@pytest.fixture(scope="session", name="swarm")
def deployment():
    """Return the deployment."""
    return Swarm()
