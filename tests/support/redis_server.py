"""A real Redis that a test can stop, freeze and restart, and a wire to it that loses a reply."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from support.needed import lacking

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class RedisServer:
    """``redis-server`` on a socket in `folder`; `options` as on its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._folder, self._options = folder, options
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        with open(self._folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen([*command, *self._options], cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        with self.client() as client:
            while True:
                with suppress(redis.ConnectionError):
                    client.ping()
                    return
                assert self.process.poll() is None, (self._folder / "redis.log").read_text()
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It takes connections and never answers."""
        self.process.send_signal(signal.SIGSTOP)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server that is gone at the end; where there is no Redis the test is skipped, and fails in CI."""
    if shutil.which("redis-server") is None:
        lacking("redis-server", "redis-server")
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.stop()


class Wire:
    """A socket in front of a server's: counts round trips, and cuts the line instead of the next `lose` replies.

    `meanwhile` is called while the client has lost a reply and does not know it yet.
    """

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server = server
        path = folder / "wire.sock"
        self.url = f"unix://{path}"
        self.round_trips = self.lose = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, suppress(OSError):
            far.connect(str(self._server.socket))
            asked = False
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if source is near:
                        asked = True
                    elif asked:
                        asked, self.round_trips = False, self.round_trips + 1
                        if self.lose:
                            self.lose -= 1
                            self.meanwhile()
                            return
                    (far if source is near else near).sendall(data)
