import pytest
import torch
from support.searches import asking

from medward.attacks.evasion import oars as module
from medward.attacks.evasion.oars import oars
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


def seeded():
    return torch.Generator().manual_seed(0)


RADIUS = 0.25
FARTHER = 2.0
BALL = Ball(torch.full((1, 1, 1), RADIUS), 0.0, 1.0)


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.test.inputs[:10])
    return x, network_decisions(plain.network, x)


def fooled(plain, found, y):
    return float((network_decisions(plain.network, found.adversarial) != y).float().mean())


def refusing(plain, x, farther, asked=None):
    """A search that is answered with scores, but not on whatever is nearer than `farther` radii to one of the rows."""

    def through(ask):
        def answers(points):
            scores, labels = ask(points)
            near = (points[:, None] - x[None]).abs().flatten(2).amax(dim=2).amin(dim=1) < farther * RADIUS - 1e-4
            if asked is not None:
                asked.extend(near.tolist())
            return scores.masked_fill(near[:, None], torch.nan), labels.masked_fill(near, -1)

        return answers

    return asking(plain.network, BALL, through=through)


def test_it_wins_far_more_than_noise_and_never_asks_more_than_it_may(plain, rows):
    x, y = rows
    few, many = (oars(asking(plain.network, BALL), x, y, queries=n) for n in (1, 200))
    noise = network_decisions(plain.network, BALL.clip(x + BALL.surface(x.shape, seeded()))) != y
    assert many.won.float().mean() > noise.float().mean() + 0.3
    assert not few.won.any()
    assert few.queries == len(x)
    assert many.queries <= 200 * len(x)
    assert ((many.adversarial - x).abs() <= RADIUS + 1e-6).all()
    assert (network_decisions(plain.network, many.adversarial[many.won]) != y[many.won]).all()


def test_it_can_go_by_labels_alone(plain, rows):
    x, y = rows

    def only_labels(ask):
        return lambda points: (torch.full_like(ask(points)[0], torch.nan), ask(points)[1])

    assert oars(asking(plain.network, BALL, through=only_labels), x, y, queries=200).won.float().mean() > 0.2


@pytest.mark.slow
def test_refusals_that_show_teach_it_to_ask_farther_off(plain, rows, monkeypatch):
    x, y = rows
    asked: list = []
    learnt = oars(refusing(plain, x, FARTHER, asked), x, y, queries=200)
    assert fooled(plain, learnt, y) > 0.3
    assert sum(asked) / len(asked) < 0.5, "most of what it asks is answered"
    monkeypatch.setattr(module, "PATIENCE", 10**9)
    stubborn = oars(refusing(plain, x, FARTHER), x, y, queries=200)
    assert torch.equal(stubborn.adversarial, x), "negative control: who does not adapt learns nothing"


def test_what_it_foresees_to_fail_it_does_not_ask(plain, rows):
    x, y = rows

    def near(point):
        return bool((point - x).abs().flatten(1).amax(dim=1).amin() < FARTHER * RADIUS - 1e-4)

    asked: list = []
    found = oars(refusing(plain, x, FARTHER, asked), x, y, queries=200, foresee=near)
    assert fooled(plain, found, y) > 0.3
    assert not any(asked)
    assert not found.won.any(), "a candidate within the radius would have been refused"
    nothing = oars(asking(plain.network, BALL), x, y, queries=200, foresee=lambda point: True)
    assert nothing.queries == 0


def test_an_account_that_is_cut_off_ends_nothing_but_the_budget(plain, rows):
    x, y = rows
    found = oars(refusing(plain, x, 1e9), x, y, queries=40)
    assert found.queries == 40 * len(x)
    assert not found.won.any()
    assert torch.equal(found.adversarial, x)
    assert not oars(asking(plain.network, BALL.scaled(0)), x, y, queries=40).won.any()
