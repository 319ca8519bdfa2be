"""Can an attacker who knows the screens follow them at all? (C11)

Reference: Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial example defenses", NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.search import Search

_Flags = tuple[str, ...]
PROBE = 0.01  # of the radius: the step that must lower strangeness
LOWERED = 0.8  # the share of rows on which it must
LARGER = (2.0, 4.0, 8.0)  # radii at which a search that found nothing must find something


def dead_screens(search: Search, x: Tensor) -> _Flags:
    """C11: from noisy rows, a small step against the gradient of strangeness does not lower it.

    A detector-aware attack on such screens is the plain attack with a useless term.
    """
    network, ball, detector = search.network, search.ball, search.detector
    if detector is None or ball.empty or not len(x):
        return ()
    point = ball.clip(x + ball.surface(tuple(x.shape), search.generator)).requires_grad_(True)
    before = detector.strangeness(point, *scores_and_features(network, point))
    slope = input_gradient(before, point) * ball.radius
    steepest = slope.abs().flatten(1).amax(dim=1).view(-1, *[1] * (x.ndim - 1))
    with torch.no_grad():
        moved = ball.clip(point - PROBE * ball.radius * slope / steepest)
        after = detector.strangeness(moved, *scores_and_features(network, moved))
    alive = torch.isfinite(steepest.flatten()) & (steepest.flatten() > 0)
    share = float((alive & (after < before)).float().mean())
    if share >= LOWERED:
        return ()
    return (f"the screens' gradient leads nowhere: a step against it lowers strangeness on {share:.0%} of rows",)


def found_nothing(plain: float, ball: Ball | None = None, search: Callable[[Ball], float] | None = None) -> _Flags:
    """C11: a detector-aware search that won no row, where the same search without the detector wins `plain`.

    That may be a broken search, or a model and screens that hold. `search`, the share the same detector-aware search
    wins in another ball beyond what noise wins there, tells them apart: one that wins half of `plain` at a few radii
    works, and its zero in `ball` counts. Balls
    that reach over more than a quarter of the range are left out: there any image can be turned into another.
    """
    if plain == 0:
        return ()
    if ball is not None and search is not None:
        balls = [ball.scaled(factor) for factor in LARGER]
        span = math.inf if ball.low is None or ball.high is None else ball.high - ball.low
        if any(search(each) >= plain / 2 for each in balls if float(each.radius.max()) <= span / 4):
            return ()
    return (f"the detector-aware attacker found nothing, where without the screens {plain:.0%} of rows fall",)
