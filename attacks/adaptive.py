"""What an attacker who knows the defense adds to its loss: the strangeness the deployed screens would see.

The penalty differentiates the deployed screens themselves (their arithmetic runs under torch as it stands),
so no copy of the defense can drift from it.

Reference: Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial example defenses", NeurIPS
2020; Carlini and Wagner, "Adversarial examples are not easily detected", AISec 2017, sec. 2.5 (one loss for
both).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from guard.profile import Profile
from guard.types import Outputs

SLACK = 0.1  # how far below the cut to aim, in units of the profile's score


@dataclass(frozen=True, slots=True)
class Detector:
    """The screens as the attacker sees them: an input whose strangeness exceeds `cut` is stopped."""

    profile: Profile
    cut: float

    @classmethod
    def at(cls, profile: Profile, rate: float) -> Detector:
        """The screens of a policy that acts on all but `rate` of benign inputs."""
        return cls(profile, profile.screen_cut(rate))

    def strangeness(self, x: Tensor, scores: Tensor, features: Tensor | None) -> Tensor:
        """The deployed screens' fused score ``(n,)``, differentiable in `x`."""
        outputs = Outputs(scores, features)  # type: ignore[arg-type]  # the profile's arithmetic is generic
        score: Tensor = self.profile.score(x, outputs, torch)
        return score

    def penalty(self, strangeness: Tensor) -> Tensor:
        """How far above the cut, less a little slack: ``(n,)``, 0 when quiet enough."""
        return torch.relu(strangeness - (self.cut - SLACK))

    def released(self, strangeness: Tensor) -> Tensor:
        """Which rows ``(n,)`` the screens let through."""
        return strangeness <= self.cut
