"""A universal perturbation: what was found, how it is added to rows, and how many of them it wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import Attempt
from medward.attacks.evasion.asking import AskedRows, Bools
from medward.attacks.evasion.fooled_share import fooled_interval, larger_share
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import ROWS_PER_PASS, scores_and_features
from medward.attacks.whitebox.search import Search
from medward.guard.types import Ints

NOISE_DRAWS = 3
"""Random vectors that stand beside a universal perturbation of their size; behind a guard one beside a smaller one."""


@dataclass(frozen=True, slots=True)
class Universal:
    """A universal perturbation ``(1, *shape)``, the share of craft rows won, that per epoch, row gradients spent."""

    delta: Tensor
    success: float
    history: list[float]
    gradients: int

    @classmethod
    def nothing(cls, x: Tensor) -> Universal:
        """No change to rows like `x (n, *shape)`, nothing spent."""
        return cls(torch.zeros_like(x[:1]) if len(x) else x.new_zeros((1, *x.shape[1:])), 0.0, [], 0)


@dataclass(frozen=True, slots=True)
class Tried:
    """One radius that was tried: the perturbation `found` for each criterion, the one `taken`, what it was `judged` by.

    `noise` is a random vector ``(1, *shape)`` of the same norm, `attempt` what the target answered to either.
    """

    found: Mapping[Criterion, Universal]
    taken: Criterion
    judged: Criterion
    noise: Tensor
    attempt: Attempt

    @property
    def crafted(self) -> Universal:
        """The perturbation that was judged."""
        return self.found[self.taken]

    @property
    def gradients(self) -> int:
        """What all of them cost, in row gradients."""
        return sum(each.gradients for each in self.found.values())


def shared_attempt(
    answered: AskedRows, noisy: Bools, before: Bools | None, *, radius: float, decided: Ints, classes: Ints | None
) -> Attempt:
    """One change for all rows within a `radius`, as it was `answered`; `before (n,)` were uncertified without it."""
    return Attempt(
        radius=radius,
        fooled=answered.fooled,
        noisy=noisy,
        decided=decided,
        classes=classes,
        refused=answered.refused,
        denied=answered.denied(before),
        changed=answered.changed,
        certified=None if before is None else ~before,
    )


def chosen_per_row(tries: Sequence[Tried]) -> tuple[Attempt, ...]:
    """What an attacker gets who takes, row by row, the radius that serves best: the rows that any radius fools.

    Perturbations that are judged by different goals are not mixed: there is one attempt for each goal. Noise is given
    the same choice.
    """
    goals: dict[Criterion, list[Attempt]] = {}
    for tried in tries:
        goals.setdefault(tried.judged, []).append(tried.attempt)
    return tuple(
        replace(
            same[-1],
            fooled=np.logical_or.reduce([each.fooled for each in same]),
            noisy=np.logical_or.reduce([each.noisy for each in same]),
            refused=_still_so(same, "refused"),
            denied=_still_so(same, "denied"),
            changed=_ever_changed(same),
        )
        for same in goals.values()
    )


def strongest_noise(
    ball: Ball,
    shape: tuple[int, ...],
    generator: torch.Generator,
    asked: Callable[[Tensor], AskedRows],
    classes: Ints | None,
    *,
    draws: int = NOISE_DRAWS,
) -> tuple[Tensor, Bools]:
    """Of so many random vectors ``(1, *shape)`` the one that fools most, and the rows ``(n,)`` that it fools.

    One draw is one vector for all rows, and what it does says little of the next; an attack must beat the best of them.
    """
    drawn = [ball.surface((1, *shape), generator) for _ in range(draws)]
    found = [(draw, asked(draw).fooled) for draw in drawn]
    return max(found, key=lambda each: larger_share(each[1], classes))


def strongest_attempt(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt that fooled most, by the lower end of its interval; of equal ones that of the largest radius."""
    return max(attempts, key=lambda attempt: (fooled_interval((attempt,)).low, attempt.radius))


def strongest_radius(tries: Sequence[Tried]) -> Tried:
    """The radius at which most was fooled."""
    strongest = strongest_attempt([tried.attempt for tried in tries])
    return next(tried for tried in tries if tried.attempt is strongest)


def radius_curve(tries: Sequence[Tried], start: float) -> tuple[list[float], list[float]]:
    """The share of rows fooled at each radius alone, from `start` at a radius of zero."""
    runs = [tried.attempt for tried in tries]
    return [0.0, *(run.radius for run in runs)], [start, *(float(run.fooled.mean()) for run in runs)]


def _still_so(same: Sequence[Attempt], name: Literal["refused", "denied"]) -> Bools | None:
    """The rows that none of the attempts fools and some had refused or denied; None where that is not known of all."""
    found = [each for each in (getattr(attempt, name) for attempt in same) if each is not None]
    if len(found) < len(same):
        return None
    fooled = np.logical_or.reduce([each.fooled for each in same])
    return np.asarray(np.logical_or.reduce(found) & ~fooled)


def _ever_changed(same: Sequence[Attempt]) -> Bools | None:
    """The rows whose answer any of the attempts changed; None where that is not known of all."""
    found = [each.changed for each in same if each.changed is not None]
    return np.asarray(np.logical_or.reduce(found)) if len(found) == len(same) else None


def envelope_curve(
    tries: Sequence[Tried], *, noise: bool = False, per_row: bool = False, start: float = 0.0
) -> tuple[list[float], list[float]]:
    """What an attacker achieves who may go as far as each radius, from `start` at a radius of zero; noise with `noise`.

    That is the best of the radii up to there, taken for all rows together or, with `per_row`, row by row.
    """
    shares = [start]
    for count, tried in enumerate(tries, 1):
        given = chosen_per_row(tries[:count]) if per_row else (tried.attempt,)
        reached = [larger_share(each.noisy if noise else each.fooled, each.classes) for each in given]
        shares.append(max(shares[-1] if count > 1 else 0.0, *reached))
    return [0.0, *(tried.attempt.radius for tried in tries)], shares


def apply_perturbation(ball: Ball, x: Tensor, delta: Tensor) -> Tensor:
    """Rows `x (n, *shape)` with `delta` as they can be handed in; the slope in `delta` is that of the clipping."""
    moved = ball.clip(x + delta)
    return moved if ball.whole is None else moved + (ball.usable(moved, x) - moved).detach()


@torch.no_grad()
def shares_won(search: Search, x: Tensor, y: Tensor, delta: Tensor) -> tuple[float, float]:
    """The share of rows that win with `delta`, and the share the detector would release."""
    won = free = 0
    for first in range(0, len(x), ROWS_PER_PASS):
        some = slice(first, first + ROWS_PER_PASS)
        inputs = apply_perturbation(search.ball, x[some], delta)
        scores, features = scores_and_features(search.network, inputs)
        released = torch.ones(len(inputs), dtype=torch.bool, device=x.device)
        if search.detector is not None:
            released = search.detector.released(search.detector.strangeness(inputs, scores, features))
        won += int(((search.criterion.margin(scores, y[some]) > 0) & released).sum())
        free += int(released.sum())
    return (won / len(x), free / len(x)) if len(x) else (0.0, 0.0)
