"""Who holds which rows: from named splits to what the attacker has and what it is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medward.attacks.base import AttackData, Family
from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.guard.data.overlap import measure_overlap
from medward.guard.data.split import Split, conformed_split
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

_CRAFT = 1000
TEST = 1000
POOL = 3000
CANDIDATES = 500  # of each kind
_FEWEST = 10
"""Rows, at most, and the fewest that let a split be used at all."""


def conform_splits(splits: Mapping[str, Split], spec: ModelSpec) -> dict[str, Split]:
    """The splits as batches the model takes. Raises `MedwardError` naming the split that does not fit."""
    fitted = {}
    for name, split in splits.items():
        try:
            fitted[name] = conformed_split(split, spec)
        except MedwardError as error:
            raise MedwardError(f"split {name}: {error}") from None
    if "test" not in fitted and len(fitted) == 1:
        fitted["test"] = fitted.pop(next(iter(fitted)))
    if len(fitted.get("test", ())) < _FEWEST:
        known = ", ".join(f"{name} ({len(split)})" for name, split in fitted.items())
        raise MedwardError(f'validation needs a split "test" of at least {_FEWEST} rows, got {known}')
    return fitted


def attack_data(model: Model, splits: Mapping[str, Split], *, seed: int) -> tuple[AttackData, dict[Family, str]]:
    """What the attacker holds, and per family that cannot be tested with these `splits` the reason.

    Crafting rows are from "train", or half of "test" when there is none; members are from "train",
    non-members and shadow rows the two halves of "holdout". Halves share no patient where patients are known.
    Raises `MedwardError` when "test" cannot be halved so.
    """
    rng = np.random.default_rng(seed)
    test = splits["test"]
    if "train" in splits:
        craft = _some(splits["train"], _CRAFT, rng)
        test = _some(test, TEST, rng)
    else:
        first, second = _halves(test, rng)
        if not len(first):
            raise MedwardError('without a split "train", the split "test" must hold rows of several patients, got one')
        craft, test = test.take(np.sort(first[:_CRAFT])), test.take(np.sort(second[:TEST]))
    if craft.labels is None:
        craft = Split(craft.inputs, _decisions(model, craft.inputs), craft.patients)
    data = AttackData(
        craft=craft,
        test=test,
        pool=pool_for(model.spec, craft.inputs, POOL, seed),
        reference=_decisions(model, test.inputs),
    )
    if reason := _no_membership(splits):
        return data, {"membership": reason}
    first, second = _halves(splits["holdout"], rng)
    nonmembers = splits["holdout"].take(np.sort(first[:CANDIDATES]))
    return replace(
        data,
        members=_some(splits["train"], len(nonmembers), rng),
        nonmembers=nonmembers,
        shadow=splits["holdout"].take(np.sort(second)),
    ), {}


def overlap_flags(splits: Mapping[str, Split], data: AttackData) -> dict[Family, tuple[str, ...]]:
    """Per family the flags of splits that share rows or patients: what was measured on one is then no measure of it.

    All families read what benign users pay from "holdout"; membership does not read "test".
    """
    train, holdout = splits.get("train"), splits.get("holdout")
    if train is None:
        judged = measure_overlap(data.craft, data.test).sentence(
            'the half of "test" that attacks are crafted on', "the other half"
        )
    else:
        judged = measure_overlap(train, splits["test"]).sentence('"train"', '"test"')
    held = "" if train is None or holdout is None else measure_overlap(train, holdout).sentence('"train"', '"holdout"')
    common = (held,) if held else ()
    tested = (*common, judged) if judged else common
    return {"evasion": tested, "extraction": tested, "membership": common}


def _no_membership(splits: Mapping[str, Split]) -> str:
    for name, what in (
        ("train", "rows the model was trained on"),
        ("holdout", "rows from the same draw it never saw"),
    ):
        split = splits.get(name)
        if split is None:
            return f'not tested: membership needs {what}; the data has no split "{name}".'
        if split.labels is None:
            return f'not tested: membership needs labels, the split "{name}" has none.'
        if (few := len(np.unique(_whose(split)))) < 2 * _FEWEST:
            rows = "rows" if split.patients is None else "patients"
            return f'not tested: membership needs at least {2 * _FEWEST} {rows} in "{name}", got {few}.'
    return ""


def _some(split: Split, most: int, rng: np.random.Generator) -> Split:
    """At most `most` rows, drawn without replacement."""
    if len(split) <= most:
        return split
    return split.take(np.sort(rng.choice(len(split), most, replace=False)))


def _halves(split: Split, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Two halves of the rows, in random order: each holds half of the patients, with all their rows."""
    order = rng.permutation(len(split))
    whose = _whose(split)[order]
    patients = rng.permutation(np.unique(whose))
    first = np.isin(whose, patients[: len(patients) // 2])
    return order[first], order[~first]


def _whose(split: Split) -> Ints:
    """Whose each row is; with patients unknown, every row is taken for a patient of its own."""
    return np.arange(len(split)) if split.patients is None else split.patients


def _decisions(model: Model, inputs: Array) -> Ints:
    return model.spec.decide(forward_batches(model, inputs).scores)
