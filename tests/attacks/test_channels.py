"""Images of any number of channels, as scans of several sequences or slices are, and tables of thousands of columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medward import Policy, Query, Split, protect
from medward.attacks.validate import validate
from medward.attacks.validation import splits
from medward.attacks.validation.finding import Status

OPEN = Policy.model_validate({"on_error": "withhold", "monitor": {"calibration_risk": 0.05}, "threat": {"image": 10.0}})


def scans(n, channels, seed, side=8):
    """Scans ``(n, channels, side, side)`` of a smooth body, a bright spot on the left or on the right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    down, across = np.mgrid[:side, :side] / side
    body = np.exp(-8 * ((down - 0.5) ** 2 + (across - 0.5) ** 2))
    spot = np.stack([np.exp(-60 * ((down - 0.5) ** 2 + (across - place) ** 2)) for place in (0.3, 0.7)])
    gains = rng.uniform(0.3, 0.6, (n, channels, 1, 1))
    images = gains * body + 0.3 * spot[labels][:, None] + 0.03 * rng.normal(size=(n, channels, side, side))
    return images.clip(0, 1).astype(np.float32), labels


def trained(net, inputs, labels, steps=60):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("channels", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_scans_of_several_sequences_are_protected_and_attacked(channels, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "POOL", 300)
    net = nn.Sequential(
        *[nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)],
        *[nn.Flatten(), nn.Linear(8 * 16, 2)],
    )
    x, y = scans(300, channels, seed=0)
    trained(net, x, y)
    bundle = protect(
        net,
        Split(*scans(260, channels, seed=1)),
        OPEN,
        tmp_path / "bundle",
        classes=("left", "right"),
        output="logits",
        low=0,
        high=1,
    )
    rows = {"train": Split(x[:80], y[:80]), "test": Split(*scans(60, channels, seed=2))}
    report = validate(bundle, rows, tmp_path / "report", names=("pgd", "uap", "knockoff-hard"), progress=False)
    found = {each.attack: each for each in report.findings}
    assert len(found) == 3
    for name, each in found.items():
        assert each.undefended is not None, f"{name}: {each.reasons}"
        assert each.status is not Status.NOT_APPLICABLE
    assert found["pgd"].undefended.value > 0.5


def test_a_table_of_thousands_of_columns_is_protected_and_answers(tmp_path):
    rng = np.random.default_rng(0)

    def rows(n):
        return (rng.normal(size=(n, 5)) @ mixing + rng.normal(size=(n, 3000))).astype(np.float32)

    mixing = rng.normal(size=(5, 3000))
    x = rows(260)
    net = trained(nn.Sequential(nn.Linear(3000, 2)), x, (x[:, 0] > 0).astype(np.int64), steps=20)
    bundle = protect(net, Split(x), OPEN, tmp_path / "bundle", classes=("low", "high"), output="logits")
    assert (tmp_path / "bundle" / "profile.npz").stat().st_size < 20e6
    guard = bundle.guard(ephemeral=True)
    levels = [str(guard.answer(Query(principal=("clinic",), inputs=row[None])).levels[0].label) for row in rows(20)]
    odd = guard.answer(Query(principal=("other",), inputs=rows(1) + 5))
    assert levels.count("withheld") < 5
    assert odd.levels[0].label == "withheld"
