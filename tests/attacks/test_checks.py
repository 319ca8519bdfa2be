from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.searches import searching

from medward.attacks import checks
from medward.attacks.checks import runs, searches
from medward.attacks.evasion import PGD, UniversalPerturbation
from medward.attacks.whitebox.ascent import cut_to_steps
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.losses import margin_loss
from medward.attacks.whitebox.network import Detector
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification


@pytest.mark.parametrize(
    ("attack", "fault", "name"),
    [
        (UniversalPerturbation(epsilon=0.15, epochs=1), "quantised", "quantiser"),
        (PGD(epsilon=0.1, steps=5, restarts=1), "inflated", "logit scaling"),
    ],
)
def test_no_fault_passes_an_attack_in_silence(request, monkeypatch, attack, fault, name, attack_data):
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
    deployed, few = request.getfixturevalue(fault), replace(attack_data, test=attack_data.test.take(slice(0, 30)))
    flags = attack.run(deployed.target(attack.threat), few, seed=0).flags
    assert checks.named_fakes(flags) == (name,)


CLIMB = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
HALF = torch.arange(100) < 50


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (runs.not_converged, (CLIMB,), ([0.1, 0.5, 0.7, 0.7, 0.71, 0.71],)),
        (runs.not_converged, ([0.0, 0.0, 0.0, 0.5],), ([0.0, 0.0, 0.0, 1.0],)),
        (runs.not_monotone, ([0, 1, 2], [0, 0.9, 0.2], 200), ([0, 1, 2], [0, 0.2, 0.9], 200)),
        (runs.not_monotone, ([0, 1], [0.1, 0.2], 200), ([0, 1], [0.0, 0.2], 200)),
        (runs.weaker_than_noise, (0.1, 0.5, 200), (0.5, 0.1, 200)),
        (runs.better_unseen, (0.8, 0.5, 200), (0.5, 0.8, 200)),
        (runs.always_abstains, (0.51,), (0.01,)),
        (runs.one_answer, (torch.zeros(9),), (torch.arange(9) % 2,)),
        (runs.not_alive, (0, torch.ones(1)), (1, torch.ones(1))),
        (runs.not_alive, (5, torch.zeros(1)), (5, torch.ones(1))),
        (searches.survives_anything, (0.5,), (1.0,)),
        (searches.not_doubled, (HALF & ~HALF, HALF), (HALF, HALF)),
        (searches.forgotten_successes, (HALF, ~HALF), (HALF, HALF)),
        (searches.beyond_per_image, (HALF, HALF & ~HALF), (HALF, HALF)),
        (searches.seed_dependent, ([0.2, 0.9, 0.5], 200), ([0.5, 0.52, 0.49], 200)),
    ],
)
def test_each_check_speaks_when_it_should_and_only_then(check, bad, good):
    assert isinstance(check(*bad), str)
    assert check(*good) is None


RUN = {
    "steps": 5,
    "delta": torch.ones(1),
    "success": 0.9,
    "noise": 0.1,
    "n": 200,
    "histories": ([], [0.5, 0.9, 0.9, 0.9]),
    "curve": ([0, 1], [0.0, 0.9]),
    "withheld": 0.0,
    "craft": 0.95,
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "zero steps"),
        ({"success": 0.6, "noise": 0.8}, "weaker than noise"),
        ({"histories": (CLIMB, [0.5, 0.9, 0.9, 0.9])}, "not converged"),
        ({"curve": ([0, 1], [0.2, 0.9])}, "at radius 0"),
        ({"withheld": 1.0}, "always abstains"),
        ({"craft": 0.5}, "held-out"),
    ],
)
def test_a_run_is_flagged_for_each_sign_alone(change, says):
    assert checks.run_flags(**RUN) == ()
    (flag,) = checks.run_flags(**{**RUN, **change})
    assert says in flag


def test_a_search_must_be_clearly_stronger_to_accuse():
    white, transfer = torch.zeros(100, dtype=torch.bool), torch.zeros(100, dtype=torch.bool)
    transfer[:4] = True
    assert searches.weaker_than(white, transfer, "transfer") is None
    transfer[:40] = True
    assert "0% against 40%" in (searches.weaker_than(white, transfer, "transfer") or "")


@given(
    x=hnp.arrays(np.float32, (4, 6), elements=st.floats(0, 1, width=32)),
    point=hnp.arrays(np.float32, (4, 6), elements=st.floats(-1, 2, width=32)),
    radius=st.floats(0.01, 0.5),
    norm=st.sampled_from(["inf", "2"]),
)
def test_what_a_ball_projects_is_in_bounds_and_what_leaves_it_is_not(x, point, radius, norm):
    x, ball = torch.as_tensor(x), Ball(torch.full((6,), radius), 0.0, 1.0, norm)
    inside = ball.project(torch.as_tensor(point), x)
    assert runs.out_of_bounds(inside, x, ball) is None
    away = torch.where(x < 0.5, x + 1.2 * radius, x - 1.2 * radius)
    assert "exceeds the radius" in (runs.out_of_bounds(away, x, ball) or "")
    edge = torch.ones(1, 6)
    assert "beyond the range" in (runs.out_of_bounds(edge + 0.5 * radius / 6, edge, ball) or "")
    assert "not finite" in (runs.out_of_bounds(edge * torch.nan, edge, ball) or "")


def test_examples_that_live_between_the_levels_of_an_image_file_are_named():
    network, clean = torch.nn.Linear(2, 2), torch.full((20, 2), 100 / 255)
    network.weight.data, network.bias.data = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([100.1 / 255, 0.0])
    y = torch.zeros(20, dtype=torch.long)
    small, large = clean + 0.2 / 255, clean + 1 / 255
    search = searching(network, Ball(torch.full((2,), 1 / 255), 0.0, 1.0))
    assert "20 of 20 examples no longer win" in (runs.lost_when_stored(search, small, y) or "")
    assert runs.lost_when_stored(search, large, y) is None


def test_a_zero_is_a_result_once_the_same_search_wins_at_a_larger_radius():
    assert checks.found_nothing(0.0) == ()
    assert "60% of rows fall" in checks.found_nothing(0.6)[0]
    ball = Ball(torch.full((1,), 0.03), 0.0, 1.0)
    assert checks.found_nothing(0.6, ball, lambda larger: 0.0)
    assert checks.found_nothing(0.6, ball, lambda larger: 0.1 * float(larger.radius > 0.1)), (
        "a row or two prove nothing"
    )
    assert checks.found_nothing(0.6, ball, lambda larger: 0.4 * float(larger.radius > 0.1)) == ()


def test_winning_where_any_image_can_become_another_proves_nothing():
    assert checks.found_nothing(0.6, Ball(torch.full((1,), 0.2), 0.0, 1.0), lambda larger: 1.0)
    assert checks.found_nothing(0.6, Ball(torch.full((1,), 0.2)), lambda larger: 1.0) == ()


class Rounded:
    """A screen whose scores come in steps, so that their gradient is zero; `wrong` turns a gradient around."""

    def __init__(self, profile, wrong=False):
        self.profile, self.wrong = profile, wrong

    def score(self, inputs, outputs, xp=np):
        smooth = self.profile.score(inputs, outputs, xp)
        if self.wrong:
            return 2 * smooth.detach() - smooth
        return xp.nan_to_num(xp.round(smooth * 5) / 5, nan=-9.0)

    def screen_cut(self, rate):
        return self.profile.screen_cut(rate)


def screen_flags(deployed, digits, profile, epsilon=0.15):
    x = torch.as_tensor(digits.inputs[:100])
    ball = Ball.of(deployed.spec, digits.inputs, epsilon)
    detector = Detector(profile, profile.screen_cut(0.05))
    return checks.dead_screens(searching(deployed.network, ball, detector=detector), x)


@pytest.mark.parametrize("profile", ["margins", "digit_profile"])
def test_screens_without_a_usable_gradient_are_named_and_others_not(request, plain, digits, profile):
    honest = request.getfixturevalue(profile)
    assert screen_flags(plain, digits, honest) == ()
    for fault in (Rounded(honest), Rounded(honest, wrong=True)):
        (flag,) = screen_flags(plain, digits, fault)
        assert flag.startswith("the screens' gradient leads nowhere")
        assert screen_flags(plain, digits, fault, epsilon=0.0) == ()


def test_an_attack_on_screens_without_a_gradient_is_flagged(monkeypatch, plain, attack_data, screened, margins):
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
    attack = PGD(epsilon=0.1, steps=3, restarts=1, rate=0.05)
    for profile, accused in ((margins, False), (Rounded(margins), True)):
        target = plain.target(attack.threat, oracle=screened, profile=profile)
        flags = attack.run(target, attack_data, seed=0).flags
        assert any("the screens' gradient" in flag for flag in flags) == accused


@given(
    x=hnp.arrays(np.uint8, (4, 3)),
    point=hnp.arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
    steps=st.integers(0, 40),
)
def test_a_change_in_whole_steps_is_never_larger_and_stays_on_the_grid(x, point, steps):
    clean = torch.as_tensor(x / np.float32(255))
    radius = steps / 255
    point = torch.as_tensor(point).clamp(clean - radius, clean + radius)
    landed = cut_to_steps(point, clean, 1 / 255)
    assert ((landed - clean).abs() <= (point - clean).abs() + 1e-7).all()
    assert (landed * 255 - torch.round(landed * 255)).abs().max() < 2e-3
    assert ((landed - point).abs() < 1 / 255 + 1e-6).all()
    whole = torch.round(point * 255) / 255
    torch.testing.assert_close(cut_to_steps(whole, clean, 1 / 255), whole, atol=1e-6, rtol=0)


finite = st.floats(-3, 3, width=32)


@given(
    x=hnp.arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
    point=hnp.arrays(np.float32, (4, 3), elements=finite),
    epsilon=st.floats(0, 2),
    high=st.floats(1, 2.5),
)
def test_projection_lands_in_the_ball_and_in_the_range_the_model_accepts(x, point, epsilon, high):
    spec = ModelSpec(
        name="b",
        modality="image",
        shape=(3,),
        task=Classification(classes=("a", "b"), output="logits"),
        low=-0.1,
        high=high,
    )
    ball = Ball.of(spec, x, epsilon)
    landed = ball.project(torch.as_tensor(point), torch.as_tensor(x))
    assert (np.abs(landed.numpy() - x) <= epsilon + 1e-6).all()
    spec.check(landed.numpy())
    assert torch.equal(ball.project(torch.as_tensor(x), torch.as_tensor(x)), torch.as_tensor(x))


@given(
    scores=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=finite),
    label=st.integers(0, 1),
)
def test_the_margin_is_positive_exactly_where_another_class_wins(scores, label):
    labels = torch.full((len(scores),), label)
    others = np.delete(scores, label, axis=1).max(axis=1)
    assert np.array_equal(margin_loss(torch.as_tensor(scores), labels).numpy() > 0, others > scores[:, label])
