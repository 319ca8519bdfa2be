"""Every criterion: a margin is positive exactly where the guard's own task decides otherwise, and its losses win.

A new criterion is one row in `CRITERIA`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from medward.attacks.whitebox.criterion import ClassChange, Criterion
from medward.attacks.whitebox.finding_change import FindingChange
from medward.attacks.whitebox.number_change import NumberChange
from medward.attacks.whitebox.output_change import OutputChange
from medward.attacks.whitebox.outputs import judged_scores
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import threshold_odds
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression

ROWS = 400
CLASSES = Classification(classes=("a", "b", "c"), output="logits")
SCREENING = Classification(classes=("no", "yes"), output="logits", threshold=0.2)
LIKELY = Classification(classes=("no", "yes"), output="probabilities", threshold=0.7)
ONE_LOGIT = Classification(classes=("no", "yes"), output="logits", one_column=True)
ONE_CHANCE = Classification(classes=("no", "yes"), output="probabilities", threshold=0.3, one_column=True)
FINDINGS = Multilabel(findings=("p", "q", "r"), output="logits", thresholds=(0.02, 0.5, 0.8))
CHANCES = Multilabel(findings=("p", "q"), output="probabilities", thresholds=(0.02, 0.7))
NUMBER = Regression(tolerance=0.5)
CUT = Regression(tolerance=0.5, cut_points=(-0.7, 0.4))


def sign(outputs):
    """A user's reading of a small mask: how many of its pixels are positive."""
    return (outputs > 0).reshape(len(outputs), -1).sum(axis=1)


@dataclass(frozen=True)
class Row:
    """A criterion, the task whose outputs it reads, outputs as the model itself gives them, and what the guard says.

    `differ` says of two outputs which rows ``(n,)`` are decided otherwise in a way that counts.
    """

    name: str
    criterion: Criterion
    task: object
    outputs: Callable[[np.random.Generator], np.ndarray]
    differ: Callable[[np.ndarray, np.ndarray], np.ndarray]


def logits(task, width, special=()):
    """Logits on a coarse grid, so that some tie, with some values exactly on a threshold."""

    def draw(rng):
        values = np.round(rng.normal(size=(ROWS, width)) * 2) / 2
        for column, value in enumerate(special):
            values[rng.random(ROWS) < 0.2, column] = value
        return values.astype(np.float32)

    return draw


def chances(thresholds):
    """Probabilities, some of them exactly a threshold, 0 or 1."""

    def draw(rng):
        values = rng.random((ROWS, len(thresholds))).astype(np.float32)
        for column, value in enumerate(thresholds):
            values[rng.random(ROWS) < 0.3, column] = value
            values[rng.random(ROWS) < 0.05, column] = 0.0
            values[rng.random(ROWS) < 0.05, column] = 1.0
        return values

    return draw


def pair(thresholds):
    return lambda rng: (lambda p: np.concatenate([1 - p, p], axis=1))(chances(thresholds)(rng))


def decided(task):
    return lambda before, after: task.decide(read(task, before)) != task.decide(read(task, after))


def became(task, goal):
    return lambda before, after: task.decide(read(task, after)) == goal


def findings(task, aim):
    def differ(before, after):
        first, second = (unpacked_findings(task.decide(each), len(task.findings)) for each in (before, after))
        return (first & ~second if aim == "hide" else ~first & second).any(axis=1)

    return differ


def moved(task):
    return lambda before, after: ~task.unchanged(before, after)


def read(task, outputs):
    return task.read(outputs, "model")


def numbers(rng):
    grid = np.round(rng.normal(size=(ROWS, 1)) * 4) / 4
    grid[rng.random(ROWS) < 0.2] = 0.4
    grid[rng.random(ROWS) < 0.1] = -0.7
    return grid.astype(np.float32)


def masks(rng):
    return np.round(rng.normal(size=(ROWS, 1, 2, 2))).astype(np.float32)


SPECIAL = [threshold_odds(each) for each in FINDINGS.thresholds]
CRITERIA = [
    Row("any class", ClassChange(), CLASSES, logits(CLASSES, 3), decided(CLASSES)),
    Row("one class", ClassChange(1), CLASSES, logits(CLASSES, 3), became(CLASSES, 1)),
    Row("operating point", ClassChange(), SCREENING, logits(SCREENING, 2), decided(SCREENING)),
    Row("operating point of probabilities", ClassChange(), LIKELY, pair((0.7,)), decided(LIKELY)),
    Row("one logit", ClassChange(), ONE_LOGIT, logits(ONE_LOGIT, 1), decided(ONE_LOGIT)),
    Row("one probability", ClassChange(), ONE_CHANCE, chances((0.3,)), decided(ONE_CHANCE)),
    Row("any finding", FindingChange(count=3), FINDINGS, logits(FINDINGS, 3, SPECIAL), decided(FINDINGS)),
    Row("hide", FindingChange(count=3, aim="hide"), FINDINGS, logits(FINDINGS, 3, SPECIAL), findings(FINDINGS, "hide")),
    Row("raise", FindingChange(count=2, aim="raise"), CHANCES, chances((0.02, 0.7)), findings(CHANCES, "raise")),
    Row("number", NumberChange(NUMBER), NUMBER, numbers, moved(NUMBER)),
    Row("number with cut points", NumberChange(CUT), CUT, numbers, moved(CUT)),
    Row("outputs", OutputChange(sign), Opaque(what="mask"), masks, lambda a, b: sign(a) != sign(b)),
]
EVERY = pytest.mark.parametrize("row", CRITERIA, ids=lambda row: row.name)


def seen(row, outputs):
    """Outputs as an attacker reads them."""
    spec = ModelSpec(name="m", modality="tabular", shape=(4,), task=row.task)
    return judged_scores(torch.as_tensor(outputs), spec)


def drawn(row, seed=0):
    rng = np.random.default_rng(seed)
    return row.outputs(rng), row.outputs(rng)


@EVERY
def test_a_margin_is_positive_exactly_where_the_task_decides_otherwise(row):
    before, after = drawn(row)
    y = row.criterion.decided(seen(row, before))
    won = (row.criterion.margin(seen(row, after), y) > 0).numpy()
    expected = row.differ(before, after)
    assert np.array_equal(won, expected)
    assert 0.02 < expected.mean() < 0.98, "the control: both happen"
    assert not (row.criterion.margin(seen(row, before), y) > 0).numpy()[row.criterion.open(y).numpy()].any()


@EVERY
def test_what_is_kept_stands_for_the_decision_of_the_task(row):
    before, _ = drawn(row)
    kept = row.criterion.decisions(row.criterion.decided(seen(row, before))).numpy()
    own = sign(before) if isinstance(row.task, Opaque) else row.task.decide(read(row.task, before))
    assert np.array_equal(kept, own)


@EVERY
def test_answers_of_the_target_are_judged_alike_and_withheld_ones_never_count(row):
    before, after = drawn(row)
    opaque = isinstance(row.task, Opaque)
    told = [sign(each) if opaque else row.task.decide(read(row.task, each)) for each in (before, after)]
    first, second = (torch.as_tensor(each if opaque else read(row.task, each)) for each in (before, after))
    decisions = [torch.as_tensor(each) for each in told]
    y = row.criterion.kept(first, decisions[0])
    expected = row.differ(before, after)
    assert np.array_equal(row.criterion.answered(second, decisions[1], y).numpy(), expected)
    assert not row.criterion.answered(second * torch.nan, torch.full_like(decisions[1], -1), y).any()


@EVERY
def test_hidden_scores_are_judged_by_decisions_alone(row):
    before, after = drawn(row)
    opaque = isinstance(row.task, Opaque)
    first, second = (
        torch.as_tensor(sign(each) if opaque else row.task.decide(read(row.task, each))) for each in (before, after)
    )
    hidden = torch.full(np.shape(before), torch.nan)
    y = row.criterion.kept(hidden, first)
    if isinstance(row.task, Regression):  # a cell is no number: nobody is told what to move from but by the model's own
        assert torch.isnan(y).all()
        assert not row.criterion.open(y).any()
        y = torch.as_tensor(np.asarray(read(row.task, before)))[:, 0]
    won = row.criterion.answered(hidden, second, y)
    assert torch.equal(row.criterion.decisions(y), first)
    assert not won[first == second].any() or isinstance(row.criterion, ClassChange)
    if row.criterion in (FindingChange(count=3), NumberChange(NUMBER), NumberChange(CUT), OutputChange(sign)):
        assert torch.equal(won, first != second)


def climbed(row, loss, up=True, steps=300, size=0.5):
    """Which clean rows are won after steps along the slope of a loss, or against it, if there is something to win."""
    clean = seen(row, drawn(row)[0])
    y = row.criterion.decided(clean)
    rows = row.criterion.open(y) & (row.criterion.margin(clean, y) <= 0)
    scores, y = clean[rows].clone(), y[rows]
    for _ in range(steps):
        scores.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(scores, y).sum(), scores)
        flat = slope.flatten(1).abs().amax(dim=1).clamp_min(1e-37).view(-1, *[1] * (scores.ndim - 1))
        scores = (scores + (1 if up else -1) * size * slope / flat).detach()
    return row.criterion.margin(scores, y) > 0


LOSSES = [(row, name) for row in CRITERIA for name in row.criterion.losses]


@pytest.mark.parametrize(("row", "name"), LOSSES, ids=[f"{row.name}, {name}" for row, name in LOSSES])
def test_climbing_any_loss_wins_and_descending_it_does_not(row, name):
    won = climbed(row, row.criterion.losses[name])
    if isinstance(row.criterion, OutputChange):  # nobody knows which way a user's decision changes
        assert won.float().mean() > 0.3
        return
    assert won.all()
    if not isinstance(row.criterion, NumberChange):  # a number that falls has changed too
        assert climbed(row, row.criterion.losses[name], up=False).float().mean() < 0.05


@EVERY
def test_what_many_rows_and_auto_pgd_climb_wins_too(row):
    clean = seen(row, drawn(row)[0])
    y = row.criterion.decided(clean)
    won = torch.stack([climbed(row, loss) for loss in row.criterion.shared_losses])
    assert won.any(dim=0).all()
    assert won.all() or isinstance(row.criterion, OutputChange)
    free = row.criterion.scale_free(clean, y, 3)
    assert all(torch.isfinite(loss(clean, y) if goal is None else loss(clean, y, goal)).any() for loss, goal in free)
    assert "margin" in row.criterion.losses


def test_a_finding_is_hidden_at_its_operating_point_long_before_it_is_the_less_likely_answer():
    """The published effect: at 0.02 a finding is decided from 2 % on, and hiding it changes no largest class."""
    screening = Classification(classes=("no effusion", "effusion"), output="probabilities", threshold=0.02)
    before, after = np.array([[0.9, 0.1]], np.float32), np.array([[0.985, 0.015]], np.float32)
    spec = ModelSpec(name="m", modality="tabular", shape=(4,), task=screening)
    scores = [judged_scores(torch.as_tensor(each), spec) for each in (before, after)]
    y = ClassChange().decided(scores[0])
    assert ClassChange().margin(scores[1], y) > 0
    assert before.argmax() == after.argmax(), "the control: the naive reading sees nothing"
    assert ClassChange().margin(torch.as_tensor(after), torch.as_tensor(before).argmax(dim=1)) < 0
