import json
import tracemalloc

import numpy as np
import pytest
from support.screening import rows, screening

from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.integrations.serving import Limits
from medward.integrations.serving.binary_tensors import TENSOR_TYPES
from medward.integrations.serving.body import parse_body
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.tensors import InferRequest

ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]
STRANGE = [90.0, -90.0, 90.0]
SCREENED = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"})
INFER = "/v2/models/linear/infer"


def tensor(data, shape=None, datatype="FP32", **more):
    shape = list(np.shape(data)) if shape is None else shape
    return {"inputs": [{"name": "inputs", "shape": shape, "datatype": datatype, "data": data, **more}]}


def outputs(response):
    assert response.status_code == 200, response.text
    return {each["name"]: each for each in response.json()["outputs"]}


def test_the_answer_equals_that_of_v1(client):
    made = client(SCREENED)
    rows = [STRANGE, *ROWS]
    v1 = made.post("/v1/predict", json={"inputs": rows}).json()
    response = made.post(INFER, json={"id": "case-7", **tensor(rows)})
    v2, body = outputs(response), response.json()
    assert v2["levels"]["data"] == v1["levels"] == ["withheld", "rounded", "rounded"]
    assert v2["labels"]["data"] == [-1, *v1["indices"][1:]]
    assert v2["scores"]["shape"] == [3, 3]
    assert v2["scores"]["data"][:3] == [None] * 3
    assert v2["scores"]["data"][3:] == [score for row in v1["scores"][1:] for score in row]
    assert body["id"] == "case-7"
    assert body["model_name"] == v1["model"]
    assert body["parameters"]["score_kind"] == v1["score_kind"]
    assert "NaN" not in response.text


def test_flat_and_nested_data_and_every_datatype_mean_the_same(client):
    made = client(Policy(on_error="withhold", release={"level": "full"}))
    whole = [[1, 0, 2], [3, 5, 4]]
    expected = outputs(made.post(INFER, json=tensor(whole)))["scores"]
    for datatype in TENSOR_TYPES.keys() - {"BOOL"}:
        flat = tensor([1, 0, 2, 3, 5, 4], [2, 3], datatype)
        assert outputs(made.post(INFER, json=flat))["scores"] == expected


def test_a_client_may_ask_for_some_outputs(client):
    asked = {**tensor(ROWS), "outputs": [{"name": "labels"}]}
    response = client().post(INFER, json=asked)
    assert list(outputs(response)) == ["labels"]
    assert response.json()["id"] == response.json()["parameters"]["answer"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tensor([1, 2, 3, 4], [1, 3]), "data does not fit shape [1, 3]"),
        (tensor([[1], [2], [3]], [1, 3]), "does not fit"),
        (tensor([[1, 2, 3], [1]], [2, 3]), "does not fit"),
        (tensor([[1, 2, 3], 1], [2, 3]), "does not fit"),
        (tensor([[1, 2, [3]]], [1, 3]), "cannot hold data of type list"),
        (tensor([1, 2], [1, 2]), "expected shape (n >= 1, 3), got [1, 2]"),
        (tensor([1], [10**9, 3]), "at most 64 rows per request, got 1000000000"),
        (tensor([1, 2, 101], [1, 3]), "values must be <= 100"),
        (tensor([1, 2, 0.5], [1, 3], "INT8"), "INT8 cannot hold data of type float"),
        (tensor([1, 2, 300], [1, 3], "UINT8"), "outside the range of UINT8"),
        (tensor([1, 2, -1], [1, 3], "UINT8"), "outside the range of UINT8"),
        (tensor(["1", "2", "3"], [1, 3]), "cannot hold data of type str"),
        (tensor([True, False, True], [1, 3]), "cannot hold data of type bool"),
        (tensor([10**30, 1, 2], [1, 3]), "values must be <= 100"),
        (tensor([10**400, 1, 2], [1, 3]), "outside the range of FP32"),
        (tensor([10**30, 1, 2], [1, 3], "INT64"), "outside the range of INT64"),
        (tensor([None, 1, 2], [1, 3]), "cannot hold data of type NoneType"),
        (tensor([{}, 1, 2], [1, 3]), "cannot hold data of type dict"),
        (tensor([1, 2, 3], [1, 3], "BYTES"), "datatype: Input should be 'FP32'"),
        (tensor([1, 2, 3], [-1, 3]), "shape.0"),
        (tensor([], [0, 3]), "shape.0"),
        (tensor([1, 2, 3] * 65, [65, 3]), "at most 64 rows"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"inputs": tensor(ROWS)["inputs"] * 2}, "at most 1 item"),
        ({**tensor(ROWS), "outputs": [{"name": "verdicts"}]}, "outputs.0.name"),
    ],
)
def test_wrong_tensors_are_refused_with_a_sentence(client, body, words):
    response = client().post(INFER, json=body)
    assert response.status_code == 422, response.text
    assert words in response.json()["detail"]


def test_many_strings_and_a_long_one_are_refused_without_room_for_the_longest(client):
    """NumPy would make an array of 192 strings of 60 000 characters: 46 MB."""
    made = client()
    body = tensor(["x" * 60_000] + [""] * 191, [64, 3])
    tracemalloc.start()
    response = made.post(INFER, json=body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "cannot hold data of type str" in response.json()["detail"]
    assert peak < 5e6


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{}] * 500},
        {"inputs": [{"name": "inputs", "shape": [-1] * 500, "datatype": "FP32", "data": [1]}]},
        {**tensor(ROWS), "outputs": [{}] * 500},
    ],
)
def test_only_the_first_mistake_is_looked_for(body, linear_model):
    with pytest.raises(MedwardError) as caught:
        parse_body(json.dumps(body).encode(), InferRequest, linear_model.spec, 64)
    assert caught.value.__context__.error_count() <= 4


def test_nan_and_a_wrong_content_type_are_refused(client):
    made = client()
    text = '{"inputs": [{"name": "inputs", "shape": [1, 3], "datatype": "FP32", "data": [NaN, 1, 2]}]}'
    json_type = {"Content-Type": "application/json"}
    assert "finite" in made.post(INFER, content=text, headers=json_type).json()["detail"]
    assert made.post(INFER, content=text, headers={"Content-Type": "text/plain"}).status_code == 415


def test_metadata_describes_what_infer_takes_and_gives(client):
    made = client()
    extensions = ["binary_tensor_data", "model_configuration", "statistics"]
    assert made.get("/v2").json() == {"name": "medward", "version": "1", "extensions": extensions}
    about = made.get("/v2/models/linear").json()
    (taken,) = about["inputs"]
    assert taken["shape"] == [-1, 3]
    given = {each["name"]: each for each in about["outputs"]}
    assert given["labels"]["parameters"]["classes"] == ["a", "b", "c"]
    answered = outputs(made.post(INFER, json=tensor(ROWS, name=taken["name"])))
    assert {name: each["datatype"] for name, each in answered.items()} == {
        name: each["datatype"] for name, each in given.items()
    }
    for path in ("/v2/models/other", "/v2/models/other/ready"):
        assert made.get(path).status_code == 404
    assert made.post("/v2/models/other/infer", json=tensor(ROWS)).status_code == 404


def test_health_is_open_and_the_rest_needs_a_key(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    made = client(keys=keys)
    assert made.get("/v2/health/live").json() == {"live": True}
    assert made.get("/v2/health/ready").json() == {"ready": True}
    assert made.get("/v2/models/linear/ready").json() == {"ready": True}
    for path in ("/v2", "/v2/models/linear"):
        assert made.get(path).status_code == 401
        assert made.get(path, headers={"X-API-Key": token}).status_code == 200
    assert made.post(INFER, json=tensor(ROWS)).status_code == 401


def test_the_metadata_say_the_operating_point_and_answers_keep_it(client):
    made = client(
        Policy(on_error="withhold", screen={"action": "allow"}),
        guard_parts={"model": screening(), "profile": Profile.fit(screening(), rows(400, 0), risk=0.001)},
    )
    given = {each["name"]: each for each in made.get("/v2/models/triage").json()["outputs"]}
    said = given["labels"]["parameters"]
    assert (said["threshold"], said["positive"]) == (0.02, "effusion")
    batch = rows(40, 1)
    answered = outputs(made.post("/v2/models/triage/infer", json=tensor(batch.tolist())))
    risks = np.array(answered["scores"]["data"]).reshape(-1, 2)[:, 1]
    labels = np.array(answered["labels"]["data"])
    assert (labels == screening().spec.decide(screening().predict(batch).scores)).all()
    assert (said["classes"].index(said["positive"]) * (risks >= said["threshold"]) == labels).all()
    v1 = made.post("/v1/predict", json={"inputs": batch.tolist()}).json()
    assert v1["labels"] == [said["classes"][label] for label in labels]


def test_without_an_operating_point_the_metadata_are_as_they_were(client):
    given = {each["name"]: each for each in client().get("/v2/models/linear").json()["outputs"]}
    assert given["labels"]["parameters"] == {"classes": ["a", "b", "c"]}


def test_the_example_in_the_schema_is_answered(client):
    made = client()
    body = made.get("/openapi.json").json()["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]
    assert outputs(made.post(INFER, json=body["content"]["application/json"]["example"]))["labels"]["shape"] == [1]


# Versions, configuration, statistics, the repository


def test_the_version_that_the_metadata_name_is_served_and_no_other(client):
    made = client(version="abc123")
    (version,) = made.get("/v2/models/linear").json()["versions"]
    here, other = f"/v2/models/linear/versions/{version}", "/v2/models/linear/versions/7"
    assert outputs(made.post(f"{here}/infer", json=tensor(ROWS))) == outputs(made.post(INFER, json=tensor(ROWS)))
    assert made.get(f"{here}/ready").json() == {"ready": True}
    for part in ("", "/config", "/stats"):
        assert made.get(here + part).json().keys() == made.get("/v2/models/linear" + part).json().keys()
        assert made.get("/v2/models/other" + part).status_code == 404
        refused = made.get(other + part)
        assert refused.status_code == 404
        assert "abc123" in refused.json()["detail"]
    refused = made.post(f"{other}/infer", json=tensor(ROWS))
    assert refused.status_code == 404
    assert "abc123" in refused.json()["error"]


def test_the_version_is_told_to_nobody_without_a_key(client, tmp_path):
    """It is the digest of the bundle; a probe that names another one learns only that it is not served."""
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    made = client(keys=keys, version="abc123")
    assert made.get("/v2/models/linear/versions/abc123/ready").status_code == 200
    probe = made.get("/v2/models/linear/versions/7/ready")
    assert probe.status_code == 404
    for part in ("", "/config", "/infer"):
        path = f"/v2/models/linear/versions/7{part}"
        send = made.post if part == "/infer" else made.get
        assert send(path).status_code == 401
        assert "abc123" in send(path, headers={"X-API-Key": token}).text
        assert "abc123" not in send(path).text + probe.text


def test_the_configuration_is_what_the_metadata_say(client):
    made = client(limits=Limits(rows=7))
    about, said = made.get("/v2/models/linear/config").json(), made.get("/v2/models/linear").json()
    assert about["input"] == [{"name": "inputs", "data_type": "TYPE_FP32", "dims": [3]}]
    types = {"FP64": "TYPE_FP64", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
    assert about["output"] == [
        {"name": each["name"], "data_type": types[each["datatype"]], "dims": each["shape"][1:]}
        for each in said["outputs"]
    ]
    assert about["max_batch_size"] == 7
    assert made.post(INFER, json=tensor(ROWS * 3 + [ROWS[0]])).status_code == 200
    assert made.post(INFER, json=tensor(ROWS * 4)).status_code == 422


def test_the_statistics_count_what_was_answered_by_every_route(client):
    made = client(SCREENED)

    def now():
        (found,) = made.get("/v2/models/stats").json()["model_stats"]
        assert made.get("/v2/models/linear/stats").json()["model_stats"] == [found]
        return found

    assert now()["inference_count"] == now()["inference_stats"]["success"]["count"] == 0
    made.post(INFER, json=tensor([STRANGE, *ROWS]))
    made.post("/v1/predict", json={"inputs": ROWS})
    made.post("/v1/models/linear:predict", json={"instances": ROWS})
    made.post("/v2/models/linear/versions/1/infer", json=tensor(ROWS))
    made.post(INFER, json=tensor([[1, 2, 101]]))
    made.post("/v2/models/other/infer", json=tensor(ROWS))
    found = now()
    assert (found["name"], found["version"], found["inference_count"]) == ("linear", "1", 9)
    assert found["inference_stats"]["success"]["count"] == 4
    assert found["inference_stats"]["success"]["ns"] > 0
    assert found["inference_stats"]["fail"]["count"] == 1
    assert found.keys() == {"name", "version", "inference_count", "inference_stats"}, "nothing that nobody counts"


def test_the_counters_of_all_accounts_are_for_who_reads_the_metrics(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token, watcher = keys.add(("a",)), keys.add(("b",), scope="metrics")
    made = client(keys=keys)
    for path in ("/v2/models/stats", "/v2/models/linear/stats", "/v2/models/linear/versions/1/stats"):
        assert made.get(path).status_code == 401
        assert made.get(path, headers={"X-API-Key": token}).status_code == 403
        assert made.get(path, headers={"X-API-Key": watcher}).status_code == 200


def test_the_repository_index_says_what_is_ready(client, monkeypatch):
    class Away(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            raise UnavailableError("gone")

    ready, away = client(), client(guard_parts={"store": Away()})
    listed = {"name": "linear", "version": "1", "state": "READY", "reason": ""}
    assert ready.post("/v2/repository/index").json() == [listed]
    assert ready.post("/v2/repository/index", json={"ready": True}).json() == [listed]
    (found,) = away.post("/v2/repository/index", json={}).json()
    assert found["state"] == "UNAVAILABLE"
    assert "gone" not in found["reason"]
    assert away.post("/v2/repository/index", json={"ready": True}).json() == []
    for body, status in ((b"{", 400), (b"[]", 422), (b'{"ready": "x"}', 422), (b'{"all": true}', 422)):
        assert ready.post("/v2/repository/index", content=body).status_code == status
    assert ready.post("/v2/repository/index", content=b"[" * 10**5).status_code == 413
    assert ready.post("/v2/repository/index", content=b"[" * 5000).status_code == 422


def test_what_is_not_honoured_is_said_or_refused(client):
    made = client()

    def post(**parameters):
        return made.post(INFER, json={**tensor(ROWS), "parameters": parameters})

    assert "not_honoured" not in post().json()["parameters"]
    assert post(content_type="np").status_code == 200
    assert post(priority=0, timeout=5000).json()["parameters"]["not_honoured"] == "timeout, priority"
    for refused in ({"sequence_id": 7}, {"sequence_start": True}, {"content_type": "pd"}, {"classification": 2}):
        response = post(**refused)
        assert response.status_code == 422
        assert f"parameters.{next(iter(refused))}" in response.json()["error"]
    for unknown in ({"raw": 1}, {"model_name": "other"}):
        assert made.post(INFER, json={**tensor(ROWS), **unknown}).status_code == 422
    assert made.post(INFER, json={**tensor(ROWS), "model_name": "linear"}).status_code == 200
    assert made.post(INFER, json=tensor(ROWS, parameters={"content_type": "np"})).status_code == 200
    assert made.post(INFER, json=tensor(ROWS, parameters={"content_type": "str"})).status_code == 422


def test_bool_takes_true_and_false_and_fp16_its_range(client):
    made = client()
    assert outputs(made.post(INFER, json=tensor([[True, False, True]], datatype="BOOL")))
    for data, datatype, words in (
        ([[1, 0, 1]], "BOOL", "BOOL cannot hold data of type int"),
        ([[7e4, 0, 1]], "FP16", "outside the range of FP16"),
        ([[2**64, 0, 1]], "UINT64", "outside the range of UINT64"),
        ([[-1, 0, 1]], "UINT32", "outside the range of UINT32"),
    ):
        assert words in made.post(INFER, json=tensor(data, datatype=datatype)).json()["error"]
