"""A sketch shortens an input: which of its values are added up, with random signs, to one number.

Values of an image that lie together share a bucket, so that a mark on the image, which fills a small part of it, moves
a few numbers and what covers the image moves all. They lie along Morton's curve, on which neighbours stay near, and
each bucket takes the next few. Columns of a table have no neighbours and are dealt at random.

Reference: Charikar, Chen, Farach-Colton, "Finding frequent items in data streams", ICALP 2002 (count-sketch); Morton,
"A computer oriented geodetic data base", IBM 1966.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from medward.guard.types import Array, Ints

STANDS_OUT = 6.0  # medians of a mean's numbers: what is beyond is a marking
MARKED_SHARE = 0.1  # of the numbers that may be markings
AROUND = 1.5  # places: what lies so near a marking is left out with it
MOST_LEFT_OUT = 0.3  # of all numbers, or dots all over an image would hide what lies between them
_BITS = 16  # of a pixel's coordinate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A sketch of k buckets, b values each: ``order (b k,)`` says which value comes where, ``signs (b k,)`` how.

    A bucket that has fewer values has the sign 0 there. ``places (k, 2)`` are where on an image the buckets lie, in
    sides of a bucket; ``(0, 2)`` for what has no neighbours.
    """

    order: Ints
    signs: Array
    places: Array

    @classmethod
    def of(cls, shape: tuple[int, ...], buckets: int, rng: np.random.Generator) -> Sketch:
        """A sketch of inputs of `shape`: images ``(C, H, W)``, or rows."""
        line = neighbours_together(shape) if len(shape) == 3 else rng.permutation(prod(shape))
        own = np.array_split(line, buckets)
        most = max(map(len, own))
        order = np.stack([np.resize(each, most) for each in own], axis=1)
        real = np.arange(most)[:, None] < [len(each) for each in own]
        signs = np.where(real, rng.choice((-1.0, 1.0), order.shape), 0.0)
        return cls(order=order.ravel(), signs=signs.ravel(), places=_places(shape, order, real))


def neighbours_together(shape: tuple[int, ...]) -> Ints:
    """The values of a flat image of ``(C, H, W)`` along Morton's curve, all channels of a pixel together."""
    _, y, x = np.unravel_index(np.arange(prod(shape)), shape)
    along = sum(((y >> bit & 1) << 2 * bit + 1) | ((x >> bit & 1) << 2 * bit) for bit in range(_BITS))
    return np.asarray(np.argsort(along, kind="stable"), np.int64)


def without_markings(means: Array, places: Array) -> Array:
    """Both ``means (2, k)`` less what stands out of them in at most `MARKED_SHARE` of ``places (k, 2)``, and around.

    The second also loses what the first does: in a mean of vectors that were turned to and fro a marking hardly shows.
    """
    first, second = (marked_places(mean, places) for mean in means)
    return np.where([first, first | second], 0.0, means)


def marked_places(mean: Array, places: Array) -> NDArray[np.bool_]:
    """Which numbers of a ``mean (k,)`` belong to a marking, or lie around one of ``places (k, 2)``.

    What stands out most goes first, until `MOST_LEFT_OUT` of the numbers are gone.
    """
    size = np.abs(mean)
    largest = np.argsort(-size)[: int(MARKED_SHARE * len(mean))]
    marks = largest[size[largest] > STANDS_OUT * np.median(size)]
    apart = np.abs(places[marks, None] - places).max(axis=2)
    gone = np.logical_or.accumulate(apart <= AROUND, axis=0)
    gone = gone[gone.sum(axis=1) <= MOST_LEFT_OUT * len(mean)]
    return gone[-1] if len(gone) else np.zeros(len(mean), bool)


def _places(shape: tuple[int, ...], order: Ints, real: NDArray[np.bool_]) -> Array:
    """Where buckets lie whose values are ``order (b, k)``, as far as they are `real`."""
    if len(shape) != 3:
        return np.zeros((0, 2), np.float32)
    _, *pixels = np.unravel_index(order, shape)
    middles = np.stack([(each * real).sum(axis=0) / real.sum(axis=0) for each in pixels], axis=1)
    return np.asarray(middles / (shape[1] * shape[2] / order.shape[1]) ** 0.5, np.float32)
