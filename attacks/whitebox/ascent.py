"""Projected gradient ascent on the input: what one pass over a batch shows, and the steps that attacks share.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, sec. 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.criterion import ANY_CLASS, Criterion
from medward.attacks.whitebox.forward import ROWS_PER_PASS, batched_scores, input_gradient, scores_and_features
from medward.attacks.whitebox.losses import LossFunction
from medward.attacks.whitebox.search import Search

NOTICED = 1e3  # what a row loses in the ranking of iterates when the detector stops it


def cut_to_steps(adversarial: Tensor, x: Tensor, step: float) -> Tensor:
    """`adversarial` with its change from `x` cut towards zero to whole multiples of `step`; never a larger one."""
    change = adversarial - x
    whole = torch.floor(change.abs() / step + 1e-3) * step  # a multiple short of itself by rounding stays whole
    return x + change.sign() * torch.minimum(whole, change.abs())


def network_decisions(network: nn.Module, x: Tensor, criterion: Criterion = ANY_CLASS) -> Tensor:
    """What the network decides ``(n,)`` on rows `x (n, *shape)`: classes, or what the `criterion` keeps of a row."""
    return criterion.decided(batched_scores(network, x))


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
    """What one pass over rows shows, ``(n,)`` each: `loss`, `penalty` of the detector, `margin`, `released`.

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
    search: Search,
    points: Tensor,
    y: Tensor,
    *,
    loss: LossFunction,
    goals: Tensor | None = None,
    weight: Tensor | None = None,
    climb: bool = True,
) -> LossAndGradient:
    """One forward pass over rows `points (n, *shape)` decided as `y (n,)` and, to `climb`, one backward."""
    detector, parts = search.detector, []
    for first in range(0, len(points), ROWS_PER_PASS):
        some = slice(first, first + ROWS_PER_PASS)
        point = points[some].detach().requires_grad_(climb)
        with torch.set_grad_enabled(climb):
            scores, features = scores_and_features(search.network, point)
            value = loss(scores, y[some]) if goals is None else loss(scores, y[some], goals[some])
            penalty, released = torch.zeros_like(value), torch.ones_like(value, dtype=torch.bool)
            objective = value
            if detector is not None:
                strange = detector.strangeness(point, scores, features)
                penalty, released = detector.penalty(strange), detector.released(strange.detach())
                objective = value - (1.0 if weight is None else weight[some]) * penalty
        slope = input_gradient(objective, point) if climb else torch.zeros_like(point)
        with torch.no_grad():
            margin = search.criterion.margin(scores.detach(), y[some])
        parts.append((slope, value.detach(), penalty.detach(), margin, released))
    return LossAndGradient(*parts[0]) if len(parts) == 1 else LossAndGradient(*map(torch.cat, zip(*parts, strict=True)))


def projected_ascent(
    search: Search,
    x: Tensor,
    y: Tensor,
    *,
    loss: LossFunction,
    steps: int,
    random_start: bool = True,
) -> Ascent:
    """Climb `loss` from rows `x (n, *shape)` decided as `y (n,)`, in steps of 2.5 radii / `steps`.

    A row wins at its first iterate that the criterion counts and, with a detector, would be released; with ``stop`` a
    row that won costs nothing more. A row that never wins keeps its iterate of largest margin (less the detector's
    penalty). Without ``stop`` the largest margin counts throughout.
    """
    ball = search.ball
    current = ball.project(x + ball.inside(tuple(x.shape), search.generator), x) if random_start else x.clone()
    found = Ascent.nothing(x)
    weight = torch.ones(len(x), device=x.device)
    rows = torch.arange(len(x), device=x.device)
    for step in range(steps + 1):
        if len(rows):
            mine, last = x[rows], step == steps
            point = ball.usable(current[rows], mine)
            seen = loss_and_gradient(search, point, y[rows], loss=loss, weight=weight[rows], climb=not last)
            better = (seen.value > found.value[rows]) | (seen.win & ~found.won[rows])
            found.adversarial[rows[better]], found.value[rows[better]] = point[better], seen.value[better]
            found.won[rows] |= seen.win
            if not last:
                found.gradients += len(rows)
                current[rows] = ball.project(current[rows] + 2.5 / steps * ball.step(seen.slope), mine)
            if search.detector is not None:
                # A row that fools but is noticed cares more for the detector; one that does not fool, less.
                fools = seen.margin > 0
                factor = torch.where(fools & ~seen.released, 1.25, torch.where(fools, 1.0, 0.9))
                weight[rows] = (weight[rows] * factor).clamp(1e-2, 1e3)
            if search.stop:
                rows = rows[~seen.win]
        if step:
            found.history.append(float(found.won.float().mean()))
    return found
