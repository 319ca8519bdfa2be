"""A clinical table with categories and gaps, as exported: from the CSV to a bundle, a report and a request by name."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi.testclient import TestClient
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import medward
from medward.integrations.serving import load_app

NUMBERS, CATEGORIES = ["age", "lactate", "creatinine"], ["sex", "ward"]


def export(rows: int, seed: int) -> pd.DataFrame:
    """What a data warehouse hands out: some laboratory values were never taken."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "mrn": [f"P{seed}{i:05d}" for i in range(rows)],
            "age": rng.integers(18, 95, rows),
            "sex": rng.choice(["f", "m"], rows),
            "ward": rng.choice(["emergency", "icu", "surgery"], rows, p=[0.5, 0.2, 0.3]),
            "lactate": rng.lognormal(0.5, 0.5, rows).round(1),
            "creatinine": rng.lognormal(0.1, 0.4, rows).round(2),
        }
    )
    risk = 0.03 * frame["age"] + 1.2 * frame["lactate"] + 0.8 * (frame["ward"] == "icu") - 4.5
    frame["sepsis"] = np.where(rng.random(rows) < 1 / (1 + np.exp(-risk)), "yes", "no")
    frame.loc[rng.random(rows) < 0.2, "lactate"] = np.nan
    return frame


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)  # the attack raises alarms, as it should
    train = export(1500, seed=0)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("n", numbers, NUMBERS), ("c", OneHotEncoder(), CATEGORIES)])
    model = make_pipeline(columns, LogisticRegression()).fit(train[NUMBERS + CATEGORIES], train["sepsis"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        export(500, seed=1).to_csv(work / "benign.csv", index=False)
        export(100, seed=2).to_csv(work / "test.csv", index=False)

        # As `medward protect mine:model --data benign.csv --target sepsis --patient mrn ...`:
        bundle = medward.protect(
            model,
            work / "benign.csv",
            medward.Policy(on_error="withhold", release={"level": "full"}),
            work / "bundle",
            target="sepsis",
            patient="mrn",
        )
        print("columns:", ", ".join(each.name for each in bundle.card.spec.columns))

        # As `medward validate bundle/ --data test.csv --attacks fgsm -o report/`:
        report = medward.validate(bundle, work / "test.csv", work / "report", names=["fgsm"], progress=False)
        print(f"fgsm fools {report.findings[0].undefended} of the bare model's rows")

        patient = {"age": 71, "sex": "f", "ward": "icu", "lactate": None, "creatinine": 1.3}
        with TestClient(load_app(work / "bundle", state=work / "state", anonymous=True)) as client:
            answer = client.post("/v1/predict", json={"rows": [patient]}).json()
            wrong = client.post("/v1/predict", json={"rows": [{**patient, "ward": "spa"}]}).json()
        own = model.predict_proba(pd.DataFrame([patient]).astype({"lactate": float}))[0]
        print(f"answer: {answer['labels'][0]}, {answer['scores'][0][1]:.4f}; the pipeline's own: {own[1]:.4f}")
        print(f"a ward it does not know: {wrong['detail']}")


if __name__ == "__main__":
    main()
