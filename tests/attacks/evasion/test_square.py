import pytest
import torch
from support.searches import asking

from medward.attacks.evasion.square import square
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.test.inputs[:60])
    return x, network_decisions(plain.network, x)


@pytest.mark.parametrize(("norm", "radius"), [("inf", 0.15), ("2", 0.9)])
def test_more_questions_win_more_and_far_more_than_noise(plain, rows, norm, radius):
    ball = Ball(torch.full((1, 1, 1), radius), 0.0, 1.0, norm)
    few, many = (square(asking(plain.network, ball), *rows, queries=queries) for queries in (10, 300))
    noise = network_decisions(plain.network, ball.clip(rows[0] + ball.surface(rows[0].shape, seeded()))) != rows[1]
    assert many.won.float().mean() > few.won.float().mean() + 0.1
    assert many.won.float().mean() > noise.float().mean() + 0.3
    assert many.queries <= 300 * 60


def test_it_needs_no_gradients_and_follows_scores_where_labels_say_nothing(quantised, rows):
    ball = Ball(torch.full((1, 1, 1), 0.15), 0.0, 1.0)
    with_scores = square(asking(quantised.network, ball), *rows, queries=200)

    def only_labels(ask):
        return lambda x: (torch.full_like(ask(x)[0], torch.nan), ask(x)[1])

    without = square(asking(quantised.network, ball, through=only_labels), *rows, queries=200)
    assert with_scores.won.float().mean() > without.won.float().mean() + 0.2


def test_a_withheld_answer_is_never_better(plain, rows):
    x, y = rows

    def stopped(ask):
        return lambda points: (ask(points)[0] * torch.nan, torch.full_like(ask(points)[1], -1))

    search = asking(plain.network, Ball(torch.full((1, 1, 1), 0.5), 0.0, 1.0), through=stopped)
    found = square(search, x, y, queries=20)
    assert not found.won.any()
    assert found.queries == 20 * len(x)


def test_a_row_that_won_is_not_asked_about_again(plain, rows):
    x, y = rows
    found = square(asking(plain.network, Ball(torch.ones(1, 1, 1), 0.0, 1.0)), x, y)
    assert found.won.all()
    assert found.queries < 50 * len(x)
