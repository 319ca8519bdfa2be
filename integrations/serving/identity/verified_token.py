"""What verifying an access token comes to."""

from __future__ import annotations

from dataclasses import dataclass

from medward.guard.types import Principal
from medward.integrations.serving.key_places import Scope


class TokenError(Exception):
    """Why a token is not taken, in words that hold nothing of the token."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Who a verified token names, which of our scopes it opens, and a `digest` by which records can name it."""

    principal: Principal
    scopes: frozenset[Scope]
    digest: str
