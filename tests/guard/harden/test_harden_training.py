"""The loop: which epoch is kept, how the radius grows, what augmentation sees, and when it stops."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.faint import images, net
from torch.nn import functional as F

from medward.guard.errors import MedwardError
from medward.guard.harden.network import Rows
from medward.guard.harden.robust.training import Training, train_network

SETTINGS = Training(epochs=6, batch=16, ramp=0.34, augment=None)


def train(merit, settings=SETTINGS, objective=None, split=None, bounds=(0.0, 1.0)):
    torch.manual_seed(0)
    rows = Rows.of(split or images(64, 0), "train", None, None)

    def plain(network, x, y, progress):
        return F.cross_entropy(network(x), y)

    generator = torch.Generator().manual_seed(0)
    return train_network(net(), rows, objective or plain, merit, settings, bounds=bounds, generator=generator)


def scripted(*merits):
    """A judge that says what it is told, and keeps a copy of what it saw."""
    seen = []

    def judge(network):
        seen.append(copy.deepcopy(network.state_dict()))
        return merits[len(seen) - 1]

    return judge, seen


def same(state, other):
    return all(torch.equal(state[key], other[key]) for key in state)


def test_the_sum_then_the_robust_part_chooses_the_epoch_and_its_average_is_returned():
    judge, seen = scripted((0.5, 0.9), (0.6, 0.875), (0.75, 0.75), (0.5, 1.0))
    trained = train(judge)
    assert len(seen) == 4, "no epoch is judged while the radius grows (2 of 6)"
    assert trained.best_epoch == 5
    assert trained.epochs == 6
    assert same(trained.network.state_dict(), seen[2])
    assert not same(seen[2], seen[3])
    assert not trained.network.training


def test_it_stops_when_nothing_gets_better():
    judge, seen = scripted((0.7, 0.7), (0.6, 0.7), (0.5, 0.9), (0.9, 0.9))
    trained = train(judge, replace(SETTINGS, patience=2))
    assert (trained.epochs, trained.best_epoch, len(seen)) == (5, 3, 3)


def test_the_last_epoch_is_always_judged():
    judge, seen = scripted((0.0, 0.0))
    assert train(judge, replace(SETTINGS, epochs=1)).best_epoch == 1
    assert len(seen) == 1


def test_the_last_epoch_is_kept_where_none_is_to_be_chosen():
    judge, seen = scripted((0.1, 0.1))
    trained = train(judge, replace(SETTINGS, keep_last=True, patience=1))
    assert len(seen) == 1
    assert (trained.epochs, trained.best_epoch) == (6, 6)
    assert same(trained.network.state_dict(), seen[0])


def test_the_usual_length_can_be_stretched_and_one_that_was_said_is_not():
    assert replace(SETTINGS, epochs=None, stretch=1.5).length(100) == 1.5 * replace(SETTINGS, epochs=None).length(100)
    assert replace(SETTINGS, stretch=1.5).length(100) == 6


def test_what_is_kept_is_an_average_and_not_the_last_step():
    averaged, _ = (train(lambda _: (1.0, 1.0), replace(SETTINGS, average=keep)).network for keep in (0.999, 0.0))
    judge, seen = scripted(*[(float(i), 0.0) for i in range(4)])
    last = train(judge, replace(SETTINGS, average=0.0)).network
    assert not torch.allclose(averaged[0].weight, last[0].weight)
    assert same(last.state_dict(), seen[-1])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_radius_grows_to_full_and_is_never_nothing(ramp, first, second):
    settings = Training(ramp=ramp)
    early, late = sorted((first, second))
    assert 0 < settings.grown(early) <= settings.grown(late) <= 1
    assert settings.grown(1.0) == 1


def test_the_objective_is_told_how_far_training_is():
    told = []

    def objective(network, x, y, progress):
        told.append(progress)
        return F.cross_entropy(network(x), y)

    train(lambda _: (0.0, 0.0), objective=objective)
    assert told == pytest.approx([i / 24 for i in range(24)])


def test_augmentation_sees_values_from_0_to_1_and_cannot_leave_the_range():
    given_to, seen = [], []

    def views(x, generator):
        given_to.append((float(x.min()), float(x.max())))
        return x + torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5

    def objective(network, x, y, progress):
        seen.append((float(x.min()), float(x.max())))
        return F.cross_entropy(network(x), y)

    split = images(64, 0)
    split.inputs[:] = split.inputs * 255 - 100
    split.inputs[:2] = [[[[-100]]], [[[155]]]]
    train(lambda _: (0.0, 0.0), replace(SETTINGS, augment=views), objective, split, (-100.0, 155.0))
    assert min(low for low, _ in given_to) == pytest.approx(0, abs=1e-6)
    assert max(high for _, high in given_to) == pytest.approx(1)
    assert min(low for low, _ in seen) == pytest.approx(-100)
    assert max(high for _, high in seen) == pytest.approx(155)


def test_a_loss_that_is_no_number_is_one_sentence():
    with pytest.raises(MedwardError, match=r"the loss of epoch 1 is not a number; lower --rate \(0.002\)"):
        train(lambda _: (0.0, 0.0), objective=lambda network, x, y, p: network(x).sum() * float("nan"))


def test_a_line_is_logged_for_every_epoch(caplog):
    with caplog.at_level("INFO", logger="medward.harden"):
        train(lambda _: (0.25, 0.75))
    assert len(caplog.messages) == 6
    assert caplog.messages[-1].startswith("epoch 6/6: loss ")
    assert caplog.messages[-1].endswith("0.750 clean, 0.250 under attack")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"epochs": 0}, "epochs: must be at least 1, got 0"), ({"rate": 0.0}, "rate"), ({"batch": 1}, "batch")],
)
def test_settings_that_cannot_train_are_refused(wrong, sentence):
    with pytest.raises(MedwardError, match=sentence):
        replace(SETTINGS, **wrong).check()
