"""What either side makes, the other one edits, renames, changes and deletes."""

import itertools

import pytest
from developer import DEVELOPERS, Developer

KINDS = ("file", "directory", "tree", "link", "program")
ACTIONS = ("edit", "rename", "chmod", "delete")
SIDES = ("host", "container")
TIMES = ("before", "after")
ENTRIES = [(kind, action) for kind in KINDS for action in ACTIONS]


def name(side, time, kind, action):
    """Return where an entry is, below the code of a tier."""
    return f"made/{side}-{time}-{kind}-{action}"


def ask(developer, side, tier, steps, replica=0):
    """Perform steps on one side."""
    return developer.on_host(tier, steps) if side == "host" else developer.in_service(tier, steps, replica)


def make_all(developer, time):
    for tier, side in itertools.product(("fe", "be"), SIDES):
        steps = [["make", name(side, time, *entry), entry[0]] for entry in ENTRIES]
        assert ask(developer, side, tier, steps) == [None] * len(steps), (tier, side)


@pytest.fixture(scope="module", params=DEVELOPERS)
def developer(request):
    """Hand over a developer; half of what both sides have made was there before the containers started."""
    developer = Developer(request.param)
    developer.add_operations()
    developer.run("rm", "-rf", *(str(code / "made") for code in developer.code.values()))
    make_all(developer, "before")
    developer.restart()
    make_all(developer, "after")
    return developer


@pytest.mark.parametrize("tier", ["fe", "be"])
def test_service_is_the_developer(developer, tier):
    inside = [0, 0] if developer.engine == "rootless" else [developer.uid, developer.uid]
    for replica in (0, 1):
        assert developer.in_service(tier, [["whoami", "", ""]], replica) == [inside]


def seen_from_both(developer, tier, paths):
    """Return for each path what the host says of it, after comparing it with what the service says."""
    steps = [["describe", path, ""] for path in paths]
    inside = 0 if developer.engine == "rootless" else developer.uid
    seen = dict(zip(paths, developer.on_host(tier, steps), strict=True))
    for (path, host), service in zip(seen.items(), developer.in_service(tier, steps), strict=True):
        assert {tuple(item[1:3]) for item in host} <= {(developer.uid, developer.uid)}, (path, host)
        assert sorted([item[0], inside, inside, *item[3:]] for item in host) == sorted(service), path
    return seen


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("tier", ["fe", "be"])
def test_owner_group_and_mode_are_the_same_on_both_sides(developer, tier, time):
    paths = {side: [name(side, time, *entry) for entry in ENTRIES] for side in SIDES}
    seen = seen_from_both(developer, tier, paths["host"] + paths["container"])
    for by_host, by_container in zip(*paths.values(), strict=True):
        assert seen[by_host]
        assert [item[3:] for item in seen[by_host]] == [item[3:] for item in seen[by_container]], by_host


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("tier", ["fe", "be"])
def test_other_side_does_what_it_wants(developer, tier, side, time):
    other = SIDES[SIDES.index(side) - 1]
    paths = {entry: name(side, time, *entry) for entry in ENTRIES}
    before = seen_from_both(developer, tier, list(paths.values()))
    # Another replica than the one that made them.
    results = ask(developer, other, tier, [[entry[1], path, ""] for entry, path in paths.items()], replica=1)
    assert {entry: result for entry, result in zip(paths, results, strict=True) if result} == {}
    renamed = [f"{path}.renamed" for (_, action), path in paths.items() if action == "rename"]
    after = seen_from_both(developer, tier, [*paths.values(), *renamed])
    for (kind, action), path in paths.items():
        old, found = before[path], after[path]
        if action == "edit":
            texts = {item[0]: item[4] for item in found if item[4]}
            assert texts.pop("added", None) == ("made\n" if kind in ("directory", "tree") else None)
            assert set(texts.values()) == {"made\nedited\n"}, (kind, found)
        elif action == "chmod":
            changed = [item[3] ^ 0o010 for item in old if kind != "link"]
            assert [item[3] for item in found if kind != "link"] == changed, (kind, found)
        else:
            assert found == [], (kind, action)
        if action == "rename":
            assert len(after[f"{path}.renamed"]) == len(old), kind
            assert all(item[0].endswith(".renamed") for item in after[f"{path}.renamed"] if item[4]), kind
    # Who made it can still delete what the other one has changed.
    left = [path for (_, action), path in paths.items() if action in ("edit", "chmod")] + renamed
    assert ask(developer, side, tier, [["delete", path, ""] for path in left]) == [None] * len(left)
