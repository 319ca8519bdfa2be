"""Bounds hold every output that an input of the box can have; what has no rule is refused by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from medward.guard.errors import MedwardError
from medward.guard.harden.certified import box as boxes
from medward.guard.harden.certified import propagation
from medward.guard.harden.certified.box import TensorBox, score_differences
from medward.guard.harden.certified.propagation import network_box, traced_network

SHAPE = (2, 8, 8)


class Residual(nn.Module):
    """A residual block as they are written, sum in place and functions among the layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.norm(self.first((x - 0.4) / 0.3)))
        out = -0.5 * self.second(x) + 1
        out += x
        return F.leaky_relu(out, 0.1).mean((2, 3)).view(x.size(0), -1)


class Branches(nn.Module):
    """Two ways that are put beside each other, and a difference of them."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3, groups=1, stride=1)

    def forward(self, x):
        left, right = torch.sigmoid(self.left(x)), F.relu(self.right(x))
        return torch.cat([left - right, 2 - right, F.max_pool2d(left, 2, 1, 1)[:, :, :6, :6]], dim=1).flatten(1)


NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same", dilation=2)),
        *(nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)),
    ),
    "pooling": lambda: nn.Sequential(
        *(nn.ReflectionPad2d(1), nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)),
        *(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ),
    "probabilities": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.ELU(), nn.Linear(8, 3), nn.Softmax(1)),
    "residual": lambda: nn.Sequential(Residual(), nn.Identity(), nn.Linear(4, 3)),
    "branches": lambda: nn.Sequential(Branches(), nn.Linear(9 * 36, 3)),
}


def drawn(name, seed):
    """The network called `name` with weights far from small, and statistics that are not those of a standard normal."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for layer in network.modules():
        for weight in layer.parameters(recurse=False):
            nn.init.normal_(weight, std=0.4)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.2, 2)
    return network.eval()


def leaving(network, seed, radius=0.1, points=64):
    """By how much outputs leave the bounds, over corners of the box, points inside, and ascent to each end."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, *SHAPE, generator=generator)
    with torch.no_grad():
        held = network_box(traced_network(network), x - radius, x + radius)
    many = 2 * torch.rand(points, *SHAPE, generator=generator) - 1
    many[: points // 2] = many[: points // 2].sign()
    found = [x + radius * many]
    for column in range(held.low.shape[1]):
        for sign in (-1, 1):
            at = x.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(sign * network(at)[0, column], at)
            found.append(x + radius * slope.sign())
    with torch.no_grad():
        outputs = network(torch.cat(found))
    return float(torch.maximum(outputs - held.high, held.low - outputs).max()), float((held.high - held.low).min())


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.001, 0.5))
@pytest.mark.parametrize("name", NETWORKS)
def test_no_output_leaves_the_bounds(name, seed, radius):
    out, width = leaving(drawn(name, seed), seed, radius)
    assert out <= 1e-4
    assert width > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_box_of_one_point_is_what_the_network_gives(name):
    network, x = drawn(name, 1), torch.rand(5, *SHAPE)
    with torch.no_grad():
        held = network_box(traced_network(network), x, x)
        assert torch.allclose(held.low, network(x), atol=1e-4)
        assert torch.allclose(held.high, network(x), atol=1e-4)


def test_the_control_a_wrong_sign_is_caught(monkeypatch):
    def wrong(box, weight, bias, layer):
        centre, radius = layer(box.centre, weight), layer(box.radius, weight)  # and not of |weight|
        return (
            TensorBox(centre - radius.abs(), centre + radius.abs()) if bias is None else right(box, weight, bias, layer)
        )

    right = boxes.affine_box
    monkeypatch.setattr(boxes, "affine_box", wrong)
    assert leaving(drawn("convolutions", 1), 1)[0] > 0.05


@pytest.mark.parametrize("left_out", [nn.Tanh, nn.Conv2d, nn.BatchNorm2d])
def test_the_control_a_layer_left_out_is_caught(monkeypatch, left_out):
    rule = propagation._layer_box

    def without(layer, box):
        same = isinstance(layer, left_out) and getattr(layer, "in_channels", 4) == 4
        return box if same else rule(layer, box)

    network = drawn("pooling" if left_out is nn.BatchNorm2d else "convolutions", 2)
    assert leaving(network, 2, 0.001)[0] <= 1e-4
    monkeypatch.setattr(propagation, "_layer_box", without)
    assert leaving(network, 2, 0.001)[0] > 0.01


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_differences_of_scores_are_bounded_and_more_tightly_than_by_their_ends(seed):
    network = drawn("convolutions", seed)
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        held = network_box(traced_network(network), x - 0.1, x + 0.1)
        points = network(x + 0.1 * (2 * torch.rand(200, *SHAPE) - 1))
        bound = score_differences(held)[0]
    found = points[:, None, :] - points[:, :, None]
    assert bool((found <= bound + 1e-4).all())
    apart = held.high[0, None, :] - held.low[0, :, None]
    assert bool((bound <= apart + 1e-4).all())
    assert float((apart - bound).max()) > 0.01
    assert torch.equal(bound.diagonal(), torch.zeros(3))


def test_bounds_carry_gradients_to_the_weights():
    network = drawn("residual", 0)
    x = torch.rand(2, *SHAPE)
    held = network_box(traced_network(network), x - 0.1, x + 0.1)
    (held.high - held.low).sum().backward()
    assert all(float(each.grad.abs().sum()) > 0 for name, each in network.named_parameters() if "weight" in name)


class OnValues(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Squared(nn.Module):
    def forward(self, x):
        return (x * x).flatten(1)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.GELU()), "certified: GELU has no interval bound here; give a network of"),
        (nn.LayerNorm(SHAPE), "LayerNorm has no interval bound"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "Conv2d has no interval bound"),
        (nn.LeakyReLU(-0.1), "LeakyReLU has no interval bound"),
        (Squared(), "mul has no interval bound"),
        (nn.BatchNorm2d(2, track_running_stats=False), "BatchNorm2d has no interval bound"),
        (OnValues(), "the layers of OnValues cannot be followed .* does not branch on its values"),
        (Pair(), "must give one tensor of scores, got tuple"),
    ],
)
def test_what_has_no_bound_is_refused_by_name(network, told):
    x = torch.rand(2, *SHAPE)
    with pytest.raises(MedwardError, match=told) as caught:
        network_box(traced_network(network), x - 0.1, x + 0.1)
    assert "\n" not in str(caught.value)
