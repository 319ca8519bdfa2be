"""Every planted fake is named by its own name, and honest networks by none."""

import io
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from support.planted import Backward, Faulty
from support.searches import searching
from torch import nn
from torch.nn import functional as F

from medward.attacks.checks import evasion_flags, named_fakes, searches
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import ExpectedOverRandomness, StraightThrough
from medward.attacks.whitebox.onnx.to_torch import Network, to_torch

EPSILON = 0.15


def flags_of(network, digits, epsilon=EPSILON, norm="inf", thorough=False, seed=0, **made):
    x, craft = torch.as_tensor(digits.inputs[1400:1496]), torch.as_tensor(digits.inputs[:200])
    ball = Ball(torch.full((1, 1, 1), epsilon), 0.0, 1.0, norm)
    shared = {"craft": craft, "modality": "image", "seed": seed, "thorough": thorough}
    return evasion_flags(searching(network, ball, seed), x, network_decisions(network, x), **shared, **made)


FAKES = {
    "logits x 200": ({"scale": 200.0}, "logit scaling"),
    "logits x 20": ({"scale": 20.0}, "logit scaling"),
    "4 bits": ({"levels": 15}, "quantiser"),
    "8 bits": ({"levels": 255}, "quantiser"),
    "4 bits and logits x 200": ({"levels": 15, "scale": 200.0}, "quantiser"),
    "no gradient": ({"backward": "zero"}, "gradient killer"),
    "not a number": ({"backward": "nan"}, "gradient killer"),
    "flipped": ({"backward": "flipped"}, "gradient killer"),
    "shuffled": ({"backward": "shuffled"}, "gradient killer"),
    "noise": ({"noise": 0.05}, "random front end"),
}


@pytest.mark.parametrize(("fault", "name"), FAKES.values(), ids=FAKES)
@pytest.mark.parametrize("epsilon", [0.02, EPSILON])
def test_a_fake_is_named_by_its_own_name(body, digits, fault, name, epsilon):
    torch.manual_seed(0)
    assert named_fakes(flags_of(Faulty(body, **fault), digits, epsilon)) == (name,)


def test_examples_of_the_model_before_hardening_win_no_more_on_an_honest_network(body, digits):
    name = "weaker than transfer from the model before hardening"
    masked = flags_of(Faulty(body, backward="flipped"), digits, thorough=True, twin=Faulty(body))
    assert any(flag.startswith(name) for flag in masked)
    assert flags_of(Faulty(body), digits, thorough=True, twin=Faulty(body)) == ()


class InSinglePrecision(nn.Module):
    """A network that double precision cannot enter."""

    def __init__(self, network):
        super().__init__()
        self.ask = lambda x: network(x)

    def forward(self, x):
        return self.ask(x)


@pytest.mark.parametrize("label", ["no gradient", "flipped", "4 bits", "logits x 200"])
def test_a_fake_is_named_in_single_precision_too(body, digits, label):
    fault, name = FAKES[label]
    assert named_fakes(flags_of(InSinglePrecision(Faulty(body, **fault)), digits)) == (name,)
    assert flags_of(InSinglePrecision(Faulty(body)), digits) == ()


def convolutions(seed, adversarial):
    """BatchNorm and black borders, trained for a little while; with `adversarial` as Madry et al. 2018."""
    values, labels = load_digits(return_X_y=True)
    x, y = torch.as_tensor(values / 16).reshape(-1, 1, 8, 8).float(), torch.as_tensor(labels)
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 10),
    )
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(150):
        rows = torch.randint(0, 1300, (64,), generator=torch.Generator().manual_seed(step))
        worst = x[rows]
        for _ in range(4 if adversarial else 0):
            point = worst.requires_grad_(True)
            (slope,) = torch.autograd.grad(F.cross_entropy(network.eval()(point), y[rows]), point)
            worst = (x[rows] + (worst.detach() + 0.05 * slope.sign() - x[rows]).clamp(-0.12, 0.12)).clamp(0, 1)
        optimiser.zero_grad()
        F.cross_entropy(network.train()(worst.detach()), y[rows]).backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def from_file(network):
    """As a network comes back from the deployed file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(2, 1, 8, 8),), file, dynamic_shapes=[{0: torch.export.Dim("n")}])
    return Network(to_torch(file.getvalue()), probabilities=False)


class Front(nn.Module):
    def __init__(self, map_):
        super().__init__()
        self.map = map_

    def forward(self, x):
        return self.map(x)


HONEST = {
    "plain": lambda body: Faulty(body),
    "a scaled gradient points the right way": lambda body: Faulty(body, backward="smaller"),
    "BatchNorm": lambda body: convolutions(0, False),
    "BatchNorm, another seed": lambda body: convolutions(1, False),
    "adversarially trained": lambda body: convolutions(0, True),
    "adversarially trained, another seed": lambda body: convolutions(1, True),
    "from its file": lambda body: from_file(convolutions(0, False)),
    "a front end that clamps": lambda body: nn.Sequential(Front(lambda x: x.clamp(0, 1)), body),
    "BPDA of a quantiser": lambda body: StraightThrough(Faulty(body, levels=15), body),
}


@pytest.mark.parametrize("make", HONEST.values(), ids=HONEST)
def test_an_honest_network_is_not_accused(body, digits, make):
    network = make(body)
    assert flags_of(network, digits) == ()
    assert flags_of(network, digits, epsilon=0.03, seed=1) == ()
    assert flags_of(network, digits, epsilon=1.0, norm="2", seed=2) == ()


@pytest.mark.parametrize("label", ["BatchNorm", "adversarially trained", "BPDA of a quantiser"])
def test_searches_on_an_honest_network_accuse_nobody(body, digits, label):
    assert flags_of(HONEST[label](body), digits, thorough=True) == ()


def test_draws_enough_are_not_accused_and_too_few_are(body, digits):
    torch.manual_seed(0)
    noisy = Faulty(body, noise=0.3)
    assert flags_of(ExpectedOverRandomness(Faulty(body, noise=0.02), 16), digits) == ()
    assert named_fakes(flags_of(ExpectedOverRandomness(noisy, 1), digits)) == ("random front end",)


@pytest.mark.parametrize("seed", range(3))
def test_a_tiny_network_on_a_table_is_not_accused(seed):
    values, labels = load_breast_cancer(return_X_y=True)
    x = torch.as_tensor(values, dtype=torch.float32)
    torch.manual_seed(seed)
    mean, spread = x.mean(0), x.std(0)
    network = nn.Sequential(Front(lambda x: (x - mean) / spread), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 2))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(200):
        optimiser.zero_grad()
        F.cross_entropy(network(x), torch.as_tensor(labels)).backward()
        optimiser.step()
    network.requires_grad_(False)
    rows, craft, ball = x[:96], x[96:400], Ball(spread)
    flags = evasion_flags(
        searching(network, ball, seed),
        rows,
        network_decisions(network, rows),
        craft=craft,
        modality="tabular",
        seed=seed,
    )
    assert flags == ()


@pytest.mark.parametrize("label", ["4 bits", "shuffled"])
def test_searches_without_gradients_outdo_a_masked_one(body, digits, label):
    flags = " ".join(flags_of(Faulty(body, **FAKES[label][0]), digits, thorough=True))
    assert "weaker than transfer" in flags
    assert "weaker than a search without gradients" in flags


def test_dead_gradients_do_not_win_without_a_radius(body, digits):
    assert "unbounded perturbations fool only 0%" in " ".join(flags_of(Faulty(body, levels=15), digits, thorough=True))


def test_probabilities_are_named(body, digits):
    flags = flags_of(nn.Sequential(body, nn.Softmax(dim=1)), digits)
    assert any("probabilities, not logits" in flag for flag in flags)


def test_a_model_with_one_answer_is_named(digits):
    constant = Front(lambda x: F.pad(x.flatten(1).mean(dim=1, keepdim=True) * 0.01 + 5, (0, 1)))
    flags = " ".join(flags_of(constant, digits, thorough=True))
    assert "always the same answer" in flags
    assert "unbounded perturbations" in flags


def test_a_network_whose_answers_depend_on_the_batch_forgets_what_it_lost(digits):
    shy = Front(lambda x: F.pad((x.flatten(1).mean(1) - x[:1].mean())[:, None] * 50, (1, 0)))
    flags = " ".join(flags_of(shy, digits, thorough=True))
    assert "lost examples" in flags


def made(plain, digits, adversarial, epsilon=EPSILON, **settings):
    """The flags of a run that made `adversarial` of its rows."""
    settings = {"thorough": True, "steps": 20, **settings}
    return " ".join(flags_of(plain.network, digits, epsilon, adversarial=adversarial, **settings))


@pytest.fixture(scope="module")
def rows(digits):
    return torch.as_tensor(digits.inputs[1400:1500])


@pytest.fixture(scope="module")
def found(plain, rows):
    search = searching(plain.network, Ball(torch.full((1, 1, 1), EPSILON), 0.0, 1.0))
    return searches.rows_won_by_ascent(search, rows, network_decisions(plain.network, rows), 20)[1]


def test_a_good_run_is_not_accused(plain, digits, found):
    assert made(plain, digits, found) == ""


def test_a_run_that_did_nothing_is_outdone_by_all(plain, digits, rows):
    flags = made(plain, digits, rows)
    assert "twice the steps" in flags
    assert "weaker than a single step" in flags
    assert "weaker than a search without gradients" in flags


def test_a_run_beyond_its_radius_or_range_is_named(plain, digits, found):
    assert "exceeds the radius" in made(plain, digits, found, epsilon=EPSILON / 2, thorough=False)
    assert "beyond the range" in made(plain, digits, found - 0.01, epsilon=0.2, thorough=False)


def test_a_universal_run_is_compared_with_searches_for_each_row(plain, digits, rows, found):
    assert made(plain, digits, rows, universal=True) == ""
    bent = type(plain)(Faulty(plain.network.body, backward="shuffled"))
    assert "per-image search weaker" in made(bent, digits, found, universal=True)


def test_the_planted_gradients_leave_the_scores_alone(body, digits):
    x = torch.as_tensor(digits.inputs[:8])
    for kind in ("zero", "nan", "flipped", "shuffled", "smaller"):
        assert torch.equal(Backward.apply(x, kind), x)
        np.testing.assert_array_equal(Faulty(body, backward=kind)(x), body(x))


class Shattered(nn.Module):
    """A ripple too small to see in front of a network: its gradient is exact, and useless beyond a tiny step."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x + 0.001 * torch.sin(2e4 * x))


def test_a_gradient_that_is_right_only_for_steps_nobody_takes_is_named(body, digits):
    x = torch.as_tensor(digits.inputs[1400:1460])
    network = Shattered(body)
    assert (network_decisions(network, x) == network_decisions(body, x)).float().mean() > 0.95
    assert named_fakes(flags_of(network, digits)) == ("gradient killer",)


def test_declared_randomness_that_is_none_hides_nothing(body, digits):
    turned = Faulty(body, backward="flipped")
    assert named_fakes(flags_of(ExpectedOverRandomness(turned, 2), digits)) == ("gradient killer",)


class FlatPlaces(nn.Module):
    """A network whose scores are constant around chosen rows, as far as `reach`; `jump` is added beyond."""

    def __init__(self, body, rows, reach, jump=0.0):
        super().__init__()
        self.body, self.rows, self.reach, self.jump = body, rows.flatten(1), reach, jump

    def forward(self, x):
        flat = torch.cdist(x.flatten(1), self.rows.to(x), p=torch.inf).amin(dim=1, keepdim=True) <= self.reach
        constant = F.one_hot(torch.zeros(len(x), dtype=torch.long), 10).to(x) * 5
        return torch.where(flat, constant, self.body(x) + self.jump)


@pytest.mark.parametrize(
    ("count", "reach", "says"), [(5, 2.0, ()), (24, 2.0, ("masked gradients",)), (5, 0.5, ("quantiser",))]
)
def test_a_few_places_where_nothing_moves_within_the_radius_hide_nothing(body, digits, count, reach, says):
    """More of them, or scores that do move within the radius, are a mask."""
    rows = torch.as_tensor(digits.inputs[1400 : 1400 + count])
    flags = flags_of(FlatPlaces(Faulty(body), rows, reach * EPSILON), digits)
    assert len(flags) == len(says), flags
    assert all(word in flag for word, flag in zip(says, flags, strict=True))


class BrightPlaces(FlatPlaces):
    """Around the chosen rows scores are constant but where a mean of the values, by `weights`, has risen."""

    def __init__(self, body, rows, weights):
        super().__init__(body, rows, 2 * EPSILON)
        self.weights = torch.as_tensor(weights)[None] / 64

    def forward(self, x):
        near = torch.cdist(x.flatten(1), self.rows.to(x), p=torch.inf).argmin(dim=1)
        rise = (x - self.rows.to(x)[near].view(x.shape)).flatten(1) @ self.weights.to(x).T
        turned = F.one_hot(torch.ones(len(x), dtype=torch.long), 10).to(x) * 9
        flat = super().forward(x)
        inside = torch.cdist(x.flatten(1), self.rows.to(x), p=torch.inf).amin(dim=1, keepdim=True) <= self.reach
        return torch.where(inside & (rise > 0.7 * EPSILON), turned, flat)


@pytest.mark.parametrize("weights", [[1.0] * 64, [2.0] * 32 + [-2.0] * 32], ids=["all", "halves apart"])
def test_places_that_only_brightness_moves_are_a_mask(body, digits, weights):
    """Random signs leave the mean of an image where it is."""
    rows = torch.as_tensor(digits.inputs[1400:1405])
    (flag,) = flags_of(BrightPlaces(Faulty(body), rows, weights), digits)
    assert "quantiser" in flag
