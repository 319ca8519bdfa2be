"""KServe's first protocol."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.models import LinearModel, benign_rows

from medward.guard.accounts.stores import MemoryStore
from medward.guard.columns import Column
from medward.guard.errors import UnavailableError
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.integrations.serving.keys import KeyStore

ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]
STRANGE = [90.0, -90.0, 90.0]
PREDICT = "/v1/models/linear:predict"
SCREENED = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"})


def test_predictions_are_what_the_other_route_answers(client):
    made = client(Policy(on_error="withhold", release={"level": "full"}))
    own = made.post("/v1/predict", json={"inputs": ROWS}).json()
    found = made.post(PREDICT, json={"instances": ROWS}).json()
    assert found["predictions"] == [
        {"label": label, "index": index, "scores": scores, "level": "full"}
        for label, index, scores in zip(own["labels"], own["indices"], own["scores"], strict=True)
    ]
    assert found["score_kind"] == own["score_kind"]
    assert found["model"] == "linear"


def test_a_withheld_row_is_null_and_cannot_be_taken_for_an_answer(client):
    found = client(SCREENED).post(PREDICT, json={"instances": [STRANGE, *ROWS]}).json()
    assert found["predictions"][0] is None
    assert found["levels"] == ["withheld", "rounded", "rounded"]
    assert found["predictions"][1]["label"] == "c"
    with pytest.raises(TypeError):
        np.argmax([each["scores"] for each in found["predictions"]], axis=1)


def test_what_does_not_leave_is_absent(client):
    """``numpy.argmax(None)`` is 0, the first class."""
    made = client(Policy(on_error="withhold", release={"level": "label"}))
    (first, _) = made.post(PREDICT, json={"instances": ROWS}).json()["predictions"]
    assert first == {"label": "c", "index": 2, "level": "label"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"instances": []}, 422, "expected shape"),
        ({"instances": [[1, 2]]}, 422, "expected shape"),
        ({"instances": [[1, 2, 101]]}, 422, "values must be <= 100"),
        ({"instances": [["1", 2, 3]]}, 422, "instances.0.0: Input should be a valid number"),
        ({"instances": [{"a": 1}]}, 422, 'send {"instances": [...]}, tables of shape (3,)'),
        ({"instances": ROWS, "signature_name": "serving_default"}, 422, "signature_name"),
        ({"inputs": ROWS}, 422, "instances: Field required"),
        ({"instances": [[1, 2, 3]] * 65}, 422, "at most 64 rows"),
        ([], 422, "should be an object"),
    ],
)
def test_wrong_instances_are_refused_with_a_sentence(client, body, status, words):
    response = client().post(PREDICT, json=body)
    assert response.status_code == status, response.text
    assert words in response.json()["error"]


def test_a_body_without_a_content_type_is_json_and_another_is_refused(client):
    made = client()
    body = json.dumps({"instances": ROWS}).encode()
    assert made.post(PREDICT, content=body).status_code == 200
    assert made.post(PREDICT, content=body, headers={"Content-Type": "text/csv"}).status_code == 415
    assert made.post(PREDICT, content=b"{").status_code == 400
    assert made.post("/v1/models/other:predict", content=body).status_code == 404


def test_the_routes_that_tell_of_the_model(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    made = client(keys=keys)
    assert made.get("/").json() == {"status": "alive"}
    assert made.get("/v1/models/linear").json() == {"name": "linear", "ready": True}
    assert made.get("/v1/models/other").status_code == 404
    assert made.get("/v1/models").status_code == 401
    assert made.get("/v1/models", headers={"X-API-Key": token}).json() == {"models": ["linear"]}
    assert made.post(PREDICT, json={"instances": ROWS}).status_code == 401


def test_a_model_that_cannot_answer_is_not_ready(client):
    class Away(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            raise UnavailableError("gone")

    assert client(guard_parts={"store": Away()}).get("/v1/models/linear").status_code == 503


def test_rows_of_a_table_by_the_names_of_their_columns(client):
    class Named(LinearModel):
        def __init__(self):
            super().__init__()
            columns = tuple(Column(name=name) for name in ("age", "weight", "pressure"))
            self.spec = replace(self.spec, columns=columns)

    profile = Profile.fit(Named(), benign_rows(LinearModel), risk=0.001)
    made = client(guard_parts={"model": Named(), "profile": profile})
    named = [dict(zip(("age", "weight", "pressure"), row, strict=True)) for row in ROWS]
    by_name, by_place = (made.post(PREDICT, json={"instances": each}) for each in (named, ROWS))
    assert by_name.status_code == 200, by_name.text
    assert by_name.json()["predictions"] == by_place.json()["predictions"]
    del named[1]["weight"]
    assert "weight" in made.post(PREDICT, json={"instances": named}).json()["detail"]
    twice = '{"instances": [{"age": 1, "age": 2, "weight": 1, "pressure": 1}]}'
    assert "stands twice" in made.post(PREDICT, content=twice).json()["detail"]
    mixed = made.post(PREDICT, json={"instances": [named[0], ROWS[1]]})
    assert mixed.status_code == 422
