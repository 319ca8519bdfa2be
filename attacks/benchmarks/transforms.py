"""Input transformations as a defense: fewer grey levels, then a median filter, in front of a classifier.

It is here to be broken. Attacked as it stands it looks robust, since rounding has no slope; an attacker who goes
straight through the rounding (BPDA) meets the undefended model. The module says so itself: it declares its
surrogate, and the attacks use it.

Reference: Xu, Evans, Qi, "Feature squeezing: detecting adversarial examples in deep neural networks", NDSS 2018,
sec. III (bit depth, median smoothing); Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of
security", ICML 2018, sec. 4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.whitebox.forward import scores_and_features
from medward.attacks.whitebox.network import StraightThrough
from medward.guard.errors import MedwardError


class FewerLevels(nn.Module):
    """Values between `low` and `high` rounded to ``2 ** bits`` levels."""

    def __init__(self, bits: int, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise MedwardError(f"bits: must be from 1 to 8, got {bits}")
        self.bits, self.low, self.high = bits, low, high

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, C, H, W)`` to the same shape; the slope is zero almost everywhere."""
        steps = float(2**self.bits - 1)
        return self.low + torch.round((x - self.low) / (self.high - self.low) * steps) / steps * (self.high - self.low)


class MedianFilter(nn.Module):
    """Each value replaced by the median of the `side` x `side` square around it; differentiable."""

    def __init__(self, side: int) -> None:
        super().__init__()
        if side < 1 or side % 2 == 0:
            raise MedwardError(f"side: must be odd and at least 1, got {side}")
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, C, H, W)`` to the same shape."""
        padded = F.pad(x, (self.side // 2,) * 4, mode="replicate")
        return padded.unfold(2, self.side, 1).unfold(3, self.side, 1).flatten(4).median(dim=4).values


class MeanFilter(nn.Module):
    """The mean of the same square: the smooth stand-in for both steps."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, C, H, W)`` to the same shape."""
        return F.avg_pool2d(F.pad(x, (self.side // 2,) * 4, mode="replicate"), self.side, stride=1)


class Transformed(nn.Module):
    """`network` behind fewer grey levels and a median filter."""

    def __init__(
        self, network: nn.Module, *, bits: int = 4, side: int = 3, low: float = 0.0, high: float = 1.0
    ) -> None:
        super().__init__()
        self.front: nn.Module = nn.Sequential(FewerLevels(bits, low, high), MedianFilter(side))
        self.network, self.side = network, side

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and, where the network shows them, features."""
        return scores_and_features(self.network, self.front(x))

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return self.both(x)[0]

    def differentiable_surrogate(self) -> nn.Module:
        """The same model to the last bit, with the mean filter's slope in place of the transformation's."""
        seen = Transformed(self.network, side=self.side)
        seen.front = StraightThrough(self.front, MeanFilter(self.side))
        return seen.eval()
