"""Attacks on a screening model: a finding hidden at its threshold counts, though no largest class ever moves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from support.screening import Risk, rows, screening
from support.searches import searching
from torch import nn

from medward.attacks.base import Access, AttackData
from medward.attacks.candidates.channels import ClassChannel
from medward.attacks.evasion import PGD, HopSkipJump, Square, UniversalPerturbation
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.extraction import ActiveThief, Knockoff
from medward.attacks.extraction.base import StolenAnswers, distil_clone
from medward.attacks.extraction.base import clone_decisions as clone_decides
from medward.attacks.extraction.recovery import Recovery
from medward.attacks.target import Response, Target, guarded_oracle, open_oracle
from medward.attacks.validate import validate
from medward.attacks.validation.clean_cost import measure_clean_cost
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.splits import share_rows
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import as_attacker_sees, passes_per_call
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.attacks.whitebox.outputs import decided_by
from medward.attacks.whitebox.surrogate import as_scored, deciding_probabilities
from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Level

TEST, CRAFT = rows(120, 1), rows(200, 2)
OPEN = Policy.model_validate({"on_error": "withhold", "screen": {"action": "flag"}, "monitor": {"parents": "flag"}})


def data_of(model):
    reference = model.spec.decide(model.predict(TEST).scores)
    return AttackData(craft=Split(CRAFT), test=Split(TEST, reference), pool=rows(400, 3), reference=reference)


def attacked(attack, model, *, white=True):
    network = {"network": model.network} if white else {}
    target = Target(model.spec, open_oracle(model), attack.threat, **network)
    return attack.run(target, data_of(model), seed=0)


ATTACKS = {
    "pgd": PGD(epsilon=1.0, steps=10),
    "pgd, transfer": PGD(epsilon=1.0, steps=10, access=Access.SCORES),
    "uap": UniversalPerturbation(epsilon=1.0, target_class="worst"),
    "square": Square(epsilon=1.0, queries=60, rows=40),
    "hopskipjump": HopSkipJump(epsilon=1.0, queries=60, rows=40),
}


@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_decision_turned_at_the_threshold_counts_as_fooled(name, output):
    attack = ATTACKS[name]
    white = getattr(attack, "access", Access.LABELS) >= Access.GRADIENTS
    result = attacked(attack, screening(output=output), white=white)
    assert result.outcome.mean() > 0.5
    assert result.outcome.mean() >= result.baseline.mean()


@pytest.mark.parametrize("name", ["pgd", "uap", "square"])
def test_by_the_largest_class_the_same_attack_fools_nobody(name):
    # Negative control: the first release's measure of the same model.
    assert attacked(ATTACKS[name], screening(threshold=None), white=name != "square").outcome.mean() < 0.03


class Certain(nn.Module):
    """The screening model as a network that gives probabilities."""

    def forward(self, x):
        return Risk()(x).softmax(dim=1)


class Declared(Risk):
    """A network that asks to be averaged over two draws and differentiated through a stand-in."""

    def randomness(self):
        return 2

    def differentiable_surrogate(self):
        return Risk()


@pytest.mark.parametrize("network", [Risk(), Certain(), Declared()], ids=["logits", "probabilities", "declared"])
def test_the_largest_score_an_attack_sees_is_the_decision(network):
    model = screening(output="probabilities" if isinstance(network, Certain) else "logits")
    seen = as_attacker_sees(network, model.spec)
    own = model.spec.decide(model.predict(TEST).scores)
    assert (network_decisions(seen, torch.as_tensor(TEST)).numpy() == own).all()
    assert not (network_decisions(network, torch.as_tensor(TEST)).numpy() == own).all()
    x = torch.zeros(1, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(seen(x)[0, 1] - seen(x)[0, 0], x)
    assert slope.abs().sum() > 0.5
    assert passes_per_call(seen) == (2 if isinstance(network, Declared) else 1)


def test_a_deployed_file_of_probabilities_is_attacked_at_its_threshold(tmp_path):
    x = rows(400, 8)
    labels = (np.random.default_rng(0).random(400) < 1 / (1 + np.exp(2 - x[:, 0]))).astype(int)
    estimator = LogisticRegression().fit(x, labels)
    bundle = protect(estimator, Split(rows(300, 9)), OPEN, tmp_path / "bundle", threshold=0.1)
    network, reason = white_box(bundle.path / "model.onnx", bundle.model.predict, TEST, spec=bundle.model.spec)
    assert not reason
    own = estimator.predict_proba(TEST)[:, 1] >= 0.1
    assert 0.2 < own.mean() < 0.8
    assert (network_decisions(as_attacker_sees(network, bundle.model.spec), torch.as_tensor(TEST)).numpy() == own).all()
    attack = ATTACKS["pgd"]
    target = Target(bundle.model.spec, open_oracle(bundle.model), attack.threat, network=network)
    assert attack.run(target, AttackData(craft=Split(CRAFT), test=Split(TEST)), seed=0).outcome.mean() > 0.5


class Moved(nn.Module):
    """Probabilities that a last step has moved: it keeps the larger of two, and changes who reaches a threshold."""

    def __init__(self, step, seed=0):
        super().__init__()
        self.step = step
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
        nn.init.constant_(self.body[2].bias[0], 0.45)
        nn.init.constant_(self.body[2].bias[1], -0.45)

    def forward(self, x):
        return self.step(torch.softmax(6 * self.body(x), 1))


AT = {"threshold": 0.06, "output": "probabilities", "classes": ("no", "yes")}
WIDE = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
MOVED = {
    "drawn to the middle": lambda p: p * 0.9 + 0.05,
    "rounded": lambda p: torch.round(p * 100) / 100,
    "clipped": lambda p: torch.clamp(p, 0.05, 0.95),
}


def hidden(network, model, spec):
    """The share of its positives that the model decides otherwise after an attack on `network`."""
    own = spec.decide(model.predict(WIDE).scores)
    search = searching(as_attacker_sees(network, spec), Ball(torch.full((16,), 0.4)))
    found = worst_case_pgd(search, torch.as_tensor(WIDE), torch.as_tensor(own), steps=30, restarts=2)
    return float((spec.decide(model.predict(found.adversarial.numpy()).scores)[own == 1] != 1).mean())


@pytest.mark.parametrize("name", MOVED)
def test_a_last_step_that_moves_probabilities_across_the_threshold_stays_in_the_network(name, tmp_path, monkeypatch):
    bundle = protect(Moved(MOVED[name]).eval(), Split(WIDE), OPEN, tmp_path / "bundle", **AT)
    model, spec = bundle.model, bundle.model.spec
    monkeypatch.setattr("medward.attacks.validate.run_validation", lambda given, *_, **__: given)
    before = Moved(MOVED[name], seed=1).eval()
    given = validate(bundle, {"test": Split(WIDE)}, tmp_path, before=before)
    assert not given.no_network
    network, twin = given.network, given.before.network
    assert network.exact
    assert twin.exact
    own = spec.decide(model.predict(WIDE).scores)
    seen = network_decisions(as_attacker_sees(network, spec), torch.as_tensor(WIDE)).numpy()
    at_it = model.predict(WIDE).scores[:, 1] == np.float32(0.06)
    assert (seen == own)[~at_it].all()
    assert at_it.mean() < 0.02
    found = hidden(network, model, spec)
    network.exact = True
    assert found >= hidden(network, model, spec) - 0.02 > 0.9


def test_a_sample_without_a_row_between_two_borders_does_not_hide_that_there_are_two(tmp_path):
    bundle = protect(Moved(MOVED["rounded"]).eval(), Split(WIDE), OPEN, tmp_path / "bundle", **AT)
    model = bundle.model
    likely = model.predict(WIDE).scores[:, 1]
    far = WIDE[np.abs(likely - 0.06) > 0.012]
    for spec, exact in (
        (model.spec, True),
        (replace(model.spec, task=replace(model.spec.task, threshold=None)), False),
    ):
        network, reason = white_box(bundle.path / "model.onnx", model.predict, far, spec=spec)
        assert not reason
        assert network.exact is exact


def test_without_a_threshold_a_network_is_left_alone():
    network = Risk()
    assert as_attacker_sees(network, screening(threshold=None).spec) is network
    assert decided_by(network, screening(threshold=None).spec) is network


def test_probabilities_made_for_deciding_decide_and_go_back():
    spec, likely = screening().spec, np.linspace(0.001, 0.9, 200)
    both = np.stack([1 - likely, likely], axis=1)
    moved = deciding_probabilities(both, spec)
    assert (moved.argmax(axis=1) == (likely >= 0.02)).all()
    np.testing.assert_allclose(as_scored(moved, spec), both, atol=1e-6)
    np.testing.assert_array_equal(deciding_probabilities(np.eye(2), spec).round(9), np.eye(2))
    assert np.isnan(deciding_probabilities(np.full((1, 2), np.nan), spec)).all()
    assert deciding_probabilities(both, screening(threshold=None).spec) is both


# Thieves


@pytest.fixture(scope="module")
def profile():
    return Profile.fit(screening(), rows(800, 5), risk=0.001, secret=1)


def guarded(profile, **release):
    policy = OPEN.model_copy(update={"release": OPEN.release.model_copy(update=release)})
    guard = Guard(model=screening(), policy=policy, profile=profile, store=MemoryStore())
    return partial(guarded_oracle, guard, fresh=True)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_clone_of_rounded_answers_or_labels_decides_as_the_model_does(profile, labels):
    thief = Knockoff(queries=200, points=1, epochs=40, labels=labels)
    model = screening()
    result = thief.run(Target(model.spec, guarded(profile)(), thief.threat), data_of(model), seed=0)
    assert result.outcome.mean() > 0.85 > result.baseline.mean() + 0.2
    for label in model.spec.classes:
        assert result.curves[f"clone to class {label}"][1][-1] > 0.75


def test_the_thief_without_a_victim_decides_at_the_threshold_too():
    own = rows(1500, 7)
    truth = np.random.default_rng(0).random(1500) < 1 / (1 + np.exp(3.9 - own[:, 0]))
    thief = Knockoff(queries=1500, points=1, epochs=4, pool_share=0.1, labelled=True)
    agreed = {}
    for threshold in (0.02, None):  # by its largest class it would never say the rare one
        model = screening(threshold)
        data = replace(data_of(screening()), craft=Split(own, truth.astype(np.int64)))
        result = thief.run(Target(model.spec, open_oracle(model), thief.threat), data, seed=0)
        agreed[threshold] = result.curves["no victim to class effusion"][1][-1]
    assert agreed[0.02] > 0.5
    assert agreed[None] == 0


def test_choosing_and_learning_see_the_same_decisions():
    model = screening()
    thief = replace(Knockoff(queries=60, points=2, epochs=20), strategy=ActiveThief(by="entropy"))
    asked = []

    def oracle(inputs):
        asked.append(inputs)
        return open_oracle(model)(inputs)

    thief.run(Target(model.spec, oracle, thief.threat), data_of(model), seed=0)
    odds = np.concatenate(asked[1:])[:, 0]  # chosen by the first clone: where it is least sure
    assert np.median(np.abs(odds)) < 0.3 < np.median(np.abs(rows(400, 3)[:, 0]))


@pytest.mark.parametrize("method", ["bayes", "denoise"])
def test_recovered_scores_stay_on_their_side_and_come_closer(method):
    rng = np.random.default_rng(0)
    likely = np.clip(rng.beta(0.6, 8, 400), 1e-4, 0.999)
    both = np.stack([1 - likely, likely], axis=1)
    recovery = Recovery(method=method, level=Level.ROUNDED, decimals=1, threshold=0.02)
    seen = recovery.simulate(both, both)
    found = recovery.recover(seen, seen, both[200:], seed=0)
    assert ((found[:, 1] >= 0.02) == (likely >= 0.02)).all()
    assert np.abs(found - both)[:200].mean() < np.abs(seen - both)[:200].mean()


def test_a_thief_recovers_one_decimal_and_its_clone_decides_as_the_model_does(profile):
    model = screening()
    thief = Knockoff(queries=200, points=1, epochs=30)
    thief = replace(thief, recovery=Recovery(level=Level.ROUNDED, decimals=1))
    result = thief.run(Target(model.spec, guarded(profile, decimals=1)(), thief.threat), data_of(model), seed=0)
    assert result.outcome.mean() > 0.8


def test_targets_that_are_labels_alone_teach_the_same_border():
    model = screening()
    labels = model.spec.decide(model.predict(CRAFT).scores)
    clone = distil_clone(
        model.spec, StolenAnswers(CRAFT, deciding_probabilities(np.eye(2)[labels], model.spec)), epochs=60, seed=0
    )
    assert (clone_decides(clone, TEST) == data_of(model).reference).mean() > 0.85


# Members, benign users, the report


def test_shadows_are_labelled_at_the_threshold_as_the_target_is():
    response = Response(np.array([1, 0]), np.full((2, 2), np.nan), "probabilities")
    shadows = np.array([[[[0.97, 0.03], [0.99, 0.01]]]])
    shown = ClassChannel.of(response, 1, threshold=0.02).coarsen(shadows)
    assert shown[0, 0].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert ClassChannel.of(response, 1).coarsen(shadows)[0, 0].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_what_attackers_and_judges_are_told_are_the_models_decisions():
    model = screening()
    own = model.spec.decide(model.predict(TEST).scores)
    data = share_rows(model, {"test": Split(TEST)}, seed=0).data
    assert 0 < data.reference.mean() < 1
    assert 0 < data.craft.labels.mean() < 1
    assert (open_oracle(model)(TEST).labels == own).all()


def test_benign_users_keep_the_sensitivity_of_the_operating_point(profile, monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)
    monkeypatch.setattr("medward.attacks.validation.clean_cost.LATENCY_PAIRS", 2)
    policy = OPEN.model_copy(update={"release": OPEN.release.model_copy(update={"level": "label"})})

    def fresh_guard():
        return Guard(model=screening(), policy=policy, profile=profile, store=MemoryStore())

    truth = data_of(screening()).reference
    cost, _ = measure_clean_cost(screening(), fresh_guard, ("test", Split(TEST, truth)), None, seed=0)
    found = cost.site.sensitivity["effusion"]
    assert found.undefended.value == found.guarded.value == 1.0


class Operated:
    """A bundle of the screening model, as `run_validation` needs it."""

    bounds = None
    cautions = ()
    sites, power_by_site = MappingProxyType({}), MappingProxyType({})

    def __init__(self, profile):
        self.model, self.profile, self.policy, self.digest = screening(), profile, OPEN, "ab" * 32
        self.digest_without_waivers = self.digest

    @property
    def card(self):
        return SimpleNamespace(plugins={}, certificate=None)

    def guard(self, *, store, clock=lambda: 0.0, **_):
        return Guard(model=self.model, policy=self.policy, profile=self.profile, store=store, clock=clock)


def test_validate_counts_hidden_findings_and_the_report_says_the_operating_point(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)
    splits = {"train": Split(CRAFT), "test": Split(TEST[:60])}
    subject = Deployment(bundle=Operated(profile), network=Risk())
    report = run_validation(subject, splits, tmp_path, attacks=[ATTACKS["pgd"]], progress=False)
    (finding,) = report.findings
    assert finding.undefended.value > 0.5
    assert finding.guarded.value > 0.5
    assert report.provenance.threshold == 0.02
    ways = finding.directions["undefended"]
    assert set(ways) == {"effusion hidden", "effusion raised"}
    fooled = sum(way.value * way.n for way in ways.values()) / sum(way.n for way in ways.values())
    assert fooled == pytest.approx(finding.undefended.value, abs=0.05)
    html = (tmp_path / "report.html").read_text()
    assert "decides effusion when its probability is at least 0.02, else no effusion" in html
    assert f"By direction: undefended effusion hidden {ways['effusion hidden'].value:.1%}" in html
