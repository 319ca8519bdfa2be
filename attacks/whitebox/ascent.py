"""Projected gradient ascent on the input: the losses, the look at a batch and the steps that attacks share.

Cross-entropy and margin are both here because either alone can be fooled: cross-entropy has no gradient
left on a model with inflated logits, the margin none on a flat one. The margin is defined for two classes
and up.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, sec.
2.1; margin as in Carlini and Wagner, S&P 2017, f_6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.whitebox.ball import Ball

if TYPE_CHECKING:
    from medward.attacks.whitebox.network import Detector

LossFunction = Callable[..., Tensor]
"""Scores ``(n, K)`` and labels ``(n,)``, and goals ``(n,)`` for a loss that has them, to a value per row."""
ROWS_PER_PASS = 128
NOTICED = 1e3  # what a row loses in the ranking of iterates when the detector stops it


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """-log softmax of the label, per row ``(n,)``; an attacker raises it."""
    return F.cross_entropy(scores, labels, reduction="none")


def margin_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Best other score minus the label's, per row ``(n,)``; positive where another class wins."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


LOSSES: dict[str, LossFunction] = {"cross-entropy": cross_entropy, "margin": margin_loss}


def cut_to_steps(adversarial: Tensor, x: Tensor, step: float) -> Tensor:
    """`adversarial` with its change from `x` cut towards zero to whole multiples of `step`; never a larger one."""
    change = adversarial - x
    whole = torch.floor(change.abs() / step + 1e-3) * step  # a multiple short of itself by rounding stays whole
    return x + change.sign() * torch.minimum(whole, change.abs())


def scores_and_features(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores, and features when the network shows them, of one forward pass."""
    split = getattr(network, "both", None)
    return (network(x), None) if split is None else split(x)


def input_gradient(objective: Tensor, x: Tensor) -> Tensor:
    """The slope of sum(objective) in `x`; zeros where the graph has been cut, as a quantiser does."""
    if not objective.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(objective.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


@torch.no_grad()
def network_decisions(network: nn.Module, x: Tensor) -> Tensor:
    """The network's decisions ``(n,)``, in batches."""
    return torch.cat([network(x[i : i + ROWS_PER_PASS]).argmax(dim=1) for i in range(0, len(x), ROWS_PER_PASS)])


@dataclass(slots=True)
class Ascent:
    """What a search found: best iterates ``(n, *shape)``, which of them won, and the share won per step.

    `value` ranks a row's iterates, higher is nearer to winning. `gradients` counts row gradients, `queries` rows
    asked of a target that shows only answers.
    """

    adversarial: Tensor
    won: Tensor
    value: Tensor
    gradients: int = 0
    history: list[float] = field(default_factory=list)
    queries: int = 0

    @classmethod
    def nothing(cls, x: Tensor) -> Ascent:
        """No row won, no change made, nothing spent."""
        worst = torch.full((len(x),), -torch.inf, device=x.device)
        return cls(x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device), worst)


@dataclass(slots=True)
class LossAndGradient:
    """What one pass over rows shows, ``(n,)`` each: `loss`, `penalty` of the detector, `margin_loss`, `released`.

    `slope (n, *shape)` is that of the loss less `weight` times the penalty; zeros when none was asked for.
    """

    slope: Tensor
    loss: Tensor
    penalty: Tensor
    margin: Tensor
    released: Tensor

    @property
    def win(self) -> Tensor:
        """Which rows are decided otherwise and would be released."""
        return (self.margin > 0) & self.released

    @property
    def value(self) -> Tensor:
        """What ranks the iterates of a row that has not won."""
        return self.margin - NOTICED * (~self.released).float() - self.penalty


def loss_and_gradient(
    network: nn.Module,
    points: Tensor,
    y: Tensor,
    *,
    loss: LossFunction,
    goals: Tensor | None = None,
    detector: Detector | None = None,
    weight: Tensor | None = None,
    climb: bool = True,
) -> LossAndGradient:
    """One forward pass over rows `points (n, *shape)` decided as `y (n,)` and, to `climb`, one backward."""
    parts: list[tuple[Tensor, ...]] = []
    for first in range(0, len(points), ROWS_PER_PASS):
        some = slice(first, first + ROWS_PER_PASS)
        point = points[some].detach().requires_grad_(climb)
        with torch.set_grad_enabled(climb):
            scores, features = scores_and_features(network, point)
            value = loss(scores, y[some]) if goals is None else loss(scores, y[some], goals[some])
            penalty, released = torch.zeros_like(value), torch.ones_like(y[some], dtype=torch.bool)
            objective = value
            if detector is not None:
                strange = detector.strangeness(point, scores, features)
                penalty, released = detector.penalty(strange), detector.released(strange.detach())
                objective = value - (1.0 if weight is None else weight[some]) * penalty
        slope = input_gradient(objective, point) if climb else torch.zeros_like(point)
        with torch.no_grad():
            parts.append((slope, value.detach(), penalty.detach(), margin_loss(scores.detach(), y[some]), released))
    return LossAndGradient(*parts[0]) if len(parts) == 1 else LossAndGradient(*map(torch.cat, zip(*parts, strict=True)))


def projected_ascent(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    loss: LossFunction,
    steps: int,
    generator: torch.Generator,
    random_start: bool = True,
    detector: Detector | None = None,
    stop: bool = True,
) -> Ascent:
    """Climb `loss` from rows `x (n, *shape)` decided as `y (n,)`, in steps of 2.5 radii / `steps`.

    A row wins at its first iterate that is decided otherwise and, with a `detector`, would be released;
    with `stop` a row that won is left alone and costs nothing more. A row that never wins keeps its iterate
    of largest margin (less the detector's penalty). Without `stop` the largest margin counts throughout
    (for transfer).
    """
    current = ball.project(x + ball.inside(tuple(x.shape), generator), x) if random_start else x.clone()
    found = Ascent.nothing(x)
    weight = torch.ones(len(x), device=x.device)
    rows = torch.arange(len(x), device=x.device)
    for step in range(steps + 1):
        if len(rows):
            mine, last = x[rows], step == steps
            point = ball.usable(current[rows], mine)
            seen = loss_and_gradient(
                network, point, y[rows], loss=loss, detector=detector, weight=weight[rows], climb=not last
            )
            better = (seen.value > found.value[rows]) | (seen.win & ~found.won[rows])
            found.adversarial[rows[better]], found.value[rows[better]] = point[better], seen.value[better]
            found.won[rows] |= seen.win
            if not last:
                found.gradients += len(rows)
                current[rows] = ball.project(current[rows] + 2.5 / steps * ball.step(seen.slope), mine)
            if detector is not None:
                # A row that fools but is noticed cares more for the detector; one that does not fool, less.
                fools = seen.margin > 0
                factor = torch.where(fools & ~seen.released, 1.25, torch.where(fools, 1.0, 0.9))
                weight[rows] = (weight[rows] * factor).clamp(1e-2, 1e3)
            if stop:
                rows = rows[~seen.win]
        if step:
            found.history.append(float(found.won.float().mean()))
    return found
