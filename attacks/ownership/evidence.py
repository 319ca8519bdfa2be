"""What was found out of a suspect, and in which words it is said: evidence, no evidence, or that it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medward.attacks.ownership.agreement import FittedNull

OwnershipJudgement = Literal["evidence", "clone or recipe", "no evidence", "cannot tell"]
"""`clone or recipe` says that it stands out, and that no model by the owner's recipe was tried, which may as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayAgreement:
    """One way of theft: the suspect's agreement on its `inputs`, that of the null and of the owner's clones.

    What the suspect did not answer counts as disagreement, of the suspect and of the clones.
    `clones_shown` is how many of the owner's `clones` made in this way would clearly have been evidence. `chance` is
    how probably, at most, who guesses agrees so much.
    """

    way: str
    inputs: int
    agreement: float
    null: tuple[float, ...]
    clones: tuple[float, ...]
    clones_shown: int
    chance: float

    @property
    def powerful(self) -> bool:
        """Whether every clone that the owner made in this way would clearly have been evidence."""
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
    p-value under a stated distribution, which no judgement rests on; None of too few models. `absent` are ways of theft
    for which there are too few inputs. `answered_p_value` is of the answered inputs alone where some were not, which
    no judgement rests on either.
    """

    judgement: OwnershipJudgement
    p_value: float
    alpha: float
    null: int
    recipe: bool
    answered: int
    asked: int
    ways: tuple[WayAgreement, ...]
    absent: tuple[str, ...] = ()
    fitted: FittedNull | None = None
    answered_p_value: float | None = None

    @property
    def stands_out(self) -> bool:
        """Whether it agrees more than independent models do."""
        return self.p_value <= self.alpha

    @property
    def guessed(self) -> bool:
        """Whether it agrees in no way more than who answers without looking may."""
        return min(way.chance for way in self.ways) * len(self.ways) > self.alpha

    def sentences(self) -> list[str]:
        """What it says, and what it does not, for a person."""
        return [*_judgement_words(self), *_limits(self, shown=self.stands_out), *_fitted_words(self)]

    def power_sentences(self) -> list[str]:
        """What the fingerprint could show, of a suspect that agrees with everything; for when it is made."""
        lines = [
            f"{way.way}: {way.inputs} inputs; independent models agree on {min(way.null):.2f} to {max(way.null):.2f}, "
            f"so a suspect must agree on more than that; {way.clones_shown} of {len(way.clones)} clones of the owner's "
            f"would clearly be evidence at {self.alpha:g} (they agree on "
            f"{', '.join(f'{each:.2f}' for each in sorted(way.clones))})"
            for way in self.ways
        ]
        return [*lines, *_limits(self, shown=False)]


_SAID: Mapping[OwnershipJudgement, str] = {
    "evidence": "Evidence, never proof, that the suspect was made from the model's answers, or trained by a recipe "
    "like its own, on these or similar data: it agrees more than independent models of the same data do "
    "(p = {p:.3g}, by {null} of them).",
    "clone or recipe": "Cannot tell a clone from an honest model by a recipe like the model's own, on these or similar "
    "data: the suspect agrees more than independent models of the same data and of other recipes do (p = {p:.3g}, by "
    "{null} of them), and none by its own recipe was tried (--recipe), which may agree as much.",
    "no evidence": "No evidence: the suspect agrees with the model no more than independent models of the same data, "
    "or luck, may (p = {p:.3g}, by {null} of them).",
    "cannot tell": "Cannot tell: the suspect agrees with the model no more than independent models of the same data, "
    "or luck, may (p = {p:.3g}, by {null} of them), and so would clones.",
}


def _judgement_words(told: OwnershipEvidence) -> list[str]:
    lines = [_SAID[told.judgement].format(null=told.null, p=told.p_value)]
    if told.judgement == "no evidence":
        shown = " or ".join(
            f"{way.way} ({way.clones_shown} of {len(way.clones)} networks made for this did)"
            for way in told.ways
            if way.powerful
        )
        lines.append(
            f"A clone made by asking about {shown} would probably have stood out; one taught another learner, such "
            "as a forest, may not."
        )
    if told.guessed:
        lines.append(
            "Who answers without looking at the inputs agrees so much by luck alone with a probability of up to "
            f"{min(1.0, len(told.ways) * min(way.chance for way in told.ways)):.2g}, and p is no smaller: see first "
            "that the suspect does its task at all."
        )
    if told.answered < told.asked:
        alone = told.answered_p_value
        lines.append(
            f"{told.asked - told.answered} of {told.asked} inputs were not answered and count as disagreement"
            + ("." if alone is None else f"; on the others alone p = {alone:.3g}, which is no evidence: ")
            + ("" if alone is None else "who answers may choose which.")
        )
    return lines


def _limits(told: OwnershipEvidence, *, shown: bool) -> list[str]:
    """What cannot be told; of other ways of theft nothing where one was `shown`."""
    lines = []
    if not shown and (blind := [way.way for way in told.ways if not way.powerful]):
        lines.append(
            f"Cannot tell of clones made by asking about {' or '.join(blind)}: not all of the owner's stand out "
            "clearly."
        )
    if not shown and told.absent:
        lines.append(
            f"Cannot tell of clones made by asking about {' or '.join(told.absent)}: there are too few inputs."
        )
    if (1 + told.null) * told.alpha < 1 - 1e-9:
        lines.append(
            f"{told.null} independent models support no p-value below {1 / (1 + told.null):.3g}, so nothing can be "
            f"evidence at {told.alpha:g}: {int(np.ceil(1 / told.alpha - 1e-9)) - 1} are needed."
        )
    if not told.recipe and not shown:  # else said first
        lines.append(
            "The independent models are of other recipes: a model trained on the same data by the model's own recipe "
            "may agree as a clone does, and was not tried (--recipe), so that no suspect can be called evidence."
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
