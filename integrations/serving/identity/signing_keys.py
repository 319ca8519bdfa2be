"""The issuer's public keys: a JSON Web Key Set, of which a bounded copy is kept.

Reference: RFC 7517 (JWK), RFC 7518 (which key an algorithm needs).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.serving.fetched_copy import FetchedCopy
from medward.integrations.serving.identity.fetched_document import fetch_document, read_document
from medward.integrations.serving.identity.settings import IdentitySettings

MOST_KEYS = 100
SMALLEST_RSA = 2048  # bits
UNKNOWN_PAUSE = 10.0  # seconds between fetches that tokens with unknown keys can cause
FILE_FRESH = 1.0  # seconds after which a file is read again
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The public keys of one set that verify one of `algorithms`, by their id and algorithm; others are left out."""

    keys: Mapping[tuple[str | None, str], PyJWK]

    @classmethod
    def read(cls, content: bytes, algorithms: Iterable[str]) -> SigningKeys:
        """The keys that a JSON Web Key Set holds. Raises `MedwardError` where it is none, or holds none that serve.

        Private and shared keys, keys for other uses, RSA keys under 2048 bits and curves that an algorithm does not
        have are left out. So are two keys that one id and algorithm name: which is meant nobody can tell.
        """
        try:
            said = json.loads(content)
            listed = said["keys"]
        except (ValueError, RecursionError, TypeError, KeyError):
            raise MedwardError("the issuer's keys are no JSON Web Key Set") from None
        if not isinstance(listed, list) or len(listed) > MOST_KEYS:
            raise MedwardError(f"the issuer's keys must be a list of at most {MOST_KEYS}")
        found: dict[tuple[str | None, str], list[PyJWK]] = {}
        for each in listed:
            for algorithm in algorithms:
                if isinstance(each, dict) and (key := _usable(each, algorithm)):
                    found.setdefault((each.get("kid"), algorithm), []).append(key)
        keys = {name: several[0] for name, several in found.items() if len(several) == 1}
        if not keys:
            raise MedwardError("the issuer's keys hold none that verifies an allowed signature")
        return cls(keys)

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """The key of that id for that algorithm; a token that names none is verified by the only key there is."""
        if key_id is not None:
            return self.keys.get((key_id, algorithm))
        fitting = [key for (_, name), key in self.keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None


def _usable(each: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    kind = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}[algorithm[:2]]
    if each.get("kty") != kind or "d" in each or each.get("alg", algorithm) != algorithm:
        return None
    if each.get("use", "sig") != "sig" or "verify" not in (each.get("key_ops") or ["verify"]):
        return None
    if not isinstance(each.get("kid"), str | None) or each.get("crv") != _CURVES.get(algorithm):
        return None
    try:
        key = PyJWK(dict(each), algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if kind == "RSA" and key.key.key_size < SMALLEST_RSA else key


class IssuerKeys:
    """The issuer's keys as they were at most ``fresh`` seconds ago, or ``stale`` where they cannot be fetched."""

    def __init__(self, settings: IdentitySettings, clock: Callable[[], float] | None = None) -> None:
        file, algorithms = settings.jwks_file, settings.algorithms.split()
        content = partial(fetch_document, settings.jwks) if file is None else partial(read_document, file)
        timing: dict[str, Any] = {} if clock is None else {"clock": clock}
        self._copy = FetchedCopy(
            lambda: SigningKeys.read(content(), algorithms),
            name="the issuer's keys",
            fresh=settings.fresh if file is None else FILE_FRESH,
            stale=settings.stale,
            **timing,
        )

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """The key that verifies, or None where the issuer has none such.

        An unknown id has the keys fetched anew, every `UNKNOWN_PAUSE` seconds at most. Raises `UnavailableError` where
        there is no copy that may be used, and for an unknown id where fetching fails: the issuer may have a new key.
        """
        key = (await self._copy.current()).find(key_id, algorithm)
        if key is None:
            key = (await self._copy.renewed(UNKNOWN_PAUSE)).find(key_id, algorithm)
        if key is None and self._copy.failure:
            raise UnavailableError(f"the issuer's keys: {self._copy.failure}")
        return key

    async def check_ready(self) -> None:
        """Raise `UnavailableError` where no token could be verified now."""
        await self._copy.current()
