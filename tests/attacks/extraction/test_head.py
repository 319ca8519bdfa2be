"""On a known encoder a linear head follows from the answers: exactly, roughly where they are rounded, else not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from support.thefts import Coarse, Planted
from torch import nn

from medward.attacks.extraction import HeadAlgebra, Theft, recover_head
from medward.attacks.extraction.head import rounding_unit
from medward.attacks.validation.journal import settings_of
from medward.guard.errors import MedwardError


def subject(n, d, classes, seed=0):
    rng = np.random.default_rng(seed)
    features, weight = rng.normal(size=(n, d)), rng.normal(size=(classes, d))
    return features, softmax(features @ weight.T + rng.normal(size=classes), axis=1), weight


def decided(head, features):
    return (features @ head.weight.T + head.bias).argmax(axis=1)


@settings(max_examples=25)
@given(d=st.integers(1, 20), classes=st.integers(2, 8), seed=st.integers(0, 99))
def test_one_answer_more_than_features_holds_the_whole_head(d, classes, seed):
    features, p, weight = subject(d + 1 + d // 4, d, classes, seed)
    head = recover_head(features, p)
    np.testing.assert_allclose(head.weight, weight - weight[:1], atol=1e-3)
    assert head.error < 1e-6


def test_fewer_answers_than_features_do_not():
    features, p, weight = subject(12, 20, 3)
    head = recover_head(features, p)
    assert head.error < 1e-6, "it fits what was seen"
    assert np.abs(head.weight - (weight - weight[:1])).max() > 0.1


@pytest.mark.parametrize("classes", [2, 7])
def test_rounded_answers_give_it_roughly_and_more_of_them_better(classes):
    features, p, _ = subject(3000, 32, classes)
    truth = p[2000:].argmax(axis=1)
    agreement = {}
    for n in (64, 2000):
        head = recover_head(features[:n], p[:n].round(2))
        agreement[n] = np.mean(decided(head, features[2000:]) == truth)
        assert 1e-4 < head.error < 0.01
    assert 0.5 + 0.5 / classes < agreement[64] < 1
    assert agreement[2000] > max(0.97, agreement[64])
    exact = recover_head(features[:64], p[:64])
    assert np.mean(decided(exact, features[2000:]) == truth) == 1


def test_answers_with_noise_do_not_break_it():
    features, p, _ = subject(1500, 16, 5)
    noisy = softmax(np.log(p) + np.random.default_rng(1).normal(0, 1, p.shape), axis=1)
    head = recover_head(features[:1000], noisy[:1000])
    assert np.mean(decided(head, features[1000:]) == p[1000:].argmax(axis=1)) > 0.9
    assert 0.01 < head.error < 0.2


def test_labels_hold_no_odds():
    features, p, _ = subject(40, 5, 3)
    with pytest.raises(MedwardError, match="labels hold no odds"):
        recover_head(features, np.eye(3)[p.argmax(axis=1)])


@pytest.mark.parametrize(("decimals", "unit"), [(1, 0.1), (2, 0.01), (4, 1e-4), (9, 0.0)])
def test_the_rounding_is_seen_in_the_answers(decimals, unit):
    assert rounding_unit(subject(50, 4, 3)[1].round(decimals)) == pytest.approx(unit)


@pytest.mark.parametrize(("labels", "stolen"), [("soft", True), ("hard", False)])
def test_a_thief_of_the_head_needs_scores_and_a_few_queries(labels, stolen):
    victim = Planted("image", 5)
    thief = Theft(strategy=HeadAlgebra(encoder=Coarse()), labels=labels, queries=8, points=1)
    result = thief.run(victim.target(thief.threat), victim.data(), seed=0)
    if stolen:
        assert result.outcome.mean() == 1
    else:
        np.testing.assert_array_equal(result.outcome, result.baseline)


def test_the_encoder_is_not_touched_and_its_weights_name_the_run():
    encoders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoders.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4)).train())
    victim = Planted("image", 2)
    thief = Theft(strategy=HeadAlgebra(encoder=encoders[0]), queries=20, points=1)
    thief.run(victim.target(thief.threat), victim.data(), seed=0)
    assert encoders[0].training
    assert encoders[0][1].weight.requires_grad
    kept = [settings_of(Theft(strategy=HeadAlgebra(encoder=encoder))) for encoder in encoders]
    assert kept[0] != kept[1]
