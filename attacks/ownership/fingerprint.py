"""A label-only fingerprint of a model, which changes nothing in it: inputs that its clones decide as it does and others
do not.

Candidates are many (`candidates`), and chosen by decisions alone (`choosing`): independent models of the same data
(`references`) must differ there, clones that the owner makes (`own_clones`) must not. Further independent models, which
chose nothing, are the null that suspects are compared with (`compare`); further clones say what it would show.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medward.attacks.ownership.candidates import Candidates, candidate_inputs
from medward.attacks.ownership.choosing import FEWEST_OF_CLASS, conferrable_inputs, own_errors
from medward.attacks.ownership.generalisation_gap import learned_doubt
from medward.attacks.ownership.own_clones import WAYS, CloneTraining
from medward.attacks.ownership.references import OwnRecipe, ReferenceTraining
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.site import bundle_reading
from medward.guard.data.objects import as_splits
from medward.guard.data.reading import Reading
from medward.guard.data.split import Split, conformed_split
from medward.guard.errors import MedwardError
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints

_log = logging.getLogger("medward.ownership")
TRAINED_ON = "train"
BY_RECIPE = 1
NULL_SORTS = ("other recipes", "the model's own recipe")
"""How independent models were trained; a suspect must stand out from either sort that there is."""
MOST_HELD, FEWEST_HELD = 2000, 60
"""Rows that the model was not trained on: half for candidates, half for the owner's clones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintSettings:
    """Settings of a fingerprint say how many models are trained for it and how many inputs it has.

    `choosing` independent models choose inputs and `null` others are what suspects are compared with, so that no
    p-value is below 1 / (1 + `null`); with the model's own recipe so many more of each are trained by it. The owner
    makes four clones for each way of theft: two choose inputs, two say what the fingerprint would show. At most
    `inputs` are chosen for each way, among `candidates`.
    """

    choosing: int = 12
    null: int = 19
    inputs: int = 120
    candidates: int = 12000
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"choosing": 2, "null": 1, "inputs": 2 * FEWEST_OF_CLASS, "candidates": 1}
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                raise MedwardError(f"fingerprint: {name} must be at least {bound}, got {value}")


MOST_CANDIDATE_BYTES = 2**30
"""Memory that candidates may take."""
CHOOSING_CLONES, JUDGING_CLONES = 2, 2
"""Clones that the owner makes for each way: those that choose inputs, and others that say what is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A fingerprint is inputs with what the model, independent models and the owner's clones decide on them. Secret.

    `inputs (n, *shape)` and the model's decisions `own (n,)`; `ways (n,)` are the places in `way_names` of the way of
    theft that an input is for. `null (m, n)` are decisions of independent models, called `null_names` and of the sort
    `null_sorts (m,)` of `NULL_SORTS`, `clones (c, n)` those of the owner's clones, made in `clone_ways (c,)`. `bundle`
    is the digest of the bundle, `spec` its model's.
    """

    spec: ModelSpec
    bundle: str
    inputs: Array
    own: Ints
    ways: Ints
    way_names: tuple[str, ...]
    null: Ints
    null_names: tuple[str, ...]
    null_sorts: Ints
    clones: Ints
    clone_ways: Ints

    def __len__(self) -> int:
        return len(self.inputs)


def fingerprint(
    bundle: Bundle,
    data: object,
    *,
    settings: FingerprintSettings | None = None,
    recipe: OwnRecipe | None = None,
    target: str | None = None,
    patient: str | None = None,
    labels: Path | None = None,
    progress: Callable[[str], None] = _log.info,
) -> Fingerprint:
    """A fingerprint of the bundle's model, by `data`: "train", labelled, and rows that the model was not trained on.

    All other splits of `data` together are the latter. `recipe` trains as the model was trained; without it nothing is
    known of models of the same data and recipe, which may agree as clones do, and the log "medward.ownership" is warned
    where the model is not clearly better on "train" than on other rows. `progress` hears of models trained.

    Raises `MedwardError` for models that decide no classes, for data that lacks rows, and where too few candidates of
    two classes or more tell clones from independent models.
    """
    settings = settings or FingerprintSettings()
    spec = bundle.model.spec
    if not isinstance(spec.task, Classification):
        raise MedwardError(f"fingerprint: is for models of classes, and this one {spec.rule}; there is none for it yet")
    reading = bundle_reading(bundle, Reading(target=target, patient=patient, labels=labels))
    splits = {name: conformed_split(split, spec) for name, split in as_splits(data, reading).items()}
    training, mine, others = divided_owner_rows(spec, splits, settings.seed)
    held = [each for name, each in splits.items() if name != TRAINED_ON]
    if recipe is None and (doubt := learned_doubt(bundle.model, training.rows, held, seed=settings.seed)):
        _log.warning(doubt)
    count = min(settings.candidates, MOST_CANDIDATE_BYTES // mine.inputs[:1].nbytes)
    if count < settings.candidates:
        progress(f"{count} candidates instead of {settings.candidates}: more of {spec.shape} take too much memory")
    offered = candidate_inputs(spec, mine.inputs[:count], count, seed=settings.seed)
    own = spec.decide(forward_batches(bundle.model, offered.inputs).scores)
    training = replace(training, recipe=recipe, bootstrapped=settings.choosing)
    references, null, names, sorts = [], [], [], []
    for sort in (0,) if recipe is None else (BY_RECIPE, 0):  # a recipe that fails does so at once
        made = training.decisions(
            settings.choosing + settings.null, offered.inputs, seed=settings.seed, by_recipe=sort == BY_RECIPE
        )
        for number, (kind, decided) in enumerate(made):
            progress(
                f"independent model {number + 1} of {settings.choosing + settings.null}, {NULL_SORTS[sort]}: {kind}"
            )
            if number < settings.choosing:
                references.append(decided)
            else:
                null.append(decided)
                names.append(kind)
                sorts.append(sort)
    cloning = CloneTraining(model=bundle.model, rows=others)
    clones = []
    for way, words in enumerate(WAYS):
        copies = cloning.decisions(way, CHOOSING_CLONES + JUDGING_CLONES, offered.inputs, seed=settings.seed)
        clones.append(np.array(list(copies)))
        progress(f"clones of the owner's ({words})")
    return chosen_fingerprint(
        spec,
        bundle.digest,
        offered,
        own,
        np.array(references),
        np.array(null),
        clones,
        null_names=tuple(names),
        null_sorts=np.array(sorts),
        most=settings.inputs,
        seed=settings.seed,
    )


def chosen_fingerprint(
    spec: ModelSpec,
    bundle: str,
    offered: Candidates,
    own: Ints,
    references: Ints,
    null: Ints,
    clones: list[Ints],
    *,
    null_names: tuple[str, ...],
    null_sorts: Ints,
    most: int,
    seed: int,
    labels: Ints | None = None,
) -> Fingerprint:
    """The fingerprint that decisions on the candidates make: `own (n,)`, `references (k, n)`, `null (m, n)`.

    `clones` are those of each way ``(c, n)``; the first `CHOOSING_CLONES` of them choose. Given the `labels (n,)` of
    candidates, -1 where unknown, the inputs are the model's own errors instead: the negative control, never to be used.
    """
    if labels is not None:
        way_names: tuple[str, ...] = ("the model's own errors",)
        chosen = [own_errors(own, labels, most, seed=seed)]
    else:
        way_names = WAYS
        chosen = [conferrable_inputs(own, references, each[:CHOOSING_CLONES], most, seed=seed) for each in clones]
    places = np.concatenate(chosen)
    judging = [each[CHOOSING_CLONES:] for each in clones]
    found = Fingerprint(
        spec=spec,
        bundle=bundle,
        inputs=offered.inputs[places],
        own=own[places],
        ways=np.repeat(np.arange(len(chosen)), [len(each) for each in chosen]),
        way_names=way_names,
        null=null[:, places],
        null_names=null_names,
        null_sorts=null_sorts,
        clones=np.concatenate(judging)[:, places],
        clone_ways=np.repeat(np.arange(len(judging)), [len(each) for each in judging]),
    )
    _check_chosen(found, len(offered.inputs))
    return found


def divided_owner_rows(spec: ModelSpec, splits: dict[str, Split], seed: int) -> tuple[ReferenceTraining, Split, Array]:
    """How references are trained, the held-out rows that candidates are made of, and others that clones learn on.

    Of each at most `MOST_HELD` / 2, in random order; no patient is in both where patients are known.
    """
    if TRAINED_ON not in splits:
        raise MedwardError(
            f'fingerprint: needs a split "{TRAINED_ON}", the labelled rows that the model learned from, to train '
            f"independent models on; got {', '.join(splits)}"
        )
    parts = [split for name, split in splits.items() if name != TRAINED_ON]
    rows = sum(map(len, parts))
    if rows < FEWEST_HELD:
        raise MedwardError(
            f"fingerprint: needs {FEWEST_HELD} rows that the model was not trained on, in splits beside "
            f'"{TRAINED_ON}", got {rows}'
        )
    inputs = np.concatenate([each.inputs for each in parts])
    labelled = all(each.labels is not None for each in parts)
    labels = np.concatenate([np.asarray(each.labels) for each in parts]) if labelled else None
    known = all(each.patients is not None for each in parts)
    whose = np.concatenate([np.asarray(each.patients) for each in parts]) if known else np.arange(rows)
    order = np.random.default_rng(seed).permutation(np.unique(whose))
    first = np.isin(whose, order[: len(order) // 2])
    held, rng, half = Split(inputs, labels), np.random.default_rng(seed), MOST_HELD // 2
    mine, others = (rng.permutation(np.flatnonzero(side))[:half] for side in (first, ~first))
    return ReferenceTraining(spec=spec, rows=splits[TRAINED_ON]), held.take(mine), inputs[others]


def _check_chosen(found: Fingerprint, offered: int) -> None:
    """Refuse a fingerprint without two classes in any way."""
    classes = [len(np.unique(found.own[found.ways == way])) for way in range(len(found.way_names))]
    if max(classes) < 2:
        alike = (
            "; or your recipe may give nearly the same model every time: then no fingerprint can tell clones from it, "
            "and one without --recipe would call honest models copies"
        )
        raise MedwardError(
            f"fingerprint: of {offered} candidates fewer than {FEWEST_OF_CLASS} in each of two classes tell clones of "
            "the model from independent models of its data, so nothing could be shown; offer more candidates, or more "
            f"held-out rows{alike if BY_RECIPE in found.null_sorts else ''}"
        )
