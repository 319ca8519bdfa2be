"""Apps behind real sockets, in a thread of the test's own process, and models that wait until a test lets them go."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from medward.guard.spec import ModelSpec
from medward.guard.types import Outputs
from medward.integrations.serving.server import DrainingServer, server_of


@dataclass
class WaitingModel:
    """Each call notes its rows, and how many, and then waits; `go` lets all of them go on."""

    spec: ModelSpec
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[list[float]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def predict(self, inputs: Any) -> Outputs:
        self.asked.extend(inputs.tolist())
        self.calls.append(len(inputs))
        assert self.go.wait(30)
        return Outputs(inputs)


@dataclass(frozen=True)
class Live:
    """A server that listens at `address`."""

    server: DrainingServer
    address: tuple[str, int]

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 20)

    def send(self, content: bytes) -> socket.socket:
        connection = self.connect()
        connection.sendall(content)
        return connection


@contextmanager
def listening(app: FastAPI, **clock: Any) -> Iterator[Live]:
    """Serve `app`, an app of `create_app`, within its own limits."""
    server = server_of(app, app.state.service.limits, **clock)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Live(server, server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for what comes by itself; no test's outcome depends on how long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
