"""Asking: how a target's answers are read, by who judges what a search found and by a search that sees nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medward.attacks.target import Target
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import ROWS_PER_PASS, scores_and_features
from medward.attacks.whitebox.search import Search
from medward.guard.release.topk import spread_rest
from medward.guard.tasks.decision import at_threshold

Bools = NDArray[np.bool_]
ScoreQuery = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows ``(n, *shape)`` to scores ``(n, K)``, NaN where withheld, and decisions ``(n,)``, -1 where withheld."""
_SMALLEST = 1e-12  # a probability of zero, on a logarithmic scale


@dataclass(frozen=True, slots=True)
class BlackBoxSearch:
    """A black-box search is the frame of an attack that sees answers alone: who is asked, what success is, how far.

    `generator` gives all of its random numbers.
    """

    ask: ScoreQuery
    criterion: Criterion
    ball: Ball
    generator: torch.Generator = field(default_factory=torch.Generator)


def fooled_rows(target: Target, inputs: Tensor, y: Tensor, criterion: Criterion) -> Bools:
    """Ask the target once: which rows, clean decided as `y (n,)`, its answers give to the attacker."""
    if not len(inputs):
        return np.zeros(0, np.bool_)
    given = target.query(inputs.cpu().numpy())
    scores, decided = (torch.as_tensor(np.asarray(part), device=y.device) for part in (given.scores, given.labels))
    return np.asarray(criterion.answered(scores, decided, y).cpu().numpy())


def black_box_answers(target: Target) -> ScoreQuery:
    """The target as a black-box search asks it: scores ``(n, K)`` and labels ``(n,)``, NaN and -1 where withheld.

    Probabilities come as their logarithms, which tell small ones apart; what a row hides counts as an even share of the
    rest. With a threshold the largest is the decision.
    """
    spec = target.spec

    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        response = target.query(x.cpu().numpy())
        told = spread_rest(response.scores) if response.output == "probabilities" else response.scores
        if spec.threshold is not None:
            moved = at_threshold(told, response.output, spec.threshold)
            scores = torch.as_tensor(moved, dtype=torch.float32, device=x.device)
        else:
            scores = torch.as_tensor(np.asarray(told, np.float32), device=x.device)
            scores = scores.clamp_min(_SMALLEST).log() if response.output == "probabilities" else scores
        return scores, torch.as_tensor(response.labels, device=x.device)

    return ask


def without_gradients(search: Search) -> BlackBoxSearch:
    """The same search by the network's answers alone; what its detector stops is withheld."""
    network, detector = search.network, search.detector

    @torch.no_grad()
    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [scores_and_features(network, x[i : i + ROWS_PER_PASS]) for i in range(0, len(x), ROWS_PER_PASS)]
        scores = torch.cat([part for part, _ in parts])
        labels = search.criterion.decided(scores)
        if detector is None:
            return scores, labels
        shown = [features for _, features in parts if features is not None]
        stopped = ~detector.released(detector.strangeness(x, scores, torch.cat(shown) if shown else None))
        return scores.masked_fill(stopped[:, None], torch.nan), labels.masked_fill(stopped, -1)

    return BlackBoxSearch(ask, search.criterion, search.ball, search.generator)
