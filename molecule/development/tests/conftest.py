"""Which tests there are follows from which users there are."""

from developer import developers


def pytest_configure(config):
    """Make the mark known."""
    config.addinivalue_line("markers", "user(**properties): needs a user of the inventory that has these properties")


def pytest_collection_modifyitems(config, items):
    """Leave tests out whose user is not in the inventory."""
    without = [item for item in items if any(not developers(**mark.kwargs) for mark in item.iter_markers("user"))]
    items[:] = [item for item in items if item not in without]
    config.hook.pytest_deselected(items=without)
