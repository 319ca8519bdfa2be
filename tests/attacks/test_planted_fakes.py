"""Ways to look safe without being so, through the whole validation: none may come out HELD, each is named.

The guard beside them is an ideal one that knows every benign row, so that nothing but the fault stands
between the cell and HELD; without a fault the same cell is HELD.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.planted import FakeBundle, Faulty, Ideal, TorchVictim

from medward.attacks.checks import named_fakes
from medward.attacks.evasion import PGD, UniversalPerturbation
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.run import run_validation
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

ATTACK = PGD(epsilon=0.15, steps=12, restarts=1)
NEAR = 0.06


@pytest.fixture(autouse=True)
def _short(monkeypatch, without_page):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))


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
        bundle = FakeBundle(model=model, profile=Ideal(known=known, near=NEAR, **settings))
        subject = Deployment(bundle=bundle, network=model.network)
        return run_validation(subject, splits, tmp_path, attacks=[attack], progress=False, resume=False).findings[0]

    return judge


def test_without_a_fault_the_cell_is_held(judged, plain):
    finding = judged(plain)
    assert finding.status is Status.HELD, finding.reasons
    assert finding.undefended.low > 0.5
    assert named_fakes(finding.flags) == ()


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"levels": 15}, "quantiser"),
        ({"backward": "flipped"}, "gradient killer"),
        ({"noise": 0.05}, "random front end"),
    ],
)
def test_a_fake_is_inconclusive_and_named(judged, plain, fault, name):
    torch.manual_seed(0)
    finding = judged(replace(plain, network=Faulty(plain.network.body, **fault)))
    assert finding.status is Status.INCONCLUSIVE
    assert named_fakes(finding.flags) == (name,)
    assert name in " ".join(finding.reasons)


@pytest.fixture
def gathered(tmp_path):
    """Validate an untargeted universal attack on two balanced classes, which a shift gathers in one."""
    rng = np.random.default_rng(0)
    weights = torch.as_tensor(rng.normal(size=64), dtype=torch.float32)
    inputs = rng.normal(size=(700, 64)).astype(np.float32)
    parts = {"train": slice(0, 200), "holdout": slice(200, 400), "test": slice(400, 700)}
    splits = {
        name: Split(inputs[part], (inputs[part] @ weights.numpy() > 0).astype(np.int64)) for name, part in parts.items()
    }
    spec = ModelSpec(
        name="line",
        modality="tabular",
        shape=(64,),
        task=Classification(classes=("0", "1"), output="logits"),
        features=64,
    )
    layer = torch.nn.Linear(64, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.stack([-weights, weights]))

    def judge(attack, **fault):
        network = Faulty(torch.nn.Sequential(torch.nn.Identity(), layer), **fault).eval()
        bundle = FakeBundle(model=TorchVictim(network, spec), profile=Ideal(known=inputs, near=0.04))
        subject = Deployment(bundle=bundle, network=network)
        return run_validation(subject, splits, tmp_path, attacks=[attack], progress=False, resume=False).findings[0]

    return judge


def test_a_shift_that_gathers_balanced_classes_in_one_is_not_too_weak(gathered):
    attack = UniversalPerturbation(epsilon=0.5, epochs=4)
    finding = gathered(attack)
    assert finding.undefended.low < 0.5
    assert "too weak" not in " ".join(finding.reasons)
    assert finding.status is Status.HELD, finding.reasons
    weak = gathered(replace(attack, epochs=1, epsilon=0.03))
    assert "too weak" in " ".join(weak.reasons)
    fake = gathered(attack, backward="flipped")
    assert fake.status is Status.INCONCLUSIVE
    assert "gradient killer" in named_fakes(fake.flags)


def test_a_detector_that_always_abstains_is_broken(judged, plain):
    finding = judged(plain, refuses=True)
    assert finding.status is Status.BROKEN
    assert "refuses benign rows: at least 98" in " ".join(finding.reasons)
    assert named_fakes(finding.flags) == ("always abstains",)


def test_an_attack_with_zero_steps_is_inconclusive(judged, plain):
    finding = judged(plain, replace(ATTACK, steps=0))
    assert finding.status is Status.INCONCLUSIVE
    assert finding.undefended.value == 0
    assert "too weak" in " ".join(finding.reasons)
    assert named_fakes(finding.flags) == ("zero steps",)
