"""What a model's own outputs are to an attacker: scores at whose border decisions change, by task.

Classes have scores whose largest is the decision, and findings log odds that are positive where they are decided, both
moved to the operating points: losses, margins and screens then pull at the border where decisions change, wherever a
threshold has put it. A model of one column is one of two classes. Numbers and opaque outputs stay what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.forward import scores_and_features
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import LEAST_LIKELY, TIE, threshold_odds
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport


class JudgedNetwork(nn.Module):
    """A judged network gives the scores of `network`, which are those of a model of `spec`, as an attacker reads them.

    Where the specification says probabilities, `network` gives these or their logarithms, told apart by their sign; of
    those that each stand alone it may give the logarithms of both sides ``(n, 2, ...)``, the absence's first.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and, where the network shows them, features."""
        scores, features = scores_and_features(self.network, x)
        return judged_scores(scores, self.spec), features

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return self.both(x)[0]


def decided_by(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """`network`, whose scores are those of a model of `spec`, as attackers read them.

    It is `network` itself where these are its own: a search on it is then known again (`attacks.evasion.memory`).
    """
    task = spec.task
    plain = isinstance(task, Classification) and task.threshold is None and not task.one_column
    return network if plain or isinstance(task, Opaque | WrittenReport) else JudgedNetwork(network, spec)


def judged_scores(scores: Tensor, spec: ModelSpec) -> Tensor:
    """A model's own `scores`, or the logarithms of its probabilities, as attackers read them.

    Classes ``(n, K)``, of which the largest is decided; log odds of findings ``(n, K)`` beyond their thresholds; one
    number ``(n, 1)``; opaque outputs as they are. At a threshold itself, up to rounding, a class or finding is decided
    (`guard.tasks.decision.at_threshold`).
    """
    task = spec.task
    if isinstance(task, Regression):
        return scores.reshape(len(scores), 1)
    likely = task.output == "probabilities"
    if isinstance(task, Multilabel):
        borders = scores.new_tensor([threshold_odds(each) for each in task.thresholds])
        return decided_at_border((independent_odds(scores, sides=scores.ndim == 3) if likely else scores) - borders)
    if not isinstance(task, Classification):
        return scores
    if task.one_column:
        odds = independent_odds(scores, sides=scores.ndim > 1 and scores.shape[1] == 2) if likely else scores
        beyond = odds.reshape(len(scores)) - spec.border
    elif task.threshold is None:
        return scores
    else:
        logits = _logarithms(scores) if likely else scores
        beyond = logits[:, 1] - logits[:, 0] - spec.border
    return beside_nothing(beyond if task.threshold is None else decided_at_border(beyond))


def independent_odds(likely: Tensor, *, sides: bool = False) -> Tensor:
    """The log odds of single probabilities, or of their logarithms, which tell those near one apart.

    With `sides` the logarithms are there for absence and presence ``(n, 2, ...)``.
    """
    if sides:
        return likely[:, 1] - likely[:, 0]
    if bool((likely >= 0).all()):
        return likely.clamp_min(LEAST_LIKELY).log() - (1 - likely).clamp_min(LEAST_LIKELY).log()
    return likely - (-torch.expm1(likely)).clamp_min(LEAST_LIKELY).log()


def decided_at_border(beyond: Tensor) -> Tensor:
    """Log odds beyond a threshold, those within rounding of zero made positive; slopes stay what they are."""
    return beyond + torch.where(beyond.abs() < TIE, TIE - beyond, 0.0).detach()


def beside_nothing(beyond: Tensor) -> Tensor:
    """Log odds ``(n,)`` of the second of two classes as logits ``(n, 2)``, the first's zero."""
    return torch.stack([torch.zeros_like(beyond), beyond], dim=1)


def _logarithms(likely: Tensor) -> Tensor:
    return likely.clamp_min(LEAST_LIKELY).log() if bool((likely >= 0).all()) else likely
