"""Con-ReCall: ReCaLL after non-members, less what the same text gains after members.

Reference: Wang et al., "Con-ReCall: detecting pre-training data in LLMs via contrastive decoding", COLING 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

from medward.attacks.membership.language.recall import conditional_losses
from medward.attacks.membership.language.tokens import TokenStatistics, mean_losses
from medward.guard.types import Array


def con_recall_scores(
    target: Sequence[TokenStatistics],
    prefixed: Sequence[TokenStatistics],
    member_prefixed: Sequence[TokenStatistics],
    *,
    weight: float = 0.5,
) -> Array:
    """``(LL(x | non-members) - weight LL(x | members)) / LL(x)``; `weight` is fixed and never tuned on candidates."""
    contrast = conditional_losses(target, prefixed) - weight * conditional_losses(target, member_prefixed)
    return contrast / mean_losses(target)
