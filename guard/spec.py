"""What a model takes and what it answers: the specification that every batch is checked against at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from medward.guard.columns import Column, encode_rows
from medward.guard.errors import MedwardError
from medward.guard.named_values import is_named
from medward.guard.preparation import AS_IT_IS, Preparation
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import threshold_odds
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints, Layout, Modality, OutputKind, Outputs

AnyTask = Annotated[Classification | Multilabel | Regression | Opaque | WrittenReport, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A specification says what a model takes and gives; checked once, at the door.

    ``shape`` excludes the batch axis: ``(C, H, W)`` for images, ``(D,)`` for tables. ``low`` and ``high``
    bound every input value. ``task`` is what the model answers, its operating points included. ``features`` is the
    width of the feature output, 0 when the model has none. ``layout`` is that of the image arrays the model was
    protected on, ``bits`` how many their whole-number pixels have (None: they were floats).

    Signals and volumes are defended as images: leads by samples as an image of one channel, the slices of a volume as
    channels. ``sent`` is then the shape of a row as the model itself takes it and clients send it, ``(L, T)`` or
    ``(C, D, H, W)``. ``columns`` name a table's values (`guard.columns`), ``prepare`` says how files become inputs.
    """

    name: str
    modality: Modality
    shape: tuple[int, ...]
    task: AnyTask
    low: float | None = None
    high: float | None = None
    features: int = 0
    layout: Layout | None = None
    bits: int | None = None
    sent: tuple[int, ...] | None = None
    columns: tuple[Column, ...] = ()
    prepare: Preparation = AS_IT_IS

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row as the model itself takes it and clients send it."""
        return self.shape if self.sent is None else self.sent

    @property
    def kind(self) -> str:
        """What a row is, in a word."""
        if self.sent is not None:
            return "signal" if len(self.sent) == 2 else "volume"
        return "image" if self.modality == "image" else "table"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the columns of a row of scores: classes, findings, or the one quantity."""
        return self.task.names

    @property
    def output(self) -> OutputKind:
        """What a score is."""
        return self.task.output

    @property
    def threshold(self) -> float | None:
        """The operating point of a model of two classes; None for every other."""
        return self.task.threshold if isinstance(self.task, Classification) else None

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        return self.task.rule

    @property
    def border(self) -> float:
        """The log odds of the positive class from which it is decided; 0 without an operating point."""
        return 0.0 if self.threshold is None else threshold_odds(self.threshold)

    def decide(self, scores: Array) -> Ints:
        """The decision ``(n,)`` on each row of the model's own `scores`."""
        return self.task.decide(scores)

    def judged(self, outputs: Outputs) -> Outputs:
        """The model's outputs as defenses judge them: the largest score of a row is the group it belongs to."""
        return Outputs(self.task.judged(outputs.scores), outputs.features, self.task.doubt(outputs.scores))

    def check(self, inputs: object) -> Array:
        """Return `inputs` as a finite float32 batch ``(n, *shape)`` or say in one sentence what is wrong.

        A model with `columns` also takes rows that name theirs: records, a DataFrame, arrays by name.
        """
        if is_named(inputs):
            if not self.columns:
                raise MedwardError(
                    f"inputs: the model knows no columns by name; send numbers of shape (n, {self._axes})"
                )
            inputs = encode_rows(inputs, self.columns)
        try:
            x = np.asarray(inputs)
            if x.dtype.kind not in "fiub":
                raise MedwardError(f"inputs: expected numbers, got dtype {x.dtype}")
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, MedwardError):
                raise
            raise MedwardError(f"inputs: expected a numeric array of shape (n, {self._axes}), got {error}") from None
        if len(x) and x.shape[1:] == self.row_shape:
            x = x.reshape(len(x), *self.shape)
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape or len(x) == 0:
            raise MedwardError(f"inputs: expected shape (n >= 1, {self._axes}), got {x.shape}")
        if not np.isfinite(x).all():
            raise MedwardError("inputs: every value must be finite, got NaN or infinity")
        slack = 1e-6 * max(1.0, abs(self.low or 0.0), abs(self.high or 0.0))  # float32 cannot hold every bound
        if self.low is not None and float(x.min()) < self.low - slack:
            raise MedwardError(f"inputs: values must be >= {self.low:g}, got {float(x.min()):g}")
        if self.high is not None and float(x.max()) > self.high + slack:
            raise MedwardError(f"inputs: values must be <= {self.high:g}, got {float(x.max()):g}")
        return x if self.low is None and self.high is None else np.clip(x, self.low, self.high)

    @property
    def _axes(self) -> str:
        return ", ".join(map(str, self.row_shape))
