"""Certified answers over HTTP: both protocols, the metric, and a server that needs onnxruntime alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from starlette.testclient import TestClient
from support.certified import greys, policy, protected

from medward.integrations.serving import load_app

ROWS = greys(200, 129)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    return {kind: protected(folder / kind, kind).path for kind in ("classes", "findings", "number")}


@pytest.fixture
def client_of(folders, tmp_path):
    def opened(kind):
        return TestClient(load_app(folders[kind], state=tmp_path / kind, anonymous=True))

    return opened


def test_a_client_reads_what_is_proven_of_each_row(client_of):
    with client_of("classes") as client:
        said = client.post("/v1/predict", json={"inputs": ROWS.tolist()}).json()
        assert said["certified"] == [True, False]
        assert said["certified_radius"] == [8.0, 1.0]
        assert (said["radius"], said["radius_unit"]) == (4.0, "grey levels of 255")
        assert "CertifiedPrediction" in client.get("/openapi.json").json()["components"]["schemas"]
        seen = client.get("/metrics").text
    assert 'medward_answers_certified_total{certified="true"} 1.0' in seen
    assert 'medward_answers_certified_total{certified="false"} 1.0' in seen


def test_findings_have_a_radius_each_and_numbers_an_interval(client_of):
    with client_of("findings") as client:
        said = client.post("/v1/predict", json={"inputs": ROWS.tolist()}).json()
        assert said["certified_findings"] == [[8.0, 8.0], [1.0, 8.0]]
    with client_of("number") as client:
        said = client.post("/v1/predict", json={"inputs": ROWS.tolist()}).json()
        low, high = said["certified_interval"][0]
        assert low < said["values"][0] < high


def test_the_inference_protocol_has_tensors_for_it(client_of):
    tensor = {"name": "inputs", "shape": [2, 1, 4, 4], "datatype": "FP32", "data": ROWS.ravel().tolist()}
    with client_of("classes") as client:
        said = client.post("/v2/models/model/infer", json={"inputs": [tensor]}).json()
        known = {each["name"] for each in client.get("/v2/models/model").json()["outputs"]}
        wanted = [{"name": "certified"}]
        narrow = client.post("/v2/models/model/infer", json={"inputs": [tensor], "outputs": wanted}).json()
    found = {each["name"]: each for each in said["outputs"]}
    assert (found["certified"]["datatype"], found["certified"]["data"]) == ("BOOL", [True, False])
    assert found["certified_radius"]["data"] == [8.0, 1.0]
    assert said["parameters"]["radius"] == "4 grey levels of 255"
    assert known == set(found)
    assert [each["name"] for each in narrow["outputs"]] == ["certified"]


def test_a_server_certifies_with_onnxruntime_alone(folders, tmp_path):
    code = """
import json, sys
from pathlib import Path
from medward.guard.bundle.folder import load_bundle
from medward.guard.types import Query
query = Query(principal=("a",), inputs=[[[[0.9] * 4] * 4]])
answer = load_bundle(Path(sys.argv[1])).guard(ephemeral=True).answer(query)
print(json.dumps([answer.as_dict()["certified"], sorted({"torch", "sklearn", "onnx"} & set(sys.modules))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folders["classes"])], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[True], []]


def test_what_is_withheld_for_want_of_a_certificate_is_null(tmp_path):
    path = protected(tmp_path / "strict", chosen=policy("withhold")).path
    with TestClient(load_app(path, state=tmp_path / "state", anonymous=True)) as client:
        said = client.post("/v1/predict", json={"inputs": ROWS.tolist()}).json()
        assert said["labels"] == ["light", None]
        assert said["certified"] == [True, None]
        assert said["certified_radius"] == [8.0, None]
        assert 'certified="withheld"} 1.0' in client.get("/metrics").text
