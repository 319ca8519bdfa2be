"""Comparing a suspect with a model, by its answers to the fingerprint's inputs. Evidence, never proof.

The null hypothesis is that the suspect is one more independent model like those of the null, trained on the same data,
or that it answers without looking.
A model that shares more with the owner's than its data, such as a common ancestor, is not covered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medward.attacks.ownership.agreement import (
    FittedNull,
    balanced_agreement,
    chance_p_value,
    fitted_p_value,
    prominence,
    rank_p_value,
)
from medward.attacks.ownership.evidence import OwnershipEvidence, OwnershipJudgement, WayAgreement
from medward.attacks.ownership.fingerprint import Fingerprint
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

ALPHA_EVIDENCE = 0.05
"""The p-value up to which a suspect's agreement is called evidence, unless said otherwise."""
POWER_SHARE = 0.5
"""The share of that which the fitted p-value of the owner's clones may be where a fingerprint claims power."""


def compare(found: Fingerprint, decided: Ints, *, alpha: float = ALPHA_EVIDENCE) -> OwnershipEvidence:
    """What the decisions `decided (n,)` of a suspect on a fingerprint's inputs say, -1 where it answered nothing.

    An input without an answer counts as disagreement of the suspect alone, and of the owner's clones where these say
    what would have been shown: so who leaves out answers, whichever, only loses evidence, and P(p <= a) <= a holds of
    an independent suspect all the same, and of one who guesses: inputs are those on which independent models err, so
    that who guesses may agree more than they do. Raises `MedwardError` for another number of answers, for unknown
    classes, and for answers to fewer than half of the inputs.
    """
    if not 0 < alpha < 1:
        raise MedwardError(f"alpha: must be above 0 and below 1, got {alpha}")
    decided = checked_answers(found, decided)
    answered = decided >= 0
    ways, parts = _ways(found, np.ones(len(found), bool))
    counts, null, suspect = _counted(found, parts, decided)
    clones = _agreements(found, parts, np.where(answered, found.clones, -1))
    sorted_null = _by_sort(found, null)
    chance = _chance(found, parts, np.column_stack([suspect, clones]))
    p_value, fitted = _p_values(sorted_null, suspect, counts, chance[:, 0])
    copied = zip(clones.T, chance[:, 1:].T, strict=True)
    shown = np.array([_clearly_shown(*_p_values(sorted_null, one, counts, luck), alpha) for one, luck in copied], bool)
    told = tuple(
        WayAgreement(
            way=found.way_names[way],
            inputs=int(count),
            agreement=float(mine),
            null=tuple(map(float, others)),
            clones=tuple(map(float, copies[found.clone_ways == way])),
            clones_shown=int(shown[found.clone_ways == way].sum()),
            chance=float(luck),
        )
        for way, count, mine, others, copies, luck in zip(
            ways, counts, suspect, null, clones, chance[:, 0], strict=True
        )
    )
    return OwnershipEvidence(
        judgement=_judged(p_value, alpha, told, recipe=len(sorted_null) > 1),
        p_value=p_value,
        alpha=alpha,
        null=min(len(each.T) for each in sorted_null),
        recipe=len(sorted_null) > 1,
        answered=int(answered.sum()),
        asked=len(found),
        ways=told,
        absent=tuple(name for way, name in enumerate(found.way_names) if way not in ways),
        fitted=fitted,
        answered_p_value=None if answered.all() else answered_p_value(found, decided),
    )


def answered_p_value(found: Fingerprint, decided: Ints) -> float | None:
    """The p-value by rank on the inputs that were answered alone, left out for all models alike: a remark.

    It bounds nothing where whoever answers chose what to leave out. None where no way has two classes answered.
    """
    ways, parts = _ways(found, decided >= 0)
    if not ways:
        return None
    counts, null, suspect = _counted(found, parts, decided)
    return _p_values(_by_sort(found, null), suspect, counts, _chance(found, parts, suspect[:, None])[:, 0])[0]


def fingerprint_power(found: Fingerprint, *, alpha: float = ALPHA_EVIDENCE) -> OwnershipEvidence:
    """What the model itself would show, which agrees with everything: the most that any suspect can."""
    return compare(found, found.own, alpha=alpha)


def checked_answers(found: Fingerprint, decided: Ints) -> Ints:
    """Decisions, one for each input; see `compare` for what is refused."""
    decided = np.asarray(decided)
    if decided.shape != found.own.shape or decided.dtype.kind not in "iu":
        raise MedwardError(
            f"answers: need one class number for each of the {len(found)} inputs, got {decided.dtype} of shape "
            f"{decided.shape}"
        )
    classes = len(found.spec.classes)
    if decided.max(initial=-1) >= classes or decided.min(initial=0) < -1:
        odd = decided[(decided >= classes) | (decided < -1)][0]
        raise MedwardError(
            f"answers: class numbers are 0 to {classes - 1}, or -1 where nothing was answered, got {odd}"
        )
    answered = int((decided >= 0).sum())
    if 2 * answered < len(found):
        raise MedwardError(
            f"answers: {answered} of {len(found)} inputs were answered, at least half are needed; ask for the others"
        )
    return decided


def _ways(found: Fingerprint, counted: NDArray[np.bool_]) -> tuple[list[int], list[NDArray[np.bool_]]]:
    """The ways of which two classes or more are `counted (n,)`, and which of the inputs of each are."""
    parts = {way: counted & (found.ways == way) for way in range(len(found.way_names))}
    ways = [way for way, part in parts.items() if len(np.unique(found.own[part])) > 1]
    return ways, [parts[way] for way in ways]


def _counted(found: Fingerprint, parts: list[NDArray[np.bool_]], decided: Ints) -> tuple[Array, Array, Array]:
    """The inputs ``(w,)`` of each of `parts`, agreements of the null ``(w, m)`` and the suspect's ``(w,)``."""
    counts = np.array([part.sum() for part in parts], np.float64)
    return counts, _agreements(found, parts, found.null), _agreements(found, parts, decided[None])[:, 0]


def _by_sort(found: Fingerprint, null: Array) -> list[Array]:
    return [null[:, found.null_sorts == sort] for sort in np.unique(found.null_sorts)]


def _chance(found: Fingerprint, parts: list[NDArray[np.bool_]], agreements: Array) -> Array:
    """The p-values ``(w, m)`` of `agreements` of each of `parts` where whoever answered only guessed."""
    counts = [np.unique(found.own[part], return_counts=True)[1] for part in parts]
    return np.array([chance_p_value(each, count) for each, count in zip(agreements, counts, strict=True)])


def _p_values(
    sorted_null: list[Array], suspect: Array, counts: Array, chance: Array
) -> tuple[float, FittedNull | None]:
    """By rank and fitted, the largest over the sorts of independent models: a suspect must stand out from each."""
    rank = max(rank_p_value(*prominence(null, suspect, counts), chance) for null in sorted_null)
    fitted = [fitted_p_value(null, suspect, counts, chance) for null in sorted_null]
    known = [each for each in fitted if each is not None]
    if len(known) < len(fitted):
        return rank, None
    return rank, FittedNull(p_value=max(each.p_value for each in known), fit=min(each.fit for each in known))


def _clearly_shown(p_value: float, fitted: FittedNull | None, alpha: float) -> bool:
    """Whether a clone is evidence with room to spare: a thief's clone is not quite like the owner's.

    A rank cannot tell who just exceeds the null from who exceeds it by far, so the fitted p-value must be small too.
    """
    return p_value <= alpha and (fitted is None or fitted.p_value <= POWER_SHARE * alpha)


def _agreements(found: Fingerprint, parts: list[NDArray[np.bool_]], decided: Ints) -> Array:
    """Agreements ``(w, m)`` on each of `parts`."""
    return np.array([balanced_agreement(found.own[part], decided[:, part]) for part in parts])


def _judged(p_value: float, alpha: float, ways: tuple[WayAgreement, ...], *, recipe: bool) -> OwnershipJudgement:
    if p_value <= alpha:
        return "evidence" if recipe else "clone or recipe"
    return "no evidence" if any(way.powerful for way in ways) else "cannot tell"
