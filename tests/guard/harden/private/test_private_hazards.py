"""What would make the claim untrue: refused or mended, each beside what is let through."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.private_training import (
    BROKEN,
    bright_images,
    broken_training,
    class_losses,
    columns_of,
    small_cnn,
    with_settings,
)
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from medward.guard.errors import MedwardError
from medward.guard.harden.private.hazards import check_module, mend_normalisation
from medward.guard.harden.private.method import PrivateTraining
from medward.guard.harden.private.per_row import GradientsPerRow
from medward.guard.harden.private.training import train_privately

DATA = bright_images(200, 0)
ROWS = columns_of(DATA)
SOME = {name: each[:6] for name, each in ROWS.items()}


class Mixing(nn.Module):
    """A layer that takes off the batch's mean in training."""

    def forward(self, x):
        return x - x.mean(dim=0) if self.training else x


class Counting(nn.Module):
    """A layer that keeps how much it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += x.mean()
        return x


class Noting(nn.Module):
    """A layer that keeps an average of what it is trained on where nobody looks, and takes it off afterwards."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(64)

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return x if self.training else x - self.mean


class FirstBatch(nn.Module):
    """A layer that sets its weight by the first rows it sees (as in Glow), and keeps what it last saw for plots."""

    def __init__(self, ready):
        super().__init__()
        self.weight, self.ready, self.shown = nn.Parameter(torch.zeros(64)), ready, None

    def forward(self, x):
        if not self.ready:
            self.weight.data, self.ready = -x.detach().mean(dim=0), True
        self.shown = x.detach()
        return x + self.weight


class Elsewhere(nn.Module):
    """A network that uses a layer's weight outside of that layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.last = nn.Linear(64, 2)

    def forward(self, x):
        flat = x.flatten(1)
        return self.last(torch.tanh(self.first(flat) + flat @ self.first.weight))


class Unused(nn.Module):
    """A network with a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.last, self.spare = nn.Linear(64, 2), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(x.flatten(1))


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


REFUSED = {
    "BatchNorm in training mode": (lambda: small_cnn(norm=True), "BatchNorm in training mode"),
    "BatchNorm without weights": (
        lambda: flat(nn.BatchNorm1d(64, affine=False), nn.Linear(64, 2)),
        "BatchNorm in training mode",
    ),
    "a frozen BatchNorm in training mode": (
        lambda: flat(nn.BatchNorm1d(64).requires_grad_(False), nn.Linear(64, 2)),
        "BatchNorm in training mode",
    ),
    "running statistics of instances": (
        lambda: nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), nn.Flatten(), nn.Linear(64, 2)),
        "running_mean moves",
    ),
    "spectral normalisation": (lambda: flat(spectral_norm(nn.Linear(64, 2))), "moves in training"),
    "a counter": (lambda: nn.Sequential(Counting(), nn.Flatten(), nn.Linear(64, 2)), "buffer 0.seen moves"),
    "rows that mix": (lambda: flat(Mixing(), nn.Linear(64, 2)), "depends on the other rows"),
    "an average that is no buffer": (lambda: flat(Noting(), nn.Linear(64, 2)), "answers otherwise"),
    "weights by the first batch": (lambda: flat(FirstBatch(ready=False), nn.Linear(64, 2)), "answers otherwise"),
    "half precision": (lambda: flat(nn.Linear(64, 2)).to(torch.bfloat16), "bfloat16"),
}


@pytest.mark.parametrize("hazard", REFUSED)
def test_a_hazard_is_refused(hazard):
    make, words = REFUSED[hazard]
    with pytest.raises(MedwardError, match=words):
        check_module(make().train(), class_losses, SOME)


@pytest.mark.parametrize(
    "make",
    [
        small_cnn,
        lambda: flat(nn.Dropout(0.5), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
        lambda: nn.Sequential(nn.InstanceNorm2d(1), nn.Flatten(), nn.Linear(64, 2)),
        lambda: flat(nn.BatchNorm1d(64).eval(), nn.Linear(64, 2)),
        lambda: flat(FirstBatch(ready=True), nn.Linear(64, 2)),
    ],
)
def test_what_is_no_hazard_is_let_through(make):
    module = make()
    modes = [each.training for each in module.modules()]
    check_module(module, class_losses, SOME)
    assert [each.training for each in module.modules()] == modes


def test_autocast_is_refused():
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(MedwardError, match="autocast"):
        check_module(small_cnn().train(), class_losses, SOME)


@pytest.mark.parametrize(
    "rows",
    [
        TensorDataset(ROWS["x"], ROWS["y"]),
        DataLoader(TensorDataset(ROWS["x"], ROWS["y"]), batch_size=10, shuffle=True),
        WeightedRandomSampler([1.0] * 10, 5),
        iter([SOME]),
    ],
)
def test_what_brings_its_own_order_is_refused(rows):
    with pytest.raises(MedwardError, match="Poisson sample"):
        train_privately(small_cnn(), rows, None, class_losses, with_settings())


def test_a_mean_loss_is_refused():
    with pytest.raises(MedwardError, match="do not average"):
        check_module(small_cnn().train(), lambda module, rows: class_losses(module, rows).mean(), SOME)


def test_gradients_per_row_are_those_of_single_rows():
    for through in (True, False):
        module = small_cnn().train()
        gradients = GradientsPerRow(module, class_losses, SOME)
        gradients._through_inputs = through
        found = gradients.of(SOME)
        gradients.close()
        for row in range(6):
            module.zero_grad()
            class_losses(module, {name: each[row : row + 1] for name, each in SOME.items()}).sum().backward()
            for mine, parameter in zip(found, module.parameters(), strict=True):
                assert torch.allclose(mine[row], parameter.grad, atol=1e-6)
        assert not any(hasattr(each, "grad_sample") for each in module.parameters())


@pytest.mark.parametrize(("make", "words"), [(Elsewhere, "first.weight differ"), (Unused, "spare.weight are missing")])
def test_wrong_or_missing_gradients_are_refused(make, words):
    torch.manual_seed(0)
    with pytest.raises(MedwardError, match=words):
        GradientsPerRow(make().train(), class_losses, SOME)


def test_a_weight_that_two_layers_share_has_the_gradient_of_both():
    module = flat(nn.Linear(64, 64, bias=False), nn.Tanh(), nn.Linear(64, 64, bias=False), nn.Linear(64, 2))
    module[3].weight = module[1].weight
    GradientsPerRow(module.train(), class_losses, SOME).close()


def test_batch_normalisation_is_replaced_or_frozen():
    fresh, told = mend_normalisation(small_cnn(norm=True), fresh=True)
    assert isinstance(fresh[1], nn.GroupNorm)
    assert "replaced by GroupNorm" in told[0]
    kept = small_cnn(norm=True)
    kept(ROWS["x"])  # it has statistics now
    statistics = copy.deepcopy(kept[1].state_dict())
    kept, told = mend_normalisation(kept, fresh=False)
    assert "frozen" in told[0]
    assert not kept[1].weight.requires_grad
    train_privately(kept, ROWS, None, class_losses, with_settings())
    assert all(torch.equal(each, kept[1].state_dict()[name]) for name, each in statistics.items())
    assert mend_normalisation(small_cnn(), fresh=True)[1] == ()
    one = mend_normalisation(nn.BatchNorm1d(6), fresh=True)[0]
    assert float(one(torch.randn(5, 6)).detach().abs().max()) > 0  # a group of one number would be 0


def subject(kind):
    module = small_cnn(norm=kind == "batch statistics")
    return module, with_settings(epochs=6, clip=0.01 if kind == "no clipping" else 1.0)


REASONS = {
    "no noise": "noise has 0 times the size",
    "no clipping": "gradients were not clipped",
    "shuffled batches": "sizes of draws were not drawn by independent coins",
    "batch statistics": "BatchNorm in training mode",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_training_is_refused_and_only_force_lets_it_through(kind):
    module, settings = subject(kind)
    with broken_training(kind), pytest.raises(MedwardError, match=REASONS[kind]):
        train_privately(module, ROWS, None, class_losses, settings)
    module, settings = subject(kind)
    with broken_training(kind, force=True):
        assert train_privately(module, ROWS, None, class_losses, settings).epsilon <= 8
    if kind != "batch statistics":  # the control: unbroken, the same is let through
        train_privately(subject(kind)[0], ROWS, None, class_losses, settings)


def test_forced_batch_statistics_leak_through_the_method():
    network = small_cnn(norm=True)
    method = PrivateTraining(target_epsilon=8, unit="row", start="pretrained", epochs=6, noise_seed=1)

    def hardened():
        return method.harden(network, DATA, bright_images(80, 1), low=0.0, high=1.0, seed=0)

    with broken_training("batch statistics", force=True):
        leaking = hardened()
    assert float(leaking.network[1].running_mean.abs().max()) > 0
    assert float(hardened().network[1].running_mean.abs().max()) == 0  # the control
    assert leaking.certificate.epsilon <= 8  # and the certificate would not show it


class Meddling(nn.Module):
    """A network that writes into a weight of its own."""

    def __init__(self, name):
        super().__init__()
        self.net = small_cnn()
        self.net[0].requires_grad_(False)
        self.calls, self.written = 0, name

    def forward(self, x):
        self.calls += 1
        if self.calls > 20:
            with torch.no_grad():
                self.net.get_parameter(self.written).data.mul_(1 + 1e-6)
        return self.net(x)


@pytest.mark.parametrize(
    ("name", "words"), [("0.weight", "is not trained, and moved"), ("5.weight", "moved otherwise")]
)
def test_weights_that_move_by_themselves_are_refused(name, words):
    with pytest.raises(MedwardError, match=words):
        train_privately(Meddling(name), ROWS, None, class_losses, with_settings(epochs=6))


def test_settings_and_units_that_cannot_be_are_refused():
    for bad, words in (
        ({"clip": 0.0}, "clip"),
        ({"batch": -1.0}, "batch"),
        ({"average": 1.0}, "average"),
        ({"rows_per_unit": 0}, "rows_per_unit"),
        ({"optimiser": "adagrad"}, "optimiser"),
        ({"delta": 0.1}, "delta"),
        ({"target_epsilon": 1e-9}, "not reached"),
    ):
        with pytest.raises(MedwardError, match=words):
            train_privately(small_cnn(), ROWS, None, class_losses, with_settings(**bad))
    with pytest.raises(MedwardError, match="one for each of 200 rows"):
        train_privately(small_cnn(), ROWS, np.arange(3), class_losses, with_settings())
    with pytest.raises(MedwardError, match="every column"):
        train_privately(small_cnn(), {**ROWS, "y": ROWS["y"][:5]}, None, class_losses, with_settings())
    with pytest.raises(MedwardError, match="nothing to train"):
        train_privately(small_cnn().requires_grad_(False), ROWS, None, class_losses, with_settings())
