"""Bounds of tree models beside an exact search (dtai-veritas): never narrower, and for one tree no wider."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from claim import Claim
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from medward.guard.certify.bounds import Bounds
from medward.guard.certify.tree_bounds import TreeBounds
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array

CLAIMS = ("certified_trees_outside", "certified_single_tree_gap")
MISSING = "veritas: {error}; install dtai-veritas==0.3.1 elsewhere and name the folder in MEDWARD_PEERS"
MODELS, ROWS, COLUMNS, RADII = 20, 20, 5, (0.05, 0.2)
TOLERANCE = 1e-5  # of sums of about one: the search adds up in another precision than the deployed file
ROUNDING = 1e-3  # what bounds of sums of up to ten add for the order of summation, and more
SECONDS = 20.0

KINDS = {
    "decision tree": lambda seed: DecisionTreeRegressor(max_depth=6, random_state=seed),
    "random forest of a number": lambda seed: RandomForestRegressor(8, max_depth=5, random_state=seed),
    "random forest": lambda seed: RandomForestClassifier(8, max_depth=5, random_state=seed),
    "gradient boosting": lambda seed: GradientBoostingClassifier(n_estimators=10, max_depth=3, random_state=seed),
    "xgboost": lambda seed: xgboost.XGBClassifier(n_estimators=10, max_depth=4, random_state=seed),
}


def measure() -> Iterator[Claim]:
    """Fit models of each kind, and compare the extremes of their sums over boxes around new rows."""
    veritas = _veritas()
    found = {kind: [one_model(veritas, kind, seed) for seed in range(MODELS)] for kind in KINDS}
    everything = [each for models in found.values() for each in models]
    boxes = sum(each["boxes"] for each in everything)
    outside = sum(each["outside"] for each in everything)
    yield Claim(
        claim=CLAIMS[0],
        value=outside,
        target=f"0 of {boxes} boxes whose exact extremes lie outside the bounds, over {len(everything)} models",
        met=outside == 0,
        n=len(everything),
        seed=0,
        details={
            kind: {
                "boxes": sum(each["boxes"] for each in models),
                "searched to the end": sum(each["optimal"] for each in models),
                "sign certain by the exact search": sum(each["exact"] for each in models),
                "sign certain by the bounds": sum(each["ours"] for each in models),
                "sign certain by the bounds alone": sum(each["ours alone"] for each in models),
                "widest excess": max(each["excess"] for each in models),
            }
            for kind, models in found.items()
        },
    )
    gap = max(each["excess"] for each in found["decision tree"])
    yield Claim(
        claim=CLAIMS[1],
        value=gap,
        target=f"<= {ROUNDING:g}: how far the bounds of one tree lie beyond its exact extremes",
        met=gap <= ROUNDING,
        n=MODELS,
        seed=0,
        details={"boxes": sum(each["boxes"] for each in found["decision tree"])},
    )


def one_model(veritas: Any, kind: str, seed: int) -> dict[str, Any]:
    """One model's boxes: how many exact extremes lie outside the bounds, and how many decisions each finds certain."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, COLUMNS)).astype(np.float32)
    number = rows[:, 0] + rows[:, 1] ** 2 - rows[:, 2] * rows[:, 3] + 0.3 * rng.normal(size=400)
    classes = "number" not in kind and "tree" not in kind
    estimator = KINDS[kind](seed).fit(rows, (number > np.median(number)).astype(int) if classes else number)
    sums, border = summed(estimator, rows, classes=classes)
    trees = veritas.get_addtree(estimator, silent=True)
    share = len(trees) if "forest" in kind else 1
    shift = 0.5 * share if kind == "random forest" else 0.0
    new = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    found: dict[str, Any] = dict.fromkeys(("boxes", "outside", "optimal", "exact", "ours", "ours alone"), 0)
    found["excess"] = 0.0
    for radius in RADII:
        reach = np.full(COLUMNS, radius, np.float32)
        lower, upper = sums.ensemble.between(sums._box(new, reach))
        for row, low, high in zip(new, lower[:, -1], upper[:, -1], strict=True):
            least, largest, optimal = extremes(veritas, trees, row - reach, row + reach)
            least, largest = (least + shift) / share, (largest + shift) / share
            found["boxes"] += 1
            found["optimal"] += optimal
            found["outside"] += bool(least < low - TOLERANCE or largest > high + TOLERANCE)
            found["excess"] = max(found["excess"], float(least - low), float(high - largest))
            certain, ours = (least > border) or (largest < border), bool((low > border) or (high < border))
            found["exact"] += bool(certain)
            found["ours"] += ours
            found["ours alone"] += ours and not certain
    return found


def summed(estimator: Any, rows: Array, *, classes: bool) -> tuple[TreeBounds, float]:
    """The bounds of the deployed file's sums (of the second class where there are two), and where decisions change."""
    task = (
        Classification(classes=("0", "1"), output="probabilities", threshold=0.5)
        if classes
        else Regression(tolerance=1)
    )
    spec = ModelSpec(name="trees", modality="tabular", shape=(COLUMNS,), task=task)
    with tempfile.TemporaryDirectory() as folder:
        written = wrap(estimator, spec=spec, sample=rows[:50]).export(Path(folder))
        model = Bounds.of((Path(folder) / written.file).read_bytes(), spec, written.options).model
    if not isinstance(model, TreeBounds):
        raise TypeError(f"{type(estimator).__name__} is no trees")
    return model, {"complement": 0.5, "logistic pair": 0.0}.get(model.link, 0.0)


def extremes(veritas: Any, trees: Any, lower: Array, upper: Array) -> tuple[float, float, bool]:
    """The exact least and largest sum over a box, and whether the search came to its end."""
    above = np.nextafter(upper.astype(np.float32), np.float32(np.inf))  # whose intervals lack their upper end
    box = [veritas.Interval(float(a), float(b)) for a, b in zip(lower, above, strict=True)]
    ends, optimal = [], True
    for heuristic in (veritas.HeuristicType.MIN_OUTPUT, veritas.HeuristicType.MAX_OUTPUT):
        search = veritas.Config(heuristic).get_search(trees, box)
        optimal &= search.step_for(SECONDS, 1000) == veritas.StopReason.OPTIMAL
        ends.append(float(search.get_solution(0).output))
    return ends[0], ends[1], optimal


def _veritas() -> Any:
    sys.path += filter(None, os.environ.get("MEDWARD_PEERS", "").split(os.pathsep))
    try:
        return importlib.import_module("veritas")
    except ModuleNotFoundError as error:
        raise MedwardError(MISSING.format(error=error)) from None
