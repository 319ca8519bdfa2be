"""Who knows the guard attacks its certificate: a sound one gives no changed answer, one that is not sound is passed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.certified import certifying_all, forest, greys, halved, images, policy, protected
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.evasion import APGD, PGD, HopSkipJump, Square, UniversalPerturbation
from medward.attacks.evasion.certificate_notes import byproduct_note, unfollowed_note
from medward.attacks.target import guarded_oracle
from medward.attacks.validation.deployment import Deployment, queried_target
from medward.attacks.validation.finding import Status
from medward.attacks.validation.run import run_validation
from medward.attacks.whitebox.certificate import class_leads, followed_certificate
from medward.attacks.whitebox.certified_change import CertifiedChange
from medward.attacks.whitebox.criterion import ANY_CLASS, ClassChange
from medward.attacks.whitebox.finding_change import FindingChange
from medward.attacks.whitebox.network import as_attacker_sees
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.make import protect
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.policy import Policy

EPSILON = 4 / 255
ABSTAINS = "always abstains"
NEAR = greys(*np.arange(120.25, 135, 0.25))
"""Greys about the border at 127.5, of which 8 are certified at 4 levels on either side."""


@pytest.fixture(autouse=True)
def _short(monkeypatch, without_page):
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (0.5, 1.0))
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return protected(tmp_path_factory.mktemp("certified") / "bundle")


def deployment(bundle):
    network, reason = white_box(
        bundle.path / "model.onnx", bundle.model.predict, images(40), bundle.card.options, spec=bundle.model.spec
    )
    assert network is not None, reason
    return Deployment(bundle=bundle, network=network)


def attempts(bundle, attack, rows=NEAR, arm="adaptive"):
    subject = deployment(bundle)
    runner = attack.adaptive(bundle.policy) if arm == "adaptive" else attack
    decided = [bundle.model.spec.decide(bundle.model.predict(each).scores) for each in (images(80), rows)]
    data = AttackData(craft=Split(images(80), decided[0]), test=Split(rows, decided[1]), reference=decided[1])
    result = runner.run(queried_target(subject, arm, runner), data, seed=0)
    unusable = [flag for flag in result.flags if not flag.startswith(ABSTAINS)]  # rows by the border are not certified
    assert unusable == []
    return result.attempts


def fooled(*given, **options):
    return max(int(each.fooled.sum()) for each in attempts(*given, **options))


@pytest.mark.slow
def test_no_certified_answer_is_changed_within_the_radius(bundle):
    for attack in (PGD(epsilon=EPSILON, steps=10), APGD(epsilon=EPSILON, steps=10, restarts=1)):
        assert fooled(bundle, attack, arm="undefended") > 20
        assert fooled(bundle, attack) == 0
    assert fooled(bundle, UniversalPerturbation(epsilon=EPSILON, epochs=2)) == 0
    assert fooled(bundle, Square(epsilon=EPSILON, queries=50)) == 0


@pytest.mark.slow
def test_with_more_room_the_same_attack_changes_certified_answers(bundle):
    assert fooled(bundle, PGD(epsilon=4 * EPSILON, steps=10)) > 20
    assert fooled(bundle, UniversalPerturbation(epsilon=4 * EPSILON, epochs=2)) > 10


def test_bounds_that_are_not_sound_are_passed_by_who_attacks_the_certificate(bundle):
    attack = PGD(epsilon=EPSILON, steps=10)
    knowing = fooled(halved(bundle), attack)
    assert knowing >= 12  # within two levels on either side of the border, where half of the radius holds
    assert knowing > fooled(halved(bundle), attack, arm="guarded")


def test_a_fake_that_certifies_everything_is_passed(bundle):
    assert fooled(certifying_all(bundle), PGD(epsilon=EPSILON, steps=10)) > 20


def test_what_is_denied_is_what_was_certified_and_is_not_at_twice_the_radius(bundle):
    (attempt,) = attempts(bundle, PGD(epsilon=EPSILON, steps=10))
    grey = NEAR[:, 0, 0, 0] * 255
    distance = np.abs(grey - 127.5)
    sure, lost = distance > 4.01, distance < 7.5
    assert attempt.denied.tolist() == (sure & lost).tolist()
    assert attempt.certified.tolist() == sure.tolist()
    assert attempt.changed[distance < 3.5].all(), "whether a certificate goes with the answer or not"
    assert not attempt.changed[distance > 4.5].any()


@pytest.mark.parametrize("uncertified", ["mark", "withhold"])
def test_an_answer_that_goes_to_a_person_is_neither_fooled_nor_refused(tmp_path, uncertified):
    made = protected(tmp_path / "bundle", chosen=policy(uncertified))
    (attempt,) = attempts(made, PGD(epsilon=EPSILON, steps=10))
    assert not attempt.fooled.any()
    assert not attempt.refused.any()


@pytest.mark.slow
def test_a_label_that_is_not_certified_counts_as_an_answer(tmp_path):
    made = protected(tmp_path / "bundle", chosen=policy("label"))
    assert fooled(made, PGD(epsilon=EPSILON, steps=10)) > 20


@pytest.mark.slow
def test_single_findings_are_judged_by_their_own_certificate(tmp_path):
    made = protected(tmp_path / "bundle", "findings")  # "top" is certified wherever "light" is near its border
    attack = PGD(epsilon=EPSILON, steps=10)
    assert fooled(made, attack, arm="undefended") > 20
    assert fooled(made, attack) == 0
    assert fooled(halved(made), attack) >= 12


@pytest.mark.slow
def test_trees_are_attacked_by_decisions_and_judged_alike(tmp_path):
    made = forest(tmp_path / "forest")
    rows = made.rows[np.argsort(np.abs(made.rows[:, 0]))][:30]
    decided = made.bundle.model.spec.decide(made.bundle.model.predict(rows).scores)
    data = AttackData(craft=Split(made.rows), test=Split(rows, decided))
    attack = HopSkipJump(epsilon=0.25, queries=60, rows=30)
    found = {}
    for name, bundle in {"sound": made.bundle, "fake": certifying_all(made.bundle)}.items():
        subject = Deployment(bundle=bundle)
        runner = attack.adaptive(bundle.policy)
        found[name] = runner.run(queried_target(subject, "adaptive", runner), data, seed=0).outcome.sum()
    assert found["sound"] == 0
    assert found["fake"] >= 3


def test_a_sound_certificate_is_held_and_a_fake_is_broken(bundle, tmp_path):
    apart = np.concatenate([np.linspace(0.25, 3.75, 20), np.linspace(9, 14, 40)])
    rows = greys(*(127.5 + apart), *(127.5 - apart))  # a third can be changed within 4 levels, all within 16
    bundle = replace(bundle, policy=policy(gate={"uncertified": 0.5}))  # and are not certified
    given = {"train": images(60), "holdout": images(100, 1), "test": rows}
    spec = bundle.model.spec
    splits = {name: Split(each, spec.decide(bundle.model.predict(each).scores)) for name, each in given.items()}

    def judged(chosen, place):
        return run_validation(
            deployment(chosen), splits, tmp_path / place, attacks=[PGD(epsilon=EPSILON, steps=8)], progress=False
        ).findings[0]

    fake = judged(certifying_all(bundle), "fake")
    assert fake.status is Status.BROKEN
    assert any("passes the guard" in each for each in fake.reasons)
    sound = judged(bundle, "sound")
    assert sound.status is Status.HELD, sound.reasons
    assert sound.undefended.value > 0.3
    assert (sound.guarded.value, sound.adaptive.value) == (0, 0)
    assert sound.measures["adaptive"]["certificates denied"].value == 0  # none lies between 4 and 8 levels
    assert sound.clean_cost.site.uncertified.value < 0.2
    assert any("changed answers that are certified are counted" in each for each in sound.reasons)
    assert any("Judged on 80 certified of 120 rows." in each for each in sound.reasons)
    assert sound.measures["adaptive"]["changed, certified or not"].value == pytest.approx(1 / 3, abs=0.1)
    assert not any("by-product" in each or "followed the certificate" in each for each in sound.reasons)


@pytest.mark.slow
def test_a_row_that_a_screen_withholds_is_refused_whether_it_was_certified_or_not(tmp_path):
    strict = {"screen": {"action": "withhold", "rate": 0.05}}
    uneven = np.where(np.indices((1, 4, 4)).sum(axis=0) % 2, 1.0, 0.0).astype(np.float32)[None]  # a mean of one half
    plain = images()[np.abs(images().mean(axis=(1, 2, 3)) - 0.5) < 0.01]
    for chosen in ("mark", "withhold"):
        made = protected(tmp_path / chosen, chosen=policy(chosen, **strict))
        told = guarded_oracle(made.guard(ephemeral=True), fresh=True)(np.concatenate([uneven, plain]))
        assert told.uncertified.all()
        assert told.labels[0] == -1
        assert told.refused[0]
        assert told.refused[1:].mean() < 0.5
        assert (told.labels[~told.refused] == -1).all() == (chosen == "withhold")


def test_who_does_not_follow_the_certificate_or_aim_at_it_is_told(bundle, tmp_path):
    assert unfollowed_note(deployment(bundle)) == ()
    numbers = protected(tmp_path / "numbers", "numbers", chosen=policy(radius=1.0))
    unfollowed = {
        "of a number": deployment(numbers),
        "trees": Deployment(bundle=forest(tmp_path / "forest").bundle),
        "no network": Deployment(bundle=bundle),
    }
    for word, subject in unfollowed.items():
        (said,) = unfollowed_note(subject)
        assert word in said
    assert byproduct_note(PGD(epsilon=EPSILON), policy()) == ()
    for attack in (UniversalPerturbation(epsilon=EPSILON), Square(epsilon=EPSILON), HopSkipJump(epsilon=EPSILON)):
        (said,) = byproduct_note(attack, policy())
        assert "by-product" in said
        assert byproduct_note(attack, Policy(on_error="withhold")) == ()


class _Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 12), nn.ReLU())
        self.last = nn.Linear(12, 3)
        with torch.no_grad():  # so that each class is the answer to some rows
            self.last.bias -= self(torch.as_tensor(images())).mean(dim=0)

    def forward(self, x):
        return self.last(self.layers(x))


def test_the_certificate_that_is_followed_is_the_deployed_one(tmp_path):
    made = protect(
        _Pooled().eval(),
        Split(images()),
        policy(radius=0.5),
        tmp_path / "pooled",
        classes=("a", "b", "c"),
        task="classification",
        output="logits",
        low=0.0,
        high=1.0,
    )
    network = deployment(made).network
    certifier = Certifier.of(made.bounds, made.policy, made.model.spec)
    found, reason = followed_certificate(as_attacker_sees(network, made.model.spec), certifier, images(20))
    assert found is not None, reason
    rows = images(60, 5)
    scores = found(torch.as_tensor(rows))
    leads = scores[:, 3:].detach().numpy()
    held = certifier.certify(rows, made.model.predict(rows).scores).holds
    assert ((leads > 0).any(axis=1) == held).mean() > 0.98
    assert (leads > 0).sum(axis=1).max() <= 1
    x = torch.as_tensor(rows).requires_grad_()
    found(x)[:, 3:].sum().backward()
    assert (x.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_leads_are_the_least_over_all_others():
    lower, upper = torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[3.0, 4.0, 2.0]])  # of 1 - 0, 2 - 0, 2 - 1
    assert class_leads(lower, upper, 3).tolist() == [[-4.0, -2.0, -1.0]]


def test_what_a_certificate_leaves_is_positive_exactly_where_the_attack_has_won():
    scores, y = torch.tensor([[0.0, 1.0, -0.5, 0.3], [1.0, 0.0, 0.2, -0.7]]), torch.tensor([0, 0])
    assert (CertifiedChange(ANY_CLASS, 2).margin(scores, y) > 0).tolist() == [True, False]
    assert (CertifiedChange(ANY_CLASS, 2, deny=True).margin(scores, y) > 0).tolist() == [True, False]
    assert (CertifiedChange(ClassChange(1), 2).margin(scores, y) > 0).tolist() == [True, False]
    findings = CertifiedChange(FindingChange(count=1), 1, findings=True)
    ends = torch.tensor([[0.5, 0.1, 0.9], [0.5, -0.1, 0.9], [0.5, -0.9, -0.1]])
    assert (findings.margin(ends, torch.tensor([0, 0, 1])) > 0).tolist() == [True, False, True]
