"""Administration under ``/admin``: for keys of scope "admin" alone, which open nothing else, and no key else opens it.

One prefix, so that a proxy can keep it from clients. It is no part of the schema that clients read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict

from medward.guard.accounts.stores import Store
from medward.guard.errors import UnavailableError
from medward.guard.types import Principal
from medward.integrations.serving.key_use import last_uses
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.policy_reload import PolicyRefused, PolicyReloader
from medward.integrations.serving.service import request_origin

ADMIN_PREFIX = "/admin/v1"


class ListedKey(BaseModel):
    """A key without its digest; `last_used` is a day, UTC's."""

    id: str
    principal: str
    scope: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    replaces: str | None
    last_used: str | None


class ListedKeys(BaseModel):
    """Every key ever made, revoked ones too."""

    keys: list[ListedKey]


def listed_keys(keys: KeyStore, store: Store) -> list[ListedKey]:
    """The keys as people may see them, with the days that `store` knows of their use."""
    uses = last_uses(store)
    shown = {"id", "scope", "created", "expires", "revoked", "replaces"}
    return [
        ListedKey(**key.model_dump(include=shown), principal="/".join(key.principal), last_used=uses.get(key.id))
        for key in keys.list()
    ]


class ReloadRequest(BaseModel):
    """What a reload is asked with: the digest that the bundle has since its policy was sealed, or nothing."""

    model_config = ConfigDict(extra="forbid")

    expect: str | None = None


class ReloadedPolicy(BaseModel):
    """What a reload changed, as `PolicyChange` says it, and the bundle's digest now."""

    bundle: str
    before: str
    policy: str
    sections: list[str]
    keys: dict[str, list[Any]]
    restarted: bool
    stricter: list[str] | None
    milder: list[str] | None
    spent: list[str] | None


def admin_router(
    keys: KeyStore,
    store: Store,
    administrator: Callable[..., Awaitable[Principal]],
    reloader: PolicyReloader | None = None,
) -> APIRouter:
    """The routes; `administrator` says who asks and refuses all others."""
    asking = Depends(administrator)
    routes = APIRouter(prefix=ADMIN_PREFIX, include_in_schema=False, dependencies=[asking])

    @routes.get("/keys")
    def administered_keys() -> ListedKeys:
        return ListedKeys(keys=listed_keys(keys, store))

    if reloader is None:
        return routes

    @routes.post("/reload")
    def administered_reload(
        request: Request, asked: ReloadRequest | None = None, principal: Principal = asking
    ) -> ReloadedPolicy:
        expect = None if asked is None else asked.expect
        try:
            change = reloader.reload("/".join(principal), origin=request_origin(request), expect=expect)
        except PolicyRefused as error:
            if isinstance(error.__cause__, UnavailableError):
                raise HTTPException(503, str(error), {"Retry-After": "5"}) from None
            raise
        return ReloadedPolicy(bundle=reloader.bundle.digest, **change.content)

    return routes
