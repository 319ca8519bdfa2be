"""How many answers a copy needs from a thief who asks about ordinary cases alone, and how many labels buy the same.

`medward validate` measures this on a site's own data (`InDomainTheft`); here it is on three sets, on the bare model,
with cases that the model was not trained on. The numbers are read at the gate's bound, a quarter of the whole gain:
within how many answers a copy surely stays below it, and with how many it surely is beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stealing.asked import finished, named, sources_of
from stealing.watched import victim

from medward.attacks import learners
from medward.attacks.base import AttackData
from medward.attacks.benchmarks.base import data_root
from medward.attacks.extraction import in_domain, theft_curve
from medward.attacks.extraction.in_domain import InDomainTheft
from medward.attacks.extraction.theft_curve import SHARE, answers_needed
from medward.attacks.suite import default_thefts
from medward.attacks.target import Target, open_oracle
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.policy import GatePolicy
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array

CLAIMS = ("stealing_answers_needed",)
SEEDS = (0,)
LABELS = ("soft", "hard")
BOUND = GatePolicy().extraction_gain
MOST = 1000  # rows that a thief has, and that it is judged on
CODE = (
    *(Path(str(each)).read_bytes() for each in (__file__, in_domain.__file__, theft_curve.__file__)),
    sources_of(learners),
)
Scene = tuple[Model, Split, Split]
"""A model, the thief's labelled rows, and those that copies are judged on."""


def measure() -> Iterator[Claim]:
    """Every set, thief and seed; finished ones are kept."""
    yield counted(
        {
            name: {
                labels: [
                    finished(
                        f"answers-{name}-{labels}-{seed}",
                        named(*CODE),
                        partial(_needed, make, labels, seed),
                    )
                    for seed in SEEDS
                ]
                for labels in LABELS
            }
            for name, make in SCENES.items()
        }
    )


def _needed(make: Callable[[int], Scene], labels: str, seed: int) -> dict[str, Any]:
    """One thief's numbers and curve; the thief is the one of a validation."""
    model, own, test = make(seed)
    (plain,) = (each for each in default_thefts(model.spec) if isinstance(each, InDomainTheft))
    thief = replace(plain, labels=labels)
    reference = model.spec.decide(forward_batches(model, test.inputs).scores)
    target = Target(model.spec, open_oracle(model), thief.threat)
    result = thief.run(target, AttackData(craft=own, test=test, reference=reference), seed=seed)
    found = answers_needed(result.curves, BOUND)
    if found is None:
        return {"within": None, "reached": None, "own_labels": None, "measured": len(own)}
    counts, shares = result.curves[SHARE]
    return {
        "within": found.within,
        "reached": found.reached,
        "own_labels": found.own_labels,
        "measured": found.measured,
        "gain": float(np.mean(result.outcome)) - float(np.mean(result.baseline)),
        "shares": {str(int(count)): round(value, 3) for count, value in zip(counts, shares, strict=True)},
    }


def counted(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Claim:
    """The table; its headline is the most answers that any thief surely needs to be beyond the bound."""
    reached = [run["reached"] for thieves in found.values() for runs in thieves.values() for run in runs]
    known = [each for each in reached if each is not None]
    return Claim(
        claim=CLAIMS[0],
        value=max(known) if known else "never",
        target=f"reported: most answers with which a copy is surely beyond {BOUND:.0%} of the gain, any set, one seed",
        met=True,
        n=len(reached),
        seed=0,
        details={"sets": found, "bound": BOUND, "seeds": list(SEEDS), "never": reached.count(None)},
    )


@cache
def radiographs(seed: int) -> Scene:
    """PneumoniaMNIST and its CNN."""
    model, task = victim("pneumoniamnist")
    rng = np.random.default_rng(seed)
    return model, _some(task.splits["calibration"], rng), _some(task.splits["test"], rng)


@cache
def breast_masses(seed: int) -> Scene:
    """WDBC and a multilayer perceptron."""
    x, y = load_breast_cancer(return_X_y=True)
    net = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=1000, random_state=seed))
    return _table(x, y, net, ("malignant", "benign"), seed)


@cache
def cardiotocograms(seed: int) -> Scene:
    """Fetal CTG, three classes, and gradient boosting."""
    rows = np.unique(np.loadtxt(data_root() / "fetal_ctg" / "fetal_health.csv", delimiter=",", skiprows=1), axis=0)
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=seed)
    return _table(rows[:, :-1], rows[:, -1].astype(int) - 1, trees, ("normal", "suspect", "pathological"), seed)


SCENES: Mapping[str, Callable[[int], Scene]] = {
    "WDBC": breast_masses,
    "fetal CTG": cardiotocograms,
    "PneumoniaMNIST": radiographs,
}


def _table(x: Array, y: Array, model: Any, classes: tuple[str, ...], seed: int) -> Scene:
    """A third of the rows trains `model`, a third is the thief's, a third judges."""
    x, order = x.astype(np.float32), np.random.default_rng(seed).permutation(len(x))
    train, own, test = (Split(x[part], y[part]) for part in np.array_split(order, 3))
    fitted = model.fit(train.inputs, train.labels)
    spec = ModelSpec(
        name="table",
        modality="tabular",
        shape=x.shape[1:],
        task=Classification(classes=classes, output="probabilities"),
    )
    return wrap(fitted, spec=spec, sample=own.inputs[:32]), own.take(slice(0, MOST)), test.take(slice(0, MOST))


def _some(split: Split, rng: np.random.Generator) -> Split:
    return split.take(np.sort(rng.permutation(len(split))[:MOST]))
