"""The binary tensor extension, and the same row by every door."""

import gzip
import json

import numpy as np
import pytest
from support.tensors import LENGTH, asked, binary_body, binary_request, read_outputs

from medward.guard.policy import Policy
from medward.integrations.serving import Limits
from medward.integrations.serving.binary_tensors import TENSOR_TYPES, tensor_bytes
from medward.integrations.serving.output_tensors import encoded_outputs

ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]
STRANGE = [90.0, -90.0, 90.0]
SCREENED = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"})
FULL = Policy(on_error="withhold", release={"level": "full"})
INFER = "/v2/models/linear/infer"
JSON = {"Content-Type": "application/json"}


class Records(list):
    def append(self, record):
        super().append(dict(record))


def post(client, body, headers=None, path=INFER):
    return client.post(path, content=body, headers=headers or {})


def test_a_body_without_a_content_type_is_json(client):
    body = json.dumps(asked([2, 3], data=ROWS)).encode()
    made = client(FULL)
    assert read_outputs(post(made, body)) == read_outputs(post(made, body, JSON))


@pytest.mark.parametrize("datatype", TENSOR_TYPES)
def test_bytes_of_every_datatype_are_the_values_that_json_says(client, datatype):
    rows = [[1, 0, 1], [0, 1, 1]]
    made = client(FULL)
    said = [[bool(value) for value in row] for row in rows] if datatype == "BOOL" else rows
    expected = read_outputs(post(made, json.dumps(asked([2, 3], datatype, data=said)).encode()))
    body, headers = binary_request(rows, datatype)
    for kind in ({}, {"Content-Type": "application/octet-stream"}, JSON):
        assert read_outputs(post(made, body, headers | kind)) == expected


def test_outputs_leave_as_bytes_where_they_are_asked_for_so(client):
    made = client(SCREENED)
    body, headers = binary_request([STRANGE, *ROWS])
    plain = read_outputs(post(made, body, headers))
    everything = {"parameters": {"binary_data_output": True}}
    body, headers = binary_request([STRANGE, *ROWS], **everything)
    response = post(made, body, headers)
    found = read_outputs(response)
    assert response.headers["content-type"] == "application/octet-stream"
    assert found.keys() == plain.keys() == {"scores", "labels", "levels"}
    assert found["levels"] == plain["levels"] == ["withheld", "rounded", "rounded"]
    assert found["labels"].tolist() == plain["labels"]
    assert found["labels"][0] == -1
    assert np.isnan(found["scores"][0]).all()
    assert found["scores"][1:].ravel().tolist() == plain["scores"][3:]
    one = {"name": "scores", "parameters": {"binary_data": False}}
    body, headers = binary_request(ROWS, outputs=[{"name": "labels"}, one], **everything)
    mixed = read_outputs(post(made, body, headers))
    assert [*mixed] == ["labels", "scores"]
    assert isinstance(mixed["labels"], np.ndarray)
    assert isinstance(mixed["scores"], list)


def test_a_score_that_does_not_leave_is_nan_and_a_text_has_its_length():
    assert np.isnan(np.frombuffer(tensor_bytes([None, 1.5], "FP64"))).tolist() == [True, False]
    assert tensor_bytes(["é", ""], "BYTES") == b"\x02\0\0\0\xc3\xa9\0\0\0\0"
    assert tensor_bytes([True, False], "BOOL") == b"\1\0"
    assert encoded_outputs({}, {}) == ([], b"")


def test_the_same_row_by_every_door_is_decided_alike_and_recorded_once(client):
    records = Records()
    made = client(SCREENED, guard_parts={"audit": records})
    rows = [[0.1, -1.0, 2.0], STRANGE]
    text = json.dumps(asked([2, 3], data=rows)).encode()
    body, headers = binary_request(rows)
    everything, length = binary_request(rows, "FP32", parameters={"binary_data_output": True})
    zipped = {"Content-Encoding": "gzip"}
    decisions = [
        read_outputs(post(made, text, JSON)),
        read_outputs(post(made, text)),
        read_outputs(post(made, body, headers)),
        read_outputs(post(made, everything, length)),
        read_outputs(post(made, gzip.compress(body), headers | zipped)),
        read_outputs(post(made, gzip.compress(text), JSON | zipped)),
        read_outputs(post(made, text, path="/v2/models/linear/versions/1/infer")),
    ]
    labels = [[*map(int, each["labels"])] for each in decisions]
    levels = [each["levels"] for each in decisions]
    v1 = made.post("/v1/models/linear:predict", json={"instances": rows}).json()
    own = made.post("/v1/predict", json={"inputs": rows}).json()
    assert v1["predictions"][1] is None
    labels += [[v1["predictions"][0]["index"], -1], [own["indices"][0], -1]]
    levels += [v1["levels"], own["levels"]]
    assert own["indices"][1] is None
    assert labels == [labels[0]] * 9
    assert levels == [["rounded", "withheld"]] * 9
    assert len(records) == 9
    assert len({each["query"] for each in records}) == 9
    assert [each["inputs"] for each in records] == [records[0]["inputs"]] * 9
    assert [each["levels"] for each in records] == [records[0]["levels"]] * 9


RAW = np.float32(ROWS).tobytes()
SIZE = {"parameters": {"binary_data_size": 24}}

CLASSIFIED = {"name": "scores", "parameters": {"classification": 2}}


def sized(size, shape=(2, 3), datatype="FP32", raw=RAW, **more):
    return binary_body(asked([*shape], datatype, parameters={"binary_data_size": size}, **more), raw)


def with_length(length, body=None):
    return (sized(24)[0] if body is None else body), {LENGTH: length}


HOSTILE = {
    "header length of letters": (with_length("1e2"), 400, "one whole number"),
    "header length below zero": (with_length("-1"), 400, "one whole number"),
    "header length with a sign": (with_length("+10"), 400, "one whole number"),
    "header length in other digits": (with_length("\u0661".encode()), 400, "one whole number"),
    "header length empty": (with_length(""), 400, "one whole number"),
    "header length zero": (with_length("0"), 400, "from 1 to the"),
    "header length past the body": (with_length("100000"), 400, "from 1 to the"),
    "header length of a thousand digits": (with_length("9" * 1000), 400, "from 1 to the"),
    "header length cuts the JSON": (with_length("40"), 400, "not JSON"),
    "header length takes some bytes too": (with_length("130"), 400, "not JSON"),
    "no header length": ((sized(24)[0], {}), 400, "not JSON"),
    "no header length, only JSON": ((json.dumps(asked([2, 3], **SIZE)).encode(), {}), 422, "0 bytes follow the JSON"),
    "octet-stream without header length": ((b"x", {"Content-Type": "application/octet-stream"}), 400, "needs it"),
    "another type": ((sized(24)[0], {"Content-Type": "image/png", LENGTH: "9"}), 415, "send application/json"),
    "truncated": (sized(24, raw=RAW[:-1]), 422, "23 bytes follow the JSON"),
    "nothing behind the JSON": (sized(24, raw=b""), 422, "0 bytes follow the JSON"),
    "longer than said": (sized(24, raw=RAW + b"x"), 422, "25 bytes follow the JSON"),
    "size and shape differ": (sized(20, raw=RAW[:20]), 422, "takes 24 bytes, binary_data_size is 20"),
    "size and datatype differ": (sized(24, datatype="FP64"), 422, "takes 48 bytes"),
    "size below zero": (sized(-1), 422, "binary_data_size"),
    "size as text": (sized("24"), 422, "binary_data_size"),
    "size as a fraction": (sized(24.5), 422, "binary_data_size"),
    "size beyond numbers": (sized(10**30), 422, "takes 24 bytes"),
    "size and data": (sized(24, data=ROWS), 422, "and not both"),
    "neither size nor data": (binary_body(asked([2, 3]), b""), 422, "and not both"),
    "bytes that no tensor names": (binary_body(asked([2, 3], data=ROWS), b"xx"), 422, "2 bytes follow the JSON"),
    "NaN": (sized(24, raw=np.float32([np.nan] * 6).tobytes()), 422, "finite"),
    "infinity": (sized(24, raw=np.float32([np.inf] * 6).tobytes()), 422, "finite"),
    "FP64 past float32": (sized(48, datatype="FP64", raw=np.float64([1e300] * 6).tobytes()), 422, "finite"),
    "out of the model's range": (sized(24, raw=np.float32([1e6] * 6).tobytes()), 422, "values must be <= 100"),
    "BOOL of another byte": (sized(6, datatype="BOOL", raw=b"\0\1\2\0\1\0"), 422, "0 or 1"),
    "BYTES": (sized(24, datatype="BYTES"), 422, "datatype: Input should be"),
    "wrong shape": (sized(24, shape=(3, 2)), 422, "expected shape (n >= 1, 3)"),
    "no rows": (sized(0, shape=(0, 3), raw=b""), 422, "shape.0"),
    "a shape below zero": (sized(24, shape=(-2, 3)), 422, "shape.0"),
    "huge counts": (sized(24, shape=(2**62, 3)), 422, "at most 64 rows"),
    "counts that overflow": (sized(24, shape=(2**64 + 2, 3)), 422, "at most 64 rows"),
    "a thousand axes": (sized(24, shape=(1,) * 1000), 422, "shape"),
    "shared memory": (binary_body(asked([2, 3], parameters={"shared_memory_region": "x"}), b""), 422, "honoured"),
    "classification": (
        binary_body({**asked([2, 3], data=ROWS), "outputs": [CLASSIFIED]}, b""),
        422,
        "honoured",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bodies_are_refused_with_a_sentence_and_ask_nothing(client, case):
    (body, headers), status, words = HOSTILE[case]
    records = Records()
    made = client(FULL, guard_parts={"audit": records})
    response = post(made, body, headers)
    assert response.status_code == status, response.text
    assert words in response.json()["error"]
    assert {each["event"] for each in records} <= {"rejected"}, "nothing was asked"
    body, headers = sized(24)
    assert read_outputs(post(made, body, headers))["levels"] == ["full", "full"]


def test_two_header_lengths_are_refused(client):
    body, headers = sized(24)
    twice = [*headers.items(), (LENGTH, "5")]
    assert post(client(FULL), body, twice).status_code == 400


def test_an_output_that_the_model_does_not_give_is_refused_before_it_is_asked(client):
    records = Records()
    made = client(FULL, guard_parts={"audit": records})
    for names, words in ((["texts"], "and no texts"), (["labels", "labels"], "asked for twice")):
        body = {**asked([2, 3], data=ROWS), "outputs": [{"name": name} for name in names]}
        response = made.post(INFER, json=body)
        assert response.status_code == 422
        assert words in response.json()["detail"]
    assert {each["event"] for each in records} <= {"rejected"}, "nothing was asked"


def test_a_binary_body_past_the_limit_is_too_large(client):
    made = client(FULL, limits=Limits(body_bytes=2000))
    body, headers = sized(24)
    assert post(made, body, headers).status_code == 200
    response = post(made, body + b"\0" * 2000, headers)
    assert response.status_code == 413
