"""How a service gets from some containers to others: pure functions of numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Containers to start, then old ones and current ones to retire."""

    start: int = 0
    retire_old: int = 0
    retire_current: int = 0


# Containers that start at a time for each processor, if a share of many is wanted: more of them would keep the processors
# from those that serve.
STARTS = 5


def batch_size(text: str, replicas: int, cpus: float = math.inf) -> int:
    """Return how many containers are started at a time: ``25%`` of the replicas, or a number; at least one.

    A share is limited by what ``cpus`` processors can start, a number is not.

    Raises:
        ValueError: ``text`` is neither.
    """
    match = re.fullmatch(r"([0-9]+)(%?)", text.strip())
    if not match or int(match[1]) == 0 or (match[2] and int(match[1]) > 100):
        raise ValueError(f"{text!r} is neither a number nor a share like 25%")
    if not match[2]:
        return int(match[1])
    return min(STARTS * cpus, max(1, math.ceil(replicas * int(match[1]) / 100)))


def next_step(current: int, old: int, wanted: int, batch: int, leave: int) -> Step | None:
    """Return the next step from ``current`` and ``old`` containers to ``wanted`` current ones; None: it is reached.

    At most ``batch`` start at a time, and at most ``leave`` of those that nothing new stands in for stop.

    There are never fewer containers than wanted (or than there were), and never more than a batch above that.
    """
    if current < wanted:
        start = min(batch, wanted - current)
        return Step(start=start, retire_old=min(old, max(0, current + start + old - wanted)))
    # What is left over leaves a part at a time: to stop many containers at once slows down those that serve.
    if old:
        return Step(retire_old=min(old, leave))
    if current > wanted:
        return Step(retire_current=min(current - wanted, leave))
    return None
