"""Pooled confidences against membership: what falls, what stays, and what an attacker of labels alone still reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from medward.attacks.candidates.channels import ClassChannel, FindingChannel
from medward.attacks.candidates.pools import pooled_rows, read_pools
from medward.attacks.intervals import auc
from medward.attacks.target import Response
from medward.guard.policy import LEAST_POOLED
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Level

MEMBERS, OTHERS, CALIBRATION, SHADOW = (range(200), range(200, 400), range(400, 1000), range(1000, 2200))
TASK = Classification(classes=("a", "b", "c"), output="logits")
TASK2 = Classification(classes=("a", "b"), output="logits")
COPIES = 12
TRUTH = np.arange(400) < 200


def drawn(seed=0):
    """Rows of three classes, one label in twenty random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 2200)
    inputs = rng.normal(size=(2200, 40)) + 2 * np.eye(3, 40)[labels]
    noisy = rng.random(2200) < 0.05
    return inputs.astype(np.float32), np.where(noisy, rng.integers(0, 3, 2200), labels)


def overfitted(inputs, labels, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Linear(128, 3))
    optimiser, x, y = torch.optim.Adam(network.parameters(), 0.01), torch.as_tensor(inputs), torch.as_tensor(labels)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return lambda rows: network(torch.as_tensor(rows)).detach().double().numpy()


@pytest.fixture(scope="module")
def arena():
    """The inputs, the labels, the target, shadows of other rows, and noisy copies of the candidates."""
    inputs, labels = drawn()
    target = overfitted(inputs[MEMBERS], labels[MEMBERS], 0)
    rng = np.random.default_rng(1)
    parts = [rng.choice(SHADOW, 200, replace=False) for _ in range(6)]
    shadows = [overfitted(inputs[part], labels[part], 1 + each) for each, part in enumerate(parts)]
    copies = np.stack([inputs[:400] + 0.3 * rng.normal(size=(400, 40)).astype(np.float32) for _ in range(COPIES)])
    return inputs, labels, target, shadows, copies


def pooling(arena, share):
    inputs, _, target, _, _ = arena
    return TASK.fit_pools(target(inputs[CALIBRATION]), share, 1.0) if share else None


def shown(arena, share, rows):
    _, _, target, _, _ = arena
    outputs = target(rows)
    left = TASK.release(outputs, Level.ROUNDED, ReleaseSettings(decimals=3, pools=pooling(arena, share)))
    return Response(TASK.decide(outputs), left, "probabilities")


def loss_auc(arena, share):
    inputs, labels, *_ = arena
    response = shown(arena, share, inputs[:400])
    channel = ClassChannel.of(response, 1)
    return auc(channel.phi(response.scores[None], labels[:400]), TRUTH)


def shadow_auc(arena, share):
    """Offline LiRA with one variance, the shadows seen as the target was."""
    inputs, labels, _, shadows, _ = arena
    response = shown(arena, share, inputs[:400])
    channel = ClassChannel.of(response, 1)
    values = np.stack([softmax(each(inputs[:400]), axis=1)[None] for each in shadows])
    seen, expected = (channel.phi(each, labels[:400]) for each in (response.scores[None], channel.coarsen(values)))
    return auc((seen - expected.mean(axis=0)) / expected.std(), TRUTH)


def label_auc(arena, share):
    """The gap attack on noisy copies: how often the label stays right."""
    _, labels, _, _, copies = arena
    right = [shown(arena, share, each).labels == labels[:400] for each in copies]
    return auc(np.mean(right, axis=0), TRUTH)


def test_the_loss_attack_and_lira_fall_and_the_label_only_attack_does_not(arena):
    assert min(loss_auc(arena, 0), shadow_auc(arena, 0)) > 0.75
    assert loss_auc(arena, 0.9) < loss_auc(arena, 0) - 0.08
    assert shadow_auc(arena, 0.9) < shadow_auc(arena, 0) - 0.06
    assert label_auc(arena, 0.9) == label_auc(arena, 0) > 0.7, "this is what pooling cannot stop"


def test_pools_of_every_allowed_share_help(arena):
    found = [loss_auc(arena, share) for share in (LEAST_POOLED, 1.0)]
    assert max(found) < loss_auc(arena, 0) - 0.08


def averaged_auc(arena, share):
    """The loss attack of an attacker who asks about noisy copies wherever a confidence is that of a pool."""
    inputs, labels, _, _, copies = arena
    first = shown(arena, share, inputs[:400])
    pools = read_pools(first.scores, None, 3)
    inside = np.zeros(400, bool) if pools is None else pooled_rows(first.scores, None, pools)
    every = [first] + [shown(arena, share, each) for each in copies]
    said = np.stack([np.where(inside | (each is first), each.labels, -1) for each in every])
    scores = np.stack([each.scores for each in every])
    seen = np.where((said >= 0)[..., None], scores, np.nan).reshape(-1, 3)
    channel = ClassChannel.of(Response(said.reshape(-1), seen, "probabilities"), len(every))
    return auc(channel.phi(scores, labels[:400]), TRUTH)


def test_noisy_copies_win_back_what_labels_tell_even_where_every_confidence_is_pooled(arena):
    assert loss_auc(arena, 1.0) < averaged_auc(arena, 1.0) - 0.03
    assert averaged_auc(arena, 1.0) > label_auc(arena, 1.0) - 0.03


def test_no_share_takes_scores_below_what_a_right_decision_tells(arena):
    inputs, labels, target, _, _ = arena
    gap = auc((target(inputs[:400]).argmax(axis=1) == labels[:400]).astype(float), TRUTH)
    assert loss_auc(arena, 1.0) >= gap - 0.02


def test_where_a_model_is_nearly_always_sure_only_the_whole_pool_changes_anything():
    rng = np.random.default_rng(0)
    sure = rng.normal(0, 1, (500, 2)) + 40 * np.eye(2)[rng.integers(0, 2, 500)]
    sure[:10] /= 40
    plain = TASK2.release(sure, Level.ROUNDED, ReleaseSettings(decimals=2))
    left = {
        share: TASK2.release(sure, Level.ROUNDED, ReleaseSettings(decimals=2, pools=TASK2.fit_pools(sure, share, 1.0)))
        for share in (0.9, 1.0)
    }
    np.testing.assert_array_equal(left[0.9], plain)
    assert len(np.unique(left[1.0].max(axis=1))) < len(np.unique(plain.max(axis=1)))


def test_decisions_and_calibration_stay(arena):
    inputs, labels, *_ = arena
    rows, true = inputs[1000:], labels[1000:]
    plain, pooled = (shown(arena, share, rows) for share in (0, 0.9))
    np.testing.assert_array_equal(plain.labels, pooled.scores.argmax(axis=1))
    errors = [calibration_error(each.scores, true) for each in (plain, pooled)]
    assert errors[1] <= errors[0] + 0.02
    assert pooled.scores.max(axis=1).mean() == pytest.approx(plain.scores.max(axis=1).mean(), abs=0.02)


def calibration_error(scores, labels, bins=10):
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(abs((confidence - right)[place == each].sum()) for each in range(bins)) / len(labels)


def test_averaging_the_same_question_undoes_nothing(arena):
    inputs, *_ = arena
    first, again = (shown(arena, 0.9, inputs[:50]).scores for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_an_attacker_reads_the_pools_off_the_answers_and_sees_shadows_alike(arena):
    inputs, *_ = arena
    response = shown(arena, 0.9, inputs[:400])
    pools, true = read_pools(response.scores, None, 3), pooling(arena, 0.9)
    np.testing.assert_allclose(pools.means, true.means, atol=6e-4)
    assert (pools.cuts <= true.cuts + 1e-3).all()
    inside = pooled_rows(response.scores, None, pools)
    assert 0.8 < inside.mean() < 1
    channel, outputs = ClassChannel.of(response, 1), arena[2](inputs[:400])
    known = channel.coarsen(np.exp(log_softmax(outputs, axis=1))[None])
    close = np.isclose(known[0], response.scores, atol=2e-3).all(axis=1)
    assert close.mean() > 0.95
    plain = shown(arena, 0, inputs[:400])
    assert read_pools(plain.scores, None, 3) is None, "the negative control: nothing was pooled"
    assert read_pools(plain.scores, None, None) is None


def test_pools_of_findings_and_of_an_operating_point_are_read_too():
    rng = np.random.default_rng(3)
    scores = rng.beta(0.4, 0.4, (600, 2))
    several = Multilabel(findings=("a", "b"), output="probabilities", thresholds=(0.5, 0.2))
    settings = ReleaseSettings(decimals=3, pools=several.fit_pools(scores, 0.7, 1.0))
    left = several.release(scores, Level.ROUNDED, settings)
    every = np.ones((1, 600), bool)
    pools = read_pools(left, several.thresholds, 3)
    channel = FindingChannel(3, every, every, several.thresholds, pools)
    assert np.isclose(channel.coarsen(scores[None])[0], left, atol=2e-3).mean() > 0.99  # all but those next to a cut
    screen = Classification(classes=("no", "yes"), output="probabilities", threshold=0.2)
    pair = np.stack([1 - scores[:, 0], scores[:, 0]], axis=1)
    pair = pair / pair.sum(axis=1, keepdims=True)
    left = screen.release(pair, Level.ROUNDED, ReleaseSettings(decimals=3, pools=screen.fit_pools(pair, 0.7, 1.0)))
    channel = ClassChannel.of(Response(screen.decide(pair), left, "probabilities"), 1, 0.2)
    assert np.isclose(channel.coarsen(pair[None])[0], left, atol=2e-3).mean() > 0.99
