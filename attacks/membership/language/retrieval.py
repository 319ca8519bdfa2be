"""Retrieval membership by asking: does the service say that this document is in what it looks up?

Reference: Anderson, Amit and Goldsteen, "Is my data in your retrieval database? Membership inference attacks against
retrieval augmented generation", ICISSP 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

from medward.attacks.membership.language.generations import Ask, yes_or_no
from medward.guard.types import Array

RETRIEVAL_QUESTION = 'Does this: "{text}" appear in the context? Answer with Yes or No.'


def retrieval_scores(ask: Ask, texts: Sequence[str]) -> Array:
    """1 ``(n,)`` where the service says yes, 0 where no, one half where it says neither."""
    return yes_or_no(ask([RETRIEVAL_QUESTION.format(text=text) for text in texts]))
