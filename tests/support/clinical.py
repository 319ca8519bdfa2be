"""Clinical tables made up for tests: numbers with gaps, categories with gaps, truth values, and pipelines on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from medward.guard.policy import Policy

OPEN = Policy.model_validate(
    {
        "on_error": "withhold",
        "release": {"level": "full"},
        "screen": {"action": "allow"},
        "monitor": {"ladder": [{"false_alarm": 0.01, "action": "flag"}]},
    }
)
NUMBERS, TEXTS = ["age", "lactate level", "creatinine"], ["sex", "ward"]
INPUTS = [*NUMBERS, *TEXTS, "smoker"]


def sepsis_table(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Patients of a ward, a third with sepsis; lactate and sex have gaps, and float32 holds every number."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "mrn": [f"p{each}" for each in range(rows)],
            "age": rng.integers(20, 95, rows),
            "lactate level": (rng.gamma(2.0, 1.0, rows) * 256).round() / 256,
            "creatinine": (rng.normal(1.0, 0.3, rows) * 256).round() / 256,
            "sex": rng.choice(["f", "m"], rows),
            "ward": rng.choice(["ER, adult", "ICU", "general"], rows),
            "smoker": rng.random(rows) < 0.3,
        }
    )
    risk = frame["age"] / 40 + frame["lactate level"] + (frame["ward"] == "ICU") + rng.normal(0, 0.5, rows)
    frame["sepsis"] = np.where(risk > np.quantile(risk, 0.65), "yes", "no")
    frame.loc[rng.random(rows) < 0.2, "lactate level"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "sex"] = np.nan
    return frame


def imputed(*, texts=None):
    """Numbers imputed and scaled, categories one-hot."""
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("texts", texts or OneHotEncoder(handle_unknown="ignore"), TEXTS),
        ]
    )


def kept(encoder=None):
    """Numbers with their gaps, categories one-hot."""
    texts = encoder or OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", "passthrough", NUMBERS), ("texts", texts, TEXTS)])


PIPELINES = {
    "logistic": lambda: make_pipeline(imputed(), LogisticRegression(max_iter=1000)),
    "filled texts": lambda: make_pipeline(
        imputed(texts=make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())),
        LogisticRegression(max_iter=1000),
    ),
    "histogram boosting": lambda: make_pipeline(kept(), HistGradientBoostingClassifier(max_iter=20)),
    "ordinal texts": lambda: make_pipeline(
        ColumnTransformer([("texts", OrdinalEncoder(), ["ward"]), ("numbers", "passthrough", NUMBERS)]),
        HistGradientBoostingClassifier(max_iter=20),
    ),
}
"""Pipelines that become ONNX."""


def unconvertible():
    """A pipeline that ONNX cannot follow: an imputer that tells its gaps."""
    return make_pipeline(
        ColumnTransformer([("numbers", SimpleImputer(add_indicator=True), NUMBERS), ("texts", OneHotEncoder(), TEXTS)]),
        RandomForestClassifier(25, random_state=0),
    )


def records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Rows as a client sends them: null for gaps."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
