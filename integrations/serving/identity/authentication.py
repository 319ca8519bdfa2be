"""Who asks: a request's key or token becomes an identity, or the request is refused."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from medward.guard.errors import IntegrityError, UnavailableError
from medward.guard.types import Principal
from medward.integrations.serving.identity.failed_authentication import FailureCounter, FailureReason
from medward.integrations.serving.identity.verified_token import TokenError
from medward.integrations.serving.key_places import Scope
from medward.integrations.serving.key_use import KeyUse
from medward.integrations.serving.keys import KeyStore

if TYPE_CHECKING:  # imports cryptography, which only who takes tokens needs
    from medward.integrations.serving.identity.access_tokens import TokenVerifier

CHALLENGE = {"WWW-Authenticate": "Bearer"}
SEND_KEY = "send a valid key as Authorization: Bearer or X-API-Key"
bearer = HTTPBearer(auto_error=False, description="A key made by `medward keys add`, or an access token.")
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, without a scheme.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, what that opens, and the `credential` that said so: ``key:<id>`` or ``token:<digest>``."""

    principal: Principal
    scopes: frozenset[Scope]
    credential: str


async def presented_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    api_key: Annotated[str | None, Security(header)],
) -> str | None:
    """The key or token that a request presents, in either header."""
    return credentials.credentials if credentials else api_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Knows who asks by `keys`, and by `tokens` where an issuer's are taken."""

    keys: KeyStore
    failures: FailureCounter
    tokens: TokenVerifier | None = None
    use: KeyUse | None = None

    async def identify(self, request: Request, token: str | None, scope: Scope) -> Identity:
        """Who asks for what `scope` opens. 401 where nobody is known, 403 for who has another scope, 429 after many.

        Raises `UnavailableError` where it cannot be told.
        """
        refused = self.failures.refused
        if not token:
            raise await refused(request, 401, "missing", SEND_KEY, "Bearer")
        if self.tokens is not None and token.count(".") == 2:
            identity = await self._by_token(self.tokens, request, token)
        else:
            identity = await self._by_key(request, token)
        if scope not in identity.scopes:
            held = " and ".join(sorted(identity.scopes)) or "nothing here"
            said = f"this {identity.credential.partition(':')[0]} is for {held}, the route needs one for {scope}"
            raise await refused(
                request, 403, "scope", said, 'Bearer error="insufficient_scope"', credential=identity.credential
            )
        request.state.identity = identity
        return identity

    async def _by_key(self, request: Request, token: str) -> Identity:
        key = await self.keys.holder(token)
        if key is None or not key.valid(datetime.now(UTC)):
            reason: FailureReason = "ended" if key else "unknown"
            credential = f"key:{key.id}" if key else ""
            raise await self.failures.refused(request, 401, reason, SEND_KEY, "Bearer", credential)
        if self.use is not None:
            self.use.note(key.id)
        return Identity(key.principal, frozenset({key.scope}), f"key:{key.id}")

    async def _by_token(self, tokens: TokenVerifier, request: Request, token: str) -> Identity:
        try:
            found = await tokens.verify(token, lambda: client_certificate(request))
        except TokenError as error:
            said = f"the token is not taken: {error}"
            raise await self.failures.refused(request, 401, "token", said, 'Bearer error="invalid_token"') from None
        return Identity(found.principal, found.scopes, f"token:{found.digest}")


def client_certificate(request: Request) -> bytes | None:
    """The certificate that the client showed in its TLS handshake, in DER; None without one."""
    chain = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None


@dataclass(frozen=True, slots=True)
class Caller:
    """Turns a request's key or token into its principal: 401 without one, 403 for the wrong scope."""

    authenticator: Authenticator
    scope: Scope

    async def __call__(self, request: Request, token: Annotated[str | None, Depends(presented_token)]) -> Principal:
        """Who asks; `request.state.identity` says more of it."""
        return (await self.authenticator.identify(request, token, self.scope)).principal


@dataclass(frozen=True, slots=True)
class Holds:
    """Tells whether a request holds a key or token of a scope, and refuses nobody; False while that cannot be told."""

    authenticator: Authenticator
    scope: Scope

    async def __call__(self, request: Request, token: Annotated[str | None, Depends(presented_token)]) -> bool:
        """Whether it does. Who sends none is not counted as a failure."""
        if not token:
            return False
        try:
            await self.authenticator.identify(request, token, self.scope)
        except (HTTPException, IntegrityError, UnavailableError):
            return False
        return True


async def everybody() -> bool:
    """Whoever asks holds what is asked for: the development mode without keys."""
    return True


async def anonymous() -> Principal:
    """Everybody is one principal: the development mode without keys."""
    return ("anonymous",)
