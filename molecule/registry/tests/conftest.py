"""What the tests of this scenario share."""

import pytest
import stack as stack_module


@pytest.fixture(scope="session")
def stack() -> stack_module.Stack:
    """Return the deployment under test."""
    return stack_module.current()
