"""The default suite: which attacks a model of a given kind must withstand, and which others there are by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from medward.attacks.audit import CanaryConfidence
from medward.attacks.base import Attack
from medward.attacks.disclosure.ask_for_values import AskForValues
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
    BorrowedLayout,
    CopyCat,
    Disagreement,
    InDomainTheft,
    Jacobian,
    Knockoff,
    SemiSupervised,
    WalkedPool,
)
from medward.attacks.extraction.reports.thefts import default_report_thefts, more_report_thefts
from medward.attacks.families import known_families, plugin_families
from medward.attacks.membership import (
    AugmentationRobustness,
    BoundaryDistance,
    LossThreshold,
    ShadowAttack,
)
from medward.attacks.membership.scores import MEMBERSHIP_SCORES
from medward.attacks.target import Decide
from medward.attacks.whitebox.ball import FeatureRules
from medward.attacks.whitebox.finding_change import Aim
from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line
from medward.guard.plugins import Plugin, checked_plugins
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.threat_policy import ThreatPolicy

DEFAULT_THREAT = ThreatPolicy()
Evasive = PerImage | UniversalAttack


def default_attacks(
    spec: ModelSpec, decide: Decide | None = None, *, gradients: bool = True, threat: ThreatPolicy = DEFAULT_THREAT
) -> tuple[Attack, ...]:
    """One attack per technique, at the radii of `threat` and budgets that let a small model be validated in minutes.

    `decide` reads the outputs of an opaque model; without it there is no evasion of one. Without `gradients`, as trees
    have none, single inputs are searched by decisions alone instead of by a surrogate's gradients.
    """
    return (
        *default_evasion(spec, decide, gradients=gradients, threat=threat),
        *default_thefts(spec),
        *default_membership(spec),
    )


def default_thefts(spec: ModelSpec) -> tuple[Attack, ...]:
    """The thieves that a validation asks for: of texts where the model writes reports, else of scores and of labels.

    The last of the latter asks about ordinary cases alone, and is judged by how many answers it needs.
    """
    if isinstance(spec.task, WrittenReport):
        return default_report_thefts()
    thief = Knockoff(epochs=8, points=3) if spec.modality == "image" else Knockoff()
    return thief, replace(thief, labels="hard"), replace(thief, pool_share=0.1), _in_domain_theft(spec)


def _in_domain_theft(spec: ModelSpec) -> InDomainTheft:
    """A thief of ordinary cases; each clone of images takes long, so that there are fewer and shorter ones."""
    return InDomainTheft(steps=200, draws=1) if spec.modality == "image" else InDomainTheft()


def default_membership(spec: ModelSpec) -> tuple[LossThreshold | ShadowAttack, ...]:
    """Three attacks whose shadows learn no candidate, and of tables one whose shadows do; of reports that without any.

    Shadows of images that learn candidates take many times as long, and are trained when asked for by name. So are
    those of a model that writes: they learn findings and write nothing.
    """
    if isinstance(spec.task, WrittenReport):
        return (LossThreshold(),)
    shadowed = _shadow_attack(spec)
    offline = LossThreshold(), replace(shadowed, score="lira"), shadowed
    return offline if spec.modality == "image" else (*offline, replace(shadowed, score="base-online"))


def default_evasion(
    spec: ModelSpec, decide: Decide | None = None, *, gradients: bool = True, threat: ThreatPolicy = DEFAULT_THREAT
) -> tuple[Attack, ...]:
    """Of classes also towards the worst one, of findings also with those hidden and those raised alone."""
    epsilon = _radius(spec, threat)
    universal = UniversalPerturbation(epsilon=_radius(spec, threat, universal=True))
    single: PGD | HopSkipJump = PGD(epsilon=epsilon)
    if not gradients and not isinstance(spec.task, Opaque):
        single = HopSkipJump(epsilon=epsilon, queries=200)
    if isinstance(spec.task, Classification):
        return universal, replace(universal, target_class="worst"), single
    if isinstance(spec.task, WrittenReport):  # every step writes anew, so that there are fewer
        universal = replace(universal, epochs=6)
        single = replace(single, steps=20, restarts=1) if isinstance(single, PGD) else single
    if isinstance(spec.task, Multilabel | WrittenReport):
        aims: tuple[Aim, ...] = get_args(Aim)
        return (*(replace(universal, aim=aim) for aim in aims), *(replace(single, aim=aim) for aim in aims))
    if not isinstance(spec.task, Opaque):
        return universal, single
    if decide is None:
        return ()
    return replace(single, decide=decide), HopSkipJump(epsilon=epsilon, queries=500, decide=decide)


def more_evasion(
    spec: ModelSpec, decide: Decide | None = None, *, threat: ThreatPolicy = DEFAULT_THREAT
) -> tuple[Attack, ...]:
    """Evasion that is run when asked for by name; of findings with every aim."""
    if isinstance(spec.task, Opaque) and decide is None:
        return ()
    epsilon, shared = _radius(spec, threat), _radius(spec, threat, universal=True)
    found: tuple[Any, ...] = (
        UniversalPerturbation(epsilon=shared, craft_on="pool"),
        IterativeFGSM(epsilon=shared),
        HillClimb(epsilon=shared),
        DataFree(epsilon=shared),
        FGSM(epsilon=epsilon),
        APGD(epsilon=epsilon),
        Square(epsilon=epsilon, queries=500),
        HopSkipJump(epsilon=epsilon, queries=500),
        Standard(epsilon=epsilon),
    )
    if spec.low is not None and spec.high is not None:
        found = (*found, IterativeFGSM(epsilon=shared, faithful=True))
    if isinstance(spec.task, Classification):
        return (
            *found,
            UniversalPerturbation(epsilon=shared, target_class="all", restarts=5),
            UniversalPerturbation(epsilon=shared, target_class="worst", craft_on="pool"),
        )
    aims: tuple[Aim, ...] = get_args(Aim) if isinstance(spec.task, Multilabel | WrittenReport) else ("any",)
    return tuple(replace(each, aim=aim, decide=decide) for each in found for aim in aims)


def more_attacks(
    spec: ModelSpec, decide: Decide | None = None, *, threat: ThreatPolicy = DEFAULT_THREAT
) -> tuple[Attack, ...]:
    """What is run when asked for by name: slower, weaker, or for attackers who hold less."""
    thief = Knockoff(epochs=8) if spec.modality == "image" else Knockoff()
    written, classes = isinstance(spec.task, WrittenReport), isinstance(spec.task, Classification)
    return (
        *more_evasion(spec, decide, threat=threat),
        *(more_report_thefts() if written else ()),
        replace(thief, strategy=AdaptivePool()),
        replace(thief, strategy=WalkedPool()),
        *((replace(thief, strategy=BorrowedLayout()),) if spec.modality == "image" and len(spec.shape) == 3 else ()),
        replace(thief, strategy=CopyCat(), labels="hard"),
        *(replace(thief, strategy=ActiveThief(by=by)) for by in ("entropy", "k-center", "dfal")),
        replace(thief, strategy=Jacobian()),
        replace(thief, strategy=Alignment()),
        replace(thief, strategy=SemiSupervised(), labels="hard"),
        *(() if written else (replace(_in_domain_theft(spec), labels="hard"),)),
        *((replace(_in_domain_theft(spec), learner=SemiSupervised(), labels="hard", queries=250),) if classes else ()),
        replace(thief, strategy=DFME(), queries=5000),
        replace(thief, strategy=Disagreement(), queries=5000),
        *more_membership(spec),
        *writer_attacks(),
        *(() if written or isinstance(spec.task, Opaque) else (CanaryConfidence(),)),
    )


def writer_attacks() -> tuple[AskForValues, ...]:
    """What models that answer in text must withstand: in every disguise, which is the default, and a quick look."""
    return AskForValues(), AskForValues(name="ask-plainly", disguises=("verbatim",))


def more_membership(spec: ModelSpec) -> tuple[Attack, ...]:
    """Membership attacks that are run when asked for by name; those that share shadows train them once."""
    shadowed, used = _shadow_attack(spec), {attack.technique for attack in default_membership(spec)}
    return (
        *(replace(shadowed, score=score) for score in MEMBERSHIP_SCORES if score not in used),
        AugmentationRobustness(),
        BoundaryDistance(),
    )


def plugin_attacks(spec: ModelSpec, decide: Decide | None = None) -> dict[str, tuple[Attack, Plugin]]:
    """The attacks of other packages that are installed, on a model of `spec`, by name; they are run when asked for.

    What a package announces under ``medward.attacks`` is a function as `more_attacks` is. Raises `MedwardError` for one
    that fails, or whose attacks have a name that is taken or a family that nobody knows.
    """
    known = {attack.name for attack in (*default_attacks(spec, decide), *more_attacks(spec, decide))}
    found: dict[str, tuple[Attack, Plugin]] = {}
    for plugin in checked_plugins("attacks", (), lambda value: "" if callable(value) else "is no function of a model"):
        what = f"plug-in {plugin.name!r} of {plugin.source} (medward.attacks)"
        try:
            attacks = tuple(plugin.value(spec, decide))
            named = [(attack.name, attack.family) for attack in attacks]
        except Exception as error:
            raise MedwardError(
                f"{what}: cannot make its attacks: {first_line(error)}; repair or uninstall it"
            ) from error
        for attack, (name, family) in zip(attacks, named, strict=True):
            if name in known or name in found:
                raise MedwardError(f"{what}: the name of its attack {name!r} is taken; uninstall it")
            if family not in known_families():
                raise MedwardError(f"{what}: its attack {name!r} is of an unknown family, {family!r}; install that too")
            found[name] = attack, plugin
    return found


def attack_plugins(attacks: Sequence[Attack], spec: ModelSpec, decide: Decide | None = None) -> tuple[Plugin, ...]:
    """The plug-ins that brought some of `attacks`, or the family of one."""
    brought = plugin_attacks(spec, decide)
    families = {attack.family for attack in attacks}
    return (
        *(brought[attack.name][1] for attack in attacks if attack.name in brought),
        *(each for each in plugin_families() if each.name in families),
    )


def chosen_attacks(
    spec: ModelSpec,
    names: Sequence[str] | None = None,
    rules: FeatureRules | None = None,
    decide: Decide | None = None,
    *,
    gradients: bool = True,
    threat: ThreatPolicy = DEFAULT_THREAT,
) -> tuple[Attack, ...]:
    """The default suite, or the attacks called `names`; evasion keeps to `rules`, and to `decide` on an opaque model.

    Radii are those of `threat`; attacks of other packages have their own.

    `gradients` says whether the deployed model has any; see `default_attacks`. Raises `MedwardError` for a name that is
    not there.
    """
    attacks = default_attacks(spec, decide, gradients=gradients, threat=threat)
    if names is not None:
        known = known_attacks(spec, decide, threat=threat)
        if unknown := [name for name in names if name not in known]:
            hint = _hint(unknown[0], spec, decide)
            raise MedwardError(f"attacks: there is no {unknown[0]!r}{hint}; there are {', '.join(known)}")
        attacks = tuple(known[name] for name in names)
    evasive = [attack for attack in attacks if isinstance(attack, Evasive)]
    if evasive and spec.modality == "image" and (spec.low is None or spec.high is None):
        raise MedwardError(
            f"attacks: {evasive[0].name} takes its radius from the range of images, and {spec.name} has low = "
            f"{spec.low} and high = {spec.high}; protect it again with both bounds, or name attacks of other families"
        )
    if rules is None:
        return attacks
    return tuple(replace(attack, rules=rules) if isinstance(attack, Evasive) else attack for attack in attacks)


def known_attacks(
    spec: ModelSpec, decide: Decide | None = None, *, threat: ThreatPolicy = DEFAULT_THREAT
) -> dict[str, Attack]:
    """Every attack on a model of `spec` by name, those of other packages last."""
    ours = (*default_attacks(spec, decide, threat=threat), *more_attacks(spec, decide, threat=threat))
    known: dict[str, Attack] = {attack.name: attack for attack in ours}
    return known | {name: attack for name, (attack, _) in plugin_attacks(spec, decide).items()}


def _hint(name: str, spec: ModelSpec, decide: Decide | None) -> str:
    """Why an attack that other models know may be missing."""
    if isinstance(spec.task, Opaque) and decide is None:
        return " (what an opaque model decides can be attacked with --decide only)"
    technique, _, aim = name.rpartition("-")
    if aim in get_args(Aim) and not isinstance(spec.task, Multilabel | WrittenReport):
        return f" (only several findings are hidden or raised one by one; {technique} counts both here)"
    return ""


def _shadow_attack(spec: ModelSpec) -> ShadowAttack:
    """What all scores share: how many shadows of a model are trained, and for how long; those of images take longer."""
    return ShadowAttack(shadows=8, epochs=10) if spec.modality == "image" else ShadowAttack(shadows=16, epochs=15)


def _radius(spec: ModelSpec, threat: ThreatPolicy, *, universal: bool = False) -> float:
    """The radius of a `threat` on the model, NaN (which no attack takes) for images without bounds."""
    return threat.radius(spec.modality, universal=universal, low=spec.low, high=spec.high)
