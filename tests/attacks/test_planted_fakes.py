"""Four ways to look safe without being so, through the whole validation: none may come out HELD.

The guard beside them is an ideal one that knows every benign row, so that nothing but the fault stands
between the cell and HELD; without a fault the same cell is HELD.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from attacks.evasion import PGD
from attacks.finding import Status
from attacks.matrix import validate
from guard.pipeline import Guard
from guard.policy import Policy
from guard.screen import Thresholds

ATTACK = PGD(epsilon=0.15, steps=12, restarts=1)
NEAR = 0.06


@dataclass(frozen=True)
class Ideal:
    """A profile that knows all benign rows: strange is what lies farther than `NEAR` (squared) from all."""

    known: np.ndarray
    refuses: bool = False

    @property
    def thresholds(self):
        return Thresholds(levels=(0.01,), cuts=(NEAR,), risk=0.001, n=1000)

    def score(self, inputs, outputs, xp=np):
        known = torch.as_tensor(self.known) if xp is torch else self.known
        rows = inputs.reshape(len(inputs), -1)
        squares = (rows * rows).sum(-1)[:, None] - 2 * rows @ known.T + (known * known).sum(-1)
        distance = xp.amin(squares, axis=1)
        return distance + 1.0 if self.refuses else distance

    def strangeness(self, inputs, outputs):
        return np.asarray(self.score(inputs, outputs), np.float64)

    def screen_cut(self, rate):
        return NEAR


@dataclass(frozen=True)
class Deployment:
    model: object
    profile: Ideal
    digest: str = "cd" * 32

    @property
    def policy(self):
        return Policy(on_error="withhold")

    def guard(self, *, store):
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store)


@pytest.fixture(autouse=True)
def _short_accounts(monkeypatch):
    monkeypatch.setattr("attacks.clean.QUERIES", 20)


@pytest.fixture(scope="module")
def splits(digits):
    return {
        "train": digits.take(slice(0, 200)),
        "holdout": digits.take(slice(1000, 1200)),
        "test": digits.take(slice(1400, 1460)),
    }


@pytest.fixture
def judged(splits, tmp_path):
    known = np.concatenate([split.inputs for split in splits.values()]).reshape(460, -1)

    def judge(model, attack=ATTACK, **settings):
        bundle = Deployment(model=model, profile=Ideal(known=known, **settings))
        report = validate(
            bundle, splits, tmp_path, attacks=[attack], network=model.network, progress=False, resume=False
        )
        return report.findings[0]

    return judge


def test_without_a_fault_the_cell_is_held(judged, plain):
    finding = judged(plain)
    assert finding.status is Status.HELD, finding.reasons
    assert finding.undefended.low > 0.5


@pytest.mark.parametrize("fault", ["inflated", "quantised"])
def test_masked_gradients_are_inconclusive(request, judged, fault):
    finding = judged(request.getfixturevalue(fault))
    assert finding.status is Status.INCONCLUSIVE
    assert "masked gradients" in " ".join(finding.reasons)


def test_a_detector_that_always_abstains_is_broken(judged, plain):
    finding = judged(plain, refuses=True)
    assert finding.status is Status.BROKEN
    assert "refuses benign rows: at least 98" in " ".join(finding.reasons)


def test_an_attack_with_zero_steps_is_inconclusive(judged, plain):
    finding = judged(plain, replace(ATTACK, steps=0))
    assert finding.status is Status.INCONCLUSIVE
    assert finding.undefended.value == 0
    assert "too weak" in " ".join(finding.reasons)
