"""Administration under ``/admin``: for keys of scope "admin" alone, which open nothing else, and no key else opens it.

One prefix, so that a proxy can keep it from clients. It is no part of the schema that clients read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from medward.guard.accounts.stores import Store
from medward.guard.types import Principal
from medward.integrations.serving.key_use import last_uses
from medward.integrations.serving.keys import KeyStore

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


def admin_router(keys: KeyStore, store: Store, administrator: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """The routes; `administrator` says who asks and refuses all others."""
    routes = APIRouter(prefix=ADMIN_PREFIX, include_in_schema=False, dependencies=[Depends(administrator)])

    @routes.get("/keys")
    def administered_keys() -> ListedKeys:
        return ListedKeys(keys=listed_keys(keys, store))

    return routes
