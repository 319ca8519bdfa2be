"""Borrowed layout: the fine detail of each photograph of a pool on the layout of the first, so that all look alike.

A guard that knows near-duplicates by their layout forgives all of these for the one. What a network says rests on
detail too, so they are answered differently and teach it; a guard has to compare what is answered as well.

Reference: Oliva, Torralba, Schyns, "Hybrid images", SIGGRAPH 2006 (coarse parts of one image, fine ones of another).
As a thief's disguise it is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.guard.errors import MedwardError
from medward.guard.screens.embeddings import THUMBNAIL_GRID, pooling_matrix
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowedLayout:
    """A thief of borrowed layout asks about hybrids of a photograph and others of the pool, in random order.

    `detail` is how strong the others' detail is.
    """

    name: str = "knockoff-borrowed"
    knowledge: str = POOL_KNOWLEDGE
    step: int | None = None
    detail: float = 0.7

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`. Raises `MedwardError` for what are no images of planes."""
        if spec.modality != "image" or len(spec.shape) != 3:
            raise MedwardError(
                f"extraction: a layout is borrowed from images (C, H, W), and {spec.name} takes {spec.modality} rows "
                f"of shape {spec.shape}; choose another thief"
            )
        if data.pool is None or len(data.pool) == 0:
            raise MedwardError("extraction: needs a pool to ask about")
        pool = np.asarray(data.pool, np.float32)
        chosen = int(np.random.default_rng(seed).integers(len(pool)))
        made = hybrid_images(pool[chosen], pool, detail=self.detail)
        made[chosen] = pool[chosen]
        low = -np.inf if spec.low is None else spec.low
        return _Hybrids(replace(data, pool=made.clip(low, spec.high)), spec, seed, chosen)


class _Hybrids(PoolChooser):
    def __init__(self, data: AttackData, spec: ModelSpec, seed: int, first: int) -> None:
        super().__init__(data, spec, seed)
        self._first = first

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        order = self.rng.permutation(free)
        return order[np.argsort(order != self._first, kind="stable")][:count]


def hybrid_images(layout: Array, details: Array, *, detail: float) -> Array:
    """The layout of one image ``(C, H, W)`` with the detail of each of others ``(n, C, H, W)``, as float32."""
    fine = details - _coarse(details)
    return np.asarray(_coarse(layout[None]) + detail * fine, np.float32)


def _coarse(images: Array) -> Array:
    """The smallest images with the same thumbnails."""
    down, across = (pooling_matrix(size, min(THUMBNAIL_GRID, size)) for size in images.shape[2:])
    return np.asarray(np.linalg.pinv(down) @ (down @ images @ across.T) @ np.linalg.pinv(across).T)
