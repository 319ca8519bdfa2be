"""Sockets that take what others need: bodies that come byte by byte, and connections on which nothing is asked.

As a script, ``hostile_sockets.py HOST PORT TOKEN SLOW IDLE``, it is a process that is at work until its input ends, so
that those who suffer by it do not share an event loop with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

SOURCE, PAUSE = "127.0.0.2", 1.0  # seconds


@dataclass(slots=True)
class HostileSockets:
    """`slow` requests of one key, whose bodies never end, and `idle` connections; one that ends is soon opened anew.

    They come from an address of their own.
    """

    address: tuple[str, int]
    token: str
    slow: int = 34
    idle: int = 300
    statuses: Counter[str] = field(default_factory=Counter)
    opened: int = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """They are there meanwhile, in a process of their own; what they got is counted at the end."""
        told = [*self.address, self.token, self.slow, self.idle]
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *map(str, told), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        try:
            yield
        finally:
            found = json.loads((await process.communicate(b""))[0])
            self.opened += found["opened"]
            self.statuses += Counter(found["statuses"])

    async def work(self) -> None:
        """Be at work until the input ends, which is told what came of it."""
        tasks = [asyncio.create_task(self._again(self._slowly)) for _ in range(self.slow)]
        tasks += [asyncio.create_task(self._again(self._idly)) for _ in range(self.idle)]
        await asyncio.sleep(1)
        print("at work", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(json.dumps({"opened": self.opened, "statuses": self.statuses}))

    async def _again(self, once) -> None:
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection(*self.address, local_addr=(SOURCE, 0))
                self.opened += 1
                try:
                    await once(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(PAUSE)

    async def _slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {self.token}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 200\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        try:
            while not answer.done():
                writer.write(b" ")
                await asyncio.wait((answer,), timeout=1)
            self.statuses[(await answer)[9:12].decode()] += 1
        finally:
            answer.cancel()

    async def _idly(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)


if __name__ == "__main__":
    host, port, token, slow, idle = sys.argv[1:]
    asyncio.run(HostileSockets((host, int(port)), token, int(slow), int(idle)).work())
