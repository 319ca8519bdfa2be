"""Which web pages may ask from a browser: exact origins, and none unless said (CORS).

Keys travel in headers, never in cookies, so no page can use the key of another. Reference: WHATWG Fetch, sec. 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medward.guard.errors import MedwardError
from medward.integrations.serving.binary_tensors import JSON_LENGTH
from medward.integrations.serving.predictions import COMMISSIONING_HEADER

ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
DEFAULT_PORTS = {"http": "80", "https": "443"}


def checked_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """`origins` as browsers send them, or what is wrong with one: scheme, host and port, in lower case, and no more."""
    for origin in origins:
        if origin == "*":
            raise MedwardError(
                "allow-origin: * would let any web page ask; name each origin, as https://viewer.example"
            )
        if not ORIGIN.fullmatch(origin):
            raise MedwardError(
                f"allow-origin: {origin!r} is no origin; give scheme, host and port alone in lower case, "
                "as https://viewer.example or http://localhost:3000"
            )
        scheme, _, rest = origin.partition("://")
        if rest.endswith(f":{DEFAULT_PORTS[scheme]}"):
            raise MedwardError(f"allow-origin: {origin!r}: browsers leave the port out where it is {scheme}'s own")
    return tuple(origins)


def cross_origin_settings(origins: Sequence[str]) -> dict[str, Any]:
    """What Starlette's ``CORSMiddleware`` is told for `origins`."""
    return {
        "allow_origins": checked_origins(origins),
        "allow_methods": ("GET", "HEAD", "POST"),
        "allow_headers": (
            "Authorization", "X-API-Key", "Content-Type", "Content-Encoding",
            "Medward-Study", "X-Request-ID", JSON_LENGTH,
        ),
        "expose_headers": ("X-Request-ID", "Retry-After", COMMISSIONING_HEADER, JSON_LENGTH),
    }  # fmt: skip
