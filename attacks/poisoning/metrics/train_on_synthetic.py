"""Train on synthetic, test on real: what generated images are worth to who trains a classifier.

Reference: Esteban, Hyland and Ratsch, "Real-valued (medical) time series generation with recurrent conditional GANs",
2017.
The curve of few real rows is that of Jin and Li 2023, Fig. 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.federated_classifier import FederatedClassifier
from medward.attacks.benchmarks.victims import accuracy
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Ints

TRAINING_STEPS = 300  # of a small classifier, however many rows it is given


@dataclass(frozen=True, slots=True, kw_only=True)
class RealAccuracy:
    """Accuracy on real test rows: of all, and the mean over the classes."""

    accuracy: float
    balanced: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FewRealPoint:
    """A point of the curve: real rows of each class, what they reach alone and with the synthetic ones."""

    real_per_class: int
    alone: RealAccuracy | None
    """None where there is no real row to learn from."""
    with_synthetic: RealAccuracy


def train_on_synthetic(synthetic: Split, test: Split, *, seed: int, steps: int = TRAINING_STEPS) -> RealAccuracy:
    """How well a small classifier that learned labelled `synthetic` rows decides real `test` rows.

    It makes `steps` steps, so that more rows are no longer training. Raises `MedwardError` for fewer than 8 rows.
    """
    expected = np.asarray(test.labels, np.int64)
    channels, size = test.inputs.shape[1:3]
    batch = max(8, min(32, len(synthetic)))
    classifier = FederatedClassifier(
        channels=channels,
        size=size,
        classes=int(max(expected.max(), np.asarray(synthetic.labels).max())) + 1,
        batch=batch,
        epochs=max(1, round(steps * batch / len(synthetic))),
        rate=3e-3,
        falling=True,
    )
    learned = classifier.learn(classifier.initial(seed), synthetic, None, seed)
    overall, balanced = accuracy(expected, classifier.decide(learned.parameters, test.inputs))
    return RealAccuracy(accuracy=overall, balanced=balanced)


def few_real_curve(
    real: Split, synthetic: Split, test: Split, counts: Sequence[int], *, seed: int, steps: int = TRAINING_STEPS
) -> list[FewRealPoint]:
    """The curve over `counts` of real rows a class, each alone and added to all of the synthetic ones.

    The fewer rows are among the more. Raises `MedwardError` where a class has fewer real rows.
    """
    points = []
    for count in counts:
        few = real.take(rows_of_each_class(np.asarray(real.labels, np.int64), count, seed))
        both = Split(
            np.concatenate([synthetic.inputs, few.inputs]),
            np.concatenate([np.asarray(synthetic.labels, np.int64), np.asarray(few.labels, np.int64)]),
        )
        alone = train_on_synthetic(few, test, seed=seed, steps=steps) if count else None
        joint = train_on_synthetic(both, test, seed=seed, steps=steps)
        points.append(FewRealPoint(real_per_class=count, alone=alone, with_synthetic=joint))
    return points


def rows_of_each_class(labels: Ints, count: int, seed: int) -> Ints:
    """The places of `count` rows of each class, drawn from `seed`; those of a smaller count are among them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == each] for each in np.unique(labels)]
    if min(map(len, chosen)) < count:
        raise MedwardError(f"real rows: {count} of each class are asked for, and one has {min(map(len, chosen))}")
    return np.concatenate([each[:count] for each in chosen])
