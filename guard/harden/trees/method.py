"""Certified trees: trees of Medward's, trained with bounds in the place of any model of a table.

Whatever the model is, robust boosting needs its rows, labels and task only. What is stated of it before and after is
measured by asking both, and by the bounds of the files that they are deployed as.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from medward.guard.certificate import PER_ANSWER, Accuracy, CertifiedShare, Guarantee, RobustnessCertificate
from medward.guard.certify.bounds import Bounds
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import hardening_versions
from medward.guard.harden.certified.bounds import SHARE_FACTORS
from medward.guard.harden.losses.base import border_of
from medward.guard.harden.losses.classes import network_balanced_accuracy
from medward.guard.harden.method import certificate_doubts
from medward.guard.harden.trees.boosting import BoostingSettings, boosted_trees
from medward.guard.harden.trees.tree_file import tree_file
from medward.guard.models.base import Model
from medward.guard.models.onnx_model import load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints

TREE_ARCHITECTURE = "trees"
"""What ``--architecture`` and certificates call them."""
_CORNERS = 32  # random changes that rows are tried with, the same for all and so for each
_OURS = "trees of Medward's, boosted with bounds, were trained in the place of the model given"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedTrees:
    """The method: `epsilon` is the radius, in standard deviations of each column; trained at `margin` times that."""

    name: ClassVar = "certified"
    guarantee: ClassVar[Guarantee] = PER_ANSWER

    epsilon: float = 0.25
    margin: float = 1.0
    boosting: BoostingSettings = field(default_factory=BoostingSettings)

    def check(self, spec: ModelSpec) -> Classification:
        """The task of `spec`; raises `MedwardError` for settings and for models that trees cannot stand for."""
        for name, value in (("epsilon", self.epsilon), ("margin", self.margin)):
            if not 0 < value < math.inf:
                raise MedwardError(f"{name}: must be a finite number above 0, got {value:g}")
        if not 0 <= self.boosting.clean < 1:
            raise MedwardError(f"clean: must be a share from 0 to below 1, got {self.boosting.clean:g}")
        if spec.modality != "tabular" or len(spec.shape) != 1:
            raise MedwardError(f"architecture: trees are of tables, and rows are {spec.shape}; use small for images")
        task = spec.task
        if not isinstance(task, Classification) or task.one_column:
            what = "one column of scores" if isinstance(task, Classification) else f"the task {task.kind}"
            raise MedwardError(
                f"architecture: trees give one score for each class, and the model has {what}; give a classifier of a "
                "score for each class, or use --architecture small on a torch network"
            )
        return task

    def harden(
        self, original: Model, file: Bounds | None, train: Split, selection: Split, *, spec: ModelSpec, seed: int
    ) -> tuple[bytes, RobustnessCertificate]:
        """Trees in the place of `original`, of bounds `file` where it has any: an ONNX file, and its certificate.

        Splits hold numbers and class labels; nothing is chosen on `selection`, it is measured on.
        """
        task = self.check(spec)
        x, y = (np.asarray(each) for each in (train.inputs, train.labels))
        _check_labels(y, task)
        spread = np.asarray(x, np.float64).std(axis=0)
        radius = self.epsilon * spread
        trees = boosted_trees(
            x, y, self.margin * radius, self.boosting, classes=len(task.classes), border=border_of(task.threshold)
        )
        data = tree_file(trees, x.shape[1], task.output)
        model, bounds = load_onnx(data, spec, {}), Bounds.of(data, spec, {})
        before, after = (
            _accuracy(each, known, selection, radius, seed) for each, known in ((original, file), (model, bounds))
        )
        shares = tuple(
            CertifiedShare(
                radius=self.epsilon * factor,
                before=None if file is None else _certified_share(file, selection, factor * radius),
                after=_certified_share(bounds, selection, factor * radius),
            )
            for factor in SHARE_FACTORS
        )
        measure = "balanced accuracy"
        certificate = RobustnessCertificate(
            method=self.name,
            guarantee=self.guarantee,
            certified_shares=shares,
            notes=(_OURS, *certificate_doubts(before, after, measure, 1 / len(task.classes), "certified")),
            settings=self._settings(),
            epsilon=self.epsilon,
            unit="standard deviations of each feature",
            low=spec.low,
            high=spec.high,
            task=task,
            measure=measure,
            seed=seed,
            rows={"train": len(train), "selection": len(selection)},
            data=split_digest(train, selection),
            original="",
            hardened=hashlib.sha256(data).hexdigest(),
            before=before,
            after=after,
            changes="random",
            epochs=self.boosting.rounds,
            best_epoch=None,
            versions=hardening_versions("onnx"),
        )
        return data, certificate

    def _settings(self) -> dict[str, Any]:
        own: dict[str, Any] = {"architecture": TREE_ARCHITECTURE, "epsilon": self.epsilon, "margin": self.margin}
        return own | dataclasses.asdict(self.boosting)


def _check_labels(y: Ints, task: Classification) -> None:
    missing = sorted(set(range(len(task.classes))) - set(y.tolist()))
    if missing:
        raise MedwardError(
            f"train: has no row of class {task.classes[missing[0]]}; hardening needs rows of every class"
        )


def _accuracy(model: Model, bounds: Bounds | None, rows: Split, radius: Array, seed: int) -> Accuracy:
    """Balanced accuracy on `rows`, under the worst of a few random shared changes, under them all, and by bounds."""
    x, y = np.asarray(rows.inputs, np.float32), np.asarray(rows.labels)
    spec, rng = model.spec, np.random.default_rng(seed)
    right = []
    for _ in range(_CORNERS):
        moved = np.clip(x + rng.choice([-1.0, 1.0], size=x.shape[1]) * radius, spec.low, spec.high)
        right.append(spec.decide(model.predict(moved.astype(np.float32)).scores) == y)
    clean = spec.decide(model.predict(x).scores) == y
    certified = None if bounds is None else bounds.certain_decisions(x, radius) == y
    return Accuracy(
        clean=_balanced(y, clean),
        universal=min(_balanced(y, each) for each in (clean, *right)),
        per_input=_balanced(y, np.logical_and.reduce([clean, *right])),
        certified=None if certified is None else _balanced(y, certified),
    )


def _balanced(y: Ints, right: Array) -> float:
    return network_balanced_accuracy(torch.from_numpy(y), torch.from_numpy(np.where(right, y, -1)))


def _certified_share(bounds: Bounds, rows: Split, radius: Array) -> float:
    return float((bounds.certain_decisions(np.asarray(rows.inputs, np.float32), radius) >= 0).mean())
