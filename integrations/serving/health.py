"""Is it alive, can it answer, and how much does it lack? Open to everybody, as probes carry no keys.

What it lacks, in words, would tell a thief what goes unseen: only who may read ``/metrics`` is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel

from medward.guard.errors import IntegrityError, UnavailableError
from medward.integrations.serving.identity.authentication import Authenticator
from medward.integrations.serving.pool import HUNG
from medward.integrations.serving.problems import problem_responses
from medward.integrations.serving.service import Service, model_name

Reachable = Callable[[], Awaitable[tuple[str, ...]]]
"""Tells what is not protected, or raises `UnavailableError` or 503 while the server cannot answer."""
STOPPING = "the server is stopping; it answers what comes, but send no more"
PROBE_SECONDS = 2.0  # seconds that a probe waits for what it asks
SECONDS_KEPT = 1.0  # seconds that a finding serves other probes: they carry no keys, and must not wear out the disk


class Health(BaseModel):
    """A probe's answer; a server that is not ready answers 503 instead."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """Ready to answer; `note_count` is how many `notes` say what is not protected, both left out where none does.

    The notes are for who may read ``/metrics``.
    """

    note_count: int | None = None
    notes: list[str] | None = None


class Live(BaseModel):
    """Open Inference Protocol: the server runs."""

    live: Literal[True] = True


class Ready(BaseModel):
    """Open Inference Protocol: the server can answer."""

    ready: Literal[True] = True


@dataclass(slots=True, eq=False)
class ReadinessProbe:
    """Asks `check` once at a time and at most once in `SECONDS_KEPT` seconds, however many want to know.

    A check that takes longer than `PROBE_SECONDS` seconds says that the server is not ready, until it is done.
    """

    check: Callable[[], tuple[str, ...]]
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _asking: asyncio.Future[tuple[str, ...] | str] | None = None
    _found: tuple[str, ...] | str = ()  # a text says why it is not ready
    _until: float = 0.0

    async def __call__(self) -> tuple[str, ...]:
        """What `check` returned, or `UnavailableError` as it said."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._found = await self._ask()
                self._until = time.monotonic() + SECONDS_KEPT
            found = self._found
        if isinstance(found, str):
            raise UnavailableError(found)
        return found

    async def _ask(self) -> tuple[str, ...] | str:
        if self._asking is None or self._asking.get_loop() is not asyncio.get_running_loop():
            self._asking = asyncio.ensure_future(anyio.to_thread.run_sync(self._checked, abandon_on_cancel=True))
        done, _ = await asyncio.wait((self._asking,), timeout=PROBE_SECONDS)
        if not done:
            return f"the store, the audit log, the keys or the model did not answer within {PROBE_SECONDS:g} s"
        self._asking = None
        return done.pop().result()

    def _checked(self) -> tuple[str, ...] | str:
        try:
            return self.check()
        except (UnavailableError, IntegrityError) as error:
            return str(error)


def readiness_probe(service: Service, known: Authenticator | None) -> Reachable:
    """The one probe of a server, for all routes that tell whether it is ready.

    It is not while the server stops, or while every thread hangs in the model; one that hangs is a note. Else the store
    is written to and the log's disk, the keys are read, and a model that failed at the last query is tried. Without the
    keys of an issuer whose tokens are taken it is not ready, or has a note where the site answers without parts that
    are away (``on_error = "flag"``).
    """
    pool, tokens = service.pool, None if known is None else known.tokens

    def check() -> tuple[str, ...]:
        if known is not None:
            known.keys.list()
        return service.guard.check_ready()

    probe = ReadinessProbe(check)

    async def reachable() -> tuple[str, ...]:
        if pool.draining:
            raise HTTPException(503, STOPPING, {"Retry-After": "5"})
        if pool.all_hung:
            raise HTTPException(503, HUNG, {"Retry-After": "30"})
        hung = (f"{pool.hung} of {pool.limits.workers} threads hang in the model",) if pool.hung else ()
        return (*hung, *await issuer(), *await probe())

    async def issuer() -> tuple[str, ...]:
        try:
            if tokens is not None:
                await asyncio.wait_for(tokens.keys.check_ready(), PROBE_SECONDS)
        except (UnavailableError, TimeoutError) as error:
            said = str(error) or f"the issuer's keys did not come within {PROBE_SECONDS:g} s"
            if service.guard.policy.on_error == "withhold":
                raise UnavailableError(said) from None
            return (f"no access token can be verified: {said}",)
        return ()

    return reachable


def health_router(service: Service, reachable: Reachable, trusted: Callable[..., Awaitable[bool]]) -> APIRouter:
    """Liveness asks nothing of anybody; readiness is what `reachable` finds (`readiness_probe`).

    It says its notes in words, and which part is away, to who is `trusted` with them, a dependency that refuses nobody;
    to others the number of its notes. A part that is away leaves the server ready where it answers without it
    (``on_error = "flag"``), as a note says.
    """
    routes, told = APIRouter(), Depends(trusted)
    path_name = model_name(service.guard.model.spec)

    @routes.get("/healthz", summary="Alive")
    async def alive() -> Health:
        return Health()

    @routes.get("/readyz", summary="Ready", responses=problem_responses(503), response_model_exclude_none=True)
    async def ready(knowing: bool = told) -> Readiness:
        try:
            found = [*service.place.notes, *await reachable()]
        except UnavailableError as error:
            if not knowing:
                raise
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from None
        return Readiness(note_count=len(found) or None, notes=(found or None) if knowing else None)

    @routes.get("/v2/health/live", summary="Alive")
    async def live() -> Live:
        return Live()

    @routes.get("/v2/health/ready", summary="Ready", responses=problem_responses(503))
    async def server_ready() -> Ready:
        await reachable()
        return Ready()

    @routes.get("/v2/models/{name}/ready", summary="Model ready", responses=problem_responses(404, 422, 503))
    async def model_ready(name: str = path_name) -> Ready:
        if name != service.guard.model.spec.name:
            raise HTTPException(404, "no model of that name is served here")
        await reachable()
        return Ready()

    return routes
