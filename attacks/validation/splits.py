"""Who holds which rows: from named splits to what the attacker has and what it is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.attacks.learners.table import as_labels
from medward.attacks.target import Decide
from medward.guard.data.overlap import measure_overlap
from medward.guard.data.split import Split, conformed_split, tell_writing
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

_CRAFT = 1000
TEST = 1000
POOL = 3000
FEWEST_ROWS = 10
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
    if len(fitted.get("test", ())) < FEWEST_ROWS:
        known = ", ".join(f"{name} ({len(split)})" for name, split in fitted.items())
        raise MedwardError(f'validation needs a split "test" of at least {FEWEST_ROWS} rows, got {known}')
    return fitted


def unnamed_test(splits: Mapping[str, Split]) -> str:
    """One sentence where `splits`, as given, are one of another name than "test": training may have seen its rows."""
    if len(splits) != 1 or "test" in splits or "holdout" in splits:
        return ""
    name = next(iter(splits))
    return (
        f'there is no split "test": attacks are judged on "{name}", and if the model was trained on these rows no '
        'figure holds for new ones; give rows it never saw as "test": a file test.csv, a column "split", test_inputs '
        "in an npz, or a dict of splits"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRows:
    """Shared rows are what a validation deals from: all `splits`, and the `data` that most attackers hold.

    `seed` is that of the draw. `copied` are the flags of training rows in "holdout", on which all families read what
    benign users pay; `tested` those of rows in "test" that training saw, or may have seen.
    """

    splits: Mapping[str, Split]
    data: AttackData
    seed: int
    copied: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()


def share_rows(
    model: Model,
    splits: Mapping[str, Split],
    *,
    seed: int,
    decide: Decide | None = None,
    unnamed: str = "",
    most: int | None = None,
) -> SharedRows:
    """What attackers hold and are judged on, and how far `splits` are no splits; see `divide_rows`.

    `decide` reads outputs that the model's task cannot; `unnamed` is what `unnamed_test` said of the data. Of the rows
    that are judged at most `most` are taken, drawn of those that would be without it.

    Raises `MedwardError` when "test" cannot be halved.
    """
    rng = np.random.default_rng(seed)
    craft, test = divide_rows(splits, rng)
    test = test if most is None else some_rows(test, most, rng)
    if craft.labels is None:
        craft = Split(craft.inputs, as_labels(model.spec.task, _outputs(model, craft.inputs)), craft.patients)
    tell_writing(model.spec.task, "written about %d rows that attacks are judged on", len(test))
    outputs = _outputs(model, test.inputs)
    data = AttackData(
        craft=craft,
        test=test,
        pool=pool_for(model.spec, craft.inputs, POOL, seed),
        reference=(decide or model.spec.decide)(outputs),
        outputs=outputs,
    )
    copied, tested = _overlaps(splits, data)
    return SharedRows(splits=splits, data=data, seed=seed, copied=copied, tested=(*filter(None, [unnamed]), *tested))


def divide_rows(splits: Mapping[str, Split], rng: np.random.Generator) -> tuple[Split, Split]:
    """Rows to craft on, from "train" or else half of "test", and rows to be judged on; `rng` is drawn from.

    Halves share no patient where patients are known. Raises `MedwardError` when "test" cannot be halved so.
    """
    test = splits["test"]
    if "train" in splits:
        return some_rows(splits["train"], _CRAFT, rng), some_rows(test, TEST, rng)
    first, second = halve_rows(test, rng)
    if not len(first):
        raise MedwardError('without a split "train", the split "test" must hold rows of several patients, got one')
    return test.take(np.sort(first[:_CRAFT])), test.take(np.sort(second[:TEST]))


def _overlaps(splits: Mapping[str, Split], data: AttackData) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags of splits that share rows or patients: what was measured on one is then no measure of it."""
    train, holdout = splits.get("train"), splits.get("holdout")
    if train is None:
        judged = measure_overlap(data.craft, data.test).sentence(
            'the half of "test" that attacks are crafted on', "the other half"
        )
    else:
        judged = measure_overlap(train, splits["test"]).sentence('"train"', '"test"')
    held = "" if train is None or holdout is None else measure_overlap(train, holdout).sentence('"train"', '"holdout"')
    return tuple(filter(None, [held])), tuple(filter(None, [judged]))


def some_rows(split: Split, most: int, rng: np.random.Generator) -> Split:
    """At most `most` rows, drawn without replacement."""
    if len(split) <= most:
        return split
    return split.take(np.sort(rng.choice(len(split), most, replace=False)))


def halve_rows(split: Split, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Two halves of the rows, in random order: each holds half of the patients, with all their rows."""
    order = rng.permutation(len(split))
    whose = row_patients(split)[order]
    patients = rng.permutation(np.unique(whose))
    first = np.isin(whose, patients[: len(patients) // 2])
    return order[first], order[~first]


def row_patients(split: Split) -> Ints:
    """Whose each row is; with patients unknown, every row is taken for a patient of its own."""
    return np.arange(len(split)) if split.patients is None else split.patients


def _outputs(model: Model, inputs: Array) -> Array:
    return forward_batches(model, inputs).scores
