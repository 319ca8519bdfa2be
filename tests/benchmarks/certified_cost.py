"""What a certificate at one radius costs, in forward passes of the same model in the same run."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from claim import Claim
from torch import Tensor, nn

from medward.guard.certify.bounds import Bounds
from medward.guard.models.onnx_model import load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

CLAIMS = ("certified_cost",)
TARGET, ROUNDS, SECONDS = 4.5, 40, 0.03
BATCHES = (1, 64)
NETWORKS = {
    "28 x 28": (28, 1, False),
    "28 x 28, standardised": (28, 1, True),
    "28 x 28, four times as wide": (28, 4, False),
    "64 x 64": (64, 1, False),
    "64 x 64, standardised": (64, 1, True),
    "64 x 64, twice as wide": (64, 2, False),
}


def measure() -> Iterator[Claim]:
    """The least CPU time of either over rounds that time one after the other: what else runs disturbs it least."""
    found = {
        f"{name}, batch {batch}": ratio(network(side, width, standardised=standardised), side, batch)
        for name, (side, width, standardised) in NETWORKS.items()
        for batch in BATCHES
    }
    worst = max(each["ratio"] for each in found.values())
    yield Claim(
        claim=CLAIMS[0],
        value=worst,
        target=f"<= {TARGET:g} forward passes for the certificate of a row at one radius, at worst",
        met=worst <= TARGET,
        n=ROUNDS,
        seed=0,
        details=found,
    )


def ratio(data: bytes, side: int, batch: int) -> dict[str, float]:
    """One network's forward pass and its certificate, in CPU time."""
    spec = ModelSpec(
        name="network",
        modality="image",
        shape=(1, side, side),
        task=Classification(classes=("a", "b"), output="logits"),
        low=0.0,
        high=1.0,
    )
    model, bounds = load_onnx(data, spec, {"scores": "scores"}), Bounds.of(data, spec, {"scores": "scores"})
    rows = np.random.default_rng(0).random((batch, 1, side, side), dtype=np.float32)
    radius = np.float32(4 / 255)

    def forward() -> Any:
        return model.session.run(["scores"], {"rows": rows})

    def certificate() -> Any:
        return bounds.model.between(rows, np.asarray(radius))

    repeats = max(1, int(SECONDS / _seconds(certificate, 3)))
    pairs = [(_seconds(forward, repeats), _seconds(certificate, repeats)) for _ in range(ROUNDS)]
    plain, certified = np.array(pairs).T
    return {
        "ratio": float(certified.min() / plain.min()),
        "median ratio": float(np.median(certified / plain)),
        "forward microseconds": float(1e6 * plain.min()),
        "certificate microseconds": float(1e6 * certified.min()),
    }


class _Standardised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


def network(side: int, width: int, *, standardised: bool) -> bytes:
    """The small convolutional network that interval bounds are trained for, with random weights."""
    torch.manual_seed(0)
    last = ((side - 3) // 2 + 1 - 3) // 2 + 1
    net = nn.Sequential(
        *([_Standardised()] if standardised else []),
        *(nn.Conv2d(1, 16 * width, 3, stride=2), nn.ReLU(), nn.Conv2d(16 * width, 32 * width, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * width * last**2, 64 * width), nn.ReLU(), nn.Linear(64 * width, 2)),
    )
    stream = io.BytesIO()
    torch.onnx.export(
        net.eval(),
        (torch.zeros(2, 1, side, side),),
        stream,
        input_names=["rows"],
        output_names=["scores"],
        dynamic_axes={"rows": {0: "n"}, "scores": {0: "n"}},
        dynamo=False,
    )
    return stream.getvalue()


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats
