"""SaMIA: does the model go on with a text as the text does? It needs no probabilities, only what the model writes.

Reference: Kaneko, Ma, Wata and Okazaki, "Sampling-based pseudo-likelihood for membership inference attacks", ACL 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.generations import split_words, word_recall
from medward.attacks.membership.language.zlib_ratio import compressed_lengths
from medward.guard.types import Array

SEEN_SHARE = 0.5
"""The share of a text's words that the model is given to go on with."""


def samia_scores(texts: Sequence[str], generations: Sequence[Sequence[str]], *, weighted: bool = False) -> Array:
    """The mean ROUGE-1 recall ``(n,)`` of each text's second half among continuations of its first half.

    With `weighted` each counts by the bytes that zlib makes of the continuation, which repeated words make few.
    """
    scores = []
    for text, samples in zip(texts, generations, strict=True):
        recalls = np.array([word_recall(each, split_words(text, SEEN_SHARE)[1]) for each in samples])
        scores.append((recalls * compressed_lengths(samples) if weighted else recalls).mean())
    return np.array(scores)
