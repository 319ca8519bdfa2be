"""Bounds of a network's scores over a ball of inputs, and what of its decisions is certified by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from medward.guard.certificate import CertifiedShare
from medward.guard.errors import MedwardError
from medward.guard.harden.certified.box import score_differences
from medward.guard.harden.certified.propagation import network_box, traced_network
from medward.guard.harden.losses.base import ScoreBounds
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring
from medward.guard.harden.robust.inner import TrainingBall, frozen_statistics

SHARE_FACTORS = (0.5, 1.0, 2.0)
"""The radii that shares are stated at, in those asked for."""
_PAIRED = 32  # classes up to which every two scores are bounded against each other
_MANY = 0.5  # of decisions: below it bounds serve few, and a reader is told
_WIDEST = 1e5  # widths in spreads of the scores: a few layers have 1e0 to 1e3, residual networks 1e9
_TINIEST = 1e-12
_CORNERS = 8  # points of each ball that bounds are tried on before they are believed
_ROUNDING = 1e-4  # of the largest score, for float32


def score_bounds(network: Scoring, graph: fx.GraphModule, x: Tensor, ball: TrainingBall) -> ScoreBounds:
    """Bounds of the scores of `network`, whose net was traced to `graph`, over the ball about each row ``x``."""
    box = network_box(graph, ball.clip(x - ball.radius), ball.clip(x + ball.radius))
    paired = isinstance(network.losses, ClassLosses) and box.low.ndim == 2 and box.low.shape[1] <= _PAIRED
    return network.losses.read_bounds(ScoreBounds(box.low, box.high, score_differences(box) if paired else None))


def certified_decisions(network: Scoring, rows: Rows, ball: TrainingBall) -> tuple[Tensor, Tensor]:
    """What is decided worst within the ball: against the true ``y``, and against the network's own decision; n rows.

    A row is right and certified where the first is right; its decision is certified where the second is the same.
    """
    graph, against_truth, changed = traced_network(network.net), [], []
    losses, device = network.losses, ball.radius.device
    with frozen_statistics(network), torch.no_grad():
        for first in range(0, len(rows), ROWS_PER_BATCH):
            x, y = (part[first : first + ROWS_PER_BATCH].to(device) for part in (rows.x, rows.y))
            own, bounds = losses.decide(network(x)), score_bounds(network, graph, x, ball)
            against_truth.append(losses.decide(losses.worst_scores(bounds, y)).cpu())
            changed.append(losses.changed(own, losses.decide(losses.worst_scores(bounds, own))).cpu())
    return torch.cat(against_truth), torch.cat(changed)


def certified_accuracy(network: Scoring, rows: Rows, ball: TrainingBall) -> float:
    """The accuracy of the task that no change within the ball takes away."""
    return network.losses.accuracy(rows.y, certified_decisions(network, rows, ball)[0])


def certified_share(network: Scoring, rows: Rows, ball: TrainingBall) -> float:
    """The share of rows whose decision, right or wrong, no change within the ball alters."""
    return float(1 - certified_decisions(network, rows, ball)[1].double().mean())


def bounded_or_none(
    figure: Callable[[Scoring, Rows, TrainingBall], float], network: Scoring, rows: Rows, ball: TrainingBall
) -> float | None:
    """A `figure` by bounds of `network`; None where that has no bounds, as a user's own need not."""
    try:
        return figure(network, rows, ball)
    except MedwardError:
        return None


def certified_shares(
    before: Scoring, after: Scoring, rows: Rows, ball: TrainingBall, epsilon: float
) -> tuple[CertifiedShare, ...]:
    """Shares at `SHARE_FACTORS` times the radius `epsilon` of `ball`, of the original and of the hardened network."""
    found = []
    for factor in SHARE_FACTORS:
        changed = ball.scaled(factor)
        was, became = bounded_or_none(certified_share, before, rows, changed), certified_share(after, rows, changed)
        found.append(CertifiedShare(radius=epsilon * factor, before=was, after=became))
    return tuple(found)


def share_doubts(shares: tuple[CertifiedShare, ...]) -> tuple[str, ...]:
    """What a reader must be told where few decisions are certified at the radius asked for; nothing where many are."""
    found = [each for each, factor in zip(shares, SHARE_FACTORS, strict=False) if factor == 1 and each.after < _MANY]
    return tuple(
        f"only {each.after:.3f} of the decisions are certified within {each.radius:.4g}: bounds are loose where a "
        "network is deep; try a smaller --epsilon, or a network of ours with --architecture small"
        for each in found
    )


def check_bounds(network: Scoring, x: Tensor, ball: TrainingBall, generator: torch.Generator) -> None:
    """Try the bounds of `network` on corners of the ball about each of `x`.

    Raises `MedwardError` for a network without bounds, and for one whose scores leave them: it was followed wrongly.
    """
    with frozen_statistics(network), torch.no_grad():
        bounds = score_bounds(network, traced_network(network.net), x, ball)
        slack = _ROUNDING * float(torch.maximum(bounds.low.abs(), bounds.high.abs()).max())
        for _ in range(_CORNERS):
            signs = (2 * torch.randint(0, 2, tuple(x.shape), generator=generator) - 1).to(x.device)
            scores = network(ball.clip(x + signs * ball.radius))
            if bool(((scores < bounds.low - slack) | (scores > bounds.high + slack)).any()):
                raise MedwardError(
                    "certified: the network's scores leave the bounds that its layers show, so it does more than can "
                    "be followed; give one without state and without branches"
                )


def check_width(network: Scoring, x: Tensor, ball: TrainingBall) -> None:
    """Compare the width of bounds over the ball about each of `x` with how far scores of these rows lie apart.

    Raises `MedwardError` for a network whose bounds are too wide for training to narrow, before it is trained.
    """
    with frozen_statistics(network), torch.no_grad():
        scores, bounds = network(x).double(), score_bounds(network, traced_network(network.net), x, ball)
        spread = float(torch.maximum(scores.std(dim=0).mean(), _ROUNDING * scores.abs().mean()).clamp_min(_TINIEST))
        width = float((bounds.high.double() - bounds.low.double()).mean()) / spread
    if not width < _WIDEST:
        raise MedwardError(
            f"certified: the bounds of this network's scores are {width:.1g} times as wide as scores of different rows "
            f"lie apart, and beyond {_WIDEST:.0g} times training does not narrow them, for it has too many layers or "
            "normalisation that magnifies; train ours with --architecture small, or give a network of few layers"
        )
