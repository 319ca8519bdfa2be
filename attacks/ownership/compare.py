"""What a suspect's answers to a fingerprint's inputs are evidence of: a p-value, its null, and what could have shown.

Evidence, never proof. The null hypothesis is that the suspect is one more independent model like those of the null,
trained on the same data. A model that shares more with the owner's than its data, such as a common ancestor, is not
covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medward.attacks.ownership.agreement import (
    FittedNull,
    balanced_agreement,
    fitted_p_value,
    prominence,
    rank_p_value,
)
from medward.attacks.ownership.fingerprint import Fingerprint
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

OwnershipJudgement = Literal["evidence", "no evidence", "cannot tell"]
ALPHA = 0.05
"""The p-value up to which a suspect's agreement is called evidence, unless said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayAgreement:
    """One way of theft: the suspect's agreement on its `inputs`, that of the null and of the owner's clones.

    `clones_shown` is how many of the owner's `clones` made in this way would have been evidence.
    """

    way: str
    inputs: int
    agreement: float
    null: tuple[float, ...]
    clones: tuple[float, ...]
    clones_shown: int

    @property
    def powerful(self) -> bool:
        """Whether every clone that the owner made in this way would have been evidence."""
        return 0 < len(self.clones) == self.clones_shown

    def sentence(self) -> str:
        """Its agreement beside that of the others, for a person."""
        copies = ", ".join(f"{each:.2f}" for each in sorted(self.clones))
        return (
            f"{self.way}: agrees on {self.agreement:.2f} of {self.inputs} inputs; {len(self.null)} independent models "
            f"on {min(self.null):.2f} to {max(self.null):.2f}, clones of the owner's on {copies}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipEvidence:
    """Ownership evidence is a judgement, the p-value by rank that it rests on, and all that it was judged by.

    `p_value` is never below 1 / (1 + `null`), the number of independent models; where there are two sorts, so many of
    each, it is the larger of two. `recipe` says whether some were trained by the model's own recipe. `fitted` is the
    p-value under a stated distribution, which no judgement rests on; None of too few models.
    """

    judgement: OwnershipJudgement
    p_value: float
    alpha: float
    null: int
    recipe: bool
    answered: int
    asked: int
    ways: tuple[WayAgreement, ...]
    fitted: FittedNull | None = field(default=None)

    def sentences(self) -> list[str]:
        """What it says, and what it does not, for a person."""
        return [*_judgement_words(self), *_limits(self), *_fitted_words(self)]

    def power_sentences(self) -> list[str]:
        """What the fingerprint could show, of a suspect that agrees with everything; for when it is made."""
        lines = [
            f"{way.way}: {way.inputs} inputs; independent models agree on {min(way.null):.2f} to {max(way.null):.2f}, "
            f"so a suspect must agree on more than that; {way.clones_shown} of {len(way.clones)} clones of the owner's "
            f"would be evidence at {self.alpha:g} (they agree on "
            f"{', '.join(f'{each:.2f}' for each in sorted(way.clones))})"
            for way in self.ways
        ]
        return [*lines, *_limits(self)]


def compare(found: Fingerprint, decided: Ints, *, alpha: float = ALPHA) -> OwnershipEvidence:
    """What the decisions `decided (n,)` of a suspect on a fingerprint's inputs say, -1 where it answered nothing.

    Inputs without an answer are left out for all models alike. Raises `MedwardError` for another number of answers,
    for unknown classes, and for answers to fewer than half of the inputs: who answers may choose what it leaves out.
    """
    if not 0 < alpha < 1:
        raise MedwardError(f"alpha: must be above 0 and below 1, got {alpha}")
    decided = checked_answers(found, decided)
    answered = decided >= 0
    ways = [way for way in range(len(found.way_names)) if len(np.unique(found.own[answered & (found.ways == way)])) > 1]
    if not ways:
        raise MedwardError("answers: no two classes were answered on the inputs of any way; ask for more answers")
    parts = [answered & (found.ways == way) for way in ways]
    counts = np.array([part.sum() for part in parts], np.float64)
    null = _agreements(found, parts, found.null)
    clones, suspect = _agreements(found, parts, found.clones), _agreements(found, parts, decided[None])[:, 0]
    sorts = np.unique(found.null_sorts)
    p_value = _sorted_p_value(null, found.null_sorts, suspect, counts)
    shown = np.array([_sorted_p_value(null, found.null_sorts, clone, counts) <= alpha for clone in clones.T], bool)
    told = tuple(
        WayAgreement(
            way=found.way_names[way],
            inputs=int(count),
            agreement=float(mine),
            null=tuple(map(float, others)),
            clones=tuple(map(float, copies[found.clone_ways == way])),
            clones_shown=int(shown[found.clone_ways == way].sum()),
        )
        for way, count, mine, others, copies in zip(ways, counts, suspect, null, clones, strict=True)
    )
    return OwnershipEvidence(
        judgement=_judged(p_value, alpha, told),
        p_value=p_value,
        alpha=alpha,
        null=int(np.bincount(found.null_sorts).min()),
        recipe=len(np.unique(found.null_sorts)) > 1,
        answered=int(answered.sum()),
        asked=len(found),
        ways=told,
        fitted=_largest([fitted_p_value(null[:, found.null_sorts == sort], suspect, counts) for sort in sorts]),
    )


def fingerprint_power(found: Fingerprint, *, alpha: float = ALPHA) -> OwnershipEvidence:
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


def _sorted_p_value(null: Array, sorts: Ints, suspect: Array, counts: Array) -> float:
    """The largest rank p-value over the sorts of independent models: a suspect must stand out from each."""
    return max(rank_p_value(*prominence(null[:, sorts == sort], suspect, counts)) for sort in np.unique(sorts))


def _agreements(found: Fingerprint, parts: list[Array], decided: Ints) -> Array:
    """Agreements ``(w, m)`` on each of `parts`."""
    return np.array([balanced_agreement(found.own[part], decided[:, part]) for part in parts])


def _largest(fitted: list[FittedNull | None]) -> FittedNull | None:
    """The largest p-value and the worst fit; None where any is."""
    known = [each for each in fitted if each is not None]
    if len(known) < len(fitted):
        return None
    return FittedNull(p_value=max(each.p_value for each in known), fit=min(each.fit for each in known))


def _judged(p_value: float, alpha: float, ways: tuple[WayAgreement, ...]) -> OwnershipJudgement:
    if p_value <= alpha:
        return "evidence"
    return "no evidence" if any(way.powerful for way in ways) else "cannot tell"


_SAID: Mapping[OwnershipJudgement, str] = {
    "evidence": "Evidence, never proof, that the suspect was made from the model's answers{or_recipe}: it agrees more "
    "than independent models of the same data do (p = {p:.3g}, by {null} of them).",
    "no evidence": "No evidence: the suspect agrees with the model no more than independent models of the same data "
    "may (p = {p:.3g}, by {null} of them).",
    "cannot tell": "Cannot tell: the suspect agrees with the model no more than independent models of the same data "
    "may (p = {p:.3g}, by {null} of them), and so would clones.",
}


def _judgement_words(told: OwnershipEvidence) -> list[str]:
    or_recipe = "" if told.recipe else ", or trained by its own recipe on its data"
    lines = [_SAID[told.judgement].format(null=told.null, p=told.p_value, or_recipe=or_recipe)]
    if told.judgement == "no evidence":
        shown = " or ".join(way.way for way in told.ways if way.powerful)
        lines.append(f"A clone made by asking about {shown} would probably have stood out.")
    if told.answered < told.asked:
        lines.append(
            f"{told.asked - told.answered} of {told.asked} inputs were not answered; who answers may choose which."
        )
    return lines


def _limits(told: OwnershipEvidence) -> list[str]:
    """What cannot be told whoever the suspect is."""
    lines = []
    if blind := [way.way for way in told.ways if not way.powerful]:
        lines.append(f"Cannot tell of clones made by asking about {' or '.join(blind)}: the owner's do not stand out.")
    if (1 + told.null) * told.alpha < 1 - 1e-9:
        lines.append(
            f"{told.null} independent models support no p-value below {1 / (1 + told.null):.3g}, so nothing can be "
            f"evidence at {told.alpha:g}: {int(np.ceil(1 / told.alpha - 1e-9)) - 1} are needed."
        )
    if not told.recipe:
        lines.append(
            "The independent models are of other recipes: a model trained on the same data by the model's own recipe "
            "may agree as a clone does, and was not tried (--recipe)."
        )
    return lines


def _fitted_words(told: OwnershipEvidence) -> list[str]:
    if told.fitted is None:
        return []
    if not told.fitted.plausible:
        return ["Agreements of independent models are not normal on the log odds scale, so no smaller p-value is said."]
    return [
        "If agreements of independent models follow a normal distribution on the log odds scale, "
        f"p = {told.fitted.p_value:.2g}; the {told.null} of the null do not contradict that (Shapiro-Wilk p = "
        f"{told.fitted.fit:.2g}), and cannot show it."
    ]
