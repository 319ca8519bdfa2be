"""Attacks that score candidates against models, or rows, that the attacker knows all about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, check_copies, noisy_copies
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.attack import MembershipAttack, membership_result, spread_scores
from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.quantile import labelled_inputs
from medward.attacks.membership.scores import SCORES, Score
from medward.attacks.membership.shadows import Recipe, Train, shadow_values, train_shadows
from medward.attacks.target import Target
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowAttack(MembershipAttack):
    """Any score of `attacks.membership.scores`, by its name; a candidate without an answer scores as the median.

    `shadows` models train for `epochs` on random `share`s of ``data.shadow``, or on `rows` rows each, as many as the
    model did. An online attacker knows the inputs and labels of all candidates, as any does, and its shadows learn
    half of them each beside. `train` is the model's own recipe, if it is known. `copies` and `noise` as in
    `MembershipAttack`.
    """

    score: str = "bavaria"
    shadows: int = 16
    epochs: int = 15
    share: float = 0.8
    rows: int | None = None
    train: Train | None = None

    def __post_init__(self) -> None:
        check_copies(self.copies, self.noise)
        if self.score not in SCORES:
            raise MedwardError(f"membership: there is no score {self.score!r}; there are {', '.join(SCORES)}")
        if self.shadows < 2 or self.epochs < 1 or not 0 < self.share <= 1 or (self.rows is not None and self.rows < 1):
            raise MedwardError(
                f"{self.score}: needs shadows >= 2, epochs >= 1, 0 < share <= 1 and rows >= 1, "
                f"got {self.shadows}, {self.epochs}, {self.share} and {self.rows}"
            )
        if self.needs.online and (self.shadows < 4 or self.shadows % 2):
            raise MedwardError(f"{self.score}: needs an even number of at least 4 shadows, got {self.shadows}")

    @property
    def needs(self) -> Score:
        """The entry of the table."""
        return SCORES[self.score]

    @property
    def technique(self) -> str:
        """The name of the score."""
        return self.score

    @property
    def threat(self) -> ThreatModel:
        """Scores, the candidates' true labels, and other rows of the same source."""
        return ThreatModel(
            access=Access.SCORES,
            knowledge="each candidate's input and true label, and labelled rows of the same source",
        )

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
    rows, labels, _ = candidate_rows(data)
    needs, n = attack.needs, len(rows)
    own, flags = apart_from(rows, data.shadow, attack.score)
    some = np.sort(np.random.default_rng(seed).permutation(len(own))[: needs.population])
    asked = rows if not len(some) else joined_rows(rows, own.take(some))
    inputs = noisy_copies(asked.inputs, attack.copies, attack.noise, target.spec, seed)
    channel, shown = ask_confidences(target, inputs, seed)
    known = asked.labels if asked.labels is not None else labels
    phi = channel.phi(shown, known)
    shadows: Array = np.zeros((0, len(asked)))
    included = np.zeros((0, len(asked)), bool)
    if needs.shadows and channel.answered.any():
        recipe = shadow_recipe(rows, own, target.spec, attack, seed)
        fitted = train_shadows(recipe)
        seen = shadow_values(fitted.networks, inputs, channel.answered, target.spec)
        shadows = channel.phi(channel.coarsen(seen), known)
        offline = np.zeros((len(shadows), n), bool)
        kept = fitted.included[:, recipe.candidates + some]
        included = np.concatenate([fitted.included[:, :n] if recipe.candidates else offline, kept], axis=1)
    features = None if needs.shadows else labelled_inputs(asked.inputs, known, learner_of(target.spec))
    everything = Evidence(phi=phi, shadows=shadows, included=included, features=features)
    others = np.arange(n, len(asked))[np.isfinite(phi[n:])]
    spared = ~included[:, others].all(axis=0) if len(included) else np.ones(len(others), bool)
    population = everything.take(others[spared]) if spared.any() else None
    return replace(everything.take(np.arange(n)), population=population), flags


def shadow_recipe(rows: Split, own: Split, spec: ModelSpec, attack: ShadowAttack, seed: int) -> Recipe:
    """What the shadows of an attack are made of; attacks that differ in their score alone share them."""
    pool = joined_rows(rows, own) if attack.needs.online else own
    return Recipe(
        digest=split_digest(pool),
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


def apart_from(rows: Split, shadow: Split | None, score: str) -> tuple[Split, tuple[str, ...]]:
    """The attacker's own rows without copies of candidates `rows`, and a flag that says how many there were.

    Raises `MedwardError` where there are no labelled ones.
    """
    if shadow is None or shadow.labels is None or len(shadow) == 0:
        raise MedwardError(f"{score}: needs labelled shadow rows, and data has none")
    taken = {row.tobytes() for row in np.ascontiguousarray(rows.inputs)}
    copied = np.array([row.tobytes() in taken for row in np.ascontiguousarray(shadow.inputs.astype(rows.inputs.dtype))])
    if not copied.any():
        return shadow, ()
    if copied.all():
        raise MedwardError(f"{score}: needs shadow rows that are no candidates, and all {len(shadow)} are; give others")
    flag = f"{int(copied.sum())} of {len(shadow)} shadow rows are copies of candidates, and were left out"
    return shadow.take(np.flatnonzero(~copied)), (flag,)


def joined_rows(first: Split, second: Split) -> Split:
    """The rows of both; a row of `second` whose patient is unknown is one of its own."""
    assert first.labels is not None
    assert second.labels is not None
    patients = None
    if first.patients is not None:
        own = first.patients.max(initial=0) + 1 + np.arange(len(second))
        patients = np.concatenate([first.patients, own if second.patients is None else second.patients])
    return Split(np.concatenate([first.inputs, second.inputs]), np.concatenate([first.labels, second.labels]), patients)
