"""Transactions in MySQL's binary logs: where each begins and ends and when it was committed.

The server's own tool for this, mysqlbinlog, is not in every image of it. The format is that of the "Binary Log Event"
chapters of MySQL's source documentation: after four bytes of magic, events with a header of 19 bytes each, numbers in
little-endian order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\xfebin"
ENCRYPTED_MAGIC = b"\xfdbin"
# Time in seconds, type, number of the server, length with this header, position of the next event, flags.
HEADER = struct.Struct("<IBIIIH")
# Types of the event that every transaction begins with: with a global identifier, without one, with a tagged one.
GTID, ANONYMOUS, TAGGED = 33, 34, 42
# In the first two: flags, server, number, kind of clock and two clocks stand before the time of the commit.
COMMIT_TIME = slice(42, 49)
# Its highest bit says that another time follows, before the length of the whole transaction.
SECOND_TIME = 1 << 55
# Bytes of a number by its first byte; smaller ones are the number themselves.
WIDTHS = {252: 2, 253: 3, 254: 8}


@dataclass(frozen=True)
class Transaction:
    """Where a transaction begins and ends (bytes from the beginning of its file) and when it was committed (epoch)."""

    position: int
    end: int
    committed: float


def packed(body: bytes) -> int:
    """Return the number at the beginning of some bytes, which says itself how wide it is."""
    width = WIDTHS.get(body[0])
    return int.from_bytes(body[1 : 1 + width], "little") if width else body[0]


def transactions(path: Path) -> Iterator[Transaction]:
    """Yield the transactions of a file in their order; one that is not there as a whole ends them.

    Raises:
        ValueError: it is no binary log, or an encrypted one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic == ENCRYPTED_MAGIC:
            raise ValueError(f"{path.name} is encrypted, and its key is not in a backup")
        if magic != MAGIC:
            raise ValueError(f"{path.name} is no binary log")
        size = path.stat().st_size
        position = file.tell()
        while len(header := file.read(HEADER.size)) == HEADER.size:
            seconds, kind, _, length, _, _ = HEADER.unpack(header)
            end = position + length
            if length < HEADER.size or end > size:
                return
            committed = float(seconds)
            if kind in (GTID, ANONYMOUS):
                body = file.read(length - HEADER.size)
                time = int.from_bytes(body[COMMIT_TIME], "little")
                committed = (time & (SECOND_TIME - 1)) / 1e6
                second = COMMIT_TIME.stop - COMMIT_TIME.start if time & SECOND_TIME else 0
                end = position + packed(body[COMMIT_TIME.stop + second :])
                if end > size:
                    return
            if kind in (GTID, ANONYMOUS, TAGGED):
                yield Transaction(position, end, committed)
            position = end
            file.seek(position)


def stop(paths: list[Path], until: float | None = None) -> tuple[Path, int]:
    """Return the file and the position in it up to which a replay has to go.

    Args:
        paths: binary logs in the order in which they were written.
        until: seconds of the epoch; what was committed later is left out. None: everything that is there as a whole.
    """
    last = len(MAGIC)
    for path in paths:
        last = len(MAGIC)
        for transaction in transactions(path):
            if until is not None and transaction.committed > until:
                return path, transaction.position
            last = transaction.end
    return paths[-1], last
