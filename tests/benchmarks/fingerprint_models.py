"""Models whose agreement a fingerprint is judged by: independent ones of the same data, and clones by eight thieves.

Each is trained once and only its decisions on the candidates are kept, so that choosing and comparing cost nothing and
a run that was stopped goes on. Rows are divided so that the owner's held-out rows, the thieves' own and those that
clones are judged on share none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from stealing.asked import SCRATCH, keep, named

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.base import BenchmarkTask, data_root
from medward.attacks.benchmarks.datasets.blood import load_blood
from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.attacks.benchmarks.datasets.pneumoniamnist import load_pneumoniamnist
from medward.attacks.benchmarks.datasets.wdbc import load_wdbc
from medward.attacks.benchmarks.victims import classifier_spec, predict_labels, train_victim
from medward.attacks.extraction import (
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    Jacobian,
    RandomPool,
    SemiSupervised,
    Strategy,
    Theft,
)
from medward.attacks.extraction.answers import own_turns
from medward.attacks.extraction.base import clone_decisions
from medward.attacks.extraction.course import TheftSession
from medward.attacks.ownership.candidates import Candidates, candidate_inputs
from medward.attacks.ownership.own_clones import CloneTraining
from medward.attacks.ownership.references import FEWEST_STEPS, ReferenceTraining
from medward.attacks.target import Target, open_oracle
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.profile import forward_batches
from medward.guard.types import Array, Ints

TASKS = ("pneumoniamnist", "blood", "fetal CTG", "WDBC", "fetal CTG, boosted trees")
TREES = TASKS[-1]
"""Trained nearly without chance: the same rows and recipe give nearly the same model."""
ARCHITECTURE = {"pneumoniamnist": "cnn", "blood": "cnn", "fetal CTG": "network", "WDBC": "network"}
REFERENCES, MORE_OF_ALL_ROWS, OWN_CLONES = 40, 10, 4
"""Independent models, half of which learn from a bootstrap of the rows, and more of which none does."""
SEEDS = {"pneumoniamnist": (0,), "blood": (0,), "fetal CTG": (0, 1), "WDBC": (0, 1), TREES: (0, 1)}
OUTSIDERS = {"pneumoniamnist": 4, "blood": 4, "fetal CTG": 40, "WDBC": 40, TREES: 40}
"""Models by the victim's own recipe; where they are many, some join those that choose and the null."""
IMAGES = {"pneumoniamnist": load_pneumoniamnist, "blood": load_blood}
TRAINED = 500
"""Images that a victim and all that is trained on the same data learn from: so few that forty models are affordable."""
HELD, THIEVES_ROWS, CANDIDATES = 1000, 800, {"image": 8000, "tabular": 12000}
QUERIES, POOL, POINTS = {"image": 1000, "tabular": 2000}, 3000, 3
THIEVES: dict[str, tuple[Strategy, str]] = {
    "knockoff": (RandomPool(), "soft"),
    "copycat": (CopyCat(), "hard"),
    "activethief": (ActiveThief(), "soft"),
    "knockoff-adaptive": (AdaptivePool(), "soft"),
    "alignment": (Alignment(), "soft"),
    "jbda": (Jacobian(epochs=5), "soft"),
    "semi-supervised": (SemiSupervised(), "hard"),
    "disagreement": (Disagreement(), "soft"),
}
EPOCHS = {"image": 8, "tabular": 30}
CLONELESS = ("knockoff", "copycat", "semi-supervised")
"""Thieves who choose without a clone, so that one checkpoint is enough."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene is a victim with the rows of everybody: trained on, the owner's held-out ones, the thief's, the judge's.

    `again` trains an outsider: a model of all the same rows by the victim's own recipe, with another seed.
    """

    model: Model
    train: Split
    held: Split
    thief: Array
    judged: Array
    again: Callable[[int], Any]

    @property
    def mine(self) -> Split:
        """The held-out rows that candidates are made of."""
        return self.held.take(slice(0, len(self.held) // 2))

    @property
    def others(self) -> Array:
        """The held-out rows that the owner's clones learn on."""
        return self.held.inputs[len(self.held) // 2 :]


@cache
def scene(name: str) -> Scene:
    """The victim of a task and its rows, divided by chance and, where they are known, by slides."""
    model, task = victim(name)
    unseen = task.splits["unseen"]
    whose = np.arange(len(unseen)) if unseen.patients is None else unseen.patients
    order = np.random.default_rng(0).permutation(np.unique(whose))
    rows = np.concatenate([np.flatnonzero(whose == each) for each in order])
    held, thief = min(HELD, len(rows) // 2), min(THIEVES_ROWS, len(rows) // 4)
    parts = [unseen.take(each) for each in np.split(rows, [held, held + thief])]
    train = task.splits["train"]

    def again(seed: int) -> Any:
        return boosted(train, seed) if name == TREES else train_victim(task, architecture=ARCHITECTURE[name], seed=seed)

    return Scene(
        model=model, train=train, held=parts[0], thief=parts[1].inputs, judged=parts[2].inputs[:1000], again=again
    )


def victim(name: str) -> tuple[Model, BenchmarkTask]:
    """A victim and its rows; the split "unseen" it never saw."""
    if name.startswith("fetal CTG"):
        return _cardiotocograms(name)
    if name == "WDBC":
        return _breast_masses()
    return _images(name)


@cache
def _images(name: str) -> tuple[Model, BenchmarkTask]:
    task = IMAGES[name](0)
    some = np.random.default_rng(0).permutation(len(task.splits["train"]))[:TRAINED]
    splits = {
        "train": task.splits["train"].take(some),
        "selection": task.splits["selection"],
        "unseen": joined_rows([task.splits[each] for each in ("calibration", "holdout")]),
    }
    task = replace(task, splits=splits)
    fitted = train_victim(task, architecture=ARCHITECTURE[name], seed=0)
    sample = splits["unseen"].inputs[:32]
    return wrap(fitted, spec=classifier_spec(task, "logits"), sample=sample, task="classification"), task


def joined_rows(parts: Sequence[Split]) -> Split:
    """All rows of several splits, with patients where all have them."""
    known = all(each.patients is not None for each in parts)
    names = ("inputs", "labels", *(["patients"] if known else []))
    return Split(*(np.concatenate([getattr(each, name) for each in parts]) for name in names))


@cache
def _cardiotocograms(name: str) -> tuple[Model, BenchmarkTask]:
    rows = np.unique(np.loadtxt(data_root() / "fetal_ctg" / "fetal_health.csv", delimiter=",", skiprows=1), axis=0)
    order = np.random.default_rng(0).permutation(len(rows))
    split = Split(rows[order, :-1].astype(np.float32), rows[order, -1].astype(np.int64) - 1)
    task = BenchmarkTask(
        name="fetal-ctg",
        modality="tabular",
        shape=(21,),
        low=None,
        high=None,
        classes=("normal", "suspect", "pathological"),
        splits={"train": split.take(slice(0, 633)), "unseen": split.take(slice(633, None))},
        source="Cardiotocography (UCI)",
    )
    if name == TREES:
        fitted, output = boosted(task.splits["train"], 0), "probabilities"
    else:
        fitted, output = train_victim(task, architecture=ARCHITECTURE[name], seed=0), "logits"
    return wrap(fitted, spec=classifier_spec(task, output), sample=split.inputs[:200], task="classification"), task


@cache
def _breast_masses() -> tuple[Model, BenchmarkTask]:
    task = load_wdbc(0)
    unseen = joined_rows([task.splits[each] for each in task.splits if each != "train"])
    task = replace(task, splits={"train": task.splits["train"], "unseen": unseen})
    fitted = train_victim(task, architecture=ARCHITECTURE["WDBC"], seed=0)
    return wrap(fitted, spec=classifier_spec(task, "logits"), sample=unseen.inputs, task="classification"), task


def boosted(train: Split, seed: int) -> Any:
    """Boosted trees that differ by seed in the columns each split may see."""
    return HistGradientBoostingClassifier(max_iter=100, max_features=0.7, random_state=seed).fit(
        train.inputs, train.labels
    )


@cache
def candidates(name: str) -> Candidates:
    """What a fingerprint of the task is chosen from."""
    where = scene(name)
    return candidate_inputs(where.model.spec, where.mine.inputs, CANDIDATES[where.model.spec.modality], seed=0)


@cache
def own_decisions(name: str) -> Ints:
    """The victim's decisions on the candidates."""
    model = scene(name).model
    return model.spec.decide(forward_batches(model, candidates(name).inputs).scores)


def reference_decisions_on(name: str, number: int) -> Ints:
    """Of the independent model called `number`."""
    training = _reference_training(name)
    return _kept(
        name,
        f"reference-{number}",
        repr((training.epochs, training.kinds, *(FEWEST_STEPS for _ in range(training.spec.modality == "image")))),
        lambda: training.train(number, seed=0)[1](candidates(name).inputs),
    )


def of_all_rows(name: str) -> list[int]:
    """The independent models that learn from all rows."""
    training = _reference_training(name)
    return [number for number in range(REFERENCES + MORE_OF_ALL_ROWS) if not training.bootstraps(number)]


@cache
def _reference_training(name: str) -> ReferenceTraining:
    where = scene(name)
    return ReferenceTraining(spec=where.model.spec, rows=where.train, bootstrapped=REFERENCES)


def outsider_decisions(name: str, number: int) -> Ints:
    """Of a model of all the same rows by the victim's own recipe."""
    return _kept(
        name,
        f"outsider-{number}",
        "",
        lambda: predict_labels(scene(name).again(100 + number), candidates(name).inputs),
    )


def own_clone_decisions(name: str, way: int, number: int) -> Ints:
    """Of a clone that the owner makes."""
    where = scene(name)
    training = CloneTraining(model=where.model, rows=where.others)
    return _kept(
        name,
        f"own-{way}-{number}",
        repr(
            (
                training.answers,
                training.epochs,
                *(["rows alone"] if way == 1 and number % 2 else []),
                *(["half"] if number == 3 else []),
            )
        ),
        lambda: next(iter(training.decisions(way, 1, candidates(name).inputs, seed=0, first=number))),
    )


def thief_decisions(name: str, thief: str, seed: int) -> tuple[Ints, float]:
    """Of a thief's clone, and the share of the judge's rows that it decides as the victim."""
    both = _kept(
        name,
        f"thief-{thief}-{seed}",
        repr((THIEVES[thief], QUERIES[scene(name).model.spec.modality], POOL, POINTS, EPOCHS)),
        lambda: _stolen(name, thief, seed),
    )
    inputs = len(candidates(name).inputs)
    model, judged = scene(name).model, scene(name).judged
    agreed = both[inputs:] == model.spec.decide(forward_batches(model, judged).scores)
    return both[:inputs], float(np.mean(agreed))


def _stolen(name: str, thief: str, seed: int) -> Ints:
    """What the clone of `Theft` at full budget decides on the candidates, then on the judge's rows."""
    where = scene(name)
    spec, (strategy, labels) = where.model.spec, THIEVES[thief]
    queries = QUERIES[spec.modality]
    number = 100 * (1 + list(THIEVES).index(thief)) + seed
    theft = Theft(strategy=strategy, labels="hard" if labels == "hard" else "soft", queries=queries)
    target = Target(spec, open_oracle(where.model), theft.threat)
    own = Split(where.thief)
    data = AttackData(craft=own, test=own.take(slice(0, 0)), pool=pool_for(spec, where.thief, POOL, number))
    asker = strategy.open(data, spec, seed=number)
    course = TheftSession(target, asker, own, own_turns(queries, 1.0), views=1, seed=number)
    clone, epochs = None, EPOCHS[spec.modality]
    for stop in (queries,) if thief in CLONELESS else [queries >> each for each in reversed(range(POINTS))]:
        course.ask_until(stop, clone, step=strategy.step)
        clone = asker.learn(course.loot, epochs=epochs, seed=number)
    assert clone is not None
    return np.concatenate([clone_decisions(clone, candidates(name).inputs), clone_decisions(clone, where.judged)])


def _kept(name: str, what: str, settings: str, make: Callable[[], Ints]) -> Ints:
    """Decisions that `make` makes, made once for this victim, these candidates and settings."""
    key = named(settings, candidates(name).inputs.tobytes(), own_decisions(name).tobytes())
    path = SCRATCH / f"fingerprint-{name.replace(' ', '-')}-{what}-{key}.npy"
    if not path.exists():
        made = np.asarray(make(), np.int8)
        keep(path, lambda file: np.save(file, made))
        print(f"{name}: {what}", flush=True)
    return np.asarray(np.load(path), np.int64)


def train_models(name: str) -> None:
    """All models of a task, so that several processes may do several tasks."""
    for number in range(12):
        reference_decisions_on(name, number)
    for number in range(OWN_CLONES):
        for way in (0, 1):
            own_clone_decisions(name, way, number)
    for seed in SEEDS[name][:1]:
        for thief in THIEVES:
            print(thief, thief_decisions(name, thief, seed)[1], flush=True)
    for number in range(12, REFERENCES + MORE_OF_ALL_ROWS):
        reference_decisions_on(name, number)
    for number in range(OUTSIDERS[name]):
        outsider_decisions(name, number)
    for seed in SEEDS[name][1:]:
        for thief in THIEVES:
            print(thief, thief_decisions(name, thief, seed)[1], flush=True)
