"""A tiny deployed model and scripted attacks, to test the validation itself. As a script, to be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.target import Target
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.ordinary import measure
from medward.attacks.validation.ordinary.behaviour import VisitSettings
from medward.attacks.validation.run import run_validation
from medward.guard.accounts.stores import Store
from medward.guard.bundle.power import Power
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Outputs

SPEC = ModelSpec(
    name="toy", modality="tabular", shape=(6,), task=Classification(classes=("benign", "malignant"), output="logits")
)
POLICY = Policy(on_error="withhold")
WEIGHTS = np.random.default_rng(7).normal(size=(6, 2)).astype(np.float32)


class Linear:
    """Two logits from six numbers."""

    spec = SPEC

    def predict(self, inputs: Array) -> Outputs:
        return Outputs(inputs @ WEIGHTS)


@dataclass(frozen=True)
class FakeBundle:
    """What `run_validation` needs of a bundle; `abstains` refuses every query, as a broken detector would."""

    profile: Profile
    policy: Policy = POLICY
    model: Linear = field(default_factory=Linear)
    digest: str = "ab" * 32
    bounds: None = None
    cautions: tuple[str, ...] = ()
    sites: Mapping[str, Profile] = field(default_factory=dict)
    power_by_site: Mapping[str, Power | None] = field(default_factory=dict)
    abstains: bool = False

    @property
    def digest_without_waivers(self) -> str:
        return self.digest

    @property
    def card(self):
        return SimpleNamespace(plugins={}, certificate=None)

    def guard(self, *, store: Store, clock: Callable[[], float] = time.time, **_: object) -> Guard:
        policy = self.policy
        if self.abstains:
            alpha = 100.0  # reached by an account that asked nothing
            ladder = (policy.monitor.ladder[0].model_copy(update={"false_alarm": alpha, "action": "withhold"}),)
            policy = policy.model_copy(update={"monitor": policy.monitor.model_copy(update={"ladder": ladder})})
        return Guard(model=self.model, policy=policy, profile=self.profile, store=store, clock=clock)


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """An attack that achieves what it is told, without and with a guard in front, and asks a few honest rows.

    `counter` gets a line for every run, `seconds` is how long a run takes.
    """

    name: str = "scripted"
    family: str = "evasion"
    free: float = 0.95
    behind: float = 0.01
    trivial: float = 0.05
    flags: tuple[str, ...] = ()
    blind: bool = False
    counter: str = ""
    seconds: float = 0.0

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(access=Access.GRADIENTS, epsilon=0.5, accounts=None, knowledge="a script")

    rate: float | None = None

    def adaptive(self, policy: Policy) -> Scripted | None:
        return None if self.blind else replace(self, name=f"{self.name}+aware", rate=policy.screen.rate)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        time.sleep(self.seconds)
        guarded = target._profile is not None
        if self.counter:
            with Path(self.counter).open("a") as file:
                file.write(f"{self.name} {guarded}\n")
        target.query(data.test.inputs[:5])
        power = self.behind if guarded else self.free
        rng = np.random.default_rng(seed)
        if self.family == "membership":
            truth = np.repeat([True, False], 200)
            examined = not data.notes  # on a model of the examiner it finds nothing
            outcome = rng.normal(size=400) + (0 if examined else 3 * power) * truth
            return AttackResult(outcome=outcome, truth=truth, flags=self.flags)
        n = len(data.test)
        outcome, baseline = np.arange(n) < round(power * n), np.arange(n) < round(self.trivial * n)
        curve = ([1.0, 2.0], [power / 2, power])
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            flags=self.flags,
            curves={"attack": curve, "noise": ([1.0, 2.0], [0.0, self.trivial])},
        )


def rows(n: int, seed: int) -> Split:
    """Benign rows with the model's own decisions as labels."""
    inputs = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return Split(inputs, (inputs @ WEIGHTS).argmax(axis=1))


def deployment(**settings: object) -> FakeBundle:
    profile = Profile.fit(Linear(), rows(400, 1).inputs, risk=0.01, secret=0)
    return FakeBundle(profile=profile, **settings)  # type: ignore[arg-type]


SPLITS = {"train": rows(100, 2), "holdout": rows(400, 3), "test": rows(200, 4)}


if __name__ == "__main__":
    out, counter, seconds = sys.argv[1:]
    measure.FULL_LOOK = VisitSettings(accounts=2, queries=5, rounds=2, rows=5)  # as in tests' own process
    slow = [Scripted(name=f"slow-{i}", counter=counter, seconds=float(seconds)) for i in range(3)]
    run_validation(Deployment(bundle=deployment()), SPLITS, Path(out), attacks=slow, progress=False)
    print("done", flush=True)
