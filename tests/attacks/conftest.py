"""A small CNN on 8x8 digits, deployed plainly or with a planted fault, and what attacks need around it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.planted import Faulty, TorchVictim

from medward.attacks.base import AttackData
from medward.attacks.evasion import memory
from medward.attacks.target import Response, Target, open_oracle
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.data.split import Split
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(
    name="digits",
    modality="image",
    shape=(1, 8, 8),
    task=Classification(classes=tuple("0123456789"), output="logits"),
    low=0.0,
    high=1.0,
    features=128,
)


@dataclass(frozen=True)
class Deployed(TorchVictim):
    """A victim on digits that can be asked as an attack would ask it."""

    spec: ModelSpec = SPEC

    def target(self, threat, oracle=None, **parts):
        """White-box, undefended unless told otherwise."""
        return Target(self.spec, oracle or open_oracle(self), threat, **{"network": self.network, **parts})


def withholding(model, stopped):
    """An oracle that withholds the rows that `stopped` (inputs, outputs) names."""

    def ask(inputs):
        outputs = model.predict(inputs)
        labels = np.where(stopped(inputs, outputs), -1, outputs.scores.argmax(axis=1))
        return Response(labels, np.full_like(outputs.scores, np.nan), model.spec.output)

    return ask


@pytest.fixture(scope="session")
def digits():
    values, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(values))
    inputs = (values[order] / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    return Split(inputs, labels[order].astype(np.int64))


@pytest.fixture(scope="session")
def body(digits):
    return fit_classifier(
        digits.inputs[:800],
        digits.labels[:800],
        classes=10,
        modality="image",
        shape=(1, 8, 8),
        epochs=8,
        seed=0,
    )


@pytest.fixture(scope="session")
def plain(body):
    return Deployed(Faulty(body))


@pytest.fixture(scope="session")
def inflated(body):
    return Deployed(Faulty(body, scale=200.0))


@pytest.fixture(scope="session")
def quantised(body):
    return Deployed(Faulty(body, levels=15))


@pytest.fixture(scope="session")
def attack_data(digits):
    return AttackData(craft=digits.take(slice(0, 400)), test=digits.take(slice(1400, 1600)))


@dataclass(frozen=True)
class Margins:
    """A profile of one screen: the ink in the outer columns, in units of its benign 99th percentile."""

    scale: float = 1.0

    def score(self, inputs, outputs, xp=np):
        return xp.mean(inputs[:, :, :, [0, 7]], axis=(1, 2, 3)) / self.scale

    def screen_cut(self, rate):
        return 1.0


@pytest.fixture(scope="session")
def margins(digits):
    return Margins(float(np.quantile(Margins().score(digits.inputs[800:1400], None), 0.99)))


@pytest.fixture(scope="session")
def screened(plain, margins):
    """The plain victim behind the margins screen."""
    return withholding(plain, lambda inputs, outputs: margins.score(inputs, outputs) > 1)


@pytest.fixture(scope="session")
def digit_profile(plain, digits):
    """What `medward protect` would calibrate."""
    return Profile.fit(plain, digits.inputs[800:1400], risk=0.001, secret=0)


@pytest.fixture(scope="session")
def abstaining(plain):
    return withholding(plain, lambda inputs, outputs: np.ones(len(inputs), bool))


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    """No search is known from an earlier test, which may have patched it."""
    monkeypatch.setattr(memory, "_kept", OrderedDict())


@pytest.fixture
def without_page(monkeypatch):
    """Write no report.html, most of whose time goes into plots: for tests of what else a validation does."""
    monkeypatch.setattr("medward.attacks.report.files.render_html", lambda *_: "")
