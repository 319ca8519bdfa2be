"""What a perturbation leaves in an input: the fine detail, in benign standard deviations, as a short vector.

Images (first area-averaged to at most `MAX_SIDE` pixels a side) lose their 3 x 3 binomial blur; every pixel is divided
by its benign spread; a sketch of k <= `SKETCH_WIDTH` numbers (`guard.monitors.sketch`) shortens the vector; its benign
mean and a shrunk benign covariance whiten it, symmetrically, so that a number stays near where it was. Table rows are
standardised instead. A change shared by many inputs is so a shift shared by their vectors. What is far out counts as
little as can be: a number of the sketch is no more than `MOST_DEVIATIONS` from its mean, and a vector longer than
sqrt(k) + `REACH_DEVIATIONS` is cut to that length. Both are nearest points of convex sets, so no outlier outweighs
many inputs.

Near-duplicates are known by a code: thumbnails are cut into stripes by random directions, and a bit says whether a
thumbnail lies in an odd stripe. Sides of planes would not do: whatever lies beyond the benign images, as inverted ones
do, is on the same side of nearly all of them and would pass for copies of one another. In how many bits two codes
differ rests on how far two images are apart, wherever they lie.

The sketch is a secret. Who knows it can hide a perturbation in the directions it drops, who does not must keep all of
the perturbation's detail small. So `Profile.fit` draws its seed from the system, and the bundle is to be kept private.

Reference: Huber, "Robust statistics", 1981, for the clipped numbers;
Fridrich, Goljan, Lukas, "Digital camera identification from sensor pattern noise", IEEE TIFS 2006 (a pattern shared by
images stands out from the mean of their residuals); Raginsky, Lazebnik, "Locality-sensitive binary codes from
shift-invariant kernels", NIPS 2009 (the code).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import CONTENT_CODES, BenignRows, BetSettings, Monitor, Observations
from medward.guard.monitors.direction_bet import DirectionBet, direction_bet
from medward.guard.monitors.sketch import Sketch
from medward.guard.policy import Policy
from medward.guard.screens.embeddings import both_ways, layout_embedding, pooling_matrix, smoothing_matrix
from medward.guard.screens.whitening import shrunk_covariance
from medward.guard.types import Array, Ints, Outputs

SKETCH_WIDTH = 256  # buckets of the sketch
FOLDED = 4  # values of an input to one number at least, so that no row can be computed back
MAX_SIDE = 64  # pixels
REACH_DEVIATIONS = 4.0  # standard deviations
FAR_DEVIATIONS = 1e6  # standard deviations: beyond it nothing is told apart
MOST_DEVIATIONS = 4.0  # standard deviations of one number of the sketch
_SURELY = 0.99  # of a squared length: beyond what rounding makes of it
_FLOOR = 0.1  # the least spread of a pixel, and of a number of the sketch, of the median one
_BITS = 64  # of a content code
STRIPE = 2.0  # its width, in benign standard deviations along its direction
PAIRS = 0.002  # of benign pairs that may pass for near-duplicates
_REPEATS = (
    0.02  # of them that may pass for a repeat, where one follows the other; that costs no more than their evidence
)
REFERENCE_ROWS = 4000  # calibration rows kept at most
_BLOCK = 256  # rows mapped at a time
RESIDUAL_PARTS = (
    "order",
    "places",
    "weights",
    "most",
    "center",
    "whitening",
    "stripes",
    "radius",
    "repeat_radius",
    "reference",
    "reference_strata",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseResiduals:
    """The fitted map and the calibration rows seen through it.

    ``order (b k,)`` and ``weights (b k,)`` sketch a flat input of d values into k buckets, b values each, which lie at
    ``places (k, 2)`` (`guard.monitors.sketch`), none of them further than `most` from its mean; ``center (k,)`` and
    the symmetric ``whitening (k, k)`` whiten; ``reference (n, k)`` are calibration rows, of the strata
    ``reference_strata (n,)``. ``stripes (BITS, cells + 1)`` are the directions that cut the space of thumbnails, one
    stripe long, and where they begin (empty for tables): near-duplicates agree in all but `radius` bits, an image and
    the next one of its series in all but `repeat_radius`.
    `fingerprint` names the map and its calibration rows in the states of monitors.
    """

    order: Ints
    places: Array
    weights: Array
    most: Array
    center: Array
    whitening: Array
    stripes: Array
    radius: Array
    repeat_radius: Array
    reference: Array
    reference_strata: Ints
    fingerprint: str = field(init=False)
    _stripes: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = hashlib.blake2b(self.reference.tobytes() + self.whitening.tobytes(), digest_size=6).hexdigest()
        object.__setattr__(self, "fingerprint", name)
        object.__setattr__(self, "_stripes", self.stripes.astype(np.float64))  # as cells are

    @classmethod
    def fit(cls, fit: Array, reference: Array, *, strata: Ints | None = None, seed: int = 0) -> NoiseResiduals:
        """Fit the map to benign inputs `fit (m, *shape)`; the rows `reference (n, *shape)` take no part in that.

        `strata (n,)` are those of `reference`, all 0 by default.
        """
        rng = np.random.default_rng(seed)
        rows = fine_detail(np.asarray(fit, np.float64), np)
        d = rows.shape[1]
        k = max(1, min(SKETCH_WIDTH, d // FOLDED))
        spread = _floored(rows.std(axis=0))
        sketch = Sketch.of(detail_shape(fit.shape[1:]), k, rng)
        weights = sketch.signs / spread[sketch.order]
        sums = (rows[:, sketch.order] * weights).reshape(len(rows), -1, k).sum(axis=1)
        scale = _floored(sums.std(axis=0))
        sums, weights = sums / scale, (weights.reshape(-1, k) / scale).ravel()
        center = sums.mean(axis=0)
        values, vectors = np.linalg.eigh(shrunk_covariance(np.clip(sums - center, -MOST_DEVIATIONS, MOST_DEVIATIONS)))
        stripes, radii = _stripes(fit, rng) if fit.ndim == 4 else (np.zeros((0, 0)), (0, 0))
        fitted = cls(
            order=sketch.order,
            places=sketch.places,
            weights=weights.astype(np.float32),
            most=np.array(MOST_DEVIATIONS),
            center=center.astype(np.float32),
            whitening=((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32),
            stripes=stripes.astype(np.float32),
            radius=np.array(radii[0]),
            repeat_radius=np.array(radii[1]),
            reference=np.zeros((0, k), np.float32),
            reference_strata=np.zeros(0, np.int64),
        )
        index = np.sort(rng.permutation(len(reference))[:REFERENCE_ROWS])
        kept, strata = np.asarray(reference)[index], np.zeros(len(reference), np.int64) if strata is None else strata
        blocks = [fitted.vectors(kept[i : i + _BLOCK].astype(np.float32)) for i in range(0, len(kept), _BLOCK)]
        return replace(fitted, reference=np.concatenate([fitted.reference, *blocks]), reference_strata=strata[index])

    def vectors(self, inputs: Any, xp: Any = np) -> Any:
        """Whitened residuals ``(n, k)`` within the ball; differentiable when `xp` is torch."""
        z = self.whitened(inputs, xp)
        reach = len(self.center) ** 0.5 + REACH_DEVIATIONS
        if xp is np and surely_within(z, reach):
            return z
        length = xp.sqrt((z * z).sum(axis=1, keepdims=True) + 1e-12)
        return z * (reach / length).clip(max=1.0)

    def whitened(self, inputs: Any, xp: Any = np) -> Any:
        """Before the ball ``(n, k)``; linear while no number of the sketch is further out than `most`."""
        with np.errstate(over="ignore", invalid="ignore"):  # values near the largest float are finite inputs too
            rows = fine_detail(inputs, xp)[:, self.order] * _like(self.weights, inputs, xp)
            near = xp is np and surely_within(rows, FAR_DEVIATIONS)
        if not near:
            rows = xp.clip(xp.where(xp.isnan(rows), 0.0, rows), -FAR_DEVIATIONS, FAR_DEVIATIONS)
        sketch = rows.reshape(len(inputs), -1, len(self.center)).sum(axis=1)
        most = float(self.most)
        centred = (sketch - _like(self.center, inputs, xp)).clip(-most, most)
        return centred @ _like(self.whitening, inputs, xp)

    def codes(self, inputs: Array) -> list[str]:
        """Sixteen hex digits per image that near-duplicates nearly share; empty for tables.

        They come from a coarse thumbnail without its brightness and contrast, which no small fine change moves.
        """
        if not self.stripes.size:
            return [""] * len(inputs)
        bits = _odd(_cells(inputs), self._stripes)
        digits = np.packbits(bits, axis=1).tobytes().hex()
        return [digits[i : i + _BITS // 4] for i in range(0, len(digits), _BITS // 4)]

    def see(self, inputs: Array, outputs: Outputs) -> tuple[Array, list[str]]:  # noqa: ARG002 (as everything fitted)
        """Vectors ``(n, k)`` and content codes."""
        return self.vectors(inputs), self.codes(inputs)

    def at_risk(self, risk: float, strata: int) -> NoiseResiduals:  # noqa: ARG002 (each account has its own cuts)
        """The same: nothing here rests on the risk."""
        return self

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in RESIDUAL_PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> NoiseResiduals:
        """Read back what `arrays` gave, those of older releases too, whose sketch kept no places and cut no number.

        Raises `MedwardError` when the parts do not fit one another.
        """
        older = {"places": np.zeros((0, 2), np.float32), "most": np.array(np.inf)}
        parts: dict[str, Any] = {part: {**older, **arrays}[part] for part in RESIDUAL_PARTS}
        fitted = cls(**parts)
        if (
            fitted.reference.shape[1:] != fitted.center.shape
            or fitted.order.shape != fitted.weights.shape
            or len(fitted.reference_strata) != len(fitted.reference)
        ):
            raise MedwardError("profile: the arrays of residuals do not fit one another; protect the model again")
        return fitted


def fine_detail(inputs: Any, xp: Any) -> Any:
    """Images ``(n, C, H, W)`` less their blur, table rows ``(n, d)`` as they are; flat ``(n, d)``. Linear."""
    if len(inputs.shape) != 4:
        return inputs.reshape(len(inputs), -1)
    height, width = inputs.shape[2:]
    if max(height, width) > MAX_SIDE:
        inputs = both_ways(pooling_matrix, MAX_SIDE, inputs, xp)
    return (inputs - both_ways(smoothing_matrix, 1, inputs, xp)).reshape(len(inputs), -1)


def surely_within(rows: Array, reach: float) -> bool:
    """Whether all ``rows (n, k)`` are finite and no longer than `reach`, as far as one look at them tells.

    Their squares together say so, which is quicker than to look at each; many rows are too long together.
    """
    values = rows.ravel()
    return bool(values.dot(values) <= _SURELY * reach * reach)


def detail_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the `fine_detail` of inputs of `shape`, before it is made flat: images have `MAX_SIDE` at most."""
    return (shape[0], *(min(MAX_SIDE, side) for side in shape[1:])) if len(shape) == 3 else shape


def _floored(spread: Array) -> Array:
    """``spread (d,)``, nothing of it far below what is usual."""
    known = spread[spread > 0]
    return np.maximum(spread, _FLOOR * float(np.median(known)) if len(known) else 1.0)


def _stripes(fit: Array, rng: np.random.Generator) -> tuple[Array, tuple[int, int]]:
    """Random stripes of benign thumbnails, and in how many bits near-duplicates may differ, and repeats."""
    cells = _cells(fit)
    normals = rng.normal(size=(_BITS, cells.shape[1])) / (cells.std(axis=0) + 1e-6)
    normals /= STRIPE * (cells @ normals.T).std(axis=0)[:, None] + 1e-6
    stripes = np.column_stack([normals, 2 * rng.random(_BITS)])
    bits = _odd(cells[:500], stripes)
    apart = (bits[:, None] != bits[None]).sum(axis=2)[np.triu_indices(len(bits), 1)]
    return stripes, (int(np.quantile(apart, PAIRS)), int(np.quantile(apart, _REPEATS)))


def _odd(cells: Array, stripes: Array) -> NDArray[np.bool_]:
    """Whether thumbnails ``(n, cells)`` lie in an odd stripe of each direction ``(n, BITS)``."""
    return np.asarray(np.floor(cells @ stripes[:, :-1].T - stripes[:, -1]) % 2 == 1)


def _cells(images: Array) -> Array:
    """Layouts ``(n, cells)``."""
    return np.asarray(layout_embedding(np.asarray(images, np.float64), Outputs(np.zeros(0))), np.float64)


def _like(array: Array, like: Any, xp: Any) -> Any:
    return (
        array.astype(like.dtype, copy=False) if xp is np else xp.as_tensor(array, dtype=like.dtype, device=like.device)
    )


def _fitted(rows: BenignRows) -> NoiseResiduals:
    return NoiseResiduals.fit(rows.fit[0], rows.reference[0], strata=rows.strata, seed=rows.seed)


def _read(arrays: Mapping[str, Array]) -> NoiseResiduals | None:
    return NoiseResiduals.from_arrays(arrays) if arrays else None


def _observed(fitted: NoiseResiduals, seen: tuple[Array, list[str]], policy: Policy) -> Observations:  # noqa: ARG001
    vectors, codes = seen
    return {SHARED.name: vectors, CONTENT_CODES: codes}


def _bet(fitted: NoiseResiduals, settings: BetSettings) -> DirectionBet:
    radius, repeats = int(fitted.radius), int(fitted.repeat_radius)
    places = fitted.places if fitted.places.size else None
    return direction_bet(
        SHARED.name, fitted, settings, chains=True, radius=radius, repeat_radius=repeats, places=places
    )


SHARED = Monitor(
    name="shared",
    share=0.14,
    source="residuals",
    prefix="residuals.",
    fit=_fitted,
    read=_read,
    observe=_observed,
    bet=_bet,
    switch="monitor.shared",
    asked=lambda policy: policy.monitor.shared,
)
