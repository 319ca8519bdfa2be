"""Bounds of a deployed model: the largest radius within which no input at all is decided otherwise.

Guarantee: where `certain_decisions` gives a decision for a row and a radius, the deployed model decides so for every
single-precision input in its range whose values each differ from the row's by at most the radius, rounding included:
also of a change that was added in single precision (`rounding.moved_box`). No probability, no assumption about data or
attacker. It says that an answer is not changed, not that it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify import output_bounds
from medward.guard.certify.model_mark import ARCHIVE
from medward.guard.certify.network_bounds import NetworkBounds
from medward.guard.certify.output_bounds import UNCERTAIN, OutputBounds
from medward.guard.certify.rounding import rounded_up
from medward.guard.certify.sklearn_trees import EstimatorModel, estimator_bounds
from medward.guard.certify.tree_bounds import TreeBounds, is_trees
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.models.onnx_model import load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array, Ints

Certain = Callable[[OutputBounds, Ints], NDArray[np.bool_]]
"""Bounds of some rows and the places of these to what is certain of them ``(n, m)``."""
_CHECKED = 64  # random rows


class BoundedModel(Protocol):
    """A bounded model gives bounds of its outputs over every input within a radius."""

    @property
    def data(self) -> bytes:
        """What it is loaded from."""
        ...

    def between(self, rows: Array, radius: Array) -> OutputBounds:
        """Bounds for single-precision `rows (n, *shape)` and a `radius` of no axes, or of those of a row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds say of one model which decisions no input within a radius can change.

    A radius is one number for all values of a row, or one for each, in their units.
    """

    spec: ModelSpec
    model: BoundedModel

    @classmethod
    def of(cls, data: bytes, spec: ModelSpec, options: Mapping[str, str] | None = None) -> Bounds:
        """Bounds of the ONNX file `data` of a bundle; `options` name its outputs as the bundle's card does.

        Raises `MedwardError` for a file that cannot be bounded soundly, by the name of what stands against it.
        """
        if isinstance(spec.task, Opaque):
            raise MedwardError(
                f"{spec.name}: what opaque outputs decide cannot be read here, so nothing can be certified"
            )
        model = load_onnx(data, spec, options or {})
        kind = TreeBounds if is_trees(data, model.scores) else NetworkBounds
        found = cls(spec=spec, model=kind.of(data, model.input, model.scores, spec))
        found.check_against(model)
        return found

    @classmethod
    def of_estimator(cls, model: EstimatorModel) -> Bounds:
        """Bounds of a model of scikit-learn that a bundle keeps as it is."""
        if model.framed:
            raise MedwardError(
                f"{model.spec.name}: takes its rows as a DataFrame, which cannot be bounded; fit it on numbers"
            )
        found = cls(spec=model.spec, model=estimator_bounds(model.estimator, model.spec))
        found.check_against(model)
        return found

    @classmethod
    def load(cls, data: bytes, spec: ModelSpec) -> Bounds:
        """Open the bytes of `data`, written before; needs onnxruntime alone."""
        kind = TreeBounds if data.startswith(ARCHIVE) else NetworkBounds
        return cls(spec=spec, model=kind.load(data))

    def check_against(self, model: Model) -> None:
        """Refuse bounds that the `model` answers a random row outside of: of another model, or of a file misread.

        Random rows find a model that differs on many inputs; one that differs on few of them passes.
        """
        if model.spec != self.spec:
            raise MedwardError(f"{self.spec.name}: bounds are of a model with another specification; protect it again")
        rows = self.spec.check(self._random_rows(np.random.default_rng(0)))
        scores, found = model.predict(rows).scores, self.between(rows, 0.0)
        certain = output_bounds.certain_decisions(found, self.spec)
        wrong = (certain != self.spec.decide(scores)) & (certain != UNCERTAIN)
        if isinstance(self.spec.task, Regression):
            wrong |= ((scores < found.lower) | (scores > found.upper)).any(axis=1)
        if wrong.any():
            raise MedwardError(
                f"{self.spec.name}: {int(wrong.sum())} of {_CHECKED} random rows are answered otherwise than bounds "
                "say; they are of another model, or of a file that cannot be certified"
            )

    @property
    def data(self) -> bytes:
        """What `load` opens."""
        return self.model.data

    def between(self, inputs: object, radius: float | Array) -> OutputBounds:
        """Bounds of what decides, for all that lies within `radius` of each of `inputs (n, *shape)`."""
        rows = self.spec.check(inputs).astype(np.float32)
        return self.model.between(rows, self._checked(radius))

    def certain_decisions(self, inputs: object, radius: float | Array) -> Ints:
        """The decision ``(n,)`` of all inputs within `radius`, -1 where that is not certain; findings as one set."""
        return output_bounds.certain_decisions(self.between(inputs, radius), self.spec)

    def certain_findings(self, inputs: object, radius: float | Array) -> NDArray[np.bool_]:
        """Which findings ``(n, K)`` are decided alike for all inputs within `radius`."""
        return output_bounds.certain_findings(self.between(inputs, radius), self.spec)

    def number_interval(self, inputs: object, radius: float | Array) -> Array:
        """The least and the largest number ``(n, 2)`` that a regression model gives within `radius`."""
        if not isinstance(self.spec.task, Regression):
            raise MedwardError(f"{self.spec.name}: numbers are a regression model's, this is {self.spec.task.kind}")
        bounds = self.between(inputs, radius)
        return np.concatenate([bounds.lower, bounds.upper], axis=1)

    def certified_radius(self, inputs: object, radii: Sequence[float], scale: float | Array = 1.0) -> Array:
        """The largest of `radii` ``(n,)``, each times `scale`, at which the decision is certain; 0 for none."""
        return self.largest_radius(inputs, radii, scale, lambda bounds, _: self._certain(bounds))[:, 0]

    def certified_finding_radius(self, inputs: object, radii: Sequence[float], scale: float | Array = 1.0) -> Array:
        """The same for each finding ``(n, K)`` of a multilabel model."""
        if not isinstance(self.spec.task, Multilabel):
            raise MedwardError(f"{self.spec.name}: findings are a multilabel model's, this is {self.spec.task.kind}")
        return self.largest_radius(inputs, radii, scale, lambda bounds, _: self._certain_findings(bounds))

    def largest_radius(self, inputs: object, radii: Sequence[float], scale: float | Array, certain: Certain) -> Array:
        """The largest of `radii` ``(n, m)``, each times `scale`, of what `certain` says it of; 0 for none.

        From the largest radius down; rows of which all is certain at one are asked no further.
        """
        if not radii or min(radii) <= 0:
            raise MedwardError(f"radii: needs one or more positive numbers, got {list(radii)}")
        rows = self.spec.check(inputs).astype(np.float32)
        found, left = np.zeros((len(rows), 1)), np.arange(len(rows))
        for radius in sorted(radii, reverse=True):
            holds = certain(self.model.between(rows[left], self._checked(radius * np.asarray(scale))), left)
            found = np.array(np.broadcast_to(found, (len(rows), holds.shape[1])))
            found[left] = np.where((found[left] == 0) & holds, radius, found[left])
            left = left[~(found[left] > 0).all(axis=1)]
            if not len(left):
                break
        return found

    def _random_rows(self, rng: np.random.Generator) -> Array:
        """Rows within the range; of trees with values at which they split."""
        low, high = -3.0 if self.spec.low is None else self.spec.low, 3.0 if self.spec.high is None else self.spec.high
        rows = rng.uniform(low, high, size=(_CHECKED, *self.spec.shape))
        if isinstance(self.model, TreeBounds) and self.model.front is None:
            flat = rows.reshape(_CHECKED, -1)
            for feature, values in self.model.ensemble.splits().items():
                flat[:, feature] = rng.choice(values, _CHECKED)
        return np.clip(rows, self.spec.low, self.spec.high)

    def _certain(self, bounds: OutputBounds) -> NDArray[np.bool_]:
        return np.asarray(output_bounds.certain_decisions(bounds, self.spec) != UNCERTAIN)[:, None]

    def _certain_findings(self, bounds: OutputBounds) -> NDArray[np.bool_]:
        return output_bounds.certain_findings(bounds, self.spec)

    def _checked(self, radius: float | Array) -> NDArray[np.float32]:
        """The radius in single precision, rounded up."""
        given = np.asarray(radius, np.float64)
        if given.shape not in ((), self.spec.shape) or not (np.isfinite(given) & (given >= 0)).all():
            raise MedwardError(
                f"radius: must be one finite number >= 0, or one for each value of a row {self.spec.shape}, got "
                f"{radius if given.ndim == 0 else given.shape}"
            )
        return rounded_up(given)
