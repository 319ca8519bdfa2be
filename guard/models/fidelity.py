"""The fidelity gate: what is served decides as the model itself does, row by row, and touches nobody's arrays.

Checked on benign rows: the decisions equal those of the model's own ``predict`` on the rows as the caller has them,
before the guard made float32 of them; a row has the same answer alone, beside others, in another order and repeated;
asked twice the model says the same twice; and it leaves its input as it was. Adapters hand copies to a model, so one
that works in place passes. What differs is refused in one sentence that says how much and what to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line
from medward.guard.spec import AnyTask, ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Array, Ints, Outputs

_ROWS = 24  # asked one by one
TOLERANCE, ROUNDING = 5e-4, 1e-5
"""How far a row's scores may differ from batch to batch, relative to its scores above 1, and how far where its decision
differs too, relative to its largest score."""
HALF = 2e-3
"""What half precision rounds by, and so what takes the place of both where all scores are of it."""


class Predicts(Protocol):
    """What the gate asks of a wrapped model."""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        ...

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)``."""
        ...

    def own_decisions(self, rows: NDArray[np.generic]) -> Ints | None:
        """The model's own decisions on the caller's rows, as class indices; None where it has none but its scores."""
        ...


def check_fidelity(model: Predicts, probe: Array, raw: NDArray[np.generic]) -> None:
    """Refuse a `model` whose answers to a row of `probe (n, *shape)` depend on anything but the row.

    `raw` are the same rows as the caller has them. Raises `MedwardError`.
    """
    outputs = model.predict(probe)
    scores = outputs.scores
    if len(scores) != len(probe):
        raise MedwardError(f"{model.spec.name}: {len(probe)} inputs gave {len(scores)} rows of scores")
    check_own(model, scores, raw)
    check_same(model.spec, "asked again", scores, _predicted(model, probe, "asked again"))
    few = np.unique(np.linspace(0, len(probe) - 1, min(_ROWS, len(probe))).astype(int))
    alone = np.concatenate([_predicted(model, probe[[i]], "alone") for i in few])
    check_same(model.spec, "asked alone", scores[few], alone)
    order = np.random.default_rng(0).permutation(len(probe))
    check_same(model.spec, "asked in another order", scores[order], _predicted(model, probe[order], "shuffled"))
    repeated = np.repeat(few, 3)
    check_same(model.spec, "asked three times in one batch", scores[repeated], _predicted(model, probe[repeated], "3x"))
    if outputs.texts:
        check_texts(model, probe, outputs.texts)


def check_texts(model: Predicts, probe: Array, texts: tuple[str, ...]) -> None:
    """Refuse a `model` whose `texts` about the rows of `probe` are others when it is asked in another order."""
    order = np.arange(len(probe))[::-1]
    again = model.predict(probe[order]).texts
    differ = sum(texts[at] != text for at, text in zip(order, again, strict=True))
    if differ:
        raise MedwardError(
            f"{model.spec.name}: {differ} of {len(texts)} reports on the same rows are worded otherwise when asked "
            "again; decode greedily (no sampling), and make each row's text its own"
        )


def check_own(model: Predicts, scores: Array, raw: NDArray[np.generic]) -> None:
    """Refuse `scores (n, K)` whose decisions are not the own ones of `model` on the caller's rows `raw (n, *shape)`.

    Where an operating point is said the model may decide by that already, or by its largest score as libraries do.
    """
    spec, own = model.spec, _own(model, raw)
    if own is None:
        return
    by_score = without_points(spec.task).decide(scores)
    differ = int((by_score != own).sum())
    if not differ or (spec.decide(scores) == own).all():
        return
    rounded = _own(model, raw.astype(np.float32)) if raw.dtype == np.float64 else None
    if rounded is not None and (by_score == rounded).all():
        because = (
            "in float64 it tells rows apart that are one and the same in float32, which the guard takes: "
            "fit it on X.astype(numpy.float32), or, where trees end a pipeline, leave out the steps that scale "
            "numbers, which trees do not need"
        )
    else:
        because = (
            "it decides by more than its largest score (a threshold of its own, another rule): say its threshold "
            "(--threshold), guard the estimator inside (model.estimator_), or calibrate it (CalibratedClassifierCV)"
        )
    raise MedwardError(
        f"{spec.name}: {differ} of {len(own)} decisions differ from the model's own predict on these rows; {because}"
    )


def check_same(spec: ModelSpec, how: str, first: Array, again: Array) -> None:
    """Refuse a model whose scores for the same rows were `first (n, K)` and are now `again (n, K)`."""
    if first.shape != again.shape:
        raise MedwardError(f"{spec.name}: {len(first)} inputs gave {len(again)} rows of scores when {how}")
    apart, size = (np.abs(each).reshape(len(each), -1).max(axis=1) for each in (first - again, first))
    with np.errstate(over="ignore"):  # what is too large for half precision was not made in it
        half = bool((first.astype(np.float16) == first).all())
    tolerance, rounding = (HALF, HALF) if half else (TOLERANCE, ROUNDING)
    moved = spec.decide(first) != spec.decide(again)
    if not ((apart <= tolerance * np.maximum(1.0, size)) & ~(moved & (apart > rounding * size))).all():
        differ = int(moved.sum())
        because = (
            "it draws random numbers or remembers what it was asked; switch that off (dropout, a counter, a cache)"
            if how == "asked again"
            else "one patient's answer would rest on another's input; make each row's answer its own (batch "
            "normalisation with running statistics in eval mode, no mean or attention over the batch axis)"
        )
        raise MedwardError(
            f"{spec.name}: the same rows {how} get other scores, {differ} of {len(first)} decisions differ and scores "
            f"by up to {float(apart.max()):.3g}: {because}"
        )


def without_points(task: AnyTask) -> AnyTask:
    """`task` as a library decides it: by the largest score, or a finding from one half on."""
    if isinstance(task, Classification):
        return replace(task, threshold=None)
    return replace(task, thresholds=(0.5,) * len(task.findings)) if isinstance(task, Multilabel) else task


def _predicted(model: Predicts, rows: Array, how: str) -> Array:
    try:
        return model.predict(rows).scores
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(
            f"{model.spec.name}: the model answers {len(rows)} rows together, but fails when they are asked {how}: "
            f"{first_line(error)}; each row must be answered whatever else is in the batch"
        ) from error


def _own(model: Predicts, raw: NDArray[np.generic]) -> Ints | None:
    try:
        return model.own_decisions(raw)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(
            f"{model.spec.name}: the model's own predict fails on the rows given: {first_line(error)}"
        ) from error
