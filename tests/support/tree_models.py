"""Small tree models of every library that is guarded, fitted on a table of four columns."""

from __future__ import annotations

from itertools import product

import lightgbm
import numpy as np
import xgboost
from catboost import CatBoostClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(300, 4)).astype(np.float32) * np.float32([1, 10, 0.1, 3])
NUMBER = TABLE @ np.float64([1.0, 0.05, 4.0, 0.2]) + 0.3 * RNG.normal(size=300)
YES, GRADE = (NUMBER > 0).astype(int), np.digitize(NUMBER, [-0.5, 0.5])
SCALE = TABLE.std(axis=0).astype(np.float64)

TREES = {
    "forest": (lambda: RandomForestClassifier(15, max_depth=5, random_state=0), YES),
    "forest-of-three": (lambda: RandomForestClassifier(15, max_depth=5, random_state=0), GRADE),
    "extra-trees": (lambda: ExtraTreesClassifier(15, max_depth=5, random_state=0), YES),
    "forest-of-a-number": (lambda: RandomForestRegressor(15, max_depth=5, random_state=0), NUMBER),
    "extra-trees-of-a-number": (lambda: ExtraTreesRegressor(15, max_depth=5, random_state=0), NUMBER),
    "tree": (lambda: DecisionTreeClassifier(max_depth=5, random_state=0), GRADE),
    "tree-of-a-number": (lambda: DecisionTreeRegressor(max_depth=5, random_state=0), NUMBER),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=12, random_state=0), YES),
    "boosting-of-three": (lambda: GradientBoostingClassifier(n_estimators=8, random_state=0), GRADE),
    "boosting-of-a-number": (lambda: GradientBoostingRegressor(n_estimators=12, random_state=0), NUMBER),
    "histogram": (lambda: HistGradientBoostingClassifier(max_iter=12), YES),
    "histogram-of-three": (lambda: HistGradientBoostingClassifier(max_iter=8), GRADE),
    "histogram-of-a-number": (lambda: HistGradientBoostingRegressor(max_iter=12), NUMBER),
    "xgboost": (lambda: xgboost.XGBClassifier(n_estimators=12, max_depth=4), YES),
    "xgboost-of-three": (lambda: xgboost.XGBClassifier(n_estimators=8, max_depth=4), GRADE),
    "xgboost-of-a-number": (lambda: xgboost.XGBRegressor(n_estimators=12, max_depth=4), NUMBER),
    "lightgbm": (lambda: lightgbm.LGBMClassifier(n_estimators=12, verbose=-1), YES),
    "lightgbm-of-three": (lambda: lightgbm.LGBMClassifier(n_estimators=8, verbose=-1), GRADE),
    "lightgbm-of-a-number": (lambda: lightgbm.LGBMRegressor(n_estimators=12, verbose=-1), NUMBER),
    "catboost": (lambda: CatBoostClassifier(iterations=12, depth=4, verbose=0, allow_writing_files=False), YES),
    "scaled-forest": (lambda: make_pipeline(StandardScaler(), RandomForestClassifier(15, max_depth=5)), YES),
}


def corners_and_splits(row, radius, splits):
    """A grid of inputs of every cell of every tree within the box: each value at its ends and beside splits."""
    axes = []
    for place, (value, reach) in enumerate(zip(row, radius, strict=True)):
        low, high = np.float32(value - reach), np.float32(value + reach)
        inside = [each for each in splits.get(place, ()) if low <= np.float32(each) <= high]
        beside = [np.nextafter(np.float32(each), np.float32(np.inf)) for each in inside]
        axes.append(sorted({float(low), float(high), *map(float, np.float32(inside)), *map(float, beside)}))
    return np.array(list(product(*axes)), np.float32)
