"""The blind gate for texts: can members be told from non-members without asking any model?

If they can, by words, spelling, length or how well they compress, the two were not drawn alike (other years, sites or
sources), and an attack's success says nothing about the model.

Reference: Das, Zhang and Tramer, "Blind baselines beat membership inference attacks for foundation models", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from medward.attacks.membership.language.zlib_ratio import compressed_lengths
from medward.guard.types import Array, Ints

_FOLDS = 5
_MOST = 20_000  # n-grams


def blind_text_scores(
    texts: Sequence[str], truth: NDArray[np.bool_], *, groups: Ints | None = None, seed: int
) -> Array:
    """Scores ``(n,)`` of candidates by what their texts look like alone, cross-validated; larger says member.

    The mean log odds of three logistic regressions: on words and pairs of words, on runs of 2 to 4 letters, and on
    length and compressed length. No patient of `groups (n,)` is on both sides of a fold, and no vocabulary is read off
    the texts that are scored. All zero with fewer than `_FOLDS` members or non-members.
    """
    scores = np.zeros(len(texts))
    if min(truth.sum(), (~truth).sum()) < _FOLDS:
        return scores
    rows = np.array(list(texts), dtype=object)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    for train, test in kind(_FOLDS, shuffle=True, random_state=seed).split(rows, truth, groups):
        for model in _views():
            scores[test] += model.fit(rows[train], truth[train]).decision_function(rows[test]) / 3
    return scores


def text_shapes(texts: Sequence[str]) -> Array:
    """Features ``(n, 5)``: log letters, words, bytes after zlib; bytes per letter; letters per word."""
    letters = np.array([max(len(text), 1) for text in texts], float)
    words = np.array([max(len(text.split()), 1) for text in texts], float)
    packed = compressed_lengths(texts)
    return np.column_stack([np.log(letters), np.log(words), np.log(packed), packed / letters, letters / words])


def _views() -> list[Any]:
    def regression() -> LogisticRegression:
        return LogisticRegression(C=10.0, max_iter=1000)

    words = TfidfVectorizer(analyzer=_word_runs, sublinear_tf=True, max_features=_MOST)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=_MOST)
    shapes = make_pipeline(FunctionTransformer(text_shapes), StandardScaler())
    return [make_pipeline(view, regression()) for view in (words, letters, shapes)]


def _word_runs(text: str) -> list[str]:
    """Words and pairs of neighbouring words, as they are written."""
    words = text.split()
    return [*words, *(" ".join(pair) for pair in pairwise(words))]
