"""What a deployment has changed, service by service, for the lines at the end of a run."""

from __future__ import annotations

import re

# Digits of an image's or a configuration's digest that tell one from another.
DIGITS = 12


def changes(before: list[dict], after: list[dict], reloaded: list[str] = ()) -> list[str]:
    """Return a line for each service that is not what it was: from what to what.

    Args:
        before: containers as ``stack_compose.read_list`` returns them.
        after: the same at the end.
        reloaded: load balancers that run a new configuration in the container that they had.
    """
    found = {}
    names = dict.fromkeys(container["service"] for container in [*after, *before])
    for name in names:
        old = [container for container in before if container["service"] == name]
        new = [container for container in after if container["service"] == name]
        parts = _parts(old, new)
        if name in reloaded and not parts:
            parts = ["reloaded its configuration"]
        if parts:
            found[name] = ", ".join(parts)
    width = max(map(len, found), default=0)
    return [f"{name.ljust(width)}  {text}" for name, text in found.items()]


def _parts(old: list[dict], new: list[dict]) -> list[str]:
    """Return what is different between the containers that a service had and has."""
    if not old:
        return [f"started {_containers(new)}, {_values(new, 'image')}"]
    if not new:
        return [f"removed {_containers(old)}"]
    parts = []
    if len(old) != len(new):
        parts.append(f"{len(old)} → {_containers(new)}")
    if _values(old, "image") != _values(new, "image"):
        parts.append(f"image {_values(old, 'image')} → {_values(new, 'image')}")
    elif _values(old, "hash") != _values(new, "hash"):
        parts.append(f"configuration {_values(old, 'hash')} → {_values(new, 'hash')}")
    made = {container["id"] for container in new} - {container["id"] for container in old}
    replaced = min(len(old), len(made) - max(0, len(new) - len(old)))
    if replaced > 0:
        parts.append(f"{replaced} recreated")
    return parts


def _containers(containers: list[dict]) -> str:
    """Return how many there are."""
    return f"{len(containers)} container{'s' * (len(containers) != 1)}"


def _values(containers: list[dict], key: str) -> str:
    """Return what containers have under a key, each once; digests shortened."""
    digest = re.compile(rf"(?:sha256:)?([0-9a-f]{{{DIGITS}}})[0-9a-f]+")
    values = {match[1] if (match := digest.fullmatch(item[key])) else item[key] for item in containers}
    return " and ".join(sorted(values))


def failed_requests(begin: dict, ended: list[dict], end: dict) -> str:
    """Return how many requests were answered with 5xx while a deployment went on, as the load balancers count them.

    A load balancer begins anew at 0 when it reloads or is replaced; what it had counted is among ``ended``.

    Args:
        begin: ``requests`` and ``failed`` of each load balancer when the run began; without those that did not answer.
        ended: the same, of processes that have ended during the run, in any order.
        end: the same, at the end.
    """
    parts = []
    for name, last in end.items():
        if not begin.get(name) or not last:
            continue
        before = [item[name] for item in ended if item.get(name)]
        total = {key: sum(item[key] for item in [*before, last]) - begin[name][key] for key in ("requests", "failed")}
        if total["requests"] < 0 or total["failed"] < 0:
            # It was started anew by somebody else.
            total = last
        parts.append(f"{total['failed']} of {total['requests']} at {name}")
    return ", ".join(parts)
