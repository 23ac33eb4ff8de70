"""The container runtime section of the CIS Docker Benchmark (1.6), each check on what ``docker inspect`` says.

A check returns whether a container earns a warning. Left out, because no container shows them: whether swarm mode is on
(5.1), whether someone has used ``docker exec`` with more rights (5.23, 5.24), and whether images are the latest (5.28).
"""

from __future__ import annotations

from collections.abc import Callable

from stack import run

# What a container must not see of the host.
SENSITIVE = {"/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr"}
# The first port that an ordinary user may open.
ORDINARY_PORT = 1024
# Capabilities that the engine gives to every container.
USUAL = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}


def _bindings(container: dict) -> list[dict]:
    """Return where the ports of a container are published."""
    ports = container["HostConfig"]["PortBindings"] or {}
    return [binding for bindings in ports.values() for binding in bindings or []]


def _processes(container: dict) -> str:
    """Return the names of the processes of a container."""
    if not container["State"]["Running"]:
        return ""
    return run("docker", "top", container["Id"], "-eo", "pid,comm").stdout


def _module(security: list[str], name: str, profile: str) -> bool:
    """Tell whether a container is without the protection of a module of the kernel that the engine has."""
    return f"name={name}" in " ".join(security) and (not profile or "unconfined" in profile or "disable" in profile)


def _option(container: dict, start: str) -> str:
    """Return the security option that begins with ``start``."""
    options = container["HostConfig"]["SecurityOpt"] or []
    return next((option for option in options if option.startswith(start)), "")


Check = Callable[[dict, list[str]], bool]
CHECKS: dict[str, tuple[str, Check]] = {
    "5.2": ("AppArmor confines it", lambda c, s: _module(s, "apparmor", c.get("AppArmorProfile", ""))),
    "5.3": ("SELinux confines it", lambda c, s: _module(s, "selinux", c.get("ProcessLabel", "") or _option(c, "label="))),
    "5.4": (
        "no capabilities beyond the usual ones",
        lambda c, s: bool({name.removeprefix("CAP_") for name in c["HostConfig"]["CapAdd"] or []} - USUAL),
    ),
    "5.5": ("not privileged", lambda c, s: c["HostConfig"]["Privileged"]),
    "5.6": ("no sensitive folders of the host", lambda c, s: any(m["Source"] in SENSITIVE for m in c["Mounts"])),
    "5.7": ("no SSH server", lambda c, s: "sshd" in _processes(c).split()),
    "5.8": ("no privileged ports", lambda c, s: any(int(b["HostPort"] or 0) < ORDINARY_PORT for b in _bindings(c))),
    "5.9": (
        "no ports published that nobody has named",
        lambda c, s: c["HostConfig"].get("PublishAllPorts", False) or any(not b["HostPort"] for b in _bindings(c)),
    ),
    "5.10": ("not on the host's network", lambda c, s: c["HostConfig"]["NetworkMode"] == "host"),
    "5.11": ("memory limited", lambda c, s: not c["HostConfig"]["Memory"]),
    "5.12": ("CPU limited", lambda c, s: not (c["HostConfig"]["NanoCpus"] or c["HostConfig"]["CpuShares"])),
    "5.13": ("root file system read-only", lambda c, s: not c["HostConfig"]["ReadonlyRootfs"]),
    "5.14": ("ports bound to one address", lambda c, s: any(b["HostIp"] in ("", "0.0.0.0", "::") for b in _bindings(c))),  # noqa: S104 (compared only)
    "5.15": (
        "restarted at most five times",
        lambda c, s: (
            c["HostConfig"]["RestartPolicy"]["Name"] not in ("", "no")
            and (c["HostConfig"]["RestartPolicy"]["Name"], c["HostConfig"]["RestartPolicy"]["MaximumRetryCount"])
            != ("on-failure", 5)
        ),
    ),
    "5.16": ("processes of its own", lambda c, s: c["HostConfig"]["PidMode"] == "host"),
    "5.17": ("shared memory of its own", lambda c, s: c["HostConfig"]["IpcMode"] == "host"),
    "5.18": ("no devices of the host", lambda c, s: bool(c["HostConfig"].get("Devices"))),
    "5.19": (
        "limits of open files not lifted",
        lambda c, s: any(u["Hard"] < 0 for u in c["HostConfig"].get("Ulimits") or []),
    ),
    "5.20": ("mounts not shared with the host", lambda c, s: any(m.get("Propagation") == "shared" for m in c["Mounts"])),
    "5.21": ("host name of its own", lambda c, s: c["HostConfig"]["UTSMode"] == "host"),
    "5.22": (
        "system calls filtered",
        lambda c, s: "unconfined" in _option(c, "seccomp=") or "name=seccomp" not in " ".join(s),
    ),
    "5.25": ("control group as the engine makes it", lambda c, s: bool(c["HostConfig"]["CgroupParent"])),
    "5.26": (
        "no new privileges",
        lambda c, s: _option(c, "no-new-privileges") not in ("no-new-privileges", "no-new-privileges:true"),
    ),
    "5.27": ("health checked", lambda c, s: "Health" not in c["State"]),
    "5.29": ("processes limited", lambda c, s: (c["HostConfig"]["PidsLimit"] or 0) <= 0),
    "5.30": ("not on the engine's default bridge", lambda c, s: "bridge" in c["NetworkSettings"]["Networks"]),
    "5.31": ("users of its own, where the engine maps them", lambda c, s: c["HostConfig"]["UsernsMode"] == "host"),
    "5.32": (
        "no socket of the engine",
        lambda c, s: any(m["Source"].endswith(("docker.sock", "containerd.sock")) for m in c["Mounts"]),
    ),
}
