"""Is the gradient the slope of the scores? Automatic differentiation against finite differences (C1, C2).

Defenses that hide their gradient look alike to an attack and differ under small steps, so that each can be named:
logit scaling leaves the margin its gradient, a quantiser answers exactly alike under tiny steps and not under
larger ones, a gradient killer's scores move where its gradient says that they do not, or otherwise than it says.
A gradient that is right at any step up to the radius is good enough to attack with, as a declared stand-in's (BPDA).
A few rows may have none because nothing moves around them, as far as the radius goes: networks that are trained with
bounds have such flat places, and there is nothing to hide in them. They count as that only where they are no class, and
where neither noise nor any change of brightness, of all values or of one side, moves their scores.

Reference: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018, sec. 3;
Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020 (scaling of logits and the loss).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.network import ExpectedOverRandomness
from medward.attacks.whitebox.search import Search

PROBED = 32  # rows that are compared with finite differences, besides some without a gradient
DIRECTIONS = 8
USED = 0.1  # in radii: from this step on attacks use the gradient, and it must be right there
_STEPS = {torch.float64: (1e-6, 1e-3, 0.1, 1.0), torch.float32: (1e-5, 1e-2, 0.1, 1.0)}  # in radii
ZERO_SHARE = 0.01
MISLED = 0.2  # the share of rows with a wrong gradient that gives a gradient killer away
AGREES = 0.5  # the cosine from which a gradient counts as right
FLAT = 0.1  # the share of rows without a gradient, and without any change of scores, that an honest network may have
INFLATED = 0.1  # the share of rows of flat cross-entropy that is more than an ordinary network's few sure ones
GAP = 50.0  # between the two top scores; exp(-50) is nothing beside 1 in single precision
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe holds what small steps show of rows ``(n,)``.

    `still`: the smallest step changes no score at all; `moves`: a step of one radius changes some. `cosine` is that
    between the slopes by the gradient and by central differences along random directions, at the one of the steps
    that attacks take where they agree best; NaN where either is zero throughout. A gradient that is right only for far
    smaller steps (shattered, Athalye et al. 2018, sec. 4) leads an attack nowhere.
    """

    still: Tensor
    moves: Tensor
    cosine: Tensor


def gradient_flags(search: Search, x: Tensor, y: Tensor) -> tuple[str, ...]:
    """What is wrong with the gradient on rows `x (n, *shape)` decided as `y (n,)`: C1 and C2.

    A random network is not probed: differences of its scores are noise, even of their means over draws.
    """
    network = search.network
    if flag := unstable_scores(search, x):
        return (flag,)
    dead = {name: dead_rows(search, x, y, name) for name in search.criterion.losses}
    blurred = search.ball.empty or (isinstance(network, ExpectedOverRandomness) and _random(network, x[:PROBED]))
    rows = _probed_rows(dead["margin"])
    seen = None if blurred else probe_gradients(search, x[rows], y[rows])
    flags = [
        hidden_gradients(dead["margin"], dead["margin"][rows], seen, search.criterion.decisions(y)),
        misleading_gradients(dead["margin"][rows], seen),
    ]
    return tuple(flag for flag in (*flags, inflated_logits(search, x, y, dead)) if flag)


def unstable_scores(search: Search, x: Tensor) -> str | None:
    """C2: the same input gives different scores twice; where that is averaged over draws (EOT), other decisions."""
    network, decided = search.network, search.criterion.decided
    with torch.no_grad():
        first, second = network(x), network(x)
    if not isinstance(network, ExpectedOverRandomness):
        if torch.equal(first, second) or not bool(torch.isfinite(first).all()):
            return None
        return "random front end: the same input gives different scores; average over draws (EOT)"
    differ = float((decided(first) != decided(second)).float().mean())
    if differ <= _TOLERANCE:
        return None
    return f"random front end: averages over {network.draws} draws decide {differ:.0%} of rows otherwise the next time"


def _probed_rows(dead: Tensor) -> Tensor:
    """Rows to probe, as indices: `PROBED` with a gradient and up to half as many `dead (n,)`."""
    return torch.cat([torch.nonzero(~dead)[:, 0][:PROBED], torch.nonzero(dead)[:, 0][: PROBED // 2]])


def _random(network: nn.Module, x: Tensor) -> bool:
    """Whether the same rows get other scores the next time."""
    with torch.no_grad():
        return not torch.equal(network(x), network(x))


def dead_rows(search: Search, x: Tensor, y: Tensor, loss: str) -> Tensor:
    """Rows ``(n,)`` whose whole input gradient is zero or not finite under the loss of that name."""
    slope = _slope(search, x, y, loss).flatten(1)
    return (~torch.isfinite(slope).all(dim=1)) | (slope.abs().amax(dim=1) == 0)


def probe_gradients(search: Search, x: Tensor, y: Tensor) -> Probe:
    """Compare the margin's gradient with central differences, in double precision where the network allows it.

    The points are a little off `x (n, *shape)`, so that no value sits on a kink, as black borders may.
    """
    ball, generator, margin = search.ball, search.generator, search.criterion.losses["margin"]
    near = ball.clip(x + 0.1 * ball.inside(tuple(x.shape), generator))
    network, near, dtype = _precise(search.network, near)
    lines = [ball.surface(tuple(x.shape), generator).to(dtype) for _ in range(DIRECTIONS)]
    plain = [line.to(dtype) for line in _brighter(ball, tuple(x.shape[1:]))]
    slope = torch.nan_to_num(_slope(replace(search, network=network), near, y, "margin"), 0.0, 0.0, 0.0)
    told = torch.stack([(slope * line).flatten(1).sum(dim=1) for line in lines], dim=1)
    still = torch.ones(len(x), dtype=torch.bool, device=x.device)
    moves, best = ~still, torch.full((len(x),), torch.nan, dtype=dtype, device=x.device)
    with torch.no_grad():
        here = network(near)
        for index, step in enumerate(_STEPS[dtype]):
            found = torch.zeros_like(told)
            for column, line in enumerate(lines):
                ahead, behind = network(near + step * line), network(near - step * line)
                found[:, column] = (margin(ahead, y) - margin(behind, y)) / (2 * step)
                same = ((ahead == here) & (behind == here)).flatten(1).all(dim=1)
                if index == 0:
                    still &= same
                moves |= ~same
            for line in plain:
                ahead, behind = network(ball.clip(near + step * line)), network(ball.clip(near - step * line))
                moves |= ~((ahead == here) & (behind == here)).flatten(1).all(dim=1)
            if step >= USED:
                best = torch.fmax(best, _cosine(told, found))
    return Probe(still=still, moves=moves, cosine=best)


def _brighter(ball: Ball, shape: tuple[int, ...]) -> list[Tensor]:
    """Changes ``(1, *shape)`` of the radius that make all values larger, or those of one half along an axis."""
    up, _ = ball.shifts(shape)
    changes = [up]
    for axis, size in enumerate(shape, 1):
        if size > 1:
            half = torch.arange(size, device=up.device).view(-1, *[1] * (len(shape) - axis)) < size // 2
            changes += [up * half, up * ~half]
    return changes


def hidden_gradients(dead: Tensor, rows: Tensor, seen: Probe | None, decided: Tensor) -> str | None:
    """C1: rows without a margin gradient ``(n,)``, named by what finite differences show of the probed `rows (m,)`.

    `decided (n,)` is what all rows are decided as: where most of one class has no gradient, that is no few flat places.
    """
    if not _many(dead):
        return None
    part = float(dead.float().mean())
    share = f"{part:.0%} of rows have a zero or non-finite margin gradient"
    if seen is not None:
        moving, stepped = rows & ~seen.still, rows & seen.still & seen.moves
        if moving.sum() > stepped.sum():
            return f"masked gradients (gradient killer): {share}, yet the smallest steps change their scores"
        if stepped.any():
            return (
                f"masked gradients (quantiser): {share}; tiny steps leave their scores exactly alike, "
                "steps of one radius do not (so do trees); differentiate a smooth stand-in instead (BPDA)"
            )
        classes = (decided == each for each in torch.unique(decided[dead]))
        few = part <= FLAT and all(float(dead[of].float().mean()) <= 0.5 for of in classes)
        if few and bool(rows.any()) and not bool((rows & (seen.moves | ~seen.still)).any()):
            return None
    return f"masked gradients: {share}"


def misleading_gradients(dead: Tensor, seen: Probe | None) -> str | None:
    """C1: probed rows, not `dead (m,)`, whose margin gradient is there and is not the slope of the margin."""
    if seen is None:
        return None
    alive = ~dead & ~seen.cosine.isnan()
    wrong = alive & (seen.cosine < AGREES)
    share = float(wrong.sum()) / max(1, int((~dead).sum()))
    if share <= MISLED:
        return None
    return (
        f"masked gradients (gradient killer): on {share:.0%} of rows the gradient is not the slope that finite "
        f"differences find (median cosine {float(seen.cosine[alive].median()):.2f}, 1 expected)"
    )


def inflated_logits(search: Search, x: Tensor, y: Tensor, dead: dict[str, Tensor]) -> str | None:
    """C1: cross-entropy is flat because the scores lie too far apart; the margin still has its gradient."""
    if "cross-entropy" not in dead:
        return None
    flat = dead["cross-entropy"] & ~dead["margin"]
    gap = float(search.margins(x, y).abs().median())
    if float(flat.float().mean()) <= INFLATED and (gap <= GAP or _many(dead["margin"])):
        return None
    return (
        f"masked gradients (logit scaling): {float(flat.float().mean()):.0%} of rows have a zero or non-finite "
        f"cross-entropy gradient but one of the margin; the two top scores lie {gap:.3g} apart at the median"
    )


def _many(rows: Tensor) -> bool:
    """More than a share of `ZERO_SHARE`, and more than one: a single flat spot hides nothing."""
    return int(rows.sum()) > max(1.0, ZERO_SHARE * len(rows))


def _slope(search: Search, x: Tensor, y: Tensor, loss: str) -> Tensor:
    point = x.clone().requires_grad_(True)
    return input_gradient(search.criterion.losses[loss](scores_and_features(search.network, point)[0], y), point)


def _precise(network: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor, torch.dtype]:
    """The network and rows in double precision, or as they are where some part of it cannot follow."""
    try:
        double, point = copy.deepcopy(network).double(), x.double().requires_grad_(True)
        scores = double(point)
        input_gradient(scores, point)
    except (RuntimeError, TypeError, ValueError):
        return network, x, torch.float32
    return (double, x.double(), torch.float64) if scores.dtype is torch.float64 else (network, x, torch.float32)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Of rows ``(n, k)``; NaN where one is zero or not finite."""
    lengths = first.norm(dim=1) * second.norm(dim=1)
    cosine = (first * second).sum(dim=1) / lengths
    return torch.where((lengths > 0) & torch.isfinite(cosine), cosine, torch.nan)
