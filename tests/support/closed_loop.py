"""Clients that ask one question after the other over connections that stay open, and how long each answer took.

They send bytes that were made before, and read no more of an answer than its status and length: what is measured is the
server, which has the same cores.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What a closed loop came to: answers by status, and the seconds of each answer with 200."""

    statuses: Mapping[int, int]
    latencies: Sequence[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers with 200 a second."""
        return len(self.latencies) / self.seconds


def request_bytes(url: str, body: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request to `url`."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Type: {media_type}"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ask_in_turn(url: str, requests: Sequence[Sequence[bytes]], seconds: float) -> Asked:
    """One connection for each of `requests`, of which it sends one after the other, in turns, for so many seconds."""
    parts = urlsplit(url)
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    lock, ends = threading.Lock(), time.perf_counter() + seconds
    failed: list[BaseException] = []

    def client(own: Sequence[bytes]) -> None:
        seen: Counter[int] = Counter()
        took: list[float] = []
        try:
            with socket.create_connection((parts.hostname, parts.port), timeout=120) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for sent in cycle(own):
                    began = time.perf_counter()
                    if began >= ends:
                        break
                    connection.sendall(sent)
                    status = _answer_status(connection)
                    seen[status] += 1
                    if status == 200:
                        took.append(time.perf_counter() - began)
        except BaseException as error:
            failed.append(error)
        with lock:
            statuses.update(seen)
            latencies.extend(took)

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(each,)) for each in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return Asked(dict(statuses), latencies, time.perf_counter() - began)


def _answer_status(connection: socket.socket) -> int:
    """Read one answer to its end; its status."""
    read = b""
    while (end := read.find(b"\r\n\r\n")) < 0:
        if not (more := connection.recv(65536)):
            raise ConnectionError(f"the server closed the connection after {read[:200]!r}")
        read += more
    found = LENGTH.search(read[: end + 2])
    if found is None:
        raise ValueError(f"an answer without a length: {read[:200]!r}")
    left = end + 4 + int(found[1]) - len(read)
    while left > 0:
        left -= len(connection.recv(65536))
    return int(read[9:12])
