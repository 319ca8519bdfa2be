"""What an attacker who knows the defense does: follow the screens, see through steps, average over noise.

`Detector` is the strangeness the deployed screens would see, as a penalty. It differentiates the screens
themselves (their arithmetic runs under torch as it stands), so no copy of the defense can drift from it.
`StraightThrough` (BPDA) gives a forward pass without useful gradients those of a smooth stand-in.
`ExpectedOverRandomness` (EOT) averages a random forward pass over draws. `as_attacker_sees` applies the last
two to a network that declares what it needs: ``differentiable_surrogate()`` returns a torch module of the
same scores that can be differentiated, ``randomness()`` the number of draws that average its noise out.

Reference: Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial example defenses", NeurIPS
2020; Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018, sec. 4;
Carlini and Wagner, "Adversarial examples are not easily detected", AISec 2017, sec. 2.5 (one loss for both).

A model with an operating point is seen through `AtThreshold`: its scores are moved so that the largest is the decision.
Losses, margins and screens then pull at the border where decisions change, wherever a threshold has put it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.forward import scores_and_features
from medward.guard.errors import MedwardError
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.decision import LEAST_LIKELY, TIE
from medward.guard.types import Outputs

_SLACK = 0.1  # how far below the cut to aim, in units of the profile's score


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
        return torch.relu(strangeness - (self.cut - _SLACK))

    def released(self, strangeness: Tensor) -> Tensor:
        """Which rows ``(n,)`` the screens let through."""
        return strangeness <= self.cut


class StraightThrough(nn.Module):
    """Forward exactly as `exact`, backward through `smooth`; without one, through the identity.

    The identity suits a front end that returns an image much like the one it was given.
    """

    def __init__(self, exact: nn.Module, smooth: nn.Module | None = None) -> None:
        super().__init__()
        self.exact, self.smooth = exact, smooth

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and features, where the networks show them."""
        with torch.no_grad():
            value, features = scores_and_features(self.exact, x)
        if not torch.is_grad_enabled():
            return value, features
        guide, guide_features = (x, None) if self.smooth is None else scores_and_features(self.smooth, x)
        if features is not None and guide_features is not None:
            features = _replaced(guide_features, features)
        return _replaced(guide, value), features

    def forward(self, x: Tensor) -> Tensor:
        """Map as `exact` does."""
        return self.both(x)[0]


class ExpectedOverRandomness(nn.Module):
    """The mean scores and features of `draws` forward passes, each with noise of its own."""

    def __init__(self, network: nn.Module, draws: int) -> None:
        super().__init__()
        if draws < 1:
            raise MedwardError(f"randomness: a network must declare at least 1 draw, got {draws}")
        self.network, self.draws = network, draws

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and, where the network shows them, features."""
        drawn = [scores_and_features(self.network, x) for _ in range(self.draws)]
        features = [each for _, each in drawn if each is not None]
        return torch.stack([scores for scores, _ in drawn]).mean(0), torch.stack(features).mean(0) if features else None

    def forward(self, x: Tensor) -> Tensor:
        """The mean scores."""
        return self.both(x)[0]


class AtThreshold(nn.Module):
    """Two scores as logits, zero and the second's log odds beyond `border`, from which it is decided.

    At the border itself, up to rounding, it is decided too, as the model does (`guard.tasks.decision.at_threshold`).
    With `likely` the network gives probabilities or their logarithms, told apart by their sign.
    """

    def __init__(self, network: nn.Module, border: float, *, likely: bool = False) -> None:
        super().__init__()
        self.network, self.border, self.likely = network, border, likely

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and, where the network shows them, features."""
        scores, features = scores_and_features(self.network, x)
        if self.likely and bool((scores >= 0).all()):
            scores = scores.clamp_min(LEAST_LIKELY).log()
        beyond = decided_at_border(scores[:, 1] - scores[:, 0] - self.border)
        return torch.stack([torch.zeros_like(beyond), beyond], dim=1), features

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return self.both(x)[0]


def decided_at_border(beyond: Tensor) -> Tensor:
    """Log odds beyond a threshold, those within rounding of zero made positive; slopes stay what they are."""
    return beyond + torch.where(beyond.abs() < TIE, TIE - beyond, 0.0).detach()


def as_attacker_sees(network: nn.Module, spec: ModelSpec | None = None) -> nn.Module:
    """`network` as a gradient attack should see it: BPDA and EOT where it declares them, at the threshold of `spec`."""
    surrogate, randomness = (getattr(network, name, None) for name in ("differentiable_surrogate", "randomness"))
    seen = network if surrogate is None else StraightThrough(network, surrogate())
    seen = seen if spec is None else decided_by(seen, spec)
    return seen if randomness is None else ExpectedOverRandomness(seen, randomness())


def decided_by(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """`network`, whose scores are those of a model of `spec`, with scores whose largest is what `spec` decides."""
    return (
        network if spec.threshold is None else AtThreshold(network, spec.border, likely=spec.output == "probabilities")
    )


def passes_per_call(network: nn.Module) -> int:
    """How many passes through the deployed network one pass through `network` stands for."""
    return network.draws if isinstance(network, ExpectedOverRandomness) else 1


def _replaced(guide: Tensor, value: Tensor) -> Tensor:
    """`value` to the last bit, with the gradient of `guide`: what is added is exactly zero."""
    return value + (guide - guide.detach())
