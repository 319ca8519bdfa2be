"""Requests that do not say who asks, or wrongly: counted, told to whoever records them, and bounded per address."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import HTTPException, Request

from medward.integrations.serving.account_rate import AccountRate
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.refusal import refusal

FailureReason = Literal["missing", "unknown", "ended", "token", "scope"]
"""Nothing was sent, nobody's key was, one that has ended was, a token was not taken, or a scope is not held."""
_log = logging.getLogger("medward")


@dataclass(frozen=True, slots=True)
class FailedAuthentication:
    """What is known of a request that was refused for who asks; `credential` names a key or token, "" for none known.

    `address` is that of the connection: behind a proxy, the proxy's. It is a person's datum in some jurisdictions.
    """

    reason: FailureReason
    said: str
    address: str
    request_id: str
    credential: str = ""


def ignore_failure(failure: FailedAuthentication) -> None:
    """Record nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCounter:
    """Counts failures in `metrics`, and of each address as many as `rate` says are told to `told` and to the client.

    Beyond that a failure is 429, and goes to no log and to nobody, so that what is written is bounded. Who holds a
    valid key or token is served all the same: behind one proxy a stranger shuts nobody out.
    """

    metrics: Metrics
    rate: AccountRate | None
    told: Callable[[FailedAuthentication], None] = ignore_failure

    async def refused(
        self, request: Request, status: int, reason: FailureReason, said: str, challenge: str, credential: str = ""
    ) -> HTTPException:
        """The error that answers `request`, counted and told."""
        self.metrics.failed_authentication(reason)
        address = request.client.host if request.client else ""
        after = await self.rate.wait(address_network(address)) if self.rate else 0.0
        if after:
            wait = f"too many requests of this address do not say who asks; ask again in {math.ceil(after)} s"
            return refusal(self.metrics.refused, 429, "failures", wait, after)
        _log.warning("request %s: not authenticated (%s %s)", request.state.request_id, reason, credential or "-")
        request.state.authentication_failed = True
        self.told(FailedAuthentication(reason, said, address, request.state.request_id, credential))
        return HTTPException(status, said, {"WWW-Authenticate": challenge})


def address_network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, which one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
