"""The check that weights move only as the mechanism allows, at every step, and that the mechanism is the one claimed.

Whatever else touches the weights (a layer that keeps statistics, a callback, a gradient that passed the mechanism by)
is no part of the claim. So a second copy of the trained weights follows the outputs of the mechanism alone, through an
optimiser of its own: after each step both must be equal, bit for bit, and nothing else may have moved. The copy is
what is released. That the outputs are those of the claim shows in their numbers: the sum never exceeds a clip for each
unit drawn, noise has its size, and draws scatter as those of independent coins do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.private.mechanism import MechanismOutput, joint_norms
from medward.guard.types import Ints

_DEVIATIONS = 7.0  # by chance once in 10^11
_FEWEST = 20  # draws, and units, that tell a fixed size from chance
Optimiser = torch.optim.Optimizer


class WeightsWatch:
    """A weights watch holds the copy of `trained` weights that follows the mechanism, and what must not move at all."""

    def __init__(
        self,
        module: nn.Module,
        trained: Mapping[str, nn.Parameter],
        make_optimiser: Callable[[Sequence[Tensor]], Optimiser],
        *,
        clip: float,
        noise_multiplier: float,
        sample_rate: float,
        units: int,
    ) -> None:
        self.trained = dict(trained)
        self.copies = {name: each.detach().clone().requires_grad_(True) for name, each in trained.items()}
        self.optimiser = make_optimiser(list(self.copies.values()))
        self.clip, self.noise, self.rate, self.units = clip, noise_multiplier, sample_rate, units
        moving = {id(each) for each in trained.values()}
        self._still = {
            name: each for name, each in (*module.named_parameters(), *module.named_buffers()) if id(each) not in moving
        }
        self._digests = {name: _tensor_digest(each) for name, each in self._still.items()}
        self._squares, self._numbers = 0.0, 0
        self._sizes: list[int] = []
        self._chosen = np.zeros(units, np.int64)

    def follow(self, output: MechanismOutput, drawn: Ints) -> None:
        """Move the copy by `output`, of the units `drawn`, and compare. Raises `MedwardError` for what does not fit."""
        self._check_output(output, drawn)
        set_gradient(self.copies.values(), output.gradient)
        self.optimiser.step()
        for name, copy in self.copies.items():
            if not torch.equal(copy, self.trained[name]):
                raise MedwardError(
                    f"training: the weight {name} moved otherwise than the noisy gradient moves it; nothing but the "
                    "step may change weights, so remove what else does (hooks, callbacks, layers that write weights)"
                )

    def check_clip(self, contribution: float) -> None:
        """Refuse where one unit alone adds more than a clip to the sum."""
        if not contribution <= self.clip * (1 + 1e-4):
            raise MedwardError(
                f"training: one unit adds a gradient of norm {contribution:.3g}, more than the clip of {self.clip:g}; "
                "gradients were not clipped"
            )

    def check_still(self) -> None:
        """Refuse where anything moved that is not trained: frozen weights and buffers."""
        for name, each in self._still.items():
            if _tensor_digest(each) != self._digests[name]:
                raise MedwardError(
                    f"training: {name} is not trained, and moved; what layers note of rows has no noise, so replace "
                    "the layer (BatchNorm by GroupNorm) or freeze it in eval mode"
                )

    def check_draws(self) -> None:
        """Refuse draws whose sizes, or how often each unit came, scatter less than independent coins do."""
        steps = len(self._sizes)
        spread = self.rate * (1 - self.rate)
        if spread == 0 or min(steps, self.units) < _FEWEST:
            return
        sizes = ((np.array(self._sizes) - self.units * self.rate) ** 2).sum() / (self.units * spread)
        times = ((self._chosen - steps * self.rate) ** 2).sum() / (steps * spread)
        for what, statistic, count in (("sizes of draws", sizes, steps), ("units", times, self.units)):
            if _deviations(float(statistic), count) < -_DEVIATIONS + 1:
                raise MedwardError(
                    f"training: {what} were not drawn by independent coins with probability {self.rate:.3g}, which the "
                    "claim rests on; shuffled batches have another, larger epsilon"
                )

    def _check_output(self, output: MechanismOutput, drawn: Ints) -> None:
        self._sizes.append(len(drawn))
        np.add.at(self._chosen, drawn, 1)
        norm = float(joint_norms([output.total[None]]))
        if not norm <= self.clip * len(drawn) * (1 + 1e-4):
            raise MedwardError(
                f"training: the sum over {len(drawn)} units has the norm {norm:.3g}, more than a clip of "
                f"{self.clip:g} for each; gradients were not clipped"
            )
        self._squares += float(output.noise.double().square().sum()) / (self.noise * self.clip) ** 2
        self._numbers += output.noise.numel()
        if abs(_deviations(self._squares, self._numbers)) > _DEVIATIONS:
            raise MedwardError(
                f"training: noise has {math.sqrt(self._squares / self._numbers):.3g} times the size that was claimed, "
                f"{self.noise:.3g} clips; the noise multiplier of the mechanism is another"
            )


def set_gradient(weights: Iterable[Tensor], gradient: Tensor) -> None:
    """Give `weights`, in their order, their parts of a flat `gradient (P,)`."""
    first = 0
    for each in weights:
        last = first + each.numel()
        each.grad = gradient[first:last].view_as(each)
        first = last


def _deviations(square: float, count: int) -> float:
    """How many standard deviations a chi-squared number with `count` degrees is off (Wilson and Hilferty 1931)."""
    width = 2 / (9 * count)
    return float(((square / count) ** (1 / 3) - 1 + width) / math.sqrt(width))


def _tensor_digest(tensor: Tensor) -> bytes:
    value = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(value.numpy().tobytes()).digest()
