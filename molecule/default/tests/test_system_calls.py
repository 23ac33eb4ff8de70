"""What containers may ask of the kernel."""

import json

import pytest
from stack import current, run

# Numbers by architecture, of calls that no web application makes, with arguments with which each would do nothing.
CALLS = {
    "x86_64": {"ptrace": 101, "process_vm_readv": 310, "name_to_handle_at": 303, "vmsplice": 278},
    "aarch64": {"ptrace": 117, "process_vm_readv": 270, "name_to_handle_at": 264, "vmsplice": 75},
}
PROBE = f"""
import ctypes, errno, json, platform, socket
library, found = ctypes.CDLL(None, use_errno=True), {{}}
for name, number in {CALLS!r}[platform.machine()].items():
    ctypes.set_errno(0)
    library.syscall(number, 0, 0, 0, 0, 0)
    found[name] = ctypes.get_errno() != errno.EPERM
for name, family in (("AF_ALG", 38), ("AF_INET", 2), ("AF_UNIX", 1), ("AF_NETLINK", 16)):
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_DGRAM).close()
        found[name] = True
    except OSError as error:
        found[name] = error.errno != errno.EPERM
print(json.dumps(found))
"""
NEEDED = {"AF_INET", "AF_UNIX", "AF_NETLINK"}


@pytest.mark.parametrize("service", ["fe", "be", "console"])
def test_unusual_calls_are_refused(stack, service):
    found = json.loads(stack.execute(service, "python", "-c", PROBE).stdout)
    assert {name for name, allowed in found.items() if allowed} == NEEDED


def test_engine_alone_would_allow_more(stack):
    """Or the test before this one could not fail."""
    image = stack.containers("fe")[0]["Image"]
    plain = ("--rm", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none", "--entrypoint=python")
    found = json.loads(run("docker", "run", *plain, image, "-c", PROBE).stdout)
    assert all(found.values())


@pytest.mark.parametrize("service", current().model["services"])
def test_every_process_is_filtered(stack, service):
    for container in stack.containers(service):
        status = run("docker", "exec", container["Id"], "cat", "/proc/1/status").stdout
        assert "Seccomp:\t2" in status
