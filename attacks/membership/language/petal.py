"""PETAL: log-probabilities guessed from which tokens the target writes, without seeing any probability.

At every place of a text the target writes one token. How near it is in meaning to the true one is turned into a
log-probability by a straight line that is fitted, text by text, on a surrogate that shows its probabilities.

Reference: He et al., "Towards label-only membership inference attack against pre-trained large language models",
USENIX Security 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medward.attacks.membership.language.reference_ratio import require_same_tokens
from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.types import Array, Ints

TokenEmbedder = Callable[[Ints], Array]
"""Maps token ids ``(T,)`` to their embeddings ``(T, d)``."""
_LEAST = 1e-16  # as published: of a token that means something else or the opposite


def petal_scores(
    target: Sequence[TokenStatistics], surrogate: Sequence[TokenStatistics], embedder: TokenEmbedder
) -> Array:
    """The mean log-probability ``(n,)`` that the tokens which the target predicts speak for.

    Of `target` only the tokens and what was predicted are looked at. Raises `MedwardError` where the tokens differ.
    """
    require_same_tokens(target, surrogate, "petal")
    scores = []
    for own, other in zip(target, surrogate, strict=True):
        slope, offset = fitted_line(similarities(other, embedder), other.log_probabilities)
        scores.append(float((slope * similarities(own, embedder) + offset).mean()))
    return np.array(scores)


def similarities(text: TokenStatistics, embedder: TokenEmbedder) -> Array:
    """The log cosine ``(T,)`` between each predicted token and the true one, floored at ``log 1e-16``."""
    predicted, true = embedder(text.predicted), embedder(text.tokens)
    length = np.linalg.norm(predicted, axis=1) * np.linalg.norm(true, axis=1)
    cosine = (predicted * true).sum(axis=1) / np.maximum(length, 1e-30)
    return np.asarray(np.log(np.maximum(cosine, _LEAST)))


def fitted_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and offset of the least-squares line; a flat one where `x` has one value only."""
    spread = float(((x - x.mean()) ** 2).mean())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def input_embedder(model: Any) -> TokenEmbedder:
    """The embedder that looks tokens up in the input embeddings of a surrogate."""
    table = model.get_input_embeddings().weight.detach().float().cpu().numpy()
    return lambda ids: np.asarray(table[ids])
