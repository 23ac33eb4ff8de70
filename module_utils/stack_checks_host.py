"""What on a host stands against the settings of a stack.

Each problem is one sentence that names the setting and says what to do.
"""

from __future__ import annotations

from ansible.module_utils.stack_compose import engine_problem
from ansible.module_utils.stack_settings import memory_needed, parse_size, parse_version, tiers

# Share of the host's memory that containers may reserve; the rest is for the engine and the host.
MEMORY_SHARE = 0.9


def check_host(values: dict, host: dict, minimum: dict[str, tuple[int, ...]]) -> list[str]:
    """Return what on the host stands against these settings.

    Args:
        values: settings in their declared types.
        host: what the module ``stack_preflight`` found on the host, and as ``confirm`` the stack of which a person has said
            that it may be changed in this way.
        minimum: oldest versions that are accepted, of ``engine`` and ``compose``.
    """
    problems = []
    if host["engine_version"] is None:
        return [engine_problem(host["engine_error"])]
    if host["compose_version"] is None:
        return ["Docker Compose v2 is missing; install it, or run playbooks/bootstrap.yml."]
    for name, key in (("Docker Engine", "engine"), ("Docker Compose", "compose")):
        found = parse_version(host[f"{key}_version"])
        if found < minimum[key]:
            wanted = ".".join(map(str, minimum[key]))
            problems.append(f"{name} {host[f'{key}_version']} is too old; upgrade it to {wanted} or later.")
    problems += host["folder_problems"]
    if host["engine"] and not host["engine"].startswith("unix://"):
        problems.append(
            f"DOCKER_HOST: Docker's client on the host uses the engine at {host['engine']}, but files are mounted, so it"
            " must be the host's own; unset DOCKER_HOST and DOCKER_CONTEXT (docker context use default), and put that"
            " machine into the inventory."
        )
    elif values["stack_engine"] == "swarm" and host["engine"] not in ("", "unix:///var/run/docker.sock"):
        problems.append(
            f"DOCKER_HOST: a Swarm is deployed with the engine of the system, not with {host['engine']}; unset DOCKER_HOST"
            " and DOCKER_CONTEXT."
        )
    if host["strangers"]:
        problems.append(
            f"stack_name: a Compose project {values['stack_name']} is there already, from {', '.join(host['strangers'])};"
            " choose another name, or set stack_dir to that folder if it is this stack's."
        )
    if host["foreign"]:
        problems.append(
            f"stack_name: another project owns the {', the '.join(host['foreign'])}; choose another name, or remove"
            f" {'them' if len(host['foreign']) > 1 else 'it'}."
        )
    limit = int(host["memory"] * MEMORY_SHARE)
    needed = memory_needed(values)
    if needed > limit:
        tier = max(tiers(values), key=lambda t: values[f"{t}_replicas"] * parse_size(values[f"{t}_memory_reservation"]))
        problems.append(
            f"{tier}_replicas: the containers reserve {needed / 2**30:.1f} GiB of memory in total and the host can give"
            f" {limit / 2**30:.1f} GiB; lower {tier}_replicas, or {tier}_memory_reservation if a replica needs less."
        )
    if values["backup_schedule"] and not host["scheduler"]:
        problems.append("backup_schedule: this host has neither systemd nor cron; install cron, or leave it empty.")
    if values["monitoring_enabled"] and host["socket_group"] is None:
        problems.append(
            f"monitoring_docker_socket: {host['docker_socket']} does not exist on the host; give the engine's"
            " socket (docker context inspect shows it), or set monitoring_enabled=false."
        )
    if host["selinux"]:
        problems.append(
            f"stack_dir: this engine separates containers by SELinux and would keep them from {host['stack_dir']}; take"
            " selinux-enabled out of /etc/docker/daemon.json (or out of the engine's service), and restart the engine."
        )
    problems += [f"{port['setting']}: {port['problem']}." for port in host["ports"] if port["problem"]]
    missing = host["pools"]["missing"]
    if host["pools"]["free"] < len(missing):
        problems.append(
            f"network_subnets: the engine has {host['pools']['free']} address ranges left and the stack needs {len(missing)}"
            f" ({', '.join(missing)}); give networks ranges of your own (network_subnets: {{{missing[0]}: 10.9.5.0/27}}),"
            " remove networks that nothing uses (docker network prune), or enlarge default-address-pools in"
            " /etc/docker/daemon.json and restart the engine."
        )
    problems += check_mode(values, host)
    problems += check_mounts(values, host)
    # One that is started takes the passwords that it finds; one that runs knows the old ones alone.
    if not host["secrets_complete"] and any(container["service"] == "db" for container in host["containers"]):
        problems.append(
            f"The database of {values['stack_name']} is there, but its passwords are not in {host['stack_dir']}/secrets"
            " (stack_dir); bring that folder back, or remove the container of the database, which takes new passwords when"
            " it starts again; its data stays."
        )
    return problems


def check_mode(values: dict, host: dict) -> list[str]:
    """Check that a stack for production does not become one for development by mistake; the way back is free."""
    if values["app_mode"] != "development":
        return []
    name = values["stack_name"]
    there = host["mode"] == "production" and (host["containers"] or host["database_volume"])
    if not there or host["confirm"] == name:
        return []
    return [
        f"app_mode: the stack {name} is deployed for production, and development would replace its front ends and back"
        f" ends with your working copy; if that is meant, give -e confirm={name} (make dev"
        f" ARGS='-e confirm={name}'), else give another stack_name and other ports."
    ]


def check_mounts(values: dict, host: dict) -> list[str]:
    """Check what is mounted, and in development whether its files can be the same person's on both sides."""
    problems = []
    develops = values["app_mode"] == "development"
    for mount in host["mounts"]:
        name, source = mount["setting"], mount["source"]
        if mount["lost_group"] is not None:
            problems.append(
                f"{name}: you may write in {source} only as a member of group {mount['lost_group']}, which a rootless engine"
                " cannot hand on; make the folder your own, or use an engine that runs as root."
            )
        if mount["exists"]:
            continue
        if name.endswith("_source"):
            problems.append(
                f"{name}: app_mode is development and {source} is not on the host; run the playbook on the machine that has"
                " the code."
            )
        # In development it is made, as the user.
        elif not develops:
            problems.append(f"{name}: the source {source} does not exist on the host; create it first.")
    for tier in tiers(values) if develops and host["mapping"] == "rootless" else ():
        names = {str(capability).upper().removeprefix("CAP_") for capability in values[f"{tier}_capabilities"]}
        if names & {"SETUID", "SETGID"}:
            problems.append(
                f"{tier}_capabilities: a service that becomes another user (SETUID, SETGID) is not you to a rootless"
                " engine, and its files would not be yours; use an image that stays root, or an engine run by root."
            )
    return problems
