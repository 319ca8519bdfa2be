# mypy: allow-subclassing-any
# (uvicorn is not followed by mypy; see pyproject.toml)
"""The process that listens: uvicorn within the limits, and a stop that load balancers see coming."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import anyio
import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from medward.integrations.serving.connections import Connection
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.policy_reload import SIGNALLED, PolicyRefused, PolicyReloader
from medward.integrations.serving.pool import Pool

_log = logging.getLogger("medward")


class DrainingServer(uvicorn.Server):
    """uvicorn's server, but at SIGTERM it is not ready for `drain` seconds, in which it answers on, and then stops.

    At SIGHUP `reloader`, if there is one, takes the policy that lies in the bundle's folder.

    Requests under way then have ``timeout_graceful_shutdown`` of `config`. A second SIGTERM, or SIGINT at any time,
    stops it at once. `pool` is that of its app; `clock` is in seconds.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        pool: Pool,
        drain: float,
        clock: Callable[[], float] = time.monotonic,
        reloader: PolicyReloader | None = None,
    ) -> None:
        super().__init__(config)
        self._reloader, self._reload_asked = reloader, False
        self._reloading: asyncio.Task[None] | None = None
        self._pool, self._drain, self._clock = pool, drain, clock
        self._stops: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or stop."""
        if sig == signal.SIGTERM and self._stops is None and self._drain and not self.should_exit:
            self._stops = self._clock() + self._drain
            self._pool.draining = True
            _log.warning("SIGTERM: not ready from now on; it stops in %g s", self._drain)
        else:
            super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGHUP for a reload while the server runs, in the main thread, which alone is told of signals."""
        if self._reloader is None or threading.current_thread() is not threading.main_thread():
            with super().capture_signals():
                yield
            return
        before = signal.signal(signal.SIGHUP, self._ask_reload)
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _ask_reload(self, _sig: int, _frame: FrameType | None) -> None:
        self._reload_asked = True

    async def _reload(self, reloader: PolicyReloader) -> None:
        with suppress(PolicyRefused):  # it is logged, and readiness says it
            await anyio.to_thread.run_sync(reloader.reload, SIGNALLED)

    async def on_tick(self, counter: int) -> bool:
        """Reload where that was asked for; stop when the time to drain is over."""
        if self._reload_asked and self._reloader is not None and (self._reloading is None or self._reloading.done()):
            self._reload_asked = False
            self._reloading = asyncio.create_task(self._reload(self._reloader))
        if self._stops is not None and self._clock() >= self._stops and not self.should_exit:
            super().handle_exit(signal.SIGTERM, None)
        stops: bool = await super().on_tick(counter)
        return stops


def server_of(
    app: FastAPI,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificate: Path | None = None,
    private_key: Path | None = None,
    client_ca: Path | None = None,
) -> DrainingServer:
    """A server of `app`, an app of `create_app`, within `limits`.

    With `client_ca` (PEM) nobody without a client certificate of these authorities gets beyond the TLS handshake,
    health probes included.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        lifespan="on",
        h11_max_incomplete_event_size=16 * 1024,
        limit_concurrency=limits.connections,
        backlog=256,
        timeout_keep_alive=limits.header_seconds,
        timeout_graceful_shutdown=limits.stop_seconds,
        server_header=False,
        log_config=None,  # `structured_logs` has the handlers
        access_log=False,  # `Edge` logs requests, without what clients put in their paths
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        ssl_ca_certs=client_ca,
        ssl_cert_reqs=ssl.CERT_NONE if client_ca is None else ssl.CERT_REQUIRED,
    )
    return DrainingServer(config, app.state.service.pool, limits.drain, reloader=app.state.reloader)
