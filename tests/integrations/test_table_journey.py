"""A clinical table from a CSV to an answer by column name: protect, calibrate, validate and serve it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.clinical import INPUTS, records, sepsis_table

from medward import MedwardError, Policy, load, validate
from medward.guard.types import Query
from medward.integrations.cli import main
from medward.integrations.serving import load_app

CODE = """
from support.clinical import INPUTS, PIPELINES, sepsis_table

train = sepsis_table(600, seed=9)
model = PIPELINES["logistic"]().fit(train[INPUTS[:5]], train["sepsis"])
trees = PIPELINES["histogram boosting"]().fit(train[INPUTS[:5]], train["sepsis"])
"""
ROW = {"age": 63, "lactate level": None, "creatinine": 1.25, "sex": "f", "ward": "ER, adult"}
HEAVY = ("torch", "sklearn", "scipy", "onnx", "skl2onnx", "pandas", "pyarrow")
ASK = """
import json, sys
from pathlib import Path
from starlette.testclient import TestClient
from medward.integrations.serving import load_app
with TestClient(load_app(Path("bundle"), state=Path("other"), anonymous=True)) as client:
    reply = client.post("/v1/predict", json={"rows": [json.loads(sys.argv[1])]})
print(json.dumps({"body": reply.json(), "heavy": sorted(set(sys.argv[2:]) & set(sys.modules))}))
"""


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(each) for each in arguments])
    return done.value.code


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A hospital's folder: its module, its tables, and the bundle that the command line made of them."""
    folder = tmp_path_factory.mktemp("ward")
    (folder / "sepsis_models.py").write_text(CODE)
    sepsis_table(500, seed=1).to_csv(folder / "patients.csv", index=False)
    sepsis_table(120, seed=2).to_parquet(folder / "later.parquet")
    policy = Policy(on_error="withhold", release={"level": "full"}, screen={"action": "allow"})
    (folder / "policy.toml").write_text(policy.to_toml())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        said = ("--data", "patients.csv", "--target", "sepsis", "--patient", "mrn", "--immutable", "age,sex")
        assert run("protect", "sepsis_models:model", *said, "--policy", "policy.toml", "-o", "bundle") == 0
        yield folder


@pytest.fixture(scope="module")
def client(ward):
    with TestClient(load_app(ward / "bundle", state=ward / "state", anonymous=True)) as made:
        yield made


@pytest.fixture(scope="module")
def model(ward):
    from sepsis_models import model

    return model


def ask(client, **body):
    return client.post("/v1/predict", json=body)


def test_the_bundle_knows_its_columns(ward):
    card = load(ward / "bundle").card
    assert (card.model, card.target, card.patient) == ("model.onnx", "sepsis", "mrn")
    age, lactate, _, sex, place = card.spec.columns
    assert (age.whole, age.immutable, age.missing) == (True, True, False)
    assert (lactate.missing, lactate.whole) == (True, False)
    assert (sex.values, sex.missing, sex.immutable) == (("f", "m"), True, True)
    assert place.values == ("ER, adult", "ICU", "general")
    assert card.spec.shape == (6,)


def test_an_answer_by_column_name_is_the_pipeline_s_own(client, model):
    frame = sepsis_table(30, seed=3)[INPUTS[:5]]
    rows = [ROW, *records(frame)]
    reply = ask(client, rows=rows)
    assert reply.status_code == 200, reply.text
    import pandas as pd

    own = model.predict_proba(pd.DataFrame(rows).replace({None: np.nan}).infer_objects())
    np.testing.assert_allclose(reply.json()["scores"], own, atol=1e-5)
    assert reply.json()["labels"] == model.classes_[own.argmax(axis=1)].tolist()


def test_the_same_rows_in_python(ward, model):
    guard = load(ward / "bundle").guard(ephemeral=True)
    frame = sepsis_table(30, seed=3)[INPUTS[:5]]
    for inputs in (frame, frame[INPUTS[4::-1]], records(frame), {name: frame[name].to_numpy() for name in frame}):
        answer = guard.answer(Query(principal=("clinic",), inputs=inputs))
        np.testing.assert_allclose(answer.scores, model.predict_proba(frame), atol=1e-5)
    with pytest.raises(MedwardError, match="column 'sex': 'x' is unknown; it takes f, m or null"):
        guard.answer(Query(principal=("clinic",), inputs=frame.assign(sex="x")))


def test_a_serving_host_needs_neither_pandas_nor_scikit_learn(ward, client):
    command = [sys.executable, "-c", ASK, json.dumps(ROW), *HEAVY]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert found["heavy"] == []
    assert found["body"]["scores"] == ask(client, rows=[ROW]).json()["scores"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{**ROW, "sex": "x"}], "column 'sex': 'x' is unknown; it takes f, m or null"),
        ([{**ROW, "age": "63"}], "column 'age': a number is needed, got '63'"),
        ([{**ROW, "age": None}], "column 'age': a value is missing"),
        ([{**ROW, "weight": 80}], "column 'weight' is unknown; the model takes age, lactate level"),
        ([{name: ROW[name] for name in ROW if name != "lactate level"}], "column 'lactate level' is absent"),
        ([ROW, {**ROW, "age": [1]}], "rows.1.age"),
        ([], "at least one row"),
        ([3], "rows.0"),
        ([{**ROW, "sex": "f" * 5000}], "column 'sex': 'fff"),
        ([ROW] * 65, "64 rows"),
    ],
    ids=["category", "text", "null", "unknown", "absent", "nested", "empty", "no object", "long", "many"],
)
def test_a_wrong_row_is_one_sentence(client, rows, says):
    reply = ask(client, rows=rows)
    assert reply.status_code == 422, reply.text
    detail = reply.json()["detail"]
    assert says in detail
    assert "\n" not in detail
    assert len(detail) < 300
    assert ask(client, rows=[ROW]).status_code == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            json.dumps({"rows": [ROW]}).replace('{"age": 63', '{"age": 63, "age": 90'),
            "'age' stands twice in one object",
        ),
        ('{"rows": [], ' + json.dumps({"rows": [ROW]})[1:], "'rows' stands twice in one object"),
        (json.dumps({"rows": [ROW]}).replace("63", "1" + "0" * 400), ""),
        (json.dumps({"rows": [ROW]}).replace("63", "1" + "0" * 6000), ""),
        (json.dumps({"rows": [ROW]}).replace("63", "1e39"), "single precision"),
        (json.dumps({"rows": [ROW]}).replace("63", "NaN"), ""),
    ],
    ids=["twice", "rows twice", "beyond floats", "digits", "beyond single", "nan"],
)
def test_a_body_that_parsers_mend_is_refused(client, body, says):
    reply = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    assert says in reply.json()["detail"]
    assert len(reply.json()["detail"]) < 300


def test_bare_numbers_are_sent_to_rows(client):
    numbers = [[63, 2.0, 1.0, 0, 0, 0]]
    for body, says in [
        ({"inputs": numbers}, "column 'lactate level' has gaps or categories"),
        ({"inputs": numbers, "rows": [ROW]}, 'send "rows"'),
        ({}, 'send "rows"'),
    ]:
        reply = ask(client, **body)
        assert (reply.status_code, says in reply.json()["detail"]) == (422, True)
    tensor = {"name": "inputs", "shape": [1, 6], "datatype": "FP32", "data": numbers[0]}
    reply = client.post("/v2/models/model/infer", json={"inputs": [tensor]})
    assert reply.status_code == 422, reply.text
    assert 'send "rows" to /v1/predict' in reply.json()["detail"]


def test_the_schema_says_what_a_row_holds(client):
    schema = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    row = schema["application/json"]["schema"]["properties"]["rows"]["items"]
    assert row["required"] == INPUTS[:5]
    assert row["additionalProperties"] is False
    assert row["properties"]["age"] == {"type": "number"}
    assert row["properties"]["lactate level"] == {"type": ["number", "null"]}
    assert row["properties"]["sex"] == {"enum": ["f", "m", None]}


def test_a_site_and_a_judge_need_not_be_told_again(ward, capsys):
    assert run("calibrate", "bundle", "later.parquet", "--site", "north") == 0
    assert load(ward / "bundle").card.sites["north"].sizes["benign"] == 120
    code = run("validate", "bundle", "--data", "later.parquet", "-o", "report", "--attacks", "fgsm")
    assert code in (0, 1, 2), capsys.readouterr()
    assert (ward / "report" / "report.html").stat().st_size > 10_000
    assert run("validate", "bundle", "--data", "later.parquet", "-o", "r2", "--immutable", "weight") == 3
    assert "columns age, lactate level, creatinine, sex, ward, lactate level is missing are needed" in (
        capsys.readouterr().err
    )


def test_trees_are_attacked_by_their_decisions(ward, monkeypatch):
    from medward.attacks import validate as entry

    data = ("--data", "patients.csv", "--target", "sepsis", "--policy", "policy.toml")
    assert run("protect", "sepsis_models:trees", *data, "-o", "trees") == 0
    seen = []
    monkeypatch.setattr(entry, "run_validation", lambda *_, attacks, **__: seen.append([each.name for each in attacks]))
    for name in ("trees", "bundle"):
        validate(load(ward / name), sepsis_table(60, seed=4), ward / "out")
    assert ("hopskipjump" in seen[0], "pgd" in seen[0]) == (True, False)
    assert len(seen[0]) == len(seen[1])
