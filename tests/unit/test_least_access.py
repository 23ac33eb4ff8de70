"""Each way to have too much access is named, and what a setting declares is not."""

import copy

import least_access
import pytest

SETTINGS = {
    "seccomp_profile": "files/seccomp.json",
    "bind_address": "127.0.0.1",
    "be_capabilities": ["CHOWN"],
    "be_read_only": False,
}
SETTINGS["be_mounts"] = [{"source": "/srv/a", "target": "/a", "read_only": False}, {"source": "/srv/b", "target": "/b"}]


def container(service):
    """Return what the engine says of a container that has no more access than it needs."""
    return {
        "Name": f"/shop-{service}-1",
        "Config": {
            "User": "10001:10001",
            "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": service},
        },
        "HostConfig": {
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "CapAdd": None,
            "SecurityOpt": ["no-new-privileges:true", 'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'],
            "Memory": 1,
            "NanoCpus": 1,
            "PidsLimit": 1,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
            "PidMode": "",
            "IpcMode": "private",
            "UTSMode": "",
            "UsernsMode": "",
            "NetworkMode": "shop_x",
            "PortBindings": {},
        },
        "Mounts": [],
        "NetworkSettings": {"Networks": {f"shop_{name}": {} for name in least_access.NETWORKS[service]}},
    }


@pytest.mark.parametrize("service", ["fe-lb", "fe", "be-lb", "be"])
def test_least_access_is_fine(service):
    assert least_access.violations(container(service), SETTINGS) == []


@pytest.mark.parametrize(
    ("service", "path", "value", "sentence"),
    [
        ("fe", "Config.User", "", "runs as root"),
        ("fe", "Config.User", "0:10001", "runs as root"),
        ("fe", "HostConfig.ReadonlyRootfs", False, "has a writable root file system"),
        ("fe", "HostConfig.Privileged", True, "is privileged"),
        ("fe", "HostConfig.CapDrop", None, "keeps capabilities"),
        ("fe", "HostConfig.CapAdd", ["CAP_CHOWN"], "has the capability CHOWN"),
        ("be", "HostConfig.CapAdd", ["CHOWN", "SYS_ADMIN"], "has the capability SYS_ADMIN"),
        ("fe", "HostConfig.SecurityOpt", ["seccomp={}"], "may gain privileges"),
        ("fe", "HostConfig.SecurityOpt", ["no-new-privileges:true"], "may make system calls beyond seccomp_profile"),
        (
            "fe",
            "HostConfig.SecurityOpt",
            ["no-new-privileges:true", "seccomp=unconfined"],
            "may make system calls beyond seccomp_profile",
        ),
        ("fe", "HostConfig.Memory", 0, "has no memory limit"),
        ("fe", "HostConfig.NanoCpus", 0, "has no CPU limit"),
        ("fe", "HostConfig.PidsLimit", None, "has no process limit"),
        ("fe", "HostConfig.PidsLimit", -1, "has no process limit"),
        ("fe", "HostConfig.LogConfig.Config", {}, "has a log without a limit"),
        ("fe", "HostConfig.PidMode", "host", "shares a namespace: PidMode host"),
        ("fe", "HostConfig.NetworkMode", "container:abc", "shares a namespace: NetworkMode container:abc"),
        ("fe", "NetworkSettings.Networks", {"shop_frontend": {}}, "is not on the network middle"),
        ("fe", "HostConfig.PortBindings", {"8000/tcp": [{"HostIp": "127.0.0.1"}]}, "publishes port 8000/tcp"),
        ("fe-lb", "HostConfig.PortBindings", {"8080/tcp": [{"HostIp": ""}]}, "publishes port 8080/tcp on every address"),
    ],
)
def test_more_access_is_named(service, path, value, sentence):
    wrong = container(service)
    *parents, last = path.split(".")
    place = wrong
    for name in parents:
        place = place[name]
    place[last] = value
    found = least_access.violations(wrong, SETTINGS)
    assert len(found) == 1
    assert found[0].startswith(f"shop-{service}-1 {sentence}")


@pytest.mark.parametrize(
    ("service", "mount", "sentence"),
    [
        ("be", {"Type": "bind", "Source": "/srv/a", "Destination": "/a", "RW": True}, ""),
        ("be", {"Type": "bind", "Source": "/srv/b", "Destination": "/b", "RW": True}, "can write to /srv/b of the host"),
        ("be", {"Type": "bind", "Source": "/srv/b", "Destination": "/b", "RW": False}, ""),
        (
            "be",
            {"Type": "bind", "Source": "/run/docker.sock", "Destination": "/s", "RW": False},
            "mounts the engine's socket",
        ),
        ("fe-lb", {"Type": "bind", "Source": "/x", "Destination": "/run/haproxy", "RW": True}, ""),
        ("fe", {"Type": "bind", "Source": "/x", "Destination": "/run/haproxy", "RW": True}, "can write to /x of the host"),
    ],
)
def test_mounts_are_those_that_are_declared(service, mount, sentence):
    wrong = container(service)
    wrong["Mounts"] = [mount]
    found = least_access.violations(wrong, SETTINGS)
    assert [text.removeprefix(f"shop-{service}-1 ")[: len(sentence)] for text in found] == ([sentence] if sentence else [])


def test_settings_allow_what_they_declare():
    declared = copy.deepcopy(container("be"))
    declared["HostConfig"] |= {"ReadonlyRootfs": False, "CapAdd": ["CAP_CHOWN"]}
    assert least_access.violations(declared, SETTINGS) == []


@pytest.mark.parametrize(
    ("mounts", "good"),
    [
        ([{"Type": "volume", "Name": "shop_database", "Source": "/v", "Destination": "/var/lib/mysql", "RW": True}], True),
        ([{"Type": "volume", "Name": "0123456789ab", "Source": "/v", "Destination": "/var/lib/mysql", "RW": True}], False),
        ([], False),
    ],
)
def test_database_keeps_its_data_in_its_volume(mounts, good):
    database = container("db")
    database["Mounts"] = mounts
    found = least_access.violations(database, SETTINGS)
    assert (found == []) == good
    assert good or "not in the volume shop_database" in found[0]
