"""Which candidates make a fingerprint: those that independent models decide otherwise and clones as the model does.

Never those that the model merely gets wrong: a model of the same data gets the same ones wrong. `own_errors` chooses
these all the same, so that it can be seen.
"""

from __future__ import annotations

import numpy as np

from medward.guard.types import Array, Ints

MOST_AGREEING = 0.5
"""The largest share of references that may decide a chosen input as the model does."""
FEWEST_OF_CLASS = 10
"""Inputs of a class below which it is left out."""


def conferrable_inputs(own: Ints, references: Ints, clones: Ints, most: int, *, seed: int) -> Ints:
    """At most `most` places of candidates on which clones agree with the model and references do not.

    `own (n,)` are the model's decisions, `references (k, n)` and `clones (c, n)` those of others. First come those
    where the share of clones that agree exceeds that of references by most; ties are broken by chance. Every class
    that the model decides gets as many places as any other.
    """
    by_reference, by_clone = (np.mean(each == own, axis=0) for each in (references, clones))
    merit = np.where(by_reference <= MOST_AGREEING, by_clone - by_reference, -np.inf)
    return _balanced(own, merit, most, seed)


def own_errors(own: Ints, labels: Ints, most: int, *, seed: int) -> Ints:
    """At most `most` places of candidates that the model decides otherwise than their `labels (n,)`, -1 if unknown.

    The negative control: Maho et al.'s and QuRD's "AKH", inputs that a model misclassifies.
    """
    return _balanced(own, np.where((labels >= 0) & (labels != own), 0.0, -np.inf), most, seed)


def _balanced(own: Ints, merit: Array, most: int, seed: int) -> Ints:
    """The places of largest merit, of every decided class as many; -inf is never chosen, ties are drawn."""
    chance = np.random.default_rng(seed).random(len(own))
    room, chosen = most // max(1, len(np.unique(own))), []
    for label in np.unique(own):
        mine = np.flatnonzero((own == label) & np.isfinite(merit))
        best = mine[np.lexsort((chance[mine], -merit[mine]))][:room]
        if len(best) >= FEWEST_OF_CLASS:
            chosen.append(best)
    return np.asarray(np.sort(np.concatenate(chosen)) if chosen else np.zeros(0), np.int64)
