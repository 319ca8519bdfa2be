"""Every task from a trained model to an HTTP answer: what is answered in full is the model's own."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.task_subjects import SUBJECTS

from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy, ReleasePolicy
from medward.guard.types import Level, Query
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore

pytestmark = pytest.mark.data
FULL = Policy(on_error="withhold", release=ReleasePolicy(level="full"))
ROWS = 12


def built(name):
    """The subject after as little training as it takes to have one."""
    build = SUBJECTS[name]
    return build(epochs=2) if "epochs" in inspect.signature(build).parameters else build()


def read(answer, task):
    """The numbers of an HTTP answer as the model gives them, and which rows have them."""
    column = {"opaque": "outputs", "regression": "values"}.get(task.kind, "scores")
    shown = np.array([each is not None for each in answer[column]])
    rows = np.array([each for each in answer[column] if each is not None], np.float64)
    if task.kind == "regression":
        return rows[:, None], shown
    return (rows[:, 1:] if task.kind == "classification" and task.one_column else rows), shown


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_task_goes_from_model_to_http_answer(name, tmp_path):
    subject = built(name)
    made = protect(subject.model, subject.splits["calibration"], FULL, tmp_path / "bundle", name="m", **subject.options)
    rows, task = subject.splits["test"].inputs[:ROWS], made.card.spec.task
    own = np.asarray(subject.own(rows), np.float64)
    own = own[:, None] if own.ndim == 1 else own
    token = KeyStore(tmp_path / "state" / "keys.json").add(("clinic", "key-1"))
    head = {"Authorization": f"Bearer {token}"}
    with TestClient(load_app(tmp_path / "bundle", state=tmp_path / "state"), headers=head) as client:
        answer = client.post("/v1/predict", json={"inputs": rows.tolist()}).json()
        body = {"name": "inputs", "shape": [*rows.shape], "datatype": "FP32", "data": rows.ravel().tolist()}
        inferred = client.post("/v2/models/m/infer", json={"inputs": [body]}).json()
        metadata = client.get("/v2/models/m").json()
    told, shown = read(answer, task)
    assert shown.mean() > 0.5
    np.testing.assert_allclose(told, own[shown], rtol=1e-5, atol=1e-5 * max(1.0, np.abs(own).max()))
    tensors = {each["name"]: each for each in inferred["outputs"]}
    assert [each["name"] for each in metadata["outputs"]] == list(tensors)
    assert tensors["scores"]["shape"][0] == len(rows)
    if task.kind == "opaque":
        assert answer["shape"] == [*own.shape[1:]]
        assert "labels" not in tensors
    else:
        decided = task.decide(task.read(subject.own(rows), "m"))
        words = [each for each, seen in zip(answer["labels"], shown, strict=True) if seen]
        assert words == [task.word(int(each)) for each in decided[shown]]
    assert len(list(read_log(tmp_path / "state" / "audit.jsonl"))) == 2


@pytest.mark.parametrize("name", ["several findings", "a number", "a mask", "one logit"])
def test_an_alarm_answers_with_the_decision_or_visibly_with_nothing(name, tmp_path):
    """A ladder that coarsens at once: who sends noise gets the decision alone, or of an opaque model nothing."""
    subject = built(name)
    made = protect(
        subject.model,
        subject.splits["calibration"],
        Policy(on_error="withhold"),
        tmp_path / "bundle",
        **subject.options,
    )
    guard, task = made.guard(ephemeral=True), made.card.spec.task
    shape, seen = subject.splits["test"].inputs.shape[1:], set()
    noise = np.random.default_rng(0).random((60, *shape)).astype(np.float32)
    noise = noise if task.kind != "regression" else noise * 6 - 3
    clean = subject.splits["test"].inputs[:1]
    for row in noise:
        guard.answer(Query(principal=("thief",), inputs=row[None]))
    answer = guard.answer(Query(principal=("thief",), inputs=clean))
    seen.add(answer.levels[0])
    assert answer.levels[0] >= Level.LABEL
    if answer.levels[0] is Level.LABEL:
        assert task.kind != "opaque"
        assert answer.labels[0] == task.decide(made.model.predict(clean).scores)[0]
    else:
        assert answer.labels[0] == -1
        assert np.isnan(answer.scores).all()
