"""Clients that the edge has to bear: run in a container, so that they have an address of their own.

Usage: python rude.py HOST PORT slow CONNECTIONS SECONDS, or flood RATE SECONDS. Prints a line when it begins, and in the end
what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

# Seconds between two bytes of a slow client.
PAUSE = 1.0
CLIENTS = 20


async def slow(host: str, port: int, number: int, seconds: float) -> dict:
    """Open many connections and send the headers of a request on each, byte by byte."""
    end = time.monotonic() + seconds
    found: Counter[str] = Counter()
    kept: list[float] = []

    async def one() -> None:
        begin = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            while time.monotonic() < end:
                writer.write(b"a")
                await writer.drain()
                try:
                    answer = await asyncio.wait_for(reader.read(100), PAUSE)
                except TimeoutError:
                    continue
                found["refused" if not answer else answer.split()[1].decode()] += 1
                break
            else:
                found["kept"] += 1
            writer.close()
        except OSError:
            found["refused"] += 1
        kept.append(time.monotonic() - begin)

    await asyncio.gather(*(one() for _ in range(number)))
    return {"found": found, "longest": max(kept)}


async def flood(host: str, port: int, rate: float, seconds: float) -> dict:
    """Send requests at a rate, on some connections that are kept open."""
    end = time.monotonic() + seconds
    found: Counter[str] = Counter()

    async def one(offset: float) -> None:
        await asyncio.sleep(offset)
        due = time.monotonic()
        reader = writer = None
        while time.monotonic() < end:
            due += CLIENTS / rate
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split()[0])
                await reader.readexactly(length)
                found[head.split()[1]] += 1
            except (OSError, asyncio.IncompleteReadError, IndexError):
                found["refused"] += 1
                writer = None
            await asyncio.sleep(max(0, due - time.monotonic()))

    await asyncio.gather(*(one(number / rate) for number in range(CLIENTS)))
    return {"found": found}


if __name__ == "__main__":
    host, port, kind, amount, seconds = sys.argv[1:6]
    print("begun", flush=True)
    action = {"slow": slow, "flood": flood}[kind]
    print(json.dumps(asyncio.run(action(host, int(port), int(amount), float(seconds)))))
