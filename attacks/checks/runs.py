"""Signs that a single run cannot be trusted, from its numbers alone (C4, C7, C8, C10) and its examples (C9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.search import Search

_TOLERANCE = 0.05
_ABSTAINS, _ONE_ANSWER = "always abstains", "always the same answer"
_UNSTEADY = "the target does not answer consistently"
_LEVELS = 255  # steps of an 8-bit image
VANISHED = 0.2  # the share of examples that an 8-bit file may undo


def not_converged(history: Sequence[float]) -> str | None:
    """C4: success still rising over the last quarter of the steps, with room left above."""
    if len(history) < 4:
        return None
    best = np.maximum.accumulate(history)
    gain = float(best[-1] - best[-1 - len(best) // 4])
    if gain <= _TOLERANCE or best[-1] >= 1 - _TOLERANCE:
        return None
    return f"not converged: success rose by {gain:.0%} in the last quarter of the steps; give it more steps"


def not_monotone(epsilons: Sequence[float], success: Sequence[float], n: int) -> str | None:
    """C7: success must not fall as the radius grows, nor be above zero at radius zero."""
    pairs = sorted(zip(epsilons, success, strict=True))
    if pairs and pairs[0][0] == 0 and pairs[0][1] > 0:
        return f"success is {pairs[0][1]:.0%} at radius 0, 0 expected; {_UNSTEADY}"
    for (_, before), (epsilon, after) in pairwise(pairs):
        if after < before - _slack(n):
            return f"not monotone: success falls from {before:.0%} to {after:.0%} at radius {epsilon:g}"
    return None


def weaker_than_noise(success: float, noise: float, n: int) -> str | None:
    """C8: random noise of the same norm wins more often than the attack."""
    if success >= noise - _slack(n):
        return None
    return f"weaker than noise: {success:.0%} against {noise:.0%} for random signs of the same norm"


def better_unseen(success: float, craft: float, n: int) -> str | None:
    """C8: a perturbation wins clearly more held-out rows than rows it was crafted on."""
    if success <= craft + _slack(n):
        return None
    return f"better on held-out rows than on its own: {success:.0%} against {craft:.0%}; the two are not alike"


def out_of_bounds(adversarial: Tensor, x: Tensor, ball: Ball) -> str | None:
    """C9: examples ``(n, *shape)`` outside the ball around `x`, or outside the range of valid inputs."""
    if not bool(torch.isfinite(adversarial).all()):
        return "examples out of bounds: some values are not finite numbers"
    change = adversarial - x
    beyond = (change - ball.scaled(1.001).shrink(change)).abs()
    if bool((beyond > 1e-6 * x.abs() + 1e-6).any()):
        return f"examples out of bounds: a change exceeds the radius by up to {float(beyond.amax()):.3g}"
    if not torch.equal(ball.clip(adversarial), adversarial):
        return f"examples out of bounds: values beyond the range {ball.low} to {ball.high} that the model takes"
    return None


def lost_when_stored(search: Search, adversarial: Tensor, y: Tensor) -> str | None:
    """C9: examples ``(n, *shape)`` that win as they are and not once an 8-bit file has held them."""
    low, high = search.ball.low, search.ball.high
    if low is None or high is None:
        return None
    step = (high - low) / _LEVELS
    stored = (low + torch.round((adversarial - low) / step) * step).clamp(low, high)
    won, kept = search.won(adversarial, y), search.won(stored, y)
    lost, wins = int((won & ~kept).sum()), int(won.sum())
    if lost <= max(2.0, VANISHED * wins):
        return None
    return f"lost when stored: {lost} of {wins} examples no longer win once an 8-bit file has held them"


def not_alive(steps: int, delta: Tensor) -> str | None:
    """C10: an attack that took no step or changed nothing."""
    if steps <= 0:
        return f"zero steps: steps = {steps}, the attack never ran"
    if not bool((delta != 0).any()):
        return "no perturbation: the attack changed nothing"
    return None


def always_abstains(withheld: float) -> str | None:
    """C13: a target that refuses ordinary inputs is not robust, it is off."""
    return f"{_ABSTAINS}: {withheld:.0%} of clean rows are withheld" if withheld > 0.5 else None


def is_of_no_use(flag: str) -> bool:
    """Whether a flag says what no strength of an attack changes: a target is of no use, or answers now so, now so."""
    return flag.startswith((_ABSTAINS, _ONE_ANSWER)) or flag.endswith(_UNSTEADY)


def one_answer(decisions: Tensor) -> str | None:
    """C13: a model that decides every row alike cannot be fooled, and is of no use."""
    if len(decisions) < 2 or bool((decisions != decisions[0]).any()):
        return None
    return f"{_ONE_ANSWER}: all {len(decisions)} rows are decided alike"


def run_flags(
    *,
    steps: int,
    delta: Tensor,
    success: float,
    noise: float,
    n: int,
    histories: Sequence[Sequence[float]],
    curve: tuple[Sequence[float], Sequence[float]],
    withheld: float,
    craft: float | None = None,
    curve_rows: int | None = None,
) -> tuple[str, ...]:
    """What is wrong with one run: C4, C7, C8, C10 and C13.

    `histories` are the shares won per step, one for each radius. `withheld` is the share of clean rows that the target
    withholds; `craft` what a perturbation for all rows wins of the rows it was crafted on. The `curve` is of
    `curve_rows`, all `n` if None.
    """
    flags = [
        not_alive(steps, delta),
        next((flag for history in histories if (flag := not_converged(history))), None),
        not_monotone(*curve, n if curve_rows is None else curve_rows),
        weaker_than_noise(success, noise, n),
        None if craft is None else better_unseen(success, craft, n),
        always_abstains(withheld),
    ]
    return tuple(flag for flag in flags if flag)


def _slack(n: int) -> float:
    """How far two rates over `n` rows may differ by chance."""
    return max(_TOLERANCE, 2 * math.sqrt(0.5 / max(n, 1)))
