"""The default suite: which attacks a model of a given kind must withstand, and how `medward validate` runs them."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attacks.ball import FeatureRules
from attacks.base import Attack
from attacks.evasion import (
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
from attacks.evasion.per_image import PerImage
from attacks.evasion.universal import UniversalAttack
from attacks.extraction import (
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
from attacks.matrix import Twin, validate
from attacks.membership import LossThreshold, OfflineLiRA
from attacks.onnx_torch import white_box
from attacks.report import Report
from guard.bundle import Bundle
from guard.data import Split, conform
from guard.errors import MedwardError
from guard.models import described, wrap
from guard.models.kinds import CLASSIFICATION
from guard.types import Array, ModelSpec

IMAGE_EPSILON = 10 / 255  # of the input range; about zeta = 4 % in Hirano et al. 2021
TABULAR_EPSILON = 1.0  # of each feature's standard deviation
SAMPLE = 64  # rows on which the torch form of the model must equal the deployed one


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


def validate_bundle(
    bundle: Bundle,
    splits: Mapping[str, Split],
    out: Path,
    *,
    names: Sequence[str] | None = None,
    rules: FeatureRules | None = None,
    undefended: object = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Report:
    """Run the default suite, or the attacks called `names`, against a bundle; white-box where its file allows.

    `rules` say which features of a table take whole numbers and which nobody can change. `undefended` is the model as
    it was before hardening, or a path or name of it: evasion must fool that one.
    """
    attacks = chosen_attacks(bundle.model.spec, names, rules)
    network, reason = _network(bundle, splits)
    return validate(
        bundle,
        splits,
        out,
        attacks=attacks,
        network=network,
        no_network=reason,
        undefended=None if undefended is None else twin_of(undefended, bundle, splits),
        seed=seed,
        resume=resume,
        progress=progress,
    )


def twin_of(model: object, bundle: Bundle, splits: Mapping[str, Split]) -> Twin:
    """The model before hardening, under the specification of `bundle`.

    Raises `MedwardError` when it takes other inputs, scores other classes or cannot be read.
    """
    spec = bundle.model.spec
    sample = _sample(bundle, splits)
    try:
        known = described(model)
    except MedwardError as error:
        raise MedwardError(f"undefended: {error}") from None
    if unlike := _unlike(known, spec):
        raise MedwardError(f"undefended: {unlike}; give the model that was hardened, as it was before")
    try:
        wrapped = wrap(model, spec=spec, sample=sample, task=CLASSIFICATION)  # as the bundle's own model is
    except MedwardError as error:
        raise MedwardError(
            f"undefended: does not work as the bundle's model, which takes inputs of shape {spec.shape} and scores "
            f"{len(spec.classes)} classes as {spec.output}: {error}"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        exported = wrapped.export(Path(folder))
        file = Path(folder) / exported.file
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        deployed = bundle.path / exported.file
        if deployed.exists() and hashlib.sha256(deployed.read_bytes()).hexdigest() == digest:
            raise MedwardError("undefended: is the bundle's own model; give the model as it was before hardening")
        if file.name != "model.onnx":
            return Twin(model=wrapped, digest=digest, no_network="it is no ONNX file")
        network, reason = white_box(file, wrapped.predict, sample, exported.options, spec=spec)
        return Twin(model=wrapped, digest=digest, network=network, no_network=reason)


def _unlike(known: Mapping[str, Any], spec: ModelSpec) -> str:
    """How a model that is `known` so far differs from `spec`, if it does; None in a shape stands for any size."""
    shape, classes = known.get("shape"), known.get("classes")
    wanted = (math.prod(spec.shape),) if shape is not None and len(shape) == 1 else spec.shape
    if shape is not None and (
        len(shape) != len(wanted) or any(a not in (None, b) for a, b in zip(shape, wanted, strict=True))
    ):
        said = tuple("any" if size is None else size for size in shape)
        return f"takes inputs of shape {said}, the bundle's model takes {spec.shape}"
    if classes is not None and len(classes) != len(spec.classes):
        return f"scores {len(classes)} classes, the bundle's model scores {len(spec.classes)}"
    return ""


def _network(bundle: Bundle, splits: Mapping[str, Split]) -> tuple[torch.nn.Module | None, str]:
    """The deployed file as a torch network, or the reason why there is none."""
    file = bundle.path / "model.onnx"
    if not file.exists():
        return None, "the bundle holds no ONNX file"
    model = bundle.model
    return white_box(file, model.predict, _sample(bundle, splits), bundle.card.options, spec=model.spec)


def _sample(bundle: Bundle, splits: Mapping[str, Split]) -> Array:
    return conform(next(iter(splits.values())).inputs[:SAMPLE], bundle.model.spec)
