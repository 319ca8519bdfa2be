"""Load on a server as clients make it: each request at its own time, whether or not the last one was answered.

A plain client of HTTP/1.1 over asyncio, since the load generator shares the machine with what it loads. Seconds count
from when a request was due, so that a slow server cannot hide that others waited (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

LOST = 0  # the status of a request that got no answer at all
PATIENCE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request: seconds from when it was due and from when it was sent, status, the id of an answer.

    `retry_after` says whether it tells when to ask again.
    """

    seconds: float
    since_sent: float
    status: int
    retry_after: bool
    id: str


@dataclass(slots=True)
class Load:
    """Sends what `request` makes of a number to `address`, over at most so many kept `connections`.

    A request for which no connection is free waits for one, as behind a proxy.
    """

    address: tuple[str, int]
    request: Callable[[int], bytes]
    connections: int = 200
    _free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _number: int = 0
    _places: asyncio.Semaphore | None = None

    async def at_rate(self, rate: float, seconds: float) -> list[Reply]:
        """`rate` requests a second for `seconds`, evenly spaced; all of their replies, in order of asking."""
        loop, count, self._places = asyncio.get_running_loop(), int(rate * seconds), asyncio.Semaphore(self.connections)
        begun, tasks = loop.time(), list[asyncio.Task[Reply]]()
        for place in range(count):
            due = begun + place / rate
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            elif place % 20 == 0:
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(self._one(due)))
        return list(await asyncio.gather(*tasks))

    async def closed(self, clients: int, seconds: float) -> list[Reply]:
        """As many requests as `clients` that wait for each answer get through in `seconds`."""
        loop = asyncio.get_running_loop()
        ends, found, self._places = loop.time() + seconds, list[Reply](), asyncio.Semaphore(clients)

        async def client() -> None:
            while loop.time() < ends:
                found.append(await self._one(loop.time()))

        await asyncio.gather(*(client() for _ in range(clients)))
        return found

    async def close(self) -> None:
        """Close the kept connections."""
        while self._free:
            await _closed(self._free.pop()[1])

    async def _one(self, due: float) -> Reply:
        assert self._places is not None
        loop = asyncio.get_running_loop()
        async with self._places:
            self._number += 1
            sent, content = loop.time(), self.request(self._number)
            status, headers, body = LOST, b"", b""
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    status, headers, body = await self._exchange(content)
            ended = loop.time()
        told = b"\r\nretry-after:" in headers.lower()
        return Reply(ended - due, ended - sent, status, told, json.loads(body)["id"] if status == 200 else "")

    async def _exchange(self, content: bytes) -> tuple[int, bytes, bytes]:
        while self._free:  # a kept connection may have been closed meanwhile: then this was no request
            with suppress(OSError, EOFError):
                return await self._over(self._free.pop(), content)
        return await self._over(await asyncio.open_connection(*self.address), content)

    async def _over(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], content: bytes
    ) -> tuple[int, bytes, bytes]:
        reader, writer = connection
        kept = False
        try:
            writer.write(content)
            headers = await reader.readuntil(b"\r\n\r\n")
            lower = headers.lower()
            length = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            kept = b"\r\nconnection: close" not in lower
            return int(headers[9:12]), headers, body
        finally:
            if kept:
                self._free.append(connection)
            else:
                await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def post(path: str, token: str, body: bytes) -> bytes:
    """The bytes of one request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {token}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def quantile(seconds: Sequence[float], share: float) -> float:
    """The `share` quantile of `seconds`."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def sample(read: Callable[[], object], into: list[tuple[float, object]], every: float) -> None:
    """Note what `read` says every so many seconds, until cancelled."""
    while True:
        into.append((time.monotonic(), read()))
        await asyncio.sleep(every)
