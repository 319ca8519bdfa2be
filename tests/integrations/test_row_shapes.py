"""Signals, volumes and images: protected behind a front, served in their own shape, hardened through the front."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from support.model_kinds import images
from torch import nn

from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.harden import HARDENERS
from medward.guard.harden.folder import harden
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation
from medward.integrations.serving import create_app

LAYOUTS = {"NLT": ((3, 40), nn.Conv1d), "NDHW": ((1, 4, 8, 8), nn.Conv3d), "NCHW": ((3, 8, 8), nn.Conv2d)}
PREPARE = Preparation(mean=(0.5,), std=(0.25,))
TOLD = {"low": 0, "high": 1, "classes": ["a", "b"], "output": "logits", "prepare": PREPARE}
FULL = Policy(on_error="withhold", release={"level": "full"}, screen={"action": "allow"})


class Pair(nn.Module):
    """Returns an embedding and two scores that tell rows apart by what is brighter: their first half, or the second."""

    def __init__(self, shape: tuple[int, ...], convolution: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shape = shape
        self.filters = convolution(shape[0], 4, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(6.0))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding and scores."""
        assert x.shape[1:] == self.shape
        first, second = x.flatten(1).chunk(2, dim=1)
        z = self.gain * (first.mean(1) - second.mean(1))
        hidden = self.filters(x).flatten(2).mean(2)
        return hidden, torch.stack([-z, z], 1) + 0.01 * hidden[:, :2]


def own(net: Pair, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net.eval()((torch.tensor(rows) - 0.5) / 0.25)[1].numpy()


def as_kept(rows: np.ndarray, layout: str) -> np.ndarray:
    """Rows as a user has them on disk: bytes without a channel axis for volumes, as MedMNIST's 3-D files are."""
    return np.rint(rows[:, 0] * 255).astype(np.uint8) if layout == "NDHW" else rows


@pytest.fixture(scope="module", params=LAYOUTS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Pair, Split, str]:
    shape, convolution = LAYOUTS[request.param]
    net, rows = Pair(shape, convolution), images(shape, 300)
    rows = (np.rint(rows * 255) / 255).astype(np.float32)  # as a file can hold it
    split = Split(rows, own(net, rows).argmax(1))
    kept = Split(as_kept(rows, request.param), split.labels)
    out = tmp_path_factory.mktemp("shape") / "bundle"
    made = protect(net, kept, FULL, out, layout=request.param, output_key="1", **TOLD)
    return made, net, split, request.param


def test_rows_are_served_in_the_shape_that_the_model_takes(made):
    bundle, net, split, layout = made
    with TestClient(create_app(bundle.guard(ephemeral=True), keys=None), raise_server_exceptions=False) as client:
        rows = split.inputs[:3]
        wanted = own(net, rows)
        answer = client.post("/v1/predict", json={"inputs": rows.tolist()})
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["scores"], wanted, atol=1e-5)
        tensor = {"name": "inputs", "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
        answer = client.post(f"/v2/models/{bundle.card.spec.name}/infer", json={"inputs": [tensor]})
        assert answer.status_code == 200, answer.text
        schema = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
        nested, sizes = schema["application/json"]["schema"]["properties"]["inputs"]["items"], []
        while nested["type"] == "array":
            sizes, nested = [*sizes, nested["minItems"]], nested["items"]
        assert sizes == [*rows.shape[1:]]
        internal = bundle.card.spec.check(rows)
        if layout == "NCHW":
            file = io.BytesIO()
            Image.fromarray(np.rint(np.moveaxis(rows[0], 0, -1) * 255).astype(np.uint8)).save(file, "PNG")
            uploaded = client.post("/v1/predict", files={"image": ("x", file.getvalue())})
            np.testing.assert_allclose(uploaded.json()["scores"], wanted[:1], atol=1e-5)
        else:
            assert client.post("/v1/predict", files={"image": ("x", b"")}).status_code == 415
            refused = client.post("/v1/predict", json={"inputs": internal.tolist()})
            assert refused.status_code == 422
        refused = client.post("/v1/predict", json={"inputs": rows[..., :-1].tolist()})
        assert refused.status_code == 422
        assert ", ".join(map(str, rows.shape[1:])) in refused.json()["detail"]


def test_training_passes_the_front_and_keeps_it_in_the_file(made, tmp_path):
    bundle, net, split, layout = made
    method = replace(HARDENERS["retraining"], epsilon=0.02)
    method = replace(method, training=replace(method.training, epochs=1, batch=16, rate=0.05))
    train = {"train": Split(as_kept(split.inputs[:120], layout), split.labels[:120])}
    certificate, _ = harden(net, train, tmp_path / "h", method, layout=layout, output_key="1", **TOLD)
    assert any("without mean and std" in note for note in certificate.notes)
    harder = Pair(*LAYOUTS[layout])
    harder.load_state_dict(torch.load(tmp_path / "h" / "weights.pt", weights_only=True))
    if certificate.best_epoch:
        assert abs(harder.gain.item() - net.gain.item()) > 1e-3
    rows = bundle.card.spec.check(split.inputs[:20])
    for file, module in (("model.onnx", harder), ("original.onnx", net)):
        session = onnxruntime.InferenceSession(tmp_path / "h" / file)
        found = session.run(["scores"], {"input": rows})[0]
        np.testing.assert_allclose(found, own(module, split.inputs[:20]), rtol=0, atol=1e-4)
