"""Images with their texts, whose membership is in question, and what a guesser without the model sees."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.attacks.candidates.blind import blind_scores
from medward.attacks.membership.multimodal.caption_overlap import caption_words
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_BUCKETS = 48  # that words are counted in


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageTextPairs:
    """Image-text pairs are `images (n, C, H, W)` as the model takes them, their `texts`, who was `included`, and whose.

    `included (n,)` is a coin flip made before training; `patients (n,)` where known.
    """

    images: Array
    texts: Sequence[str]
    included: NDArray[np.bool_]
    patients: Ints | None = None

    def __post_init__(self) -> None:
        """Refuse columns of different lengths, and pairs of one side only."""
        n = len(self.images)
        if np.ndim(self.images) != 4 or len(self.texts) != n or np.shape(self.included) != (n,):
            raise MedwardError(
                f"pairs: need images (n, channels, height, width), n texts and n truths, got {np.shape(self.images)}, "
                f"{len(self.texts)} and {np.shape(self.included)}"
            )
        if self.patients is not None and len(self.patients) != n:
            raise MedwardError(f"pairs: {len(self.patients)} patients for {n} images; give one for each image")
        if np.asarray(self.included).all() or not np.any(self.included):
            raise MedwardError(f"pairs: all {n} are on one side; members and non-members are needed")


def blind_pair_scores(pairs: ImageTextPairs, *, seed: int) -> Array:
    """Scores ``(n,)`` of a cross-validated forest on image statistics and counted words, without any model."""
    rows = Split(pairs.images, text_columns(pairs.texts), pairs.patients)
    return blind_scores(rows, np.asarray(pairs.included, bool), seed=seed)


def text_columns(texts: Sequence[str]) -> NDArray[np.int64]:
    """Lengths, the compressed length, and counts of words by hash, ``(n, d)``."""
    table = np.zeros((len(texts), _BUCKETS), np.int64)
    for row, text in enumerate(texts):
        for word in caption_words(text):
            table[row, zlib.crc32(word.encode()) % _BUCKETS] += 1
    lengths = [(len(text), len(caption_words(text)), len(zlib.compress(text.encode()))) for text in texts]
    return np.column_stack([np.array(lengths, np.int64).reshape(len(texts), 3), table])
