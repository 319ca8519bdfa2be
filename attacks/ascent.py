"""Projected gradient ascent on the input: the losses and the steps that evasion attacks share.

Cross-entropy and margin are both here because either alone can be fooled: cross-entropy has no gradient
left on a model with inflated logits, the margin none on a flat one. The margin is defined for two classes
and up.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, sec.
2.1; margin as in Carlini and Wagner, S&P 2017, f_6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.adaptive import Detector
from attacks.ball import Ball

Loss = Callable[[Tensor, Tensor], Tensor]
BATCH = 128


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """-log softmax of the label, per row ``(n,)``; an attacker raises it."""
    return F.cross_entropy(scores, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Best other score minus the label's, per row ``(n,)``; positive where another class wins."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "margin": margin}


def stepwise(adversarial: Tensor, x: Tensor, step: float) -> Tensor:
    """`adversarial` with its change from `x` cut towards zero to whole multiples of `step`; never a larger one."""
    change = adversarial - x
    whole = torch.floor(change.abs() / step + 1e-3) * step  # a multiple short of itself by rounding stays whole
    return x + change.sign() * torch.minimum(whole, change.abs())


def both(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores, and features when the network shows them, of one forward pass."""
    split = getattr(network, "both", None)
    return (network(x), None) if split is None else split(x)


def gradient(objective: Tensor, x: Tensor) -> Tensor:
    """The slope of sum(objective) in `x`; zeros where the graph has been cut, as a quantiser does."""
    if not objective.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(objective.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


@torch.no_grad()
def decide(network: nn.Module, x: Tensor) -> Tensor:
    """The network's decisions ``(n,)``, in batches."""
    return torch.cat([network(x[i : i + BATCH]).argmax(dim=1) for i in range(0, len(x), BATCH)])


@dataclass(slots=True)
class Ascent:
    """Best iterates ``(n, *shape)``, which of them won, row gradients spent, and the share won per step."""

    adversarial: Tensor
    won: Tensor
    gradients: int
    history: list[float]


def ascend(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    loss: Loss,
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
    parts = [
        _ascend(
            network,
            x[i : i + BATCH],
            y[i : i + BATCH],
            ball,
            loss,
            steps,
            generator,
            random_start,
            detector,
            stop,
        )
        for i in range(0, len(x), BATCH)
    ]
    sizes = [len(part.won) for part in parts]
    return Ascent(
        torch.cat([part.adversarial for part in parts]),
        torch.cat([part.won for part in parts]),
        sum(part.gradients for part in parts),
        [
            sum(part.history[k] * size for part, size in zip(parts, sizes, strict=True)) / sum(sizes)
            for k in range(steps)
        ],
    )


def _ascend(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    loss: Loss,
    steps: int,
    generator: torch.Generator,
    random_start: bool,
    detector: Detector | None,
    stop: bool,
) -> Ascent:
    noise = ball.inside(tuple(x.shape), generator)
    current = ball.project(x + noise, x) if random_start else x.clone()
    best, best_value = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    weight = torch.ones(len(x), device=x.device)
    spent, history = 0, []
    for step in range(steps + 1):
        rows = torch.nonzero(~won)[:, 0] if stop else torch.arange(len(x), device=x.device)
        if len(rows):
            point = ball.usable(current[rows], x[rows]).requires_grad_(True)
            scores, features = both(network, point)
            objective, value = loss(scores, y[rows]), margin(scores, y[rows]).detach()
            win = value > 0
            if detector is not None:
                strange = detector.strangeness(point, scores, features)
                penalty = detector.penalty(strange)
                objective = objective - weight[rows] * penalty
                free = detector.released(strange.detach())
                # A row that fools but is noticed cares more for the detector; one that does not fool, less.
                weight[rows] = (weight[rows] * torch.where(win & ~free, 1.25, torch.where(win, 1.0, 0.9))).clamp(
                    1e-2, 1e3
                )
                value = value - 1e3 * (~free).float() - penalty.detach()
                win = win & free
            better = (value > best_value[rows]) | (win & ~won[rows])
            best[rows[better]] = point.detach()[better]
            best_value[rows[better]] = value[better]
            won[rows] |= win
            if step < steps:
                slope = gradient(objective, point)
                spent += len(rows)
                current[rows] = ball.project(current[rows] + 2.5 / steps * ball.step(slope), x[rows])
        if step:
            history.append(float(won.float().mean()))
    return Ascent(best, won, spent, history)
