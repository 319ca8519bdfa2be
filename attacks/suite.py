"""The default suite: which attacks a model of a given kind must withstand, and which others there are by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medward.attacks.base import Attack
from medward.attacks.evasion import (
    APGD,
    FGSM,
    PGD,
    DataFree,
    HillClimb,
    HopSkipJump,
    IterativeFGSM,
    Square,
    Standard,
    UniversalPerturbation,
)
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.extraction import (
    DFME,
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    Jacobian,
    Knockoff,
    SemiSupervised,
)
from medward.attacks.membership import LossThreshold, OfflineLiRA
from medward.attacks.whitebox.ball import FeatureRules
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec

IMAGE_EPSILON = 10 / 255  # of the input range; about zeta = 4 % in Hirano et al. 2021
TABULAR_EPSILON = 1.0  # of each feature's standard deviation


def default_attacks(spec: ModelSpec) -> tuple[Attack, ...]:
    """One attack per technique, at budgets that let a small model be validated in minutes."""
    epsilon = _radius(spec)
    if spec.modality == "image":
        thief, lira = Knockoff(epochs=8, points=4), OfflineLiRA(shadows=8, epochs=10)
    else:
        thief, lira = Knockoff(), OfflineLiRA()
    return (
        UniversalPerturbation(epsilon=epsilon),
        UniversalPerturbation(epsilon=epsilon, target_class="worst"),
        PGD(epsilon=epsilon),
        thief,
        replace(thief, labels="hard"),
        replace(thief, pool_share=0.1),
        LossThreshold(),
        lira,
    )


def more_attacks(spec: ModelSpec) -> tuple[Attack, ...]:
    """What is run when asked for by name: slower, weaker, or for attackers who hold less."""
    epsilon = _radius(spec)
    found: tuple[Attack, ...] = (
        UniversalPerturbation(epsilon=epsilon, target_class="all", restarts=5),
        UniversalPerturbation(epsilon=epsilon, craft_on="pool"),
        UniversalPerturbation(epsilon=epsilon, target_class="worst", craft_on="pool"),
        IterativeFGSM(epsilon=epsilon),
        HillClimb(epsilon=epsilon),
        DataFree(epsilon=epsilon),
        FGSM(epsilon=epsilon),
        APGD(epsilon=epsilon),
        Square(epsilon=epsilon, queries=500),
        HopSkipJump(epsilon=epsilon, queries=500),
        Standard(epsilon=epsilon),
    )
    if spec.low is not None and spec.high is not None:
        found = (*found, IterativeFGSM(epsilon=epsilon, faithful=True))
    thief = Knockoff(epochs=8) if spec.modality == "image" else Knockoff()
    return (
        *found,
        replace(thief, strategy=AdaptivePool()),
        replace(thief, strategy=CopyCat(), labels="hard"),
        *(replace(thief, strategy=ActiveThief(by=by)) for by in ("entropy", "k-center", "dfal")),
        replace(thief, strategy=Jacobian()),
        replace(thief, strategy=Alignment()),
        replace(thief, strategy=SemiSupervised(), labels="hard"),
        replace(thief, strategy=DFME(), queries=5000),
        replace(thief, strategy=Disagreement(), queries=5000),
    )


def chosen_attacks(
    spec: ModelSpec, names: Sequence[str] | None = None, rules: FeatureRules | None = None
) -> tuple[Attack, ...]:
    """The default suite, or the attacks called `names`; evasion keeps to `rules`.

    Raises `MedwardError` for a name that is not there.
    """
    attacks = default_attacks(spec)
    if names is not None:
        known = {attack.name: attack for attack in (*attacks, *more_attacks(spec))}
        if unknown := [name for name in names if name not in known]:
            raise MedwardError(f"attacks: there is no {unknown[0]!r}; there are {', '.join(known)}")
        attacks = tuple(known[name] for name in names)
    if rules is None:
        return attacks
    return tuple(
        replace(attack, rules=rules) if isinstance(attack, PerImage | UniversalAttack) else attack for attack in attacks
    )


def _radius(spec: ModelSpec) -> float:
    if spec.modality != "image":
        return TABULAR_EPSILON
    return IMAGE_EPSILON * ((1.0 if spec.high is None else spec.high) - (0.0 if spec.low is None else spec.low))
