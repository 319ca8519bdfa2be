"""The certificate of each answer: the largest radius of a grid within which no input at all is answered otherwise.

Guarantee: let r be the certified radius of an answer that left, and x the input that came. Then the deployed model
decides so on every input each of whose values differs from that of x by at most r, in units of the policy, whatever was
done to make it; so if x was made of a true input by a change of at most r, the answer to that one is the same. No
probability. It does not say that the answer is right, and nothing of other changes: patches, rotations, other norms. Of
a regression model it says that the number moves by no more than its tolerance, and over no cut point.

Bounds are taken of the rows as the model gets them, after all preparation. Columns that are categories, that say
whether a value is missing, or that nobody can change are taken to stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medward.guard.certify.bounds import Bounds
from medward.guard.certify.output_bounds import OutputBounds, certain_decisions, certain_findings
from medward.guard.certify_policy import CERTIFIED_FACTORS
from medward.guard.columns import Column, encoded_names, feature_places, immutable_places
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.policy import Policy
from medward.guard.release import capacity
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression
from medward.guard.threat_policy import GREY_LEVELS, ThreatPolicy
from medward.guard.types import Array, CertifiedRadius, Ints, Level

CERTIFICATE_PART = "certificate"
"""The part of the guard that says of verdicts how many rows are not certified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBounds:
    """Kept bounds are what a bundle has to certify answers: the bounds, and the spread of each column of a table.

    `deviations` are the standard deviations of the values of an encoded row over the calibration rows, none for images.
    `checked` is the model that random rows were compared with, if any was.
    """

    bounds: Bounds
    deviations: tuple[float, ...] = ()
    checked: Model | None = field(default=None, repr=False, compare=False)

    def checked_against(self, model: Model) -> KeptBounds:
        """The same bounds once `model` has answered random rows within them; not asked again of the same model.

        Raises `MedwardError` where it answers one otherwise (`Bounds.check_against`).
        """
        if self.checked is model:
            return self
        self.bounds.check_against(model)
        return replace(self, checked=model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certifier:
    """A certifier gives the certified radius of answers, by `bounds` and in units of `scale` input units each.

    `asked` is the policy's radius. Nothing is certified where bounds are certain of another decision than the model's.
    """

    bounds: Bounds
    scale: Array
    asked: float

    @classmethod
    def of(cls, kept: KeptBounds | None, policy: Policy, spec: ModelSpec) -> Certifier | None:
        """The certifier that `policy` asks for, None where it asks for none.

        Raises `MedwardError` where there are no bounds to certify with.
        """
        if not policy.certify.enabled:
            return None
        if kept is None:
            raise MedwardError(
                "certify.enabled = true: there are no bounds to certify answers with; protect the model again with "
                "this policy, or set it to false"
            )
        return cls(
            bounds=kept.bounds,
            scale=certified_scale(spec, kept.deviations, policy.threat),
            asked=policy.certify.certified_at(spec.modality, policy.threat),
        )

    def certify(self, rows: Array, scores: Array) -> CertifiedRadius:
        """The certificates of `rows (n, *shape)` that the model gave `scores` to; each row is judged by itself."""
        spec, task = self.bounds.spec, self.bounds.spec.task
        decided, ends = spec.decide(scores), np.full((len(rows), 2), np.nan)

        def certain(found: OutputBounds, places: Ints) -> NDArray[np.bool_]:
            if isinstance(task, Multilabel):
                return certain_findings(found, spec)
            if not isinstance(task, Regression):
                return np.asarray(certain_decisions(found, spec) == decided[places])[:, None]
            with np.errstate(over="ignore"):
                near = [task.unchanged(scores[places], end.astype(scores.dtype)) for end in (found.lower, found.upper)]
            return np.logical_and(*near)[:, None]

        radii = [factor * self.asked for factor in CERTIFIED_FACTORS]
        found = self.bounds.largest_radius(rows, radii, self.scale, certain)
        if isinstance(task, Regression):
            ends = self.bounds.number_interval(rows, self.asked * self.scale)
        return CertifiedRadius(
            asked=self.asked,
            radius=found.min(axis=1),
            findings=found if isinstance(task, Multilabel) else None,
            interval=ends if isinstance(task, Regression) else None,
        )

    def bits(self, level: Level) -> float:
        """What the certificate of one answer at `level` tells besides: a radius of the grid, of a number its interval.

        A label does not say its radius, but the time it takes may; it is charged alike. Of a row that is withheld that
        it was; what its time tells is not counted.
        """
        if level is Level.WITHHELD:
            return capacity.WITHHELD_BITS
        task = self.bounds.spec.task
        findings = len(task.findings) if isinstance(task, Multilabel) else 1
        told = isinstance(task, Regression) and level is not Level.LABEL
        interval = capacity.interval_bits(64) if told else 0.0
        return capacity.radius_bits(len(CERTIFIED_FACTORS), findings) + interval

    def released(self, found: CertifiedRadius, levels: Sequence[Level]) -> CertifiedRadius:
        """What leaves of certificates: all, of a label whether it holds at the policy's radius, else nothing.

        Interval ends leave in full at level full, and rounded outwards to whole tolerances at level rounded.
        """
        label = np.array([each is Level.LABEL for each in levels])
        hidden = np.array([each is Level.WITHHELD for each in levels])
        told = [
            None if radius is None else _told_radius(radius, label, hidden, self.asked)
            for radius in (found.radius, found.findings)
        ]
        interval = found.interval
        if interval is not None and isinstance(task := self.bounds.spec.task, Regression):
            wide = np.asarray(interval, np.float64) / task.tolerance
            outwards = np.stack([np.floor(wide[:, 0]), np.ceil(wide[:, 1])], axis=1) * task.tolerance
            full = np.array([each is Level.FULL for each in levels])[:, None]
            interval = np.where((label | hidden)[:, None], np.nan, np.where(full, interval, outwards))
        assert told[0] is not None
        return replace(found, radius=told[0], findings=told[1], interval=interval)


def certified_scale(spec: ModelSpec, deviations: Sequence[float], threat: ThreatPolicy) -> Array:
    """Input units of one unit of a policy's radius: of images a grey level, of tables each column's spread ``(D,)``.

    Errors of measurement take the place of deviations, as in `threat`. Raises `MedwardError` where there is no unit.
    """
    if spec.modality == "image":
        if spec.low is None or spec.high is None:
            raise MedwardError(
                f"{spec.name}: a radius in grey levels needs the range of inputs; give low and high, or certify nothing"
            )
        return np.asarray((spec.high - spec.low) / GREY_LEVELS)
    scale = np.array(deviations, np.float64)
    for name, spread in threat.spreads().items():
        scale[feature_places(spec.columns, "threat.measurement_error", [name])[0]] = spread
    scale[list(still_places(spec.columns))] = 0.0
    if not (scale > 0).any():
        raise MedwardError(
            f"{spec.name}: no column of its table is a number that changes, so nothing can be certified; set "
            "certify.enabled = false"
        )
    return scale


def still_places(columns: Sequence[Column]) -> tuple[int, ...]:
    """The places of an encoded row that certificates take to stay as they are, whatever else changes."""
    categories = [place for place, each in enumerate(columns) if each.values]
    gaps = range(len(columns), len(encoded_names(columns)))
    return tuple(sorted({*categories, *gaps, *immutable_places(columns)}))


def _told_radius(radius: Array, label: NDArray[np.bool_], hidden: NDArray[np.bool_], asked: float) -> Array:
    """The radii ``(n,)`` or ``(n, K)``, of rows that leave as labels only whether they reach `asked`."""
    label, hidden = (each.reshape(-1, *[1] * (radius.ndim - 1)) for each in (label, hidden))
    coarse = np.where(radius >= asked, asked, 0.0)
    return np.where(hidden, np.nan, np.where(label, coarse, radius))
