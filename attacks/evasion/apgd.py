"""Auto-PGD: gradient ascent with momentum that sets its own step size, so there is nothing to tune.

The step starts at two radii and halves, going back to the best iterate, at checkpoints where the loss rose in too
few steps or nothing was gained since the last one.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, alg. 1, eq. 3 (conditions).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.tallies import Tally
from medward.attacks.whitebox.ascent import Ascent, loss_and_gradient
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import batched_scores
from medward.attacks.whitebox.losses import LossFunction
from medward.attacks.whitebox.network import Detector
from medward.attacks.whitebox.search import Search

MOMENTUM = 0.75  # the share of the new step; the rest is the last one's
RISES = 0.75  # rho: the share of steps that must gain for the step size to stay
FIRST, LEAST, SHORTER = 0.22, 0.06, 0.03  # checkpoints: the first interval, the least, and what each one loses
TARGETS = 9  # the classes with the highest scores that are tried as goals


@dataclass(frozen=True, slots=True, kw_only=True)
class APGD(WhiteBox):
    """The attack: cross-entropy, then the margin ratio on what still stands, towards every goal in turn."""

    steps: int = 100
    restarts: int = 1
    targets: int = TARGETS

    @property
    def technique(self) -> str:
        """``apgd``."""
        return "apgd"

    @property
    def effort(self) -> int:
        """Steps per run."""
        return self.steps

    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """The worst case per row."""
        return worst_case_apgd(search, x, y, steps=self.steps, restarts=self.restarts, targets=self.targets)


def worst_case_apgd(search: Search, x: Tensor, y: Tensor, *, steps: int, restarts: int, targets: int) -> Ascent:
    """The worst case per row over the criterion's losses that no scale of the scores changes.

    For classes these are cross-entropy and the margin ratio towards each of the `targets` best other classes.
    """
    tally = Tally(x, stop=search.stop)
    if search.ball.empty or steps <= 0 or not len(x):
        return tally.best
    runs = search.criterion.scale_free(batched_scores(search.network, x), y, targets)
    for loss, goal in runs * restarts:
        rows = tally.standing
        if not len(rows):
            break
        goals = None if goal is None else goal[rows]
        tally.add(rows, apgd(search, x[rows], y[rows], loss=loss, goals=goals, steps=steps))
    return tally.best


@dataclass(slots=True)
class _State:
    """What is kept of each row that is still climbed: tensors of length n, cut together when rows win."""

    rows: Tensor
    x: Tensor
    y: Tensor
    current: Tensor
    previous: Tensor
    slope: Tensor
    peak: Tensor  # the iterate of highest objective, with its slope, loss and penalty
    peak_slope: Tensor
    peak_loss: Tensor
    peak_penalty: Tensor
    last: Tensor  # the objective of the last iterate
    mark: Tensor  # the best objective at the last checkpoint
    rises: Tensor
    halved: Tensor
    size: Tensor  # of the step, in radii
    weight: Tensor

    def keep(self, kept: Tensor) -> _State:
        """The rows of the mask `kept`."""
        return _State(*(getattr(self, part.name)[kept] for part in fields(self)))


def apgd(
    search: Search, x: Tensor, y: Tensor, *, loss: LossFunction, goals: Tensor | None = None, steps: int = 100
) -> Ascent:
    """Climb `loss`, towards `goals (n,)` where it has them, from a random start near rows `x (n, *shape)`.

    A row, clean decided as `y (n,)`, wins at its first iterate that the criterion counts and, with a detector, would be
    released; with ``stop`` it then costs nothing more. A row that never wins keeps its iterate of largest margin.
    """
    found, ball = Ascent.nothing(x), search.ball
    if ball.empty or steps <= 0 or not len(x):
        return found
    state = _start(x, y, ball, search.generator)
    interval = max(int(FIRST * steps), 1)
    since = 0
    for step in range(steps + 1):
        point = ball.usable(state.current, state.x)
        seen = loss_and_gradient(
            search,
            point,
            state.y,
            loss=loss,
            goals=None if goals is None else goals[state.rows],
            weight=state.weight,
            climb=step < steps,
        )
        rows = state.rows
        better = (seen.value > found.value[rows]) | (seen.win & ~found.won[rows])
        found.adversarial[rows[better]], found.value[rows[better]] = point[better], seen.value[better]
        found.won[rows] |= seen.win
        if step:
            found.history.append(float(found.won.float().mean()))
        if step == steps:
            break
        found.gradients += len(rows)
        objective = seen.loss - state.weight * seen.penalty
        _note(state, seen.slope, seen.loss, seen.penalty, objective, first=step == 0)
        since += step > 0
        if since == interval:
            _check(state, interval, search.detector)
            interval, since = max(interval - max(int(SHORTER * steps), 1), max(int(LEAST * steps), 1)), 0
        if search.stop and bool(seen.win.any()):
            state = state.keep(~seen.win)
            if not len(state.rows):
                found.history += [1.0] * (steps - len(found.history))
                break
        _step(state, ball, first=step == 0)
    return found


def _start(x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> _State:
    start = ball.project(x + ball.inside(tuple(x.shape), generator), x)
    zeros = torch.zeros(len(x), device=x.device)
    return _State(
        rows=torch.arange(len(x), device=x.device),
        x=x,
        y=y,
        current=start,
        previous=start,
        slope=torch.zeros_like(x),
        peak=start.clone(),
        peak_slope=torch.zeros_like(x),
        peak_loss=zeros.clone(),
        peak_penalty=zeros.clone(),
        last=zeros.clone(),
        mark=zeros.clone(),
        rises=zeros.clone(),
        halved=torch.ones(len(x), dtype=torch.bool, device=x.device),
        size=torch.full((len(x), *[1] * (x.ndim - 1)), 2.0, device=x.device),
        weight=torch.ones(len(x), device=x.device),
    )


def _note(state: _State, slope: Tensor, loss: Tensor, penalty: Tensor, objective: Tensor, *, first: bool) -> None:
    """Take up what the last look has shown."""
    state.slope = slope
    if first:
        higher = torch.ones_like(state.halved)
        state.mark = objective.clone()
    else:
        higher = objective > state.peak_loss - state.weight * state.peak_penalty
        state.rises += objective > state.last
    state.last = objective
    state.peak[higher], state.peak_slope[higher] = state.current[higher], slope[higher]
    state.peak_loss[higher], state.peak_penalty[higher] = loss[higher], penalty[higher]


def _check(state: _State, interval: int, detector: Detector | None) -> None:
    """A checkpoint: halve the step of rows that oscillate or stand still and send them back to their peak."""
    top = state.peak_loss - state.weight * state.peak_penalty
    halve = (state.rises <= RISES * interval) | (~state.halved & (state.mark >= top))
    state.size[halve] /= 2
    state.current = state.current.clone()
    state.current[halve], state.slope[halve] = state.peak[halve], state.peak_slope[halve]
    state.halved, state.rises = halve, torch.zeros_like(state.rises)
    if detector is not None:
        # The peak of a row that is noticed must become quieter; a quiet one may care less.
        state.weight = (state.weight * torch.where(state.peak_penalty > 0, 2.0, 0.7)).clamp(1e-2, 1e3)
    state.mark = state.peak_loss - state.weight * state.peak_penalty


def _step(state: _State, ball: Ball, *, first: bool) -> None:
    """Alg. 1, lines 7 and 8: a step, then a blend with the last move."""
    ahead = ball.project(state.current + state.size * ball.step(state.slope), state.x)
    if not first:
        blend = MOMENTUM * (ahead - state.current) + (1 - MOMENTUM) * (state.current - state.previous)
        ahead = ball.project(state.current + blend, state.x)
    state.previous, state.current = state.current, ahead
