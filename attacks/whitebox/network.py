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

What a model's own outputs become for an attacker is said in `attacks.whitebox.outputs`, by task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.forward import scores_and_features
from medward.attacks.whitebox.outputs import beside_nothing, decided_at_border, decided_by
from medward.guard.errors import MedwardError
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Outputs

_SLACK = 0.1  # how far below the cut to aim, in units of the profile's score


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector is the screens as the attacker sees them: an input whose strangeness exceeds `cut` is stopped.

    Where the task has no groups of rows (`Task.judged`) screens see inputs and features and no scores: not `grouped`.
    Of scores they see the first `columns`, all if None: what stands behind them is no score of the model.
    """

    profile: Profile
    cut: float
    grouped: bool = True
    columns: int | None = None

    @classmethod
    def at(cls, profile: Profile, rate: float, spec: ModelSpec) -> Detector:
        """The screens of a policy that acts on all but `rate` of benign inputs, before a model of `spec`."""
        return cls(profile, profile.screen_cut(rate), isinstance(spec.task, Classification | Multilabel))

    def strangeness(self, x: Tensor, scores: Tensor, features: Tensor | None) -> Tensor:
        """The deployed screens' fused score ``(n,)``, differentiable in `x`."""
        scores = scores[:, : self.columns] if self.grouped else scores.new_zeros((len(x), 1))
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
    """Two scores as logits: zero, and the log odds of the second of the network's two beyond `border`."""

    def __init__(self, network: nn.Module, border: float) -> None:
        super().__init__()
        self.network, self.border = network, border

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        scores = self.network(x)
        return beside_nothing(decided_at_border(scores[:, 1] - scores[:, 0] - self.border))


def as_attacker_sees(network: nn.Module, spec: ModelSpec | None = None) -> nn.Module:
    """`network` as a gradient attack should see it: BPDA and EOT where it declares them, read by the task of `spec`."""
    surrogate, randomness = (getattr(network, name, None) for name in ("differentiable_surrogate", "randomness"))
    seen = network if surrogate is None else StraightThrough(network, surrogate())
    seen = seen if spec is None else decided_by(seen, spec)
    return seen if randomness is None else ExpectedOverRandomness(seen, randomness())


def passes_per_call(network: nn.Module) -> int:
    """How many passes through the deployed network one pass through `network` stands for."""
    return network.draws if isinstance(network, ExpectedOverRandomness) else 1


def _replaced(guide: Tensor, value: Tensor) -> Tensor:
    """`value` to the last bit, with the gradient of `guide`: what is added is exactly zero."""
    return value + (guide - guide.detach())
