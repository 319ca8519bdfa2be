"""Reference: how much likelier a text is to the model than to one that never saw it.

Reference: Carlini et al., "Extracting training data from large language models", USENIX Security 2021; Mireshghallah et
al., "Quantifying privacy risks of masked language models using membership inference attacks", EMNLP 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.errors import MedwardError
from medward.guard.types import Array


def reference_scores(target: Sequence[TokenStatistics], reference: Sequence[TokenStatistics]) -> Array:
    """The log of the likelihood ratio ``(n,)`` per token; both models may have tokenizers of their own."""
    return mean_losses(reference) - mean_losses(target)


def require_same_tokens(first: Sequence[TokenStatistics], second: Sequence[TokenStatistics], score: str) -> None:
    """Raise `MedwardError` unless both models were read on the same tokens."""
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if not np.array_equal(one.tokens, other.tokens):
            raise MedwardError(
                f"{score}: text {index} has other tokens for the reference than for the target; "
                "give a reference with the target's tokenizer"
            )
