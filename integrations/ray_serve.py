"""The guarded endpoint as a deployment of Ray Serve: replicas of one bundle that share one Redis.

Each replica is the app of ``medward serve``. Redis holds what they have in common: accounts, budgets, suspensions,
rates, keys and the salt. A folder of its own, by its rank, holds its audit log; who takes the place of a replica that
died has its rank, and goes on with its chain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from medward.guard.errors import MedwardError
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.pool import HUNG, Pool
from medward.integrations.serving.run import load_app
from medward.integrations.serving.store import is_shared

Settings = Mapping[str, int | float | str]


class EndpointArguments(BaseModel):
    """Arguments of an endpoint: the bundle's folder, where state lies, how many replicas answer.

    Each replica has a folder ``replica-RANK`` in `state`; `bundle` lies at the same place on every node. `store`, by
    default ``MEDWARD_STORE``, is the address of the Redis that more than one replica needs; without it one replica has
    a file in its folder. `limits` and `identity` are settings of `medward serve` by their names: places and bodies are
    bounded for each replica, an account's rate, budget and alarms for all together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    state: Path = Path("state")
    store: str | None = Field(default_factory=lambda: os.environ.get("MEDWARD_STORE"))
    replicas: Annotated[int, Field(ge=1)] = 2
    resize: bool = False
    allow_code: bool = False
    expect: str | None = None
    origins: tuple[str, ...] = ()
    fhir: Path | None = None
    limits: Settings = {}
    identity: Settings = {}


def guarded_endpoint(arguments: EndpointArguments) -> Application:
    """The application of an endpoint, for ``serve.run`` and as import path of ``serve run`` and ``serve deploy``.

    Every caller needs a key or a token: make keys with ``medward keys add --store``. A replica all of whose threads
    hang in the model is replaced. One that is stopped gets no more requests, and ends those under way within
    ``limits.stop_seconds``.
    Raises `MedwardError` for replicas without a store that they share, and for settings that do not exist.
    """
    limits = _chosen(Limits, "limits", arguments.limits)
    _chosen(IdentitySettings, "identity", arguments.identity)
    check_shared(arguments.store, arguments.replicas)
    placed = arguments.model_copy(
        update={name: path.absolute() for name in ("bundle", "state", "fhir") if (path := getattr(arguments, name))}
    )

    def build() -> FastAPI:
        context = serve.get_replica_context()
        return replica_app(placed, rank=context.rank.rank, replicas=context.world_size)

    deployment = serve.deployment(
        name="medward",
        num_replicas=arguments.replicas,
        max_ongoing_requests=limits.connections,  # `Pool` says who waits, and who is refused in which words
        graceful_shutdown_wait_loop_s=min(1.0, limits.stop_seconds),
        graceful_shutdown_timeout_s=limits.stop_seconds,
    )
    application: Application = deployment(serve.ingress(build)(GuardedReplica)).bind()
    return application


class GuardedReplica:
    """A guarded replica answers while one of its threads does; Ray Serve asks for its health and replaces it."""

    app: FastAPI

    def check_health(self) -> None:
        """Raise `RuntimeError` where every thread hangs in the model. A store that is away is told by ``/readyz``."""
        pool: Pool = self.app.state.service.pool
        if pool.all_hung:
            raise RuntimeError(HUNG)


def replica_app(arguments: EndpointArguments, *, rank: int, replicas: int) -> FastAPI:
    """The app of the replica of `rank` among so many `replicas`, with ``state/replica-RANK``.

    Raises `MedwardError` where several share no store, as when a file of Ray Serve asks for more than was said.
    """
    check_shared(arguments.store, max(replicas, rank + 1))
    state = arguments.state / f"replica-{rank}"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return load_app(
        arguments.bundle,
        state=state,
        store=arguments.store,
        limits=_chosen(Limits, "limits", arguments.limits),
        resize=arguments.resize,
        allow_code=arguments.allow_code,
        expect=arguments.expect,
        origins=arguments.origins,
        identity=_chosen(IdentitySettings, "identity", arguments.identity),
        fhir=arguments.fhir,
    )


def check_shared(store: str | None, replicas: int) -> None:
    """Refuse several `replicas` whose `store` each would have for itself: a thief who goes round them is not seen."""
    if replicas > 1 and not is_shared(store):
        raise MedwardError(
            f"store: {replicas} replicas need one that they share, got {store or 'a file of each'}; give the address "
            "of a Redis, as redis://:password@host:6379/0, or replicas = 1"
        )


def _chosen(kind: Any, name: str, settings: Settings) -> Any:
    """The `settings` as what they are of."""
    known = [each.name for each in fields(kind)]
    if unknown := [each for each in settings if each not in known]:
        raise MedwardError(f"{name}: there is no {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**settings)
