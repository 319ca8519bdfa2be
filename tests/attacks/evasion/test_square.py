import pytest
import torch

from medward.attacks.evasion.per_image import score_query
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
    few, many = (
        square(score_query(plain.network), *rows, ball, queries=queries, generator=seeded()) for queries in (10, 300)
    )
    noise = network_decisions(plain.network, ball.clip(rows[0] + ball.surface(rows[0].shape, seeded()))) != rows[1]
    assert many.won.float().mean() > few.won.float().mean() + 0.1
    assert many.won.float().mean() > noise.float().mean() + 0.3
    assert many.queries <= 300 * 60


def test_it_needs_no_gradients_and_follows_scores_where_labels_say_nothing(quantised, rows):
    ball = Ball(torch.full((1, 1, 1), 0.15), 0.0, 1.0)
    ask = score_query(quantised.network)
    with_scores = square(ask, *rows, ball, queries=200, generator=seeded())

    def only_labels(x):
        scores, labels = ask(x)
        return torch.full_like(scores, torch.nan), labels

    without = square(only_labels, *rows, ball, queries=200, generator=seeded())
    assert with_scores.won.float().mean() > without.won.float().mean() + 0.2


def test_a_withheld_answer_is_never_better(plain, rows):
    x, y = rows
    ask = score_query(plain.network)

    def stopped(points):
        scores, labels = ask(points)
        return torch.full_like(scores, torch.nan), torch.full_like(labels, -1)

    found = square(stopped, x, y, Ball(torch.full((1, 1, 1), 0.5), 0.0, 1.0), queries=20, generator=seeded())
    assert not found.won.any()
    assert found.queries == 20 * len(x)


def test_a_row_that_won_is_not_asked_about_again(plain, rows):
    x, y = rows
    found = square(score_query(plain.network), x, y, Ball(torch.ones(1, 1, 1), 0.0, 1.0), generator=seeded())
    assert found.won.all()
    assert found.queries < 50 * len(x)
