"""Data-free universal perturbation: make every layer fire as strongly as it can, with no image at hand.

What drives all layers far from where images leave them is likely to change the decision, whatever the image. The
ascent sees a grey image or, with the range prior, Gaussian noise of the range of images; never a row of data. When
nearly all coordinates are at the edge of the ball and stay there, the perturbation is halved so that it can go on.

Reference: Mopuri, Ganeshan, Babu, "Generalizable data-free objective for crafting universal adversarial
perturbations", TPAMI 2019, eq. 5 (data-free), sec. 3.3 (range prior), sec. 3.4 (saturation and rescaling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from medward.attacks.evasion.perturbation import Universal, shares_won
from medward.attacks.evasion.uap import UniversalPerturbation, attack_knowing_screens
from medward.attacks.evasion.white_box_universal import WhiteBoxUniversal
from medward.attacks.whitebox.ball import SMALLEST_RADIUS
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.search import Search
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

Prior = Literal["none", "range"]
RATE, BETAS = 0.1, (0.9, 0.999)  # Adam, in radii
SPREAD = 1 / 6  # of the range: one standard deviation of the prior's noise
RANGE_IMAGES = 8  # noise images a step sees
FULL, STILL = 0.5, 1e-3  # halve when more than this share is at the edge and it changed by less than that
LAYERS = (torch.conv2d, F.conv2d, F.linear)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFree(WhiteBoxUniversal):
    """The attack, without a target class."""

    steps: int = 200
    prior: Prior = "range"

    @property
    def technique(self) -> str:
        """``gd-uap``."""
        return "gd-uap"

    @property
    def effort(self) -> int:
        """Steps of the ascent."""
        return self.steps

    def adaptive(self, policy: Policy) -> UniversalPerturbation:
        """An attacker who knows the screens has images to try: the ascent that follows them, at the same radius."""
        return attack_knowing_screens(self, policy)

    def craft(self, search: Search, x: Tensor, y: Tensor) -> Universal:
        """The ascent; the rows `x` only tell how well it did."""
        if self.target_class is not None:
            raise MedwardError("target_class: without data there is no class to aim at; leave it unset")
        found = gd_uap(search, tuple(x.shape[1:]), steps=self.steps, prior=self.prior)
        return replace(found, success=shares_won(search, x, y, found.delta)[0])


def gd_uap(search: Search, shape: tuple[int, ...], *, steps: int, prior: Prior) -> Universal:
    """The perturbation that makes the network's layers fire most; its success is not known, and given as 0.

    Raises `MedwardError` for inputs without bounds, and for a network in which no layer can be seen.
    """
    ball, generator = search.ball, search.generator
    if ball.low is None or ball.high is None:
        raise MedwardError("gd-uap: needs inputs with bounds, whose middle stands for the image that is not there")
    device = ball.radius.device
    delta = ball.inside((1, *shape), generator)
    momentum, energy, before = torch.zeros_like(delta), torch.zeros_like(delta), 0.0
    middle, span = (ball.low + ball.high) / 2, ball.high - ball.low
    spent = 0
    for step in range(0 if ball.empty else steps):
        image = torch.full((1, *shape), middle, device=device)
        if prior == "range":
            image = middle + SPREAD * span * torch.randn((RANGE_IMAGES, *shape), generator=generator).to(device)
        shared = delta.clone().requires_grad_(True)
        slope = input_gradient(_firing(search.network, ball.clip(image + shared)), shared)
        spent += len(image)
        # Adam, written out: torch's own is bound to the number of its parameter's steps, which halving leaves alone.
        momentum = BETAS[0] * momentum + (1 - BETAS[0]) * slope
        energy = BETAS[1] * energy + (1 - BETAS[1]) * slope.square()
        unbiased = momentum / (1 - BETAS[0] ** (step + 1))
        scale = (energy / (1 - BETAS[1] ** (step + 1))).sqrt() + SMALLEST_RADIUS
        delta = ball.shrink(delta + RATE * ball.radius * unbiased / scale)
        edge = float((delta.abs() >= ball.radius * (1 - 1e-6)).float().mean())
        if edge > FULL and abs(edge - before) < STILL and step < steps - 1:
            delta = delta / 2
        before = edge
    return Universal(delta, 0.0, [], spent)


def _firing(network: nn.Module, x: Tensor) -> Tensor:
    """The sum over layers of the log of how strongly they fire, eq. 5."""
    with _Layers() as layers:
        scores_and_features(network, x)
    seen = layers.outputs[:-1] or layers.outputs  # the last layer holds the scores
    if not seen:
        raise MedwardError("gd-uap: no convolution or linear layer of this network can be seen")
    return torch.stack([F.relu(each).square().sum().clamp_min(SMALLEST_RADIUS).log() / 2 for each in seen]).sum()


class _Layers(TorchFunctionMode):
    """Keeps what convolutions and linear layers return, whether a module or a plain function calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `function`, and remember the result of a layer."""
        result = function(*args, **(kwargs or {}))
        if function in LAYERS:
            self.outputs.append(result)
        return result
