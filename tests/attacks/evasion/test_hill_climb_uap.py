from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medward.attacks.base import Access, AttackData
from medward.attacks.evasion import HillClimb
from medward.attacks.evasion.asking import black_box_answers
from medward.attacks.target import Response, Target, open_oracle
from medward.attacks.whitebox.ball import FeatureRules
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

ATTACK = HillClimb(epsilon=0.35, queries=6000, batch=40)


def run(attack, deployed, data, *, seed=0, **parts):
    return attack.run(deployed.target(attack.threat, network=None, **parts), data, seed=seed)


@pytest.mark.parametrize("basis", ["waves", "pixels"])
def test_by_scores_alone_it_beats_noise_of_the_same_norm(plain, attack_data, basis):
    result = run(replace(ATTACK, basis=basis), plain, attack_data)
    assert ATTACK.threat.access == Access.SCORES
    assert result.outcome.mean() > result.baseline.mean() + 0.15
    assert np.abs(result.images["perturbation"]).max() <= 0.35 + 1e-6
    assert result.flags == ()


def test_a_target_class_is_reached_on_rows_not_there_before(plain, attack_data):
    result = run(replace(ATTACK, target_class=8), plain, attack_data)
    clean = plain.predict(attack_data.test.inputs).scores.argmax(axis=1)
    assert len(result.outcome) == ((clean != 8) & (attack_data.test.labels != 8)).sum()
    assert result.outcome.mean() > result.baseline.mean() + 0.2


def test_the_budget_is_kept_and_every_row_asked_is_counted(plain, attack_data):
    asked = []

    def watch(inputs):
        asked.append(len(inputs))
        return open_oracle(plain)(inputs)

    spent = {}
    for queries in (400, 2000):
        asked.clear()
        result = run(replace(ATTACK, queries=queries), plain, attack_data, oracle=watch)
        assert result.queries == sum(asked)
        spent[queries] = result.queries
    assert 0 < spent[2000] - spent[400] <= 1600 + 40
    nothing = run(replace(ATTACK, queries=0), plain, attack_data)
    assert not nothing.outcome.any()
    assert any(flag.startswith("zero steps") for flag in nothing.flags)


def test_same_seed_same_result(plain, attack_data):
    quick = replace(ATTACK, queries=800)
    first, again, other = (run(quick, plain, attack_data, seed=seed).images["perturbation"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_withheld_rows_are_the_worst_there_is_and_a_target_that_refuses_all_is_flagged(plain, attack_data, abstaining):
    result = run(replace(ATTACK, queries=800), plain, attack_data, oracle=abstaining)
    assert not result.outcome.any()
    assert not result.images["perturbation"].any()
    assert any("abstains" in flag for flag in result.flags)


def test_immutable_features_never_move(linear_model):
    inputs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    data = AttackData(craft=Split(inputs[:100]), test=Split(inputs[100:]))
    attack = replace(ATTACK, epsilon=1.0, queries=2000, rules=FeatureRules(immutable=(0,)))
    result = attack.run(Target(linear_model.spec, open_oracle(linear_model), attack.threat), data, seed=0)
    assert result.images["perturbation"][0] == 0
    assert torch.as_tensor(result.images["perturbation"][1:]).any()


def test_settings_it_cannot_use_are_refused(plain, attack_data):
    for wrong, why in (({"target_class": "all"}, "one class or none"), ({"batch": 0}, "batch: must be at least 1")):
        with pytest.raises(MedwardError, match=why):
            run(replace(ATTACK, **wrong), plain, attack_data)


def test_answers_of_a_few_classes_are_answers():
    """A row that shows its largest classes only is no refusal: a search by scores goes on with what it shows."""
    spec = ModelSpec(
        name="m", modality="tabular", shape=(1,), task=Classification(classes=tuple("abcd"), output="logits")
    )
    shown = np.array([[0.7, np.nan, 0.1, np.nan], [np.nan] * 4])
    target = SimpleNamespace(spec=spec, query=lambda x: Response(np.array([0, -1]), shown, "probabilities"))
    scores, labels = black_box_answers(target)(torch.zeros(2, 1))
    np.testing.assert_allclose(scores[0].exp(), [0.7, 0.1, 0.1, 0.1], atol=1e-6)
    assert torch.isnan(scores[1]).all()
    assert labels.tolist() == [0, -1]
