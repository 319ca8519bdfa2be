from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.whitebox.ball import Ball, FeatureRules, feature_rules
from medward.guard.columns import Column
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.threat_policy import ThreatPolicy

TABLE = ModelSpec(name="t", modality="tabular", shape=(4,), task=Classification(classes=("a", "b"), output="logits"))
IMAGE = ModelSpec(
    name="i", modality="image", shape=(1, 3, 3), task=Classification(classes=("a", "b"), output="logits"), low=0, high=1
)
ROWS = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 4]
NORMS = st.sampled_from(["inf", "2"])
SEEDS = st.integers(0, 1000)


def table(norm, epsilon=1.5, **rules):
    return Ball.of(TABLE, ROWS, epsilon, norm=norm, rules=FeatureRules(**rules))


def drawn(seed, ball, n=6, shape=(4,)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, *shape), generator=generator), 9 * torch.randn((n, *shape), generator=generator), generator


@given(SEEDS, NORMS)
def test_what_is_projected_is_inside_and_stays_where_it_is(seed, norm):
    ball = table(norm)
    x, change, _ = drawn(seed, ball)
    once = ball.project(x + change, x)
    assert (ball.size(once - x) <= 1 + 1e-5).all()
    assert torch.allclose(ball.project(once, x), once, atol=1e-5)


@given(SEEDS, NORMS)
def test_an_image_that_is_projected_is_valid_and_inside(seed, norm):
    ball = Ball.of(IMAGE, np.zeros((1, 1, 3, 3)), 0.4, norm=norm)
    x, change, _ = drawn(seed, ball, shape=(1, 3, 3))
    found = ball.project(x.sigmoid() + change, x.sigmoid())
    assert 0 <= found.min() <= found.max() <= 1
    assert (ball.size(found - x.sigmoid()) <= 1 + 1e-5).all()


@given(SEEDS, NORMS)
def test_random_starts_are_inside_and_the_strongest_noise_is_at_the_edge(seed, norm):
    ball = table(norm)
    *_, generator = drawn(seed, ball)
    assert (ball.size(ball.inside((20, 4), generator)) <= 1 + 1e-5).all()
    assert torch.allclose(ball.size(ball.surface((20, 4), generator)), torch.ones(20, 1), atol=1e-5)


@given(SEEDS, NORMS)
def test_no_step_of_one_radius_climbs_higher_than_the_steepest(seed, norm):
    ball = table(norm)
    slope, _, generator = drawn(seed, ball)
    gained = (slope * ball.step(slope)).sum(dim=1)
    other = (slope * ball.surface(tuple(slope.shape), generator)).sum(dim=1)
    assert torch.allclose(ball.size(ball.step(slope)), torch.ones(6, 1), atol=1e-4)
    assert (gained >= other - 1e-4).all()


@given(SEEDS, NORMS)
def test_immutable_features_stay_and_integer_ones_stay_whole(seed, norm):
    ball = table(norm, immutable=(0,), integer=(3,))
    x, change, generator = drawn(seed, ball)
    x[:, 3] = x[:, 3].round()
    for moved in (x + change, x + ball.surface((6, 4), generator), x + ball.step(change)):
        handed_in = ball.usable(ball.project(moved, x), x)
        assert torch.equal(handed_in[:, 0], x[:, 0])
        assert torch.equal(handed_in[:, 3], handed_in[:, 3].round())
        assert (ball.size(handed_in - x) <= 1 + 1e-5).all()


def test_a_zero_slope_moves_nothing():
    for norm in ("inf", "2"):
        assert not table(norm).step(torch.zeros(2, 4)).any()


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (TABLE, {"epsilon": float("inf")}, "epsilon: must be a finite number >= 0, got inf"),
        (TABLE, {"epsilon": 1.0, "rules": FeatureRules(integer=(4,))}, "feature 4 is not there; .* 0 to 3"),
        (IMAGE, {"epsilon": 1.0, "rules": FeatureRules(immutable=(0,))}, "are for tables, not for images"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(spec, settings, message):
    with pytest.raises(MedwardError, match=message):
        Ball.of(spec, np.zeros((3, *spec.shape)), **settings)


def test_a_measurement_error_takes_the_place_of_a_columns_spread():
    task = Classification(classes=("no", "yes"), output="probabilities")
    columns = (Column(name="age"), Column(name="lactate", missing=True))
    spec = ModelSpec(name="m", modality="tabular", shape=(3,), task=task, columns=columns)
    craft = np.array([[40, 1.0, 0], [60, 3.0, 1]], np.float32)
    threat = ThreatPolicy(measurement_error={"lactate": 0.2})
    rules = feature_rules(spec, (), (), threat.spreads())
    assert rules == FeatureRules(spreads=((1, pytest.approx(0.8)),))
    plain, measured = (Ball.of(spec, craft, threat.table, rules=given).radius.tolist() for given in (None, rules))
    assert measured == pytest.approx([2.5, 0.2, plain[2]])
    assert plain[1] == 0.25
    with pytest.raises(MedwardError, match=r"threat.measurement_error: columns .* are needed, got 'crp'"):
        feature_rules(spec, (), (), {"crp": 1.0})


def test_columns_say_what_is_whole_fixed_and_within_which_places():
    columns = (
        Column(name="age", whole=True, immutable=True),
        Column(name="lactate", missing=True),
        Column(name="ward", values=("ER", "ICU", "general")),
    )
    task = Classification(classes=("no", "yes"), output="probabilities")
    spec = ModelSpec(name="m", modality="tabular", shape=(4,), task=task, columns=columns)
    craft = np.array([[40, 1.0, 0, 0], [60, 3.0, 2, 1]], np.float32)
    ball = Ball.of(spec, craft, 3.0)
    assert ball.radius.tolist() == [0, 3, 3, 1.5]
    assert ball.whole.tolist() == [True, False, True, True]
    far = ball.clip(torch.tensor([[-9.0, -9, -9, -9], [99, 99, 99, 99]]))
    assert far.tolist() == [[-9, -9, 0, 0], [99, 99, 2, 1]]
    named = feature_rules(spec, ["1"], ["lactate", 2])
    assert named == FeatureRules(integer=(1,), immutable=(1, 3, 2))
    assert not (Ball.of(spec, craft, 3.0, rules=named).radius > 0).any()
    assert feature_rules(spec, [], []) is None
    with pytest.raises(MedwardError, match="immutable: columns age, lactate, ward, lactate is missing are needed"):
        feature_rules(spec, [], ["weight"])
    plain = Ball.of(replace(spec, shape=(3,), columns=()), craft[:, :3], 3.0)
    assert (plain.whole, plain.least) == (None, None)


@pytest.mark.parametrize("norm", ["inf", "2"])
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from([0.5, 2.5, 4.0]))
def test_what_is_handed_in_of_a_table_with_gaps_is_a_row_that_a_client_can_send(norm, seed, epsilon):
    columns = (Column(name="lactate", missing=True, fill=2.0), Column(name="ward", values=("ER", "ICU")))
    task = Classification(classes=("no", "yes"), output="probabilities")
    spec = ModelSpec(name="m", modality="tabular", shape=(3,), task=task, columns=columns)
    x = torch.tensor([[2.0, 0, 1], [2.0, 1, 1], [1.0, 1, 0], [9.0, 0, 0], [3.5, 1, 0]])
    ball = Ball.of(spec, x.numpy(), epsilon, norm=norm)
    made = ball.usable(ball.project(x + ball.surface((5, 3), torch.Generator().manual_seed(seed)), x), x)
    assert (made[:, 0][made[:, 2] == 1] == 2).all()
    assert torch.equal(ball.clip(made), made)
    assert ((made[:, 1:] == 0) | (made[:, 1:] == 1)).all()
    assert (ball.size(made - x) <= 1 + 1e-4).all()
