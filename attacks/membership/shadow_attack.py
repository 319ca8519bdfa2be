"""Attacks that score candidates against models, or rows, that the attacker knows all about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, check_copies, noisy_copies
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.attack import MembershipAttack, membership_result, spread_scores
from medward.attacks.membership.evidence import Evidence, regime_gap
from medward.attacks.membership.pool import apart_from, joined_rows
from medward.attacks.membership.quantile import labelled_inputs
from medward.attacks.membership.scores import MEMBERSHIP_SCORES, MembershipScore
from medward.attacks.membership.shadows import Recipe, Train, shadow_values, train_shadows
from medward.attacks.target import Target
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

NEAR, FAR, CHANGES = 0.25, 0.5, 3
"""The gap of `regime_gap` that shadows train on for, that which is flagged, and how often epochs double or halve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowAttack(MembershipAttack):
    """Any score of `attacks.membership.scores`, by its name; a candidate without an answer scores as the median.

    `shadows` models train for `epochs` on random `share`s of ``data.shadow``, or on `rows` rows each, as many as the
    model did. An online attacker knows the inputs and labels of all candidates, as any does, and its shadows learn
    half of them each beside; these train for up to eight times as many epochs, or as few, while they are less or far
    more sure of the candidates than the model is. `train` is the model's own recipe, if it is known. `copies` and
    `noise` as in `MembershipAttack`.
    """

    score: str = "bavaria"
    shadows: int = 16
    epochs: int = 15
    share: float = 0.8
    rows: int | None = None
    train: Train | None = None

    def __post_init__(self) -> None:
        check_copies(self.copies, self.noise)
        if self.score not in MEMBERSHIP_SCORES:
            raise MedwardError(
                f"membership: there is no score {self.score!r}; there are {', '.join(MEMBERSHIP_SCORES)}"
            )
        if self.shadows < 2 or self.epochs < 1 or not 0 < self.share <= 1 or (self.rows is not None and self.rows < 1):
            raise MedwardError(
                f"{self.score}: needs shadows >= 2, epochs >= 1, 0 < share <= 1 and rows >= 1, "
                f"got {self.shadows}, {self.epochs}, {self.share} and {self.rows}"
            )
        if self.needs.online and (self.shadows < 4 or self.shadows % 2):
            raise MedwardError(f"{self.score}: needs an even number of at least 4 shadows, got {self.shadows}")

    @property
    def needs(self) -> MembershipScore:
        """The entry of the table."""
        return MEMBERSHIP_SCORES[self.score]

    @property
    def technique(self) -> str:
        """The name of the score."""
        return self.score

    @property
    def threat(self) -> ThreatModel:
        """Scores, the candidates' true labels, and other rows of the same source; online, shadows of candidates."""
        knowledge = "each candidate's input and true label, and labelled rows of the same source"
        if self.needs.online:
            knowledge += "; models of its own are trained on candidates, each on half of them"
        return ThreatModel(access=Access.SCORES, knowledge=knowledge)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every candidate; raises `MedwardError` without candidates or labelled shadow rows."""
        evidence, flags = gather_evidence(target, data, self, seed=seed)
        known = np.isfinite(evidence.phi)
        answered = evidence.take(known)
        scores: Array = np.zeros(0)
        without: Array | None = None
        if known.any():
            scores = self.needs.function(answered)
            alone = answered.without_target()
            without = None if alone is None else spread_scores(self.needs.function(alone), known)
        return membership_result(
            target, data, spread_scores(scores, known), seed=seed, without_target=without, flags=flags
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineLiRA(ShadowAttack):
    """Score = -log Pr[N(mean, variance of the shadows' phi) > phi]; see `attacks.membership.lira`."""

    score: str = "lira"


def gather_evidence(
    target: Target, data: AttackData, attack: ShadowAttack, *, seed: int
) -> tuple[Evidence, tuple[str, ...]]:
    """Ask the model once and train the shadows once: evidence on all candidates, phi NaN where nothing was answered.

    Beside it the flags of what the attacker's rows are worth. Shadows are looked at as coarsely as the model was.
    Raises `MedwardError` without candidates or labelled shadow rows.
    """
    rows, _, _ = candidate_rows(data)
    n, needs, spec = len(rows), attack.needs, target.spec
    own, flags = apart_from(rows, data.shadow, attack.score)
    some = np.sort(np.random.default_rng(seed).permutation(len(own))[: needs.population])
    asked = joined_rows([rows, own.take(some)])
    assert asked.labels is not None
    inputs = noisy_copies(asked.inputs, attack.copies, attack.noise, spec, seed)
    channel, shown = ask_confidences(target, inputs, seed)
    phi = channel.phi(shown, asked.labels)
    shadows: Array = np.zeros((0, len(asked)))
    included = np.zeros((0, len(asked)), bool)
    if needs.shadows and channel.answered.any():
        recipe = shadow_recipe(rows, own, spec, attack, seed)
        adapts, factor = needs.online and attack.train is None, 1.0
        for _ in range(CHANGES + 1):
            fitted = train_shadows(replace(recipe, epochs=round(recipe.epochs * factor)))
            seen = shadow_values(fitted, inputs, channel.answered, spec)
            shadows = channel.phi(channel.coarsen(seen), asked.labels)
            gap = regime_gap(phi[:n], shadows[:, :n])
            longer = gap > NEAR
            if not adapts or -FAR <= gap <= NEAR or (factor != 1.0 and longer != (factor > 1.0)):
                break
            factor *= 2.0 if longer else 0.5
            if recipe.epochs * factor < 1:
                break
        if needs.online and abs(gap) > FAR:
            flags = (*flags, f"shadows are {'less' if gap > 0 else 'more'} sure of the candidates than the model is")
        none = np.zeros((len(shadows), n - recipe.candidates), bool)
        candidates, others = np.split(fitted.included, [recipe.candidates], axis=1)
        included = np.concatenate([candidates, none, others[:, some]], axis=1)
    features = None if needs.shadows else labelled_inputs(asked.inputs, asked.labels, learner_of(spec))
    evidence = Evidence(phi=phi, shadows=shadows, included=included, features=features)
    return split_evidence(evidence, n), flags


def split_evidence(evidence: Evidence, candidates: int) -> Evidence:
    """The evidence on the first rows, beside a population of those others that were answered and some shadow spared."""
    rows = np.arange(len(evidence.phi))
    spared = ~evidence.included.all(axis=0) if len(evidence.shadows) else np.ones(len(rows), bool)
    others = rows[(rows >= candidates) & np.isfinite(evidence.phi) & spared]
    population = evidence.take(others) if len(others) else None
    return replace(evidence.take(rows[:candidates]), population=population)


def shadow_recipe(rows: Split, own: Split, spec: ModelSpec, attack: ShadowAttack, seed: int) -> Recipe:
    """What the shadows of an attack are made of; attacks that differ in their score alone share them."""
    pool = joined_rows([rows, own]) if attack.needs.online else own
    return Recipe(
        digest=split_digest(pool, Split(np.zeros((0, 1)), pool.patients)),  # who is whose decides the halves
        pool=pool,
        candidates=len(rows) if attack.needs.online else 0,
        spec=spec,
        shadows=attack.shadows,
        epochs=attack.epochs,
        share=attack.share,
        rows=attack.rows,
        train=attack.train,
        seed=seed,
    )
