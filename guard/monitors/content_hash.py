"""What an image shows, as a short vector that a small change moves little: the map behind the near-duplicate index.

The layout of an image (`guard.screens.embeddings`) is cut by secret random planes. The distances to `CONTENT_WIDTH` of
them say how alike two images are; the sides of all `BITS_PER_TABLE` make the code by which the index looks images up.
Near-duplicates are closer than `NEAR` times what two different benign images hardly ever are: the distance to the
nearest other one that only one fit row in `RARE` falls below. That is a measured margin, not a bound: patients who look
alike may share a cluster, and pictures with little variety (the slices of one volume) do.

Reference: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002 (sides of random planes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.screens.embeddings import layout_embedding
from medward.guard.types import Array, Outputs

BITS_PER_TABLE = 64  # of a code
CONTENT_WIDTH = 30  # planes whose distances are compared; a multiple of 3, so that contents in base64 can be joined
RADIUS = 8.0  # root mean square difference of two near-duplicates' contents, in the steps they are kept in
NEAR = 0.8
RARE = 100
_ROWS = 2000  # fit rows compared at most
_LIMITS = np.iinfo(np.int16)
CONTENT_PARTS = ("planes", "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentHash:
    """The fitted map. ``planes (BITS, cells + 1)`` are normals and offsets in benign spreads, `step` one unit of a
    content. `fingerprint` names the map in the keys of an index.
    """

    planes: Array
    step: Array
    fingerprint: str = field(init=False)
    _planes: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = hashlib.blake2b(self.planes.tobytes() + self.step.tobytes(), digest_size=6).hexdigest()
        object.__setattr__(self, "fingerprint", name)
        object.__setattr__(self, "_planes", self.planes.astype(np.float64))  # as cells are

    @classmethod
    def fit(cls, images: Array, *, seed: int = 0) -> ContentHash:
        """Fit to benign `images (m, C, H, W)`; keep `seed` secret. Raises `MedwardError` when they are all alike."""
        rng = np.random.default_rng(seed)
        if np.ndim(images) != 4 or len(images) < 2:
            raise MedwardError(f"contents: need at least 2 images (m, C, H, W), got shape {np.shape(images)}")
        cells = _cells(images)
        normals = rng.normal(size=(BITS_PER_TABLE, cells.shape[1])) / (cells.std(axis=0) + 1e-6)
        sides = cells @ normals.T
        spread = sides.std(axis=0) + 1e-6
        center, scaled = sides.mean(axis=0) / spread, sides / spread
        apart = _nearest(scaled[rng.permutation(len(scaled))[:_ROWS], :CONTENT_WIDTH])
        if not len(apart):
            raise MedwardError("contents: the images are all alike; near-duplicates of what is alike cannot be told")
        step = NEAR * float(np.quantile(apart, 1 / RARE)) / RADIUS
        planes = np.column_stack([normals / spread[:, None], center])
        return cls(planes=planes.astype(np.float32), step=np.array(step, np.float32))

    def see(self, images: Array) -> tuple[Array, list[str]]:
        """Contents ``(n, WIDTH)`` in whole steps, and the codes, sixteen hex digits each."""
        sides = _cells(images) @ self._planes[:, :-1].T - self._planes[:, -1]
        steps = np.rint(sides[:, :CONTENT_WIDTH] / self.step)
        contents = np.minimum(np.maximum(steps, _LIMITS.min), _LIMITS.max)
        digits, width = np.packbits(sides > 0, axis=1).tobytes().hex(), BITS_PER_TABLE // 4
        return contents.astype(np.int16), [digits[i : i + width] for i in range(0, len(digits), width)]

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in CONTENT_PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> ContentHash:
        """Read back what `arrays` gave; raises `MedwardError` when it is no such map."""
        fitted = cls(**{part: np.asarray(arrays[part]) for part in CONTENT_PARTS})
        if fitted.planes.ndim != 2 or len(fitted.planes) != BITS_PER_TABLE or not fitted.step > 0:
            raise MedwardError("profile: the arrays of contents do not fit one another; protect the model again")
        return fitted


def _cells(images: Array) -> Array:
    return np.asarray(layout_embedding(np.asarray(images, np.float64), Outputs(np.zeros(0))), np.float64)


def _nearest(rows: Array) -> Array:
    """Root mean square difference ``(m,)`` of each of ``rows (n, k)`` to the nearest other; equal rows are left out."""
    lengths = np.square(rows).sum(axis=1)
    squares = lengths[:, None] + lengths - 2 * rows @ rows.T
    squares[squares < 1e-9 * (1 + lengths)] = np.inf
    nearest = squares.min(axis=1)
    return np.asarray(np.sqrt(nearest[np.isfinite(nearest)] / rows.shape[1]))
