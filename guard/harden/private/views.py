"""Other views of rows, made anew at every step: each of its own row alone, so that they cost no privacy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medward.guard.harden.private.per_row import Columns

Views = Callable[[Columns, torch.Generator], Columns]
"""Makes other views of rows, each of its own row alone."""
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Makes other images of images ``(n, C, H, W)`` in [0, 1]."""


def image_views(augment: Augment, low: float, high: float) -> Views:
    """Views by `augment` of the images "x" within ``[low, high]``, a range that no row has a part in."""
    width = high - low

    def views(rows: Columns, generator: torch.Generator) -> Columns:
        return {**rows, "x": augment((rows["x"] - low) / width, generator).clamp(0, 1) * width + low}

    return views
