"""Signs that an evasion evaluation cannot be trusted: each check returns one sentence, or None.

A defense that hides its gradients, or an attack that never ran, looks exactly like a robust model. These
checks tell them apart: they look at the network (`evasion_flags`) and at the run (`run_flags`). A flag
never says that the model is weak, only that "held" would be unfounded.

Reference: Carlini et al., "On evaluating adversarial robustness", 2019, sec. 5; Athalye, Carlini, Wagner,
"Obfuscated gradients give a false sense of security", ICML 2018, sec. 3.1; Pintor et al., "Indicators of
attack failure", NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adaptive import Detector
from attacks.ascent import LOSSES, Loss, ascend, both, decide, gradient
from attacks.ball import Ball
from attacks.surrogate import fit_classifier
from guard.types import Modality

ROWS = 96  # rows each network check looks at
STEPS = 20
SURROGATE_ROWS = 512
ZERO_SHARE = 0.01
TOLERANCE = 0.05
PROBE = 0.01  # of the radius: the step that must lower strangeness
LOWERED = 0.8  # the share of rows on which it must


def dead_gradients(network: nn.Module, x: Tensor, y: Tensor, name: str) -> str | None:
    """C1: rows whose whole input gradient is zero or not finite under the loss `name`."""
    point = x.clone().requires_grad_(True)
    slope = gradient(LOSSES[name](both(network, point)[0], y), point).flatten(1)
    dead = (~torch.isfinite(slope).all(dim=1)) | (slope.abs().amax(dim=1) == 0)
    share = float(dead.float().mean())
    if share <= ZERO_SHARE:
        return None
    return f"masked gradients: {share:.0%} of rows have a zero or non-finite {name} gradient"


def unstable(network: nn.Module, x: Tensor) -> str | None:
    """C2: the same input gives different scores twice."""
    with torch.no_grad():
        same = torch.equal(network(x), network(x))
    return None if same else "random forward pass: the same input gives different scores; average over draws (EOT)"


def saturated(network: nn.Module, x: Tensor) -> str | None:
    """C9: scores that are probabilities; attacks need logits or log-probabilities."""
    with torch.no_grad():
        scores = network(x)
    sums_to_one = torch.allclose(scores.sum(dim=1), torch.ones(len(x), device=x.device), atol=1e-3)
    return "the network returns probabilities, not logits" if sums_to_one and bool((scores >= 0).all()) else None


def weaker_than_transfer(white: Tensor, transfer: Tensor) -> str | None:
    """C5: on the same rows, examples made without the gradients win more often (paired, two sigma)."""
    only_transfer, only_white = int((transfer & ~white).sum()), int((white & ~transfer).sum())
    gap = only_transfer - only_white
    if gap <= TOLERANCE * len(white) or gap <= 2 * math.sqrt(only_transfer + only_white):
        return None
    rates = f"{float(white.float().mean()):.0%} against {float(transfer.float().mean()):.0%}"
    return f"weaker than transfer: the white-box attack wins on {rates} for a surrogate's; gradients are masked"


def survives_anything(rate: float) -> str | None:
    """C6: with an unbounded perturbation every model must fall."""
    if rate >= 1 - TOLERANCE:
        return None
    return f"unbounded perturbations fool only {rate:.0%} of rows, all expected; the attack is not working"


def not_converged(history: Sequence[float]) -> str | None:
    """C4: success still rising over the last quarter of the steps, with room left above."""
    if len(history) < 4:
        return None
    best = np.maximum.accumulate(history)
    gain = float(best[-1] - best[-1 - len(best) // 4])
    if gain <= TOLERANCE or best[-1] >= 1 - TOLERANCE:
        return None
    return f"not converged: success rose by {gain:.0%} in the last quarter of the steps; give it more steps"


def not_monotone(epsilons: Sequence[float], success: Sequence[float], n: int) -> str | None:
    """C7: success must not fall as the radius grows, nor be above zero at radius zero."""
    slack = max(TOLERANCE, 2 * math.sqrt(0.5 / max(n, 1)))
    pairs = sorted(zip(epsilons, success, strict=True))
    if pairs and pairs[0][0] == 0 and pairs[0][1] > 0:
        return f"success is {pairs[0][1]:.0%} at radius 0, 0 expected; the target does not answer consistently"
    for (_, before), (epsilon, after) in pairwise(pairs):
        if after < before - slack:
            return f"not monotone: success falls from {before:.0%} to {after:.0%} at radius {epsilon:g}"
    return None


def weaker_than_noise(success: float, noise: float, n: int) -> str | None:
    """C8: random noise of the same norm wins more often than the attack."""
    if success >= noise - max(TOLERANCE, 2 * math.sqrt(0.5 / max(n, 1))):
        return None
    return f"weaker than noise: {success:.0%} against {noise:.0%} for random signs of the same norm"


def dead_screens(
    network: nn.Module, detector: Detector, x: Tensor, ball: Ball, generator: torch.Generator
) -> tuple[str, ...]:
    """C11: from noisy rows, a small step against the gradient of strangeness does not lower it.

    A detector-aware attack on such screens is the plain attack with a useless term.
    """
    if ball.empty or not len(x):
        return ()
    point = ball.clip(x + ball.surface(tuple(x.shape), generator)).requires_grad_(True)
    before = detector.strangeness(point, *both(network, point))
    slope = gradient(before, point) * ball.radius
    steepest = slope.abs().flatten(1).amax(dim=1).view(-1, *[1] * (x.ndim - 1))
    with torch.no_grad():
        moved = ball.clip(point - PROBE * ball.radius * slope / steepest)
        after = detector.strangeness(moved, *both(network, moved))
    alive = torch.isfinite(steepest.flatten()) & (steepest.flatten() > 0)
    share = float((alive & (after < before)).float().mean())
    if share >= LOWERED:
        return ()
    return (f"the screens' gradient leads nowhere: a step against it lowers strangeness on {share:.0%} of rows",)


def found_nothing(plain: float) -> tuple[str, ...]:
    """C12: a detector-aware search that won no row, where the same search without the detector wins `plain`."""
    if plain == 0:
        return ()
    return (f"the detector-aware attacker found nothing, where without the screens {plain:.0%} of rows fall",)


def not_alive(steps: int, delta: Tensor) -> str | None:
    """C10: an attack that took no step or changed nothing."""
    if steps <= 0:
        return f"zero steps: steps = {steps}, the attack never ran"
    if not bool((delta != 0).any()):
        return "no perturbation: the attack changed nothing"
    return None


def abstains(withheld: float) -> str | None:
    """A target that refuses ordinary inputs is not robust, it is off."""
    return f"abstains: {withheld:.0%} of clean rows are withheld" if withheld > 0.5 else None


def evasion_flags(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    craft: Tensor,
    modality: Modality,
    seed: int,
    thorough: bool = True,
) -> tuple[str, ...]:
    """What is wrong with `network` as something to attack by gradients: C1, C2, C5, C6 and C9.

    `x (n, *shape)` are rows the network decides as `y (n,)`; `craft` are other rows, for the transfer
    surrogate. Without `thorough` only the checks that cost a few passes are made (C1, C2, C9).
    """
    x, y = x[:ROWS], y[:ROWS]
    generator = torch.Generator().manual_seed(seed)
    flags = [dead_gradients(network, x, y, name) for name in LOSSES]
    flags += [unstable(network, x), saturated(network, x)]
    if thorough:
        flags.append(survives_anything(_wins(network, x, y, _everything(ball, craft), generator).float().mean().item()))
    if thorough and not ball.empty:
        white = _wins(network, x, y, ball, generator)
        flags.append(weaker_than_transfer(white, _transfer(network, x, y, ball, craft, modality, generator, seed)))
    return tuple(flag for flag in flags if flag)


def run_flags(
    *,
    steps: int,
    delta: Tensor,
    success: float,
    noise: float,
    n: int,
    history: Sequence[float],
    curve: tuple[Sequence[float], Sequence[float]],
    withheld: float,
) -> tuple[str, ...]:
    """What is wrong with one run: C4, C7, C8, C10, and a target that withholds `withheld` of clean rows."""
    flags = [
        not_alive(steps, delta),
        not_converged(history),
        not_monotone(*curve, n),
        weaker_than_noise(success, noise, n),
        abstains(withheld),
    ]
    return tuple(flag for flag in flags if flag)


def _wins(network: nn.Module, x: Tensor, y: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
    won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for loss in LOSSES.values():
        won |= ascend(network, x, y, ball, loss=loss, steps=STEPS, generator=generator, random_start=False).won
    return won


def _transfer(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    craft: Tensor,
    modality: Modality,
    generator: torch.Generator,
    seed: int,
) -> Tensor:
    """Which rows fall to examples crafted on a surrogate that learned `network`'s decisions on `craft`."""
    craft = craft[:SURROGATE_ROWS]
    with torch.no_grad():
        classes = network(x[:1]).shape[1]
    surrogate = fit_classifier(
        craft.cpu().numpy(),
        decide(network, craft).cpu().numpy(),
        classes=classes,
        modality=modality,
        shape=tuple(x.shape[1:]),
        epochs=8 if modality == "image" else 30,
        seed=seed,
        device=str(x.device),
    )
    loss: Loss = LOSSES["margin"]
    climb = ascend(surrogate, x, y, ball, loss=loss, steps=STEPS, generator=generator, random_start=False, stop=False)
    return decide(network, climb.adversarial) != y


def _everything(ball: Ball, craft: Tensor) -> Ball:
    """A ball that holds every valid input; for an unbounded range, ten times the spread of `craft`."""
    if ball.low is not None and ball.high is not None:
        return replace(ball, radius=torch.full_like(ball.radius, ball.high - ball.low))
    spread = (craft.amax(dim=0) - craft.amin(dim=0)).amax() if len(craft) else torch.ones((), device=ball.radius.device)
    return replace(ball, radius=torch.full_like(ball.radius, 10 * float(spread)))
