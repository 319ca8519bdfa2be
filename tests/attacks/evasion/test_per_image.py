"""What holds for every attack on single inputs."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.searches import searching

from medward.attacks.base import Access, AttackData
from medward.attacks.evasion import APGD, FGSM, PGD, HopSkipJump, Square, Standard
from medward.attacks.evasion.asking import without_gradients
from medward.attacks.target import Target, open_oracle
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball, FeatureRules
from medward.attacks.whitebox.network import Detector
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

WHITE = (
    FGSM(epsilon=0.12),
    PGD(epsilon=0.12, steps=10, restarts=2),
    APGD(epsilon=0.12, steps=15, targets=2),
    Standard(epsilon=0.12, steps=12, restarts=1, targets=2, queries=30),
)
BLACK = (Square(epsilon=0.12, queries=120, rows=30), HopSkipJump(epsilon=0.12, queries=150, rows=30))
EVERY = pytest.mark.parametrize("attack", [*WHITE, *BLACK], ids=lambda attack: attack.name)
NORMS = pytest.mark.parametrize("norm", ["inf", "2"])
RADIUS = {"inf": 0.15, "2": 0.9}


def search(attack, network, x, y, ball, seed=0, detector=None):
    search = searching(network, ball, seed, detector=detector)
    return attack.search(without_gradients(search) if attack in BLACK else search, x, y)


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.test.inputs[:40])
    return x, network_decisions(plain.network, x)


@pytest.fixture(scope="module")
def few(attack_data):
    return AttackData(craft=attack_data.craft.take(slice(0, 120)), test=attack_data.test.take(slice(0, 60)))


@EVERY
@NORMS
def test_what_won_is_valid_in_the_ball_and_decided_otherwise(plain, rows, attack, norm):
    ball = Ball.of(plain.spec, rows[0].numpy(), RADIUS[norm], norm=norm)
    found = search(attack, plain.network, *rows, ball)
    assert found.won.any()
    assert (network_decisions(plain.network, found.adversarial) != rows[1])[found.won].all()
    assert (ball.size(found.adversarial - rows[0]) <= 1 + 1e-4).all()
    assert torch.equal(ball.clip(found.adversarial), found.adversarial)
    assert (found.gradients > 0) == (attack in WHITE)
    assert (np.diff(found.history) >= -1e-6).all()


@EVERY
def test_same_seed_same_result_and_another_seed_another(plain, rows, attack):
    ball = Ball.of(plain.spec, rows[0].numpy(), 0.1)
    first, again, other = (search(attack, plain.network, *rows, ball, seed).adversarial for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == isinstance(attack, FGSM)


@EVERY
def test_radius_zero_changes_nothing(plain, rows, attack):
    ball = Ball.of(plain.spec, rows[0].numpy(), 0.0)
    found = search(attack, plain.network, *rows, ball)
    assert torch.equal(found.adversarial, rows[0])
    assert not found.won.any()


@EVERY
def test_the_weights_are_left_as_they_are(plain, rows, attack):
    network = copy.deepcopy(plain.network)
    network.zero_grad()
    before, mode = [each.clone() for each in network.state_dict().values()], network.training
    search(attack, network, *rows, Ball.of(plain.spec, rows[0].numpy(), 0.1))
    assert all(torch.equal(*pair) for pair in zip(before, network.state_dict().values(), strict=True))
    assert all(weight.grad is None for weight in network.parameters())
    assert network.training == mode


@EVERY
@NORMS
def test_a_table_keeps_its_immutable_features_and_its_whole_numbers(attack, norm):
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).requires_grad_(False)
    x = torch.randn((60, 5), generator=generator) * 3
    x[:, 1:3] = x[:, 1:3].round()
    spec = ModelSpec(name="t", modality="tabular", shape=(5,), task=Classification(classes=("a", "b"), output="logits"))
    ball = Ball.of(spec, x.numpy(), 1.0, norm=norm, rules=FeatureRules(integer=(1, 2), immutable=(0, 2)))
    found = search(attack, network, x, network_decisions(network, x), ball).adversarial
    change = found - x
    assert torch.equal(found[:, [0, 2]], x[:, [0, 2]])
    assert torch.equal(found[:, 1], found[:, 1].round())
    assert change[:, 3:].any()
    assert (ball.size(change) <= 1 + 1e-4).all()


@EVERY
def test_a_run_reports_what_the_deployed_model_answers(plain, few, attack):
    target = plain.target(attack.threat, network=plain.network if attack in WHITE else None)
    result = attack.run(target, few, seed=0)
    if isinstance(attack, FGSM):  # one step is not enough to call anything robust, and says so
        assert all(flag.startswith("not converged") for flag in result.flags)
    else:
        assert result.flags == ()
    assert result.outcome.mean() > result.baseline.mean()
    assert (result.gradients > 0) == (attack in WHITE)
    assert result.queries == target.queries > 0
    assert result.curves[attack.name][1][0] == 0


@pytest.mark.parametrize("attack", [WHITE[0], WHITE[1], *BLACK], ids=lambda attack: attack.name)
def test_an_attack_that_never_ran_says_so(plain, few, attack):
    attack = replace(
        attack, **({"epsilon": 0.0} if attack.name == "fgsm" else {"steps": 0} if attack in WHITE else {"queries": 0})
    )
    result = attack.run(plain.target(attack.threat), few, seed=0)
    assert not result.outcome.any()
    assert any(flag.startswith(("zero steps", "no perturbation")) for flag in result.flags)


@pytest.mark.parametrize("attack", BLACK, ids=lambda attack: attack.name)
def test_the_budget_of_questions_is_kept_and_gradients_are_not_needed(plain, few, attack):
    result = attack.run(Target(plain.spec, open_oracle(plain), attack.threat), few, seed=0)
    assert attack.threat.access == (Access.SCORES if attack.name == "square" else Access.LABELS)
    assert attack.rows < result.queries <= attack.threat.queries
    assert len(result.outcome) == attack.rows


@pytest.mark.parametrize("attack", BLACK, ids=lambda attack: attack.name)
def test_nothing_is_won_where_everything_is_withheld(plain, few, abstaining, attack):
    result = attack.run(plain.target(attack.threat, oracle=abstaining), few, seed=0)
    assert not result.outcome.any()
    assert any(flag.startswith("always abstains") for flag in result.flags)


def test_the_attacker_without_gradients_meets_the_guard_as_he_is():
    assert all(attack.adaptive(Policy(on_error="flag")) == attack for attack in BLACK)


@pytest.mark.parametrize("attack", WHITE[1:], ids=lambda attack: attack.name)
def test_the_attacker_who_knows_the_screen_gets_past_it_more_often(plain, rows, margins, attack):
    ball, detector = Ball.of(plain.spec, rows[0].numpy(), 0.2), Detector(margins, 1.0)

    def past(known):
        found = search(attack, plain.network, *rows, ball, detector=known).adversarial
        return (network_decisions(plain.network, found) != rows[1]) & (margins.score(found, None, torch) <= 1)

    assert past(detector).sum() > past(None).sum()


def test_radius_and_rules_that_cannot_be_are_refused(plain, few):
    for attack, message in (
        (Square(epsilon=-1.0), "epsilon: must be a finite number"),
        (Square(epsilon=0.1, rules=FeatureRules(integer=(0,))), "are for tables"),
        (FGSM(epsilon=0.1, rules=FeatureRules(integer=(0,))), "are for tables"),
        (HopSkipJump(epsilon=0.1, rows=0), "rows: must be at least 1"),
    ):
        with pytest.raises(MedwardError, match=message):
            attack.run(plain.target(attack.threat), few, seed=0)


def test_probabilities_are_followed_as_well_as_logits(plain, few):
    class Probable:
        spec = replace(plain.spec, task=replace(plain.spec.task, output="probabilities"))

        def predict(self, inputs):
            scores = torch.as_tensor(plain.predict(inputs).scores).softmax(dim=1).numpy()
            return Outputs(scores)

    attack = BLACK[0]
    known, probable = (
        attack.run(Target(model.spec, open_oracle(model), attack.threat), few, seed=0).outcome.mean()
        for model in (plain, Probable())
    )
    assert abs(known - probable) <= 0.1


def test_no_test_row_is_said():
    network = torch.nn.Linear(3, 2).requires_grad_(False)
    spec = ModelSpec(name="t", modality="tabular", shape=(3,), task=Classification(classes=("a", "b"), output="logits"))

    class Model:
        def __init__(self):
            self.spec = spec

        def predict(self, inputs):
            return Outputs(network(torch.as_tensor(inputs)).numpy())

    rows = Split(np.zeros((5, 3), np.float32))
    data = AttackData(craft=rows, test=rows.take(slice(0, 0)))
    for attack in (WHITE[1], BLACK[0]):
        target = Target(spec, open_oracle(Model()), attack.threat, network=network)
        assert attack.run(target, data, seed=0).flags[0].startswith("no rows")
