"""From one mode to the other and back, changed dependencies, mounts that have to be made, and what is refused."""

import hashlib
import json
import stat
import uuid

import pytest
from developer import ROOT, Developer, as_root, developers
from ha import Load
from stack import GATE

# Requests per second; in the gate another scenario runs beside this one.
RATE = 10 if GATE else 50


@pytest.fixture(scope="module")
def private():
    """Hand over the developer whose files nobody else can read."""
    return Developer(developers(engine="host", umask="0077", php=False)[0])


def files_of(developer):
    """Return owner, mode and content of every file with code."""
    found = {}
    for code in developer.code.values():
        for path in code.rglob("*"):
            state = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(state.st_mode) else b""
            found[str(path)] = (state.st_uid, state.st_gid, state.st_mode, hashlib.sha256(content).hexdigest())
    return found


def users_of(developer):
    return {item["Config"]["User"] for tier in ("fe", "be") for item in developer.containers(tier)}


def mounts_of(developer):
    return {mount["Source"] for tier in ("fe", "be") for item in developer.containers(tier) for mount in item["Mounts"]}


def test_changing_the_mode_rolls_and_touches_neither_data_nor_code(private):
    email = f"{uuid.uuid4().hex}@example.com"
    assert private.post_user("Before", email).status == 303
    files, code = files_of(private), {str(path) for path in private.code.values()}
    assert users_of(private) == {f"{private.uid}:{private.uid}"}
    assert code <= mounts_of(private)
    with Load(private, rate=RATE) as load, load.event("modes") as window:
        private.make("up")
        # What the images were built from could be read by the developer alone.
        assert users_of(private) == {"10001:10001"}
        assert not code & mounts_of(private)
        # Replicas that serve for production are not replaced by a mistake.
        refused(private, "dev", {}, "app_mode", f"-e confirm={private.name}")
        assert users_of(private) == {"10001:10001"}
        done = private.make("dev", arguments=f"-e confirm={private.name}")
    said = " ".join(done.stdout.split())
    assert "Mode: development, release" in said
    assert f"fe_source: {private.code['fe']} is mounted at /srv" in said
    assert users_of(private) == {f"{private.uid}:{private.uid}"}
    assert not window.failed, window.describe()
    assert email in private.request().text
    assert files_of(private) == files


@pytest.fixture(scope="module")
def shared():
    """Make a folder in which only members of a group may write."""
    path = ROOT / "shared"
    as_root("install", "--directory", "--group=webstack-team", "--mode=2770", str(path))
    yield path
    as_root("rm", "-rf", str(path))


@pytest.mark.parametrize("name", developers(umask="0077", php=False))
def test_source_of_a_mount_that_is_missing_is_made_as_the_developer(name, shared):
    developer = Developer(name)
    source = developer.home / "uploads/new"
    settings = {"fe_mounts": [{"source": str(source), "target": "/srv/uploads"}]}
    if developer.engine == "host":
        settings["be_mounts"] = [{"source": str(shared), "target": "/srv/shared"}]
    developer.make("dev", arguments=f"-e '{json.dumps(settings)}'")
    developer.execute("fe", "touch", "/srv/uploads/sent")
    own = f"{developer.user}:{developer.user}"
    assert developer.run("stat", "--format=%U:%G", str(source), str(source / "sent")).stdout.split() == [own, own]
    developer.run("rm", str(source / "sent"))


def test_folder_of_a_group_is_shared(private, shared):
    """As the test before this one has mounted it."""
    private.execute("be", "touch", "/srv/shared/sent")
    assert private.run("stat", "--format=%U:%G", str(shared / "sent")).stdout == f"{private.user}:webstack-team\n"
    private.run("rm", str(shared / "sent"))


def test_changed_dependency_is_there_after_the_next_run(private):
    requirements = private.code["fe"] / "requirements.txt"
    text = private.read(requirements)
    private.write(requirements, text + "six==1.17.0\n")
    try:
        private.make("dev")
        found = private.execute("fe", "python", "-c", "import six; print(six.__version__)").stdout
        assert found == "1.17.0\n"
        # What pip has fetched for one image serves the next.
        caches = private.docker("buildx", "du", "--filter", "type=exec.cachemount", "--verbose").stdout
        assert "/var/cache/pip" in caches
    finally:
        private.write(requirements, text)


def refused(developer, target, settings, *words):
    """Check that a run is refused with a sentence that has these words, and changes no container."""
    ids = developer.ids()
    done = developer.make(target, arguments=f"-e '{json.dumps(settings)}'", check=False)
    assert done.returncode != 0, done.stdout
    for word in words:
        assert word in " ".join(done.stdout.split()), done.stdout
    assert developer.ids() == ids


def test_missing_source_is_refused_in_production(private):
    mounts = {"fe_mounts": [{"source": "/nowhere", "target": "/srv/nowhere"}], "app_mode": "production"}
    refused(private, "dev", mounts, "fe_mounts: the source /nowhere does not exist on the host")


def test_code_that_is_not_there_is_refused(private):
    refused(private, "dev", {"fe_source": "data/none"}, "fe_source")


def test_mode_that_does_not_exist_is_refused(private):
    refused(private, "up", {"app_mode": "debug"}, "app_mode", "production, development")


@pytest.fixture
def rootless():
    """Hand over the developer with a rootless engine."""
    return Developer(developers(engine="rootless")[0])


@pytest.mark.user(engine="rootless")
def test_service_that_becomes_another_user_is_refused_by_a_rootless_engine(rootless):
    settings = {"fe_capabilities": ["SETGID", "SETUID"]}
    refused(rootless, "dev", settings, "fe_capabilities: a service that becomes another user")


@pytest.mark.user(engine="rootless")
def test_folder_of_a_group_is_refused_by_a_rootless_engine(rootless, shared):
    mounts = {"be_mounts": [{"source": str(shared), "target": "/srv/shared"}]}
    refused(rootless, "dev", mounts, f"be_mounts: you may write in {shared} only as a member of group 12009")
