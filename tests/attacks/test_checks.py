import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attacks import checks
from attacks.adaptive import Detector
from attacks.ascent import decide, margin, stepwise
from attacks.ball import Ball
from attacks.evasion import PGD, UniversalPerturbation
from guard.types import ModelSpec


def flags_of(deployed, digits, network=None):
    network = network or deployed.network
    x, craft = torch.as_tensor(digits.inputs[1400:1500]), torch.as_tensor(digits.inputs[:300])
    ball = Ball.of(deployed.spec, craft.numpy(), 0.15)
    y = decide(network, x)
    return checks.evasion_flags(network, x, y, ball=ball, craft=craft, modality="image", seed=0)


def test_an_honest_network_is_not_accused(plain, digits):
    assert flags_of(plain, digits) == ()


def test_inflated_logits_are_named(inflated, digits):
    flags = flags_of(inflated, digits)
    assert any("zero or non-finite cross-entropy gradient" in flag for flag in flags)


def test_a_quantiser_is_named_by_dead_gradients_and_by_transfer(quantised, digits):
    flags = " ".join(flags_of(quantised, digits))
    assert "zero or non-finite margin gradient" in flags
    assert "weaker than transfer" in flags
    assert "unbounded perturbations fool only" in flags


@pytest.mark.parametrize(
    "attack", [UniversalPerturbation(epsilon=0.15, epochs=1), PGD(epsilon=0.1, steps=5, restarts=1)]
)
@pytest.mark.parametrize("fault", ["inflated", "quantised"])
def test_no_fault_passes_an_attack_in_silence(request, attack, fault, attack_data):
    deployed = request.getfixturevalue(fault)
    flags = attack.run(deployed.target(attack.threat), attack_data, seed=0).flags
    assert any(flag.startswith("masked gradients") for flag in flags)


def test_noise_in_the_forward_pass_is_named(plain, digits):
    class Noisy(torch.nn.Module):
        def forward(self, x):
            return plain.network(x + 0.05 * torch.randn_like(x))

    assert any(flag.startswith("random forward pass") for flag in flags_of(plain, digits, Noisy()))


def test_probabilities_are_named(plain, digits):
    class Probable(torch.nn.Module):
        def forward(self, x):
            return plain.network(x).softmax(dim=1)

    assert any("probabilities, not logits" in flag for flag in flags_of(plain, digits, Probable()))


def test_a_model_with_one_answer_survives_anything_and_is_named(plain, digits):
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.pad(x.flatten(1).mean(dim=1, keepdim=True) * 0.01 + 5, (0, 1))

    assert any(flag.startswith("unbounded perturbations") for flag in flags_of(plain, digits, Constant()))


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (
            checks.not_converged,
            ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],),
            ([0.1, 0.5, 0.7, 0.7, 0.71, 0.71],),
        ),
        (checks.not_converged, ([0.0, 0.0, 0.0, 0.5],), ([0.0, 0.0, 0.0, 1.0],)),
        (checks.not_monotone, ([0, 1, 2], [0, 0.9, 0.2], 200), ([0, 1, 2], [0, 0.2, 0.9], 200)),
        (checks.not_monotone, ([0, 1], [0.1, 0.2], 200), ([0, 1], [0.0, 0.2], 200)),
        (checks.weaker_than_noise, (0.1, 0.5, 200), (0.5, 0.1, 200)),
        (checks.abstains, (0.51,), (0.01,)),
        (checks.survives_anything, (0.5,), (1.0,)),
        (checks.not_alive, (0, torch.ones(1)), (1, torch.ones(1))),
        (checks.not_alive, (5, torch.zeros(1)), (5, torch.ones(1))),
    ],
)
def test_each_check_speaks_when_it_should_and_only_then(check, bad, good):
    assert isinstance(check(*bad), str)
    assert check(*good) is None


def test_transfer_must_be_clearly_stronger_to_accuse():
    white, transfer = torch.zeros(100, dtype=torch.bool), torch.zeros(100, dtype=torch.bool)
    transfer[:4] = True
    assert checks.weaker_than_transfer(white, transfer) is None
    transfer[:40] = True
    assert "0% against 40%" in (checks.weaker_than_transfer(white, transfer) or "")


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
    return checks.dead_screens(deployed.network, detector, x, ball, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("profile", ["margins", "digit_profile"])
def test_screens_without_a_usable_gradient_are_named_and_others_not(request, plain, digits, profile):
    honest = request.getfixturevalue(profile)
    assert screen_flags(plain, digits, honest) == ()
    for fault in (Rounded(honest), Rounded(honest, wrong=True)):
        (flag,) = screen_flags(plain, digits, fault)
        assert flag.startswith("the screens' gradient leads nowhere")
        assert screen_flags(plain, digits, fault, epsilon=0.0) == ()


def test_an_attack_on_screens_without_a_gradient_is_flagged(plain, attack_data, screened, margins):
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
    landed = stepwise(point, clean, 1 / 255)
    assert ((landed - clean).abs() <= (point - clean).abs() + 1e-7).all()
    assert (landed * 255 - torch.round(landed * 255)).abs().max() < 2e-3
    assert ((landed - point).abs() < 1 / 255 + 1e-6).all()
    whole = torch.round(point * 255) / 255
    torch.testing.assert_close(stepwise(whole, clean, 1 / 255), whole, atol=1e-6, rtol=0)


finite = st.floats(-3, 3, width=32)


@given(
    x=hnp.arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
    point=hnp.arrays(np.float32, (4, 3), elements=finite),
    epsilon=st.floats(0, 2),
    high=st.floats(1, 2.5),
)
def test_projection_lands_in_the_ball_and_in_the_range_the_model_accepts(x, point, epsilon, high):
    spec = ModelSpec(name="b", modality="image", shape=(3,), classes=("a", "b"), output="logits", low=-0.1, high=high)
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
    assert np.array_equal(margin(torch.as_tensor(scores), labels).numpy() > 0, others > scores[:, label])
