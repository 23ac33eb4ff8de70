"""Filters that turn settings into what Compose and the images need."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.yaml import yaml_load

# Modules find the project's module_utils by themselves, plugins of the controller do not.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
from ansible.module_utils import stack_certificates, stack_swarm  # noqa: E402
from ansible.module_utils.stack_compose import condition, read_images  # noqa: E402
from ansible.module_utils.stack_failure import build_problem, seconds  # noqa: E402
from ansible.module_utils.stack_files import new_secret  # noqa: E402
from ansible.module_utils.stack_settings import (  # noqa: E402
    as_text,
    milliseconds,
    mount_source,
    parse_duration,
    parse_size,
    parse_version,
    with_defaults,
)
from ansible.module_utils.stack_summary import changes, failed_requests  # noqa: E402
from ansible.module_utils.stack_trial import check_definitions, check_field  # noqa: E402

# Option of an internal network with which the engine itself keeps the host off its bridge.
ISOLATED = "com.docker.network.bridge.gateway_mode_ipv4"

# Stand in a data volume from the first byte until the image, and then the dumps, are through.
UNFINISHED = {".initialization-incomplete", ".dumps-incomplete"}


def compose_value(value: Any) -> str:
    """Return ``value`` as YAML of one line in which Compose substitutes nothing.

    JSON is YAML, and a doubled ``$`` is how Compose writes a literal one.
    """
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")


def compose_environment(values: dict[str, Any]) -> str:
    """Return environment variables for Compose, each as text; true and false in lower case."""
    return compose_value({key: as_text(value) for key, value in values.items()})


def within_host(limits: dict[str, Any], cpus: int) -> dict[str, Any]:
    """Return limits that the engine accepts: it refuses a share of more processors than the host has."""
    if float(limits.get("cpus", 0)) <= cpus:
        return limits
    return {**limits, "cpus": f"{cpus:.1f}"}


def networks_isolated(definitions: dict[str, dict], engine: str, found: dict[str, dict]) -> list[str]:
    """Return the internal networks whose bridge the engine itself keeps from the host, as it can from 28 on.

    One that exists stays what it is: it could only be made anew, and without an address it is closed as well.
    """
    able = parse_version(engine) >= (28,)
    return [
        name
        for name, definition in definitions.items()
        if definition["internal"] and (ISOLATED in found[name]["options"] if name in found else able)
    ]


def network_definition(
    network: dict[str, Any], subnet: str | None, options: dict[str, Any], isolated: bool = False
) -> dict[str, Any]:
    """Return a network of Compose.

    ``internal`` alone still lets a container reach the host by the bridge's own address, so an
    internal bridge gets none. The other kind publishes ports and needs that address, but nobody on it
    has to open connections to the outside: without masquerading none of them gets an answer.
    Only a network that is ``outbound`` is for that.
    """
    bridge = "com.docker.network.bridge."
    if network["internal"]:
        driver_options = {f"{bridge}inhibit_ipv4": "true"} | ({ISOLATED: "isolated"} if isolated else {})
    else:
        driver_options = {f"{bridge}enable_ip_masquerade": str(network.get("outbound", False)).lower()}
    driver_options |= {key: as_text(value) for key, value in options.items()}
    result: dict[str, Any] = {"driver": "bridge", "internal": network["internal"], "driver_opts": driver_options}
    if subnet:
        result["ipam"] = {"config": [{"subnet": subnet}]}
    return result


def networks_outdated(
    definitions: dict[str, dict],
    subnets: dict[str, str],
    options: dict[str, Any],
    isolated: list[str],
    found: dict[str, dict],
) -> list[str]:
    """Return the networks that exist with another definition than the wanted one.

    A network cannot be changed, only made anew, and not every release of Compose notices.
    """
    outdated = []
    for name, definition in definitions.items():
        if name not in found:
            continue
        wanted = network_definition(definition, subnets.get(name), options, name in isolated)
        same = found[name]["internal"] == wanted["internal"] and found[name]["options"] == wanted["driver_opts"]
        if not same or (name in subnets and found[name]["subnets"] != [subnets[name]]):
            outdated.append(name)
    return outdated


def containers_complete(rendered: str, host: dict[str, Any]) -> bool:
    """Tell whether each service has its containers, healthy where that is checked, on its networks and on no other.

    Args:
        rendered: the Compose file.
        host: what the preflight found: containers of the project, and networks with the containers on them.
    """
    stack = yaml_load(rendered.encode())
    wanted = {
        (service, frozenset(definition["networks"])): definition.get("deploy", {}).get("replicas", 1)
        for service, definition in stack["services"].items()
    }
    found = Counter(
        (
            container["service"],
            frozenset(name for name, network in host["networks"].items() if container["name"] in network["containers"]),
        )
        for container in host["containers"]
        if condition(container) == "well"
    )
    return found == wanted and len(host["containers"]) == found.total() and set(host["networks"]) <= set(stack["networks"])


def fewer_replicas(running: dict[str, int], replicas: dict[str, int]) -> list[str]:
    """Return a sentence for each service of which a run takes replicas away.

    Args:
        running: how many containers run, by service.
        replicas: how many there shall be, by service.
    """
    return [
        f"{service}_replicas: {running[service]} run, {number} is set: this run takes {running[service] - number} away. What"
        " -e gives counts for one run; a number that shall stay belongs in group_vars or your inventory."
        for service, number in replicas.items()
        if running.get(service, 0) > number
    ]


def dumps_seen(dumps: list[str], project: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return which dumps a database was made from, and which a run has seen last, as the next run has to know it.

    Args:
        dumps: the setting; relative paths start at ``project``.
        project: the checkout.
        record: what this function returned in an earlier run; empty in the first one.
    """
    before = {(item["name"], item["size"], item["modified"]): item["digest"] for item in record.get("seen", [])}
    seen = []
    for name in dumps:
        path = Path(project) / Path(name).expanduser()
        state = path.stat()
        key = (name, state.st_size, state.st_mtime_ns)
        if key not in before:
            with path.open("rb") as file:
                before[key] = hashlib.file_digest(file, "sha256").hexdigest()
        seen.append({"name": name, "size": key[1], "modified": key[2], "digest": before[key]})
    return {"loaded": record.get("loaded", [item["digest"] for item in seen]), "seen": seen}


def dumps_without_effect(seen: dict[str, Any], record: dict[str, Any]) -> str:
    """Return a sentence on dumps that have changed since the last run saw them, and are not those of the database.

    Args:
        seen: what ``dumps_seen`` returned in this run.
        record: what it returned in an earlier one.
    """
    digests, last = ([item["digest"] for item in found.get("seen", [])] for found in (seen, record))
    if not record or digests in (last, seen["loaded"]):
        return ""
    names = [item["name"] for item in seen["seen"] if item["digest"] not in seen["loaded"]]
    return (
        f"database_dumps: {', '.join(names) or 'the list'} has changed since the database was made, and a database that has"
        " data takes no dumps: the change is without effect. Load what is new by hand (make mysql < FILE), or begin anew"
        " without the data (make down ARGS='-e remove_data=true')."
    )


# Sets the umask, which is its first argument, and becomes the rest.
UMASK = 'umask "$0"; exec "$@"'
# That of every container.
USUAL_UMASK = "0022"


def development_service(
    code: dict[str, str], start: dict[str, list[str]], command: list[str], developer: dict[str, Any]
) -> dict[str, Any]:
    """Return what a service has in development: user, groups, mounts, environment and what it starts.

    Args:
        code: ``source`` of the code, empty if there is none to mount, and its ``target`` in the image.
        start: ``entrypoint`` and ``command`` of its image.
        command: the setting, instead of the image's own.
        developer: what the module ``stack_preflight`` found; empty if the service is not in development.
    """
    if not developer:
        return {"user": "", "groups": [], "mounts": [], "environment": {}, "entrypoint": [], "command": []}
    entrypoint = start["entrypoint"]
    if start["entrypoint"] + start["command"] and developer["umask"] != USUAL_UMASK:
        entrypoint = ["/bin/sh", "-c", UMASK, developer["umask"], *start["entrypoint"]]
        command = command or start["command"]
    else:
        entrypoint = []
    return {
        "user": developer["user"],
        "groups": [str(group) for group in developer["groups"]],
        "mounts": [{**code, "read_only": False}] if code["source"] and code["target"] else [],
        # Nobody in the image has that number, so nobody has a home there.
        "environment": {"APP_MODE": "development", "HOME": "/tmp"},  # noqa: S108 (in the container)
        "entrypoint": entrypoint,
        "command": command,
    }


def stack_mounts(mounts: list[dict[str, Any]], project: str, read_only: bool = True) -> list[dict[str, Any]]:
    """Return bind mounts of Compose, ``read_only`` unless they say otherwise; none is created by the engine."""
    return [
        {
            "type": "bind",
            "source": mount_source(mount["source"], project),
            "target": mount["target"],
            "read_only": bool(mount.get("read_only", read_only)),
            "bind": {"create_host_path": False},
        }
        for mount in mounts
    ]


def build_context_digest(source: str, project: str, extra: Any = "") -> str:
    """Return 12 hex digits that change with the files of a build context, by the rules of .dockerignore.

    Args:
        source: folder with a Dockerfile; relative to ``project``.
        project: the checkout.
        extra: whatever else the image depends on, such as the name of its base.
    """
    from docker.utils.build import exclude_paths

    root = Path(project) / source
    if not root.is_dir():
        # Refused with a sentence of its own; until then any name serves.
        return "missing"
    ignore = root / ".dockerignore"
    patterns = [
        line.strip()
        for line in (ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else [])
        if line.strip() and not line.startswith("#")
    ]
    content_digest = hashlib.sha256(json.dumps(extra, sort_keys=True).encode())
    for name in sorted(exclude_paths(str(root), patterns, dockerfile="Dockerfile")):
        path = root / name
        if path.is_symlink():
            content = b"link " + str(path.readlink()).encode()
        elif path.is_file():
            content = b"file " + (b"x " if path.stat().st_mode & 0o100 else b"- ") + path.read_bytes()
        else:
            content = b"directory"
        content_digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return content_digest.hexdigest()[:12]


def registry_reference(reference: str, registry: str) -> str:
    """Return an image's name with the prefix of a mirror, unless it names a registry itself."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return registry + reference


def certificate_pair(certificate: str, key: str) -> dict[str, str]:
    """Return chain and key of what two files hold, as load balancers want them; ``stack_certificates`` says how.

    Raises:
        AnsibleFilterError: they do not fit, which the preflight has refused before.
    """
    try:
        return stack_certificates.pair(certificate.encode(), key.encode())
    except stack_certificates.CertificateError as error:
        raise AnsibleFilterError(f"{error.setting}: {error}") from None


def certificate_expires_within(pem: str, days: int) -> bool:
    """Tell whether a PEM certificate ends within ``days``; true for what is no certificate."""
    try:
        end = certificate_end(pem)
    except ValueError:
        return True
    return end <= (datetime.now(UTC) + timedelta(days=days)).timestamp()


def certificate_end(pem: str) -> int:
    """Return until when a PEM certificate is valid, in seconds of the epoch.

    Raises:
        ValueError: it is no certificate.
    """
    from cryptography import x509

    return int(x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp())


def self_signed_certificate(names: list[str], days: int = 825) -> dict[str, str]:
    """Return a new self-signed certificate for ``names`` (host names and addresses) and its key, PEM.

    825 days is the longest that Apple's systems accept (their requirement of 2019 for TLS servers).
    """
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if not names:
        raise AnsibleFilterError("self_signed_certificate needs at least one name")
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A little earlier, for clocks that differ.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }


def with_before(balancers: list[dict[str, Any]], before: dict[str, str]) -> list[dict[str, Any]]:
    """Return load balancers, each with the configuration that it goes back to."""
    return [{**balancer, "before": before.get(balancer["name"], "")} for balancer in balancers]


def become_reason(result: dict[str, Any]) -> str:
    """Return why a task that was to run as root did not, in the words of what makes somebody root (``sudo``)."""
    lines = str(result.get("module_stderr") or result.get("msg") or "").splitlines()
    said = [line for line in (re.sub(r"^(/\S+: )?([0-9]+|line [0-9]+): ", "", line.strip()) for line in lines) if line]
    return said[-1] if said else "no reason given"


def engine_refusal(
    user: str, groups: list[str], group: str, refused: bool, missing: list[str], packages: list[str], reason: str
) -> str:
    """Return the sentence for a user who can have no engine in this run, or nothing.

    Args:
        user: who runs the playbook, on the host.
        groups: of the user at the next login.
        group: whose members may use the engine.
        refused: whether an engine runs and does not let the user in.
        missing: what has to be installed.
        packages: what has it; empty: not known for this distribution.
        reason: why the user may not become root; empty: the user may.
    """
    if refused and group == "root":
        return (
            "The engine's socket is for root alone: make a group docker (sudo groupadd docker), restart the engine, which"
            " then gives it the socket, and run this again."
        )
    if not reason:
        return ""
    if refused and not missing and group in groups:
        return f"{user} is in group {group}, but this login is older than that: log in again, then run this again."
    problems, steps = [], []
    if refused:
        problems.append(f"{user} may not use the engine, whose socket is for group {group}")
    if missing:
        problems.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        steps.append(f"install {', '.join(packages) or ' and '.join(missing)}")
    if (refused or "engine" in missing) and group not in groups:
        steps.append(f"run `sudo usermod -aG {group} {user}`")
    again = "log in again and run this again" if refused or "engine" in missing else "run this again"
    ask = "give ARGS=--ask-become-pass, or " if "password" in reason else ""
    return (
        f"This user may not become root ({reason}), and {', and '.join(problems)}: {ask}let somebody who may"
        f" {' and '.join(steps)}, then {again}."
    )


def is_init(start: dict[str, Any]) -> bool:
    """Tell whether an image starts an init that has to be process 1 (s6-overlay's /init, systemd).

    Args:
        start: ``entrypoint`` and ``command`` of the image.
    """
    program = next(iter([*start["entrypoint"], *start["command"]]), "")
    return program in ("/init", "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/usr/sbin/init")


def digest(text: str, *others: str) -> str:
    """Return 16 hex digits that change with the texts."""
    return hashlib.sha256("\0".join((text, *others)).encode()).hexdigest()[:16]


def local_reference(reference: str) -> str:
    """Return an image's name as the engine lists it: with the tag that is meant if none is given."""
    if "@" in reference or ":" in reference.rpartition("/")[2]:
        return reference
    return reference + ":latest"


def image_names(
    platform: dict[str, dict], applications: dict[str, dict], registry: str, prefix: str, stack: str, project: str
) -> dict[str, dict]:
    """Return, for each image, how it is called where it is pulled and where it is built.

    Args:
        platform: images of the project: ``official`` and ``debian`` name of each.
        applications: images of the user: ``image`` or ``source`` of each, perhaps the ``setting`` that names it.
        registry: prefix of pulled images.
        prefix: prefix of platform images that are built here.
        stack: prefix of application images that are built here.
        project: the checkout.
    """
    names: dict[str, dict] = {}
    for name, image in platform.items():
        context = f"files/images/{name}"
        names[name] = {
            "registry": registry_reference(image["official"], registry),
            "debian": f"{prefix}/{image['debian']}",
            "context": context,
            "digest": build_context_digest(context, project),
        }
    for name, application in applications.items():
        if application["image"]:
            reference = local_reference(registry_reference(str(application["image"]), registry))
            setting = application.get("setting", f"{name}_image")
            names[name] = {"registry": reference, "debian": reference, "setting": setting}
            continue
        source = str(Path(str(application["source"])).expanduser())
        content = build_context_digest(source, project, platform["python"])
        names[name] = {
            "registry": f"{stack}/{name}:{content}",
            "debian": f"{stack}/{name}:{content}-debian",
            "context": source,
            "digest": content,
            "application": True,
            "setting": f"{name}_source",
        }
    return names


def image_candidates(names: dict[str, dict]) -> list[str]:
    """Return every name that an image of this deployment may have."""
    return sorted({image[source] for image in names.values() for source in ("registry", "debian")})


def data_volume_names(report: str) -> list[str]:
    """Return the names of what is in a data volume, from the report that ``data_volume_problem`` reads."""
    names = report.partition("\n\n")[2].partition("\n\n")[0].split("\n")
    return sorted(set(names) - {"", "lost+found"})


def data_volume_unfinished(report: str) -> bool:
    """Tell whether a data volume holds a database whose first start has failed or was interrupted, so that it never served.

    Args:
        report: as for ``data_volume_problem``.
    """
    return not UNFINISHED.isdisjoint(data_volume_names(report))


def data_volume_problem(report: str, volume: str) -> str:
    """Return why a server must not open a data volume, or nothing.

    Args:
        report: three parts with empty lines between them: the server's version, the names in the
            volume, and MySQL's own history of it.
        volume: its name, for the sentence.
    """
    names = data_volume_names(report)
    keep = "its data is untouched; deploy under another stack_name, or remove the volume if its data may be lost"
    if not names:
        return ""
    for mark, engine in (
        ("PG_VERSION", "PostgreSQL"),
        ("aria_log_control", "MariaDB"),
        ("mariadb_upgrade_info", "MariaDB"),
        ("WiredTiger", "MongoDB"),
    ):
        if mark in names:
            return f"The volume {volume} holds a {engine} database and the stack's is MySQL; {keep}."
    if not UNFINISHED.isdisjoint(names):
        return (
            f"The volume {volume} is only half initialised, because its first start was interrupted;"
            f" remove it with 'docker volume rm {volume}' and run again."
        )
    if ".restore-incomplete" in names:
        return f"The restore into the volume {volume} was interrupted; run playbooks/restore.yml again."
    if "mysql.ibd" not in names:
        return f"The volume {volume} holds something else than a MySQL database; {keep}."
    written, own = _releases(report)
    if written and own and parse_version(written) > parse_version(own):
        return (
            f"The volume {volume} was written by MySQL {written} and the server of this deployment is {own},"
            " which cannot read it; take an image of that version or later."
        )
    return ""


def data_volume_upgrade(report: str) -> dict[str, str]:
    """Return the releases ``before`` and ``after`` if the server is newer than what wrote a data volume, else nothing.

    Args:
        report: as for ``data_volume_problem``.
    """
    written, own = _releases(report)
    if not written or not own or parse_version(own) <= parse_version(written):
        return {}
    return {"before": written, "after": own}


def _releases(report: str) -> tuple[str, str]:
    """Return the release that last wrote a data volume and that of the server, empty where the report has none."""
    written = re.findall(r'"version":\s*"([0-9.]+)', report)
    own = re.search(r"Ver ([0-9.]+)", report.partition("\n\n")[0])
    return written[-1] if written else "", own[1] if own else ""


def images_missing(names: dict[str, dict], source: str, present: dict[str, dict], refresh: bool) -> list[dict]:
    """Return the images that have to be pulled or built, in that order.

    Args:
        names: what ``image_names`` returned.
        source: ``registry`` or ``debian``.
        present: images on the host by name, with their labels.
        refresh: take all of them as missing.
    """
    builds_applications = any(image.get("application") for image in names.values())
    missing = []
    for name, image in names.items():
        if name == "python" and not builds_applications:
            continue
        reference = image[source]
        built = "context" in image and (source == "debian" or image.get("application", False))
        found = present.get(reference)
        # A platform image keeps its tag, so its label tells what it was built from.
        current = found and (not built or found["labels"].get("webstack.context") == image["digest"])
        if refresh or not current:
            missing.append({"name": name, "reference": reference, "built": built, **image})
    # What cannot be pulled shall be known before minutes go into builds; applications need python.
    return sorted(missing, key=lambda item: (item["built"], item.get("application", False)))


def registry_account(user: str, password: str, known: str) -> str:
    """Return the line of a htpasswd file for an account: the known one if it says the same, since each new one differs."""
    import bcrypt

    name, _, hashed = known.strip().partition(":")
    if name == user and hashed and bcrypt.checkpw(password.encode(), hashed.encode()):
        return known
    # Each question to the registry costs it that time.
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=10)).decode()}\n"


def swarm_object(content: str, stack: str, path: str) -> str:
    """Return the name of a config or secret of a Swarm, which changes with its content."""
    return stack_swarm.object_name(stack, path, content)


def known_secrets(files: list[dict], secrets: dict[str, str], present: dict[str, str]) -> dict[str, dict]:
    """Return what secret files hold, or shall hold where there is none yet.

    Args:
        files: those of the stack, as the module ``config_tree`` takes them.
        secrets: secrets by name; an empty value means generate one and keep it.
        present: what those that are there hold, by path.

    Returns:
        ``given``, the secrets for ``config_tree``, and ``contents``, what is held by name of a secret or else by path.
    """
    contents: dict[str, str] = {}
    for file in files:
        path, name = file["path"], file.get("secret")
        if name:
            contents[name] = contents.get(name) or present.get(path) or secrets.get(name) or new_secret()
        elif "secret_content" in file:
            contents[path] = file["secret_content"] or present.get(path, "")
    # One that is given is compared with the one that is in use.
    return {"given": {name: secrets[name] or contents[name] for name in secrets}, "contents": contents}


def swarm_stack(rendered: str, files: list[dict], checks: list[dict], wishes: dict[str, Any]) -> dict[str, Any]:
    """Return the stack of one host as the stack of a Swarm.

    Args:
        rendered: the Compose file.
        files: those beside it, as the module ``config_tree`` takes them.
        checks: commands that check them.
        wishes: what the settings say of the Swarm.

    Returns:
        ``files`` with the stack file among them, ``checks`` of them, and ``losses``, a sentence for all that a Swarm lacks.
    """
    model = yaml_load(rendered.encode())
    own = stack_swarm.own_files(files, model)
    conversion = stack_swarm.Conversion(model, own, stack_swarm.Wishes(**wishes))
    try:
        result = conversion.result()
    except stack_swarm.SwarmError as error:
        raise AnsibleFilterError(str(error)) from None
    stack_file = "# Written by the playbook: docker-compose.yml.j2, converted.\n" + yaml.safe_dump(
        json.loads(json.dumps(result)), sort_keys=False, allow_unicode=True, width=1000
    )
    config = {
        "name": "docker-stack.yml",
        "paths": [""],
        "argv": ["docker", "stack", "config", "--compose-file", "{tree}/docker-stack.yml"],
    }
    return {
        "files": [*own, {"path": "docker-stack.yml", "content": stack_file}],
        "checks": [config, *({**check, "argv": stack_swarm.checks(check["argv"], model)} for check in checks)],
        "losses": stack_swarm.losses(conversion.dropped),
    }


class FilterModule:
    """The filters by the names that templates use."""

    def filters(self) -> dict[str, Any]:
        """Return them."""
        return {
            "as_text": as_text,
            "build_problem": build_problem,
            "told_seconds": seconds,
            "with_defaults": with_defaults,
            "compose_value": compose_value,
            "compose_environment": compose_environment,
            "within_host": within_host,
            "network_definition": network_definition,
            "networks_isolated": networks_isolated,
            "networks_outdated": networks_outdated,
            "containers_complete": containers_complete,
            "dumps_seen": dumps_seen,
            "dumps_without_effect": dumps_without_effect,
            "fewer_replicas": fewer_replicas,
            "development_service": development_service,
            "stack_mounts": stack_mounts,
            "digest": digest,
            "duration_seconds": parse_duration,
            "memory_bytes": parse_size,
            "check_definitions": check_definitions,
            "check_field": check_field,
            "milliseconds": milliseconds,
            "is_init": is_init,
            "become_reason": become_reason,
            "engine_refusal": engine_refusal,
            "with_before": with_before,
            "image_details": read_images,
            "image_names": image_names,
            "image_candidates": image_candidates,
            "images_missing": images_missing,
            "data_volume_names": data_volume_names,
            "data_volume_problem": data_volume_problem,
            "data_volume_unfinished": data_volume_unfinished,
            "data_volume_upgrade": data_volume_upgrade,
            "failed_requests": failed_requests,
            "service_changes": changes,
            "certificate_pair": certificate_pair,
            "certificate_end": certificate_end,
            "certificate_expires_within": certificate_expires_within,
            "known_secrets": known_secrets,
            "registry_account": registry_account,
            "swarm_address": stack_swarm.node_address,
            "swarm_object": swarm_object,
            "swarm_stack": swarm_stack,
            "self_signed_certificate": self_signed_certificate,
        }
