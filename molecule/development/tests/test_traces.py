"""What is left on the host is the user's; the last tests, as they end with removing it."""

import pytest
from developer import DEVELOPERS, Developer, developers
from stack import PROJECT, run

# Of the scenario, not of the project.
OTHERS = ("as", "settings.yml", "engine.pid", "network.pid", "engine")


@pytest.mark.parametrize("name", DEVELOPERS)
def test_everything_is_the_users(name):
    developer = Developer(name)
    skipped = [item for other in OTHERS for item in ("-path", str(developer.home / other), "-prune", "-o")]
    foreign = ["(", "-not", "-user", str(developer.uid), "-o", "-not", "-group", str(developer.uid), ")", "-print"]
    # Everywhere below, where only root can look.
    found = run("find", str(developer.home), *skipped, *foreign).stdout
    assert found == ""


@pytest.mark.parametrize("name", DEVELOPERS)
def test_nothing_is_left_in_the_code(name):
    """What the tests themselves have made is none of it."""
    developer = Developer(name)
    tracked = run("git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "data", "docs").stdout
    expected = {str(developer.checkout / path) for path in tracked.split()}
    own = ("operations.", "/made/")
    found = {
        path for folder in ("data", "docs")
        for path in developer.run("find", str(developer.checkout / folder), "-not", "-type", "d").stdout.split()
        if not any(part in path for part in own)
    }  # fmt: skip
    assert found <= expected


@pytest.mark.parametrize("name", developers(umask="0077"))
def test_user_can_remove_all_of_it(name):
    developer = Developer(name)
    developer.make("down", arguments="-e remove_data=true")
    developer.run("rm", "-r", str(developer.checkout), str(developer.home / ".local"))
    assert not developer.checkout.exists()
