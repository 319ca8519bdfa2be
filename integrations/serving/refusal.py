"""Requests that are refused for what others or they themselves take, with the reason that `/metrics` counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from fastapi import HTTPException

RefusalReason = Literal["busy", "share", "rate", "memory", "connections", "deadline", "hung", "left", "failures"]
CountRefusal = Callable[[RefusalReason], None]
"""Counts one request that was not answered: for want of a place, for its account's share or rate, for want of memory or
connections, for its deadline, for a model that hangs, because its client left before the model was asked, or
because its address failed too often to say who asks."""


def uncounted(reason: RefusalReason) -> None:
    """Count nothing."""


def refusal(
    count: CountRefusal, status: Literal[429, 503], reason: RefusalReason, said: str, after: float
) -> HTTPException:
    """The error for a refused request, which is counted: 429 where its account did it, else 503.

    ``Retry-After`` are the whole seconds from `after` up.
    """
    count(reason)
    return HTTPException(status, said, {"Retry-After": str(max(1, math.ceil(after)))})
