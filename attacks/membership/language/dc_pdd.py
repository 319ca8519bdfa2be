"""DC-PDD: what the model finds likelier than how often it is written at large.

Reference: Zhang et al., "Pretraining data detection for large language models: a divergence-based calibration method",
EMNLP 2024. The frequencies are counted on texts that the caller has; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TextTokenizer, TokenStatistics, token_ids
from medward.guard.errors import MedwardError
from medward.guard.types import Array


def dc_pdd_scores(target: Sequence[TokenStatistics], frequencies: Array, *, cap: float = 0.01) -> Array:
    """The mean ``(n,)`` over first occurrences of ``min(p log(1 / q), cap)``; `frequencies (V,)` are the q."""
    scores = []
    for each in target:
        first = each.first_occurrences
        gains = np.exp(each.log_probabilities[first]) * -np.log(frequencies[each.tokens[first]])
        scores.append(np.minimum(gains, cap).mean())
    return np.array(scores)


def token_frequencies(tokenizer: TextTokenizer, texts: Sequence[str], vocabulary: int) -> Array:
    """How often each of `vocabulary` tokens occurs in `texts`, Laplace-smoothed: shares ``(V,)`` that sum to one.

    Raises `MedwardError` without texts.
    """
    if not texts:
        raise MedwardError("dc-pdd: needs texts to count tokens on, got none")
    ids = np.concatenate([np.asarray(row, np.int64) for row in token_ids(tokenizer, texts)])
    counts = np.bincount(ids, minlength=vocabulary) + 1.0
    return np.asarray(counts / counts.sum())
