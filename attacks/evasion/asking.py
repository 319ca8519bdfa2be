"""Asking: how a target's answers are read, by who judges what a search found and by a search that sees nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medward.attacks.base import AttackData
from medward.attacks.target import Response, Target
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import ROWS_PER_PASS, scores_and_features
from medward.attacks.whitebox.search import Search
from medward.guard.release.topk import spread_rest
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import at_threshold
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import Mention
from medward.guard.types import Array, Ints

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


class AskedRows(NamedTuple):
    """Rows that a target was asked about: which ``(n,)`` are `fooled`, and which it `refused` to answer.

    `uncertified` are those of which the target proves nothing: they are not fooled, for a person reads them, and are
    not counted as refused where they were withheld for nothing else. All False where it proves nothing of any.
    `changed` are those whose answer goes to the attacker, certified or not.
    """

    fooled: Bools
    refused: Bools
    uncertified: Bools
    changed: Bools

    def then(self, rows: Bools, again: AskedRows) -> AskedRows:
        """What came of all rows once some `rows (n,)` were asked `again (m,)` with other changes."""
        found = AskedRows(*(each.copy() for each in self))
        for each, more in zip(found, again, strict=True):
            each[rows] |= more
        return AskedRows(found.fooled, found.refused & ~found.fooled, found.uncertified & ~found.fooled, found.changed)

    def denied(self, before: Bools | None) -> Bools | None:
        """The rows not fooled that were certified `before (n,)` and no longer are; None where nobody certifies."""
        return None if before is None else self.uncertified & ~before & ~self.fooled


def asked_rows(target: Target, inputs: Tensor, y: Tensor, criterion: Criterion) -> AskedRows:
    """Ask the target once: which rows, clean decided as `y (n,)`, its answers give to the attacker or it refuses."""
    if not len(inputs):
        return AskedRows(*(np.zeros(0, np.bool_) for _ in range(4)))
    response = target.query(inputs.cpu().numpy())
    scores, decided = answers_as_tensors(response, y.device)
    changed = np.asarray(criterion.answered(scores, decided, y).cpu().numpy())
    won = np.asarray(criterion.answered(scores, _relied(response, decided, y), y).cpu().numpy())
    if not y.is_floating_point():
        target.contradictions += _otherwise(response, criterion.decisions(y).cpu().numpy())
    unproven = response.uncertified
    if response.certified is not None and response.certified.ndim == 1:
        won = won & response.certified
    unproven = np.zeros(len(won), np.bool_) if unproven is None else unproven
    return AskedRows(won, response.refused, unproven, changed)


def _otherwise(response: Response, clean: Ints) -> int:
    """How many answers that left as certified decide otherwise than the `clean (n,)` rows were decided.

    Whatever an attacker aimed at: within the certified radius there is none, if bounds are sound.
    """
    if response.certified is None:
        return 0
    decided = np.asarray(response.labels)
    if response.certified.ndim == 1:
        return int((response.certified & (decided >= 0) & (decided != clean)).sum())
    sure = (response.certified.astype(np.int64) << np.arange(response.certified.shape[1])).sum(axis=1)
    return int(((decided >= 0) & (((decided ^ clean) & sure) != 0)).sum())


def _relied(response: Response, decided: Tensor, y: Tensor) -> Tensor:
    """The decisions, of findings with those that are not certified as they were in the clean rows."""
    if response.certified is None or response.certified.ndim == 1:
        return decided
    bits = torch.as_tensor(response.certified, device=decided.device).to(torch.int64)
    sure = (bits << torch.arange(bits.shape[1], device=decided.device)).sum(dim=1)
    return torch.where(decided < 0, decided, (decided & sure) | (y & ~sure))


def fooled_rows(target: Target, inputs: Tensor, y: Tensor, criterion: Criterion) -> Bools:
    """Ask the target once: which rows, clean decided as `y (n,)`, its answers give to the attacker."""
    return asked_rows(target, inputs, y, criterion).fooled


def answers_as_tensors(response: Response, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """The scores that were released ``(n, ...)`` and the decisions ``(n,)``, as tensors."""
    scores, decided = np.asarray(response.scores), np.asarray(response.labels)
    return torch.as_tensor(scores, device=device), torch.as_tensor(decided, device=device)


def clean_rows(
    response: Response, criterion: Criterion, device: torch.device | str, own: Ints | Array | None = None
) -> tuple[Tensor, Tensor]:
    """What a search keeps of clean rows, and which ``(n,)`` were not told.

    `own` is what the model itself says of the rows, where that is known: decisions ``(n,)``, or the outputs of a model
    whose success is a distance. It takes the place of what was hidden, and nothing else does: a number that was told as
    a cell is not known, and an invented one would be climbed away from.
    """
    scores, decided = answers_as_tensors(response, device)
    hidden = decided < 0
    if own is not None and own.dtype.kind == "f":
        known = torch.as_tensor(own, device=device).reshape(scores.shape).to(scores)
        scores = torch.where(torch.isfinite(scores), scores, known)
    elif own is not None:
        decided = torch.where(hidden, torch.as_tensor(own, device=device), decided)
    y = criterion.kept(scores, decided)
    if y.is_floating_point():
        return y, ~torch.isfinite(y).reshape(len(y), -1).all(dim=1)
    return y, hidden & (decided < 0)


def known_answers(data: AttackData, spec: ModelSpec) -> Ints | Array | None:
    """What is known of the test rows that the target hides: the undefended model's answers, else the labels.

    Decisions ``(n,)``, or of a regression and an opaque model outputs ``(n, ...)``.
    """
    if isinstance(spec.task, Regression | Opaque) and data.outputs is not None:
        return data.outputs
    if isinstance(spec.task, Regression):
        return data.test.labels
    return data.test.labels if data.reference is None else data.reference


def black_box_answers(target: Target) -> ScoreQuery:
    """The target as a black-box search asks it: scores ``(n, K)`` and labels ``(n,)``, NaN and -1 where withheld.

    Scores are those that attackers read (`attacks.whitebox.outputs`). Probabilities of classes come as their
    logarithms, which tell small ones apart; what a row hides counts as an even share of the rest. What a report says of
    findings is positive where they are there or may be, and larger where they are there.
    """
    spec, task = target.spec, target.spec.task

    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        response = target.query(x.cpu().numpy())
        if isinstance(task, Multilabel):
            given = replace(task, output="probabilities" if response.output == "probabilities" else "logits")
            beyond = torch.as_tensor(given.judged(response.scores), dtype=torch.float32, device=x.device)
            return beyond, answers_as_tensors(response, x.device)[1]
        if isinstance(task, WrittenReport):
            said, decided = answers_as_tensors(response, x.device)
            return said.float() - Mention.UNCERTAIN / 2, decided
        if not isinstance(task, Classification):
            return answers_as_tensors(response, x.device)
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
        labels = search.criterion.decisions(search.criterion.decided(scores))
        if detector is None:
            return scores, labels
        shown = [features for _, features in parts if features is not None]
        stopped = ~detector.released(detector.strangeness(x, scores, torch.cat(shown) if shown else None))
        return scores.masked_fill(stopped.view(-1, *[1] * (scores.ndim - 1)), torch.nan), labels.masked_fill(
            stopped, -1
        )

    return BlackBoxSearch(ask, search.criterion, search.ball, search.generator)
