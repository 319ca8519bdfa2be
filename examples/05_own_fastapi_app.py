"""A guard inside one's own FastAPI application: its route, its preprocessing, its keys, and an alarm that rings there.

Run it as it is to see a clinic and a thief ask through HTTP; serve `make_app(...)` with uvicorn to have it for good.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medward


class Nucleus(BaseModel):
    """What this application's clients send: measurements by name, as its laboratory has them."""

    measurements: dict[str, float]


def preprocessed(nucleus: Nucleus, names: list[str]) -> np.ndarray:
    """Your own step before the model: names become columns, a missing one is a mistake of the client's."""
    if missing := [name for name in names if name not in nucleus.measurements]:
        raise medward.MedwardError(f"measurements: {missing[0]!r} is missing; send all {len(names)}")
    return np.array([[nucleus.measurements[name] for name in names]])


def make_app(bundle: Path, state: Path, names: list[str], pager: list[str]) -> FastAPI:
    """The application. The guard's memory, audit log, salt and keys lie in `state` and outlive it."""

    def page_someone(alarm: medward.Alarm) -> None:  # in the thread that answers, so only hand it on
        pager.append(f"{alarm.account}: {alarm.action.label} from query {alarm.query[:8]} on")

    guard = medward.load(bundle).guard(state=state, on_alarm=page_someone)
    app = FastAPI()
    app.add_middleware(medward.GuardMiddleware, guard=guard, keys=state / "keys.json", open_paths=("/health",))

    @app.get("/health")
    def health() -> dict:
        return {"away": guard.check_ready()}

    @app.post("/score")
    async def score(nucleus: Nucleus, request: Request) -> dict:
        rows = preprocessed(nucleus, names)
        query = medward.Query(principal=request.state.principal, inputs=rows)
        answer = await guard.answer_async(query)  # in the guard's own thread: the event loop goes on
        return {"id": answer.id, **answer.rows()[0]}

    app.state.guard = guard
    return app


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)  # alarms are printed here
    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    train, rest, labels, known = train_test_split(data.data, data.target, train_size=0.3, random_state=0)
    calibration, fresh = rest[:300], rest[300:]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(train, labels)
    with tempfile.TemporaryDirectory() as folder:
        work, pager = Path(folder), []
        benign = medward.Split(calibration, known[:300])
        policy = medward.Policy(on_error="withhold", screen={"action": "flag"})
        medward.protect(model, benign, policy, work / "bundle", classes=("malignant", "benign"))
        keys = medward.KeyStore(work / "state" / "keys.json")
        tokens = {who: keys.add((who,)) for who in ("clinic", "thief")}
        app = make_app(work / "bundle", work / "state", names, pager)
        with app.state.guard, TestClient(app) as client:

            def ask(row: np.ndarray, who: str) -> dict:
                body = {"measurements": dict(zip(names, row.tolist(), strict=True))}
                return client.post("/score", json=body, headers={"X-API-Key": tokens[who]}).json()

            print(f"without a key: {client.post('/score', json={'measurements': {}}).status_code}")
            mistake = client.post("/score", json={"measurements": {}}, headers={"X-API-Key": tokens["clinic"]})
            print(f"without measurements: {mistake.status_code}, {mistake.json()['detail']}")
            first = ask(fresh[0], "clinic")
            print(f"one row: {first['label']}, scores {first['scores']}, level {first['level']}")
            low, high = calibration.min(axis=0), calibration.max(axis=0)
            stolen = np.random.default_rng(0).uniform(low, high, (60, len(names)))
            for who, rows in (("clinic", fresh[:60]), ("thief", stolen)):
                levels = [ask(row, who)["level"] for row in rows]
                print(f"{who}: " + ", ".join(f"{levels.count(level)} {level}" for level in sorted(set(levels))))
        for line in pager:
            print(f"pager: {line}")


if __name__ == "__main__":
    main()
