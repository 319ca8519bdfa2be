"""Access tokens as a resource server takes them: JSON Web Tokens, signed by one issuer, for this server.

PyJWT verifies signatures and dates: MIT, one file a matter, algorithms by an allow-list, nothing fetched by itself.
What it leaves open is closed here: repeated claims, critical headers, kinds of tokens, how long one may live, and
tokens that are bound to a key of their holder's.

References: RFC 7519 (JWT), RFC 8725 (best current practices), RFC 9068 (access tokens), RFC 8705 sec. 3 (tokens bound
to a client certificate).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt

from medward.guard.accounts.look_alikes import distinct_principal
from medward.guard.errors import MedwardError
from medward.guard.types import Principal
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.identity.signing_keys import IssuerKeys
from medward.integrations.serving.identity.smart_scopes import scope_covers
from medward.integrations.serving.identity.verified_token import TokenError, VerifiedToken
from medward.integrations.serving.key_places import Scope

MOST_TOKEN = 8192  # characters
MOST_TAKEN = 1024  # tokens that need not be verified again
MOST_CLAIM = 256  # characters of a jti or kid
_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KINDS = ("jwt", "at+jwt", "application/at+jwt")  # an ID token has the first too: what tells it apart is its audience
_CANNOT_READ = "it cannot be read"
_SAID: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet; compare the clocks",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.MissingRequiredClaimError: "it lacks a claim that every token needs",
}
_REQUIRED = ("iss", "aud", "exp", "iat")


class _Taken(NamedTuple):
    """A token whose signature was verified by `key`, found under its algorithm and id."""

    key: jwt.PyJWK
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    verified: VerifiedToken


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Verifies tokens by `settings`: of its issuer, for its audience, in time, with a name in its claims.

    A client sends one token many times: of the last `MOST_TAKEN` that were taken the signature is not verified again
    while the issuer's copy of its key is the one that verified it. Dates and holder are checked each time.
    """

    settings: IdentitySettings
    keys: IssuerKeys = field(repr=False)
    _taken: OrderedDict[bytes, _Taken] = field(default_factory=OrderedDict, init=False, repr=False, compare=False)

    async def verify(self, token: str, certificate: Callable[[], bytes | None] = lambda: None) -> VerifiedToken:
        """What `token` says, once its signature, issuer, audience and dates were verified.

        `certificate` is the client's, in DER, for a token that is bound to one. Raises `TokenError` for one that is not
        taken, and `UnavailableError` where that cannot be told since the issuer's keys cannot be had.
        """
        if len(token) > MOST_TOKEN or _PARTS.fullmatch(token) is None:
            raise TokenError(_CANNOT_READ)
        digest = hashlib.sha256(token.encode()).digest()
        taken = self._taken.get(digest)
        if taken is None or await self.keys.find(taken.key_id, taken.algorithm) is not taken.key:
            taken = await self._verified(token)
            self._taken[digest] = taken
            while len(self._taken) > MOST_TAKEN:
                self._taken.popitem(last=False)
        self._check_dates(taken.claims)
        _check_holder(taken.claims, certificate)
        return taken.verified

    async def _verified(self, token: str) -> _Taken:
        header, claims = (_read_part(part) for part in token.split(".")[:2])
        algorithm, key_id = self._checked_header(header)
        self._check_claims(claims)
        key = await self.keys.find(key_id, algorithm)
        if key is None:
            raise TokenError("no key of the issuer's verifies it")
        try:
            jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                leeway=self.settings.leeway,
                options={"require": list(_REQUIRED)},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenError(_SAID.get(type(error), "its signature or form is wrong")) from None
        named = claims.get("jti") or token
        digest = hashlib.sha256(f"{self.settings.issuer} {named}".encode()).hexdigest()[:16]
        return _Taken(
            key, algorithm, key_id, claims, VerifiedToken(self._principal(claims), self._scopes(claims), digest)
        )

    def _check_dates(self, claims: Mapping[str, Any]) -> None:
        """Refuse a token that was taken before and is not valid now; PyJWT says the same of new ones."""
        now, leeway = time.time(), self.settings.leeway
        if claims["exp"] <= now - leeway:
            raise TokenError(_SAID[jwt.ExpiredSignatureError])
        if max(claims["iat"], claims.get("nbf", 0)) > now + leeway:
            raise TokenError(_SAID[jwt.ImmatureSignatureError])

    def _checked_header(self, header: Mapping[str, Any]) -> tuple[str, str | None]:
        """Its algorithm and key id; where it says to find a key (jwk, jku, x5c, x5u) is not looked at."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self.settings.algorithms.split():
            raise TokenError("its signature is of a kind that is not taken")
        if "crit" in header or "b64" in header or str(header.get("typ", "jwt")).lower() not in _KINDS:
            raise TokenError("it is of a kind that is not taken")
        if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= MOST_CLAIM):
            raise TokenError(_CANNOT_READ)
        return algorithm, key_id

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        """What of the claims PyJWT does not check, before it reads them."""
        if lacking := [name for name in _REQUIRED if name not in claims]:
            raise TokenError(f"it lacks the claim {lacking[0]}")
        for name in ("exp", "iat", "nbf"):
            value = claims.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise TokenError(f"its claim {name} is no time")
            if not 0 <= value < 2**40:
                raise TokenError(f"its claim {name} is no time")
        if claims["exp"] - claims["iat"] > self.settings.life:
            raise TokenError(f"it is valid for more than {self.settings.life:g} s")
        if "jti" in claims and not (isinstance(claims["jti"], str) and len(claims["jti"]) <= MOST_CLAIM):
            raise TokenError("its claim jti is no short text")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        levels = [self.settings.organisation] if self.settings.organisation else []
        for name in self.settings.claims.split():
            value = claims.get(name)
            if not isinstance(value, str) or not value:
                raise TokenError(f"it does not say {name}, which names who asks")
            # A level holds no "/": one in a claim is written so that no two claims are written alike.
            levels.append(value.replace("%", "%25").replace("/", "%2F"))
        try:
            return distinct_principal(tuple(levels))
        except MedwardError:
            raise TokenError(f"its claims {self.settings.claims} cannot name an account") from None

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        said = claims.get("scope", claims.get("scp", ""))  # some issuers say scp, and some a list
        granted = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        words = [each for each in granted if isinstance(each, str)]
        return frozenset(
            ours
            for ours, needed in self.settings.needed_scopes.items()
            if any(scope_covers(each, one) for each in words for one in needed)
        )


def _check_holder(claims: Mapping[str, Any], certificate: Callable[[], bytes | None]) -> None:
    """Take a token that is bound to a certificate from its holder only, and none that is bound to another proof."""
    if "cnf" not in claims:
        return
    bound = claims["cnf"]
    if not isinstance(bound, dict) or set(bound) != {"x5t#S256"} or not isinstance(bound["x5t#S256"], str):
        raise TokenError("it is bound to a proof that this server does not take")
    held = certificate()
    digest = base64.urlsafe_b64encode(hashlib.sha256(held).digest()).rstrip(b"=") if held else b""
    if not hmac.compare_digest(digest, bound["x5t#S256"].encode()):
        raise TokenError("it is bound to another client certificate")


def _read_part(part: str) -> dict[str, Any]:
    """A part of a token: one JSON object, whose names occur once."""
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise TokenError(_CANNOT_READ) from None
    if not isinstance(value, dict):
        raise TokenError(_CANNOT_READ)
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
