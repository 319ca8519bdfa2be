"""Whose access tokens are taken, and what of them is believed: the settings ``[identity]`` of ``medward serve``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from medward.guard.accounts.look_alikes import distinct_principal
from medward.guard.errors import MedwardError
from medward.integrations.serving.identity.smart_scopes import check_scope
from medward.integrations.serving.key_places import Scope
from medward.integrations.serving.option_field import check_option_ranges, option_field

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that a public key verifies. None with a shared secret, and no "none", can be allowed."""
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
MOST_CLAIMS = 7  # levels of a principal, but for the organisation


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Settings of a resource server for the access tokens of one issuer; without an issuer none are taken.

    Every field is a flag of ``medward serve`` (``--identity-issuer``), a name in ``[identity]`` of its ``--config``
    file and an environment variable ``MEDWARD_SERVE_IDENTITY_...``. Lists are words with spaces between them.
    """

    issuer: str = option_field("", "who signs access tokens, as their claim iss says it; empty: no tokens are taken")
    audience: str = option_field("", "what the claim aud must name: this server, as the issuer knows it")
    jwks: str = option_field("", "the issuer's public keys: an https address, or a file")
    algorithms: str = option_field("RS256 RS384 ES256 ES384", "signatures that are taken")
    organisation: str = option_field("", "first level of every principal; empty: the first of the claims is")
    claims: str = option_field("client_id", "claims that name who asks, level by level, as client_id or fhirUser")
    predict_scopes: str = option_field("system/DiagnosticReport.c", "scopes of which one lets ask the model")
    metrics_scopes: str = option_field("", "scopes of which one lets read /metrics; empty: no token does")
    admin_scopes: str = option_field("", "scopes of which one opens /admin; empty: no token does")
    leeway: float = option_field(30.0, "seconds by which clocks may differ", least=0, most=300)
    life: float = option_field(86400.0, "seconds that a token may be valid for, as it cannot be revoked", least=60)
    fresh: float = option_field(300.0, "seconds after which the issuer's keys are fetched again", most=86400)
    stale: float = option_field(3600.0, "seconds that they are used when they cannot be fetched", most=604800)

    def __post_init__(self) -> None:
        check_option_ranges(self, "identity")
        if not self.issuer:
            return
        for name in ("audience", "jwks", "algorithms"):
            if not getattr(self, name).strip():
                raise MedwardError(f"identity.{name}: is needed where tokens of {self.issuer} are taken")
        for algorithm in self.algorithms.split():
            if algorithm not in ALGORITHMS:
                raise MedwardError(f"identity.algorithms: {algorithm!r} is none of {', '.join(ALGORITHMS)}")
        if not 0 < len(self.claims.split()) <= MOST_CLAIMS:
            raise MedwardError(f"identity.claims: name 1 to {MOST_CLAIMS} claims, got {self.claims!r}")
        if self.organisation:
            distinct_principal((self.organisation,))
        for scope in (*self.predict_scopes.split(), *self.metrics_scopes.split(), *self.admin_scopes.split()):
            check_scope(scope)
        if self.stale < self.fresh:
            raise MedwardError(f"identity.stale must be >= identity.fresh ({self.fresh:g}), got {self.stale:g}")
        if "://" in self.jwks:
            _check_address(self.jwks)

    @property
    def jwks_file(self) -> Path | None:
        """The file of the issuer's keys, if they do not lie at an address."""
        return None if "://" in self.jwks else Path(self.jwks)

    @property
    def needed_scopes(self) -> dict[Scope, tuple[str, ...]]:
        """For each of our scopes the issuer's, of which a token needs one."""
        return {
            "predict": tuple(self.predict_scopes.split()),
            "metrics": tuple(self.metrics_scopes.split()),
            "admin": tuple(self.admin_scopes.split()),
        }


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or parts.fragment or "@" in parts.netloc:
        raise MedwardError("identity.jwks: give an address such as https://login.example/keys, without a user in it")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK_HOSTS):
        raise MedwardError(f"identity.jwks: keys are fetched over https only, got {parts.scheme}://{host}")
