"""PREMIA: was this preference, one answer over another, in the data that aligned the model?

Reference: Feng, Kasa, Yun, Dinh, Hu and Kanai, "Exposing privacy gaps: membership inference attack on preference data
for LLM alignment", AISTATS 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.attacks.membership.language.tokens import TextTokenizer, read_tokens
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A preference is a prompt, the answer that was chosen and the one that was rejected."""

    prompt: str
    chosen: str
    rejected: str


def premia_scores(
    model: Any,
    reference: Any,
    tokenizer: TextTokenizer,
    preferences: Sequence[Preference],
    *,
    length: int | None = None,
) -> Array:
    """How much more ``(n,)`` `model` prefers the chosen answer than `reference`, the model before alignment, does.

    ``log pi/pi_ref(chosen) - log pi/pi_ref(rejected)``, both answers after the prompt, of `length` tokens at most.
    """
    prompts = [each.prompt for each in preferences]
    answers = [each.chosen for each in preferences], [each.rejected for each in preferences]

    def log_likelihoods(network: Any, texts: Sequence[str]) -> Array:
        read = read_tokens(network, tokenizer, texts, prefixes=prompts, length=length)
        return np.array([each.log_probabilities.sum() for each in read])

    chosen, rejected = (log_likelihoods(model, texts) - log_likelihoods(reference, texts) for texts in answers)
    return np.asarray(chosen - rejected)
