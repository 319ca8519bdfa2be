"""Independent models of the same data: what agrees with a model by chance and by the data, and never saw its answers.

They differ as models of different people differ: in architecture, seed and rows. Those that choose inputs learn from
all rows or, every second turn of the kinds, from a bootstrap of them; those that suspects are compared with all learn
from all rows, as a competitor with the same data would, who must be one more like them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.networks.architectures import ARCHITECTURES
from medward.attacks.benchmarks.victims import accuracy, train_victim
from medward.attacks.extraction.base import clone_probabilities
from medward.attacks.ownership.candidates import image_range
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.models.base import first_line
from medward.guard.models.front import as_model_takes
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

REFERENCE_EPOCHS = 6
FEWEST_TRAINED = 50
"""Rows that a reference model is trained on at least."""
TABLE_EPOCHS = 30
"""Of networks of tables, which are small."""
FEWEST_STEPS = 190
"""Of a network of images; its epochs are as many as that takes."""
_LEARNED, _TRIES = 0.1, 3  # balanced accuracy above chance, and kinds that are tried for it
_SELECTION = 0.1  # of its rows, by which a network's best epoch is chosen
_SAMPLE = 256  # rows on which a model by a recipe is checked
_BATCH = 64  # of `train_victim`, which takes whole batches only

OwnRecipe = Callable[[Array, Ints, int], Any]
"""From training inputs as the model itself takes them, class numbers ``(n,)`` and a seed to a model for `protect`.

Inputs are normalised where the bundle normalises, and a table is its numbers."""
Decider = Callable[[Array], Ints]
"""From inputs ``(n, *shape)`` to the places of the classes decided ``(n,)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTraining:
    """A reference training makes independent models of `rows`, which hold labels, for the classes of `spec`.

    `recipe` trains a model as the owner's was trained; what such models share with it is more than their data. Of the
    first `bootstrapped` every second turn of the kinds learns from a bootstrap of the rows.
    """

    spec: ModelSpec
    rows: Split
    epochs: int = REFERENCE_EPOCHS
    recipe: OwnRecipe | None = None
    bootstrapped: int = 0

    def __post_init__(self) -> None:
        labels = self.rows.labels
        if labels is None:
            raise MedwardError('references: the split "train" has no labels; give the labels the model learned from')
        if len(labels) < FEWEST_TRAINED or len(np.unique(labels)) < len(self.spec.classes):
            counts = np.bincount(np.asarray(labels, np.int64), minlength=len(self.spec.classes))
            said = ", ".join(f"{name} {count}" for name, count in zip(self.spec.classes, counts, strict=False))
            raise MedwardError(
                f'references: need {FEWEST_TRAINED} rows in "train" and some of every class, got {len(labels)} '
                f"({said}); give more of the rows that the model learned from"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of model that are trained in turn."""
        if self.spec.modality == "tabular":
            return (*_TABLES, *LEARNERS)
        side, trained = min(self.spec.shape[1:]), int((~_selected(self.rows, np.random.default_rng(0))).sum())
        fitting = [name for name in NETWORKS if ARCHITECTURES[name].side <= side and trained >= _BATCH]
        return (*fitting, *LEARNERS)

    def train(self, number: int, *, seed: int, by_recipe: bool = False) -> tuple[str, Decider]:
        """The reference called `number`, from 0 on: its kind in words, and what decides as it does.

        A kind that learns nothing of the rows gives way to the next. It decides at the operating point of the model,
        where that has one. With `by_recipe` every one is trained by the `recipe`, on all rows.
        """
        rng = np.random.default_rng((seed, number))
        if by_recipe:
            return "all rows", self._by_recipe(int(rng.integers(2**31)))
        place, drawn = number % len(self.kinds), self.bootstraps(number)
        for kind in (*self.kinds[place:], *self.kinds[:place])[:_TRIES]:
            rows = self.rows.take(_bootstrap(self.rows, rng) if drawn else rng.permutation(len(self.rows)))
            decide = self._decider(kind, rows, rng)
            if (found := accuracy(np.asarray(rows.labels), decide(rows.inputs))[1]) >= self._competent:
                return f"{kind}, {'bootstrap' if drawn else 'all rows'}", decide
        raise MedwardError(
            f'references: {_TRIES} models in turn learned nothing of the {len(self.rows)} rows of "train": balanced '
            f"accuracy {found:.2f} on these very rows, {self._competent:.2f} is needed; a null of such models would "
            'call any other evidence, so give more rows or better labels in "train"'
        )

    def bootstraps(self, number: int) -> bool:
        """Whether the reference called `number` learns from a bootstrap of the rows."""
        return number < self.bootstrapped and number // len(self.kinds) % 2 == 1

    @property
    def _competent(self) -> float:
        """The balanced accuracy on its own training rows from which a reference has learned something."""
        return 1 / len(self.spec.classes) + _LEARNED

    def _decider(self, kind: str, rows: Split, rng: np.random.Generator) -> Decider:
        likely = self._trained(kind, rows, rng)
        return lambda inputs: _decided(likely(inputs), self.spec)

    def decisions(self, count: int, inputs: Array, *, seed: int, by_recipe: bool = False) -> Iterator[tuple[str, Ints]]:
        """Of each of `count` references its kind, and what it decides on `inputs`."""
        for number in range(count):
            kind, decide = self.train(number, seed=seed, by_recipe=by_recipe)
            yield kind, decide(inputs)

    def _by_recipe(self, weights: int) -> Decider:
        assert self.recipe is not None
        rows = self.rows.inputs
        try:
            fitted = self.recipe(as_model_takes(np.array(rows), self.spec), np.array(self.rows.labels), weights)
        except MedwardError:
            raise
        except Exception as error:
            raise MedwardError(f"recipe: failed on {len(rows)} rows: {first_line(error)}") from error
        model = wrap(fitted, spec=self.spec, sample=rows[:_SAMPLE], task=self.spec.task.kind)
        return lambda inputs: self.spec.decide(forward_batches(model, inputs).scores)

    def _trained(self, kind: str, rows: Split, rng: np.random.Generator) -> Callable[[Array], Array]:
        """What gives the probabilities ``(n, K)`` of a model of that kind.

        Architectures and the views that they train on expect images scaled to 0 to 1.
        """
        weights = int(rng.integers(2**31))
        if kind in _TABLES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a competitor stops early, too
                estimator = make_pipeline(StandardScaler(), _TABLES[kind](weights)).fit(rows.inputs, rows.labels)
            return lambda inputs: np.asarray(estimator.predict_proba(inputs))
        low, span = image_range(self.spec, self.rows.inputs) if self.spec.modality == "image" else (0.0, 1.0)
        scaled = Split(_scaled(rows.inputs, low, span), rows.labels)
        network = self._learner(kind, scaled, weights) if kind in LEARNERS else self._network(kind, scaled, rng)
        return lambda inputs: clone_probabilities(network, _scaled(inputs, low, span))

    def _enough(self, rows: int) -> int:
        """Epochs of so many rows: `epochs`, and more where these are too few steps for a network to learn anything."""
        return max(self.epochs, -(-FEWEST_STEPS * _BATCH // rows))

    def _learner(self, kind: str, rows: Split, weights: int) -> nn.Module:
        return fit_classifier(
            rows.inputs,
            np.asarray(rows.labels),
            classes=len(self.spec.classes),
            modality=self.spec.modality,
            shape=self.spec.shape,
            epochs=self._enough(len(rows)) if self.spec.modality == "image" else TABLE_EPOCHS,
            seed=weights,
            normalised=LEARNERS[kind],
        )

    def _network(self, kind: str, rows: Split, rng: np.random.Generator) -> nn.Module:
        chosen = _selected(rows, rng)
        task = BenchmarkTask(
            name=self.spec.name,
            modality=self.spec.modality,
            shape=self.spec.shape,
            low=0.0,
            high=1.0,
            classes=self.spec.classes,
            splits={"train": rows.take(np.flatnonzero(~chosen)), "selection": rows.take(np.flatnonzero(chosen))},
            source="",
        )
        network: nn.Module = train_victim(
            task, architecture=kind, epochs=self._enough(len(rows)), seed=int(rng.integers(2**31))
        )
        return network


def _scaled(inputs: Array, low: float, span: float) -> Array:
    return np.asarray((inputs - low) / span, np.float32)


def _decided(probabilities: Array, spec: ModelSpec) -> Ints:
    """The classes ``(n,)``, at the operating point of `spec` where it has one."""
    if spec.threshold is not None:
        return np.asarray(probabilities[:, 1] >= spec.threshold, np.int64)
    return np.asarray(probabilities.argmax(axis=1), np.int64)


def _selected(rows: Split, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` choose a network's best epoch: a tenth of every class, and none of a class of one row."""
    labels, chosen = np.asarray(rows.labels), np.zeros(len(rows), bool)
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        chosen[mine[: min(len(mine) - 1, int(np.ceil(_SELECTION * len(mine))))]] = True
    return chosen


def _bootstrap(rows: Split, rng: np.random.Generator) -> Ints:
    """As many rows, drawn with replacement within every class, in random order; no class is left without rows."""
    labels = np.asarray(rows.labels)
    drawn = [rng.choice(mine, len(mine)) for label in np.unique(labels) if len(mine := np.flatnonzero(labels == label))]
    return np.asarray(rng.permutation(np.concatenate(drawn)), np.int64)


LEARNERS = {"plain learner": False, "learner": True}
"""Generic networks by name, and whether those of images are normalised."""
NETWORKS = ("cnn", "resnet", "vgg", "seresnet")
"""Of `attacks.benchmarks.networks` those that are trained fastest."""
_TABLES: dict[str, Callable[[int], Any]] = {
    "logistic": lambda seed: LogisticRegression(max_iter=2000, C=10.0 ** (seed % 3 - 1)),
    "forest": lambda seed: RandomForestClassifier(100, random_state=seed),
    "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "perceptron": lambda seed: MLPClassifier((64,), alpha=1.0, solver="lbfgs", max_iter=2000, random_state=seed),
    "extra trees": lambda seed: ExtraTreesClassifier(100, random_state=seed),
    "neighbours": lambda seed: KNeighborsClassifier(3 + 2 * (seed % 4)),
}
