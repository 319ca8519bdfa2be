"""Is it alive, can it answer, and what does it lack? Open to everybody, as probes carry no keys; says nothing else."""

from __future__ import annotations

from typing import Literal

import anyio.to_thread
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from integrations.keys import KeyStore
from integrations.serving.problems import responses
from integrations.serving.service import Service, model_name


class Health(BaseModel):
    """A probe's answer; a server that is not ready answers 503 instead."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """Ready to answer; `notes` say what is not protected as the policy says, and are left out where there are none."""

    notes: list[str] | None = None


class Live(BaseModel):
    """Open Inference Protocol: the server runs."""

    live: Literal[True] = True


class Ready(BaseModel):
    """Open Inference Protocol: the server can answer."""

    ready: Literal[True] = True


def router(service: Service, keys: KeyStore | None) -> APIRouter:
    """Liveness asks nothing of anybody; readiness writes to the store and the log's disk, and reads the keys."""
    routes = APIRouter()
    path_name, notes = model_name(service.guard.model.spec), list(service.guard.notes)

    def check() -> None:
        service.guard.check_ready()
        if keys is not None:
            keys.list()

    async def reachable() -> None:
        await anyio.to_thread.run_sync(check)

    @routes.get("/healthz", summary="Alive")
    async def alive() -> Health:
        return Health()

    @routes.get("/readyz", summary="Ready", responses=responses(503), response_model_exclude_none=True)
    async def ready() -> Readiness:
        await reachable()
        return Readiness(notes=notes or None)

    @routes.get("/v2/health/live", summary="Alive")
    async def live() -> Live:
        return Live()

    @routes.get("/v2/health/ready", summary="Ready", responses=responses(503))
    async def server_ready() -> Ready:
        await reachable()
        return Ready()

    @routes.get("/v2/models/{name}/ready", summary="Model ready", responses=responses(404, 422, 503))
    async def model_ready(name: str = path_name) -> Ready:
        if name != service.guard.model.spec.name:
            raise HTTPException(404, "no model of that name is served here")
        await reachable()
        return Ready()

    return routes
