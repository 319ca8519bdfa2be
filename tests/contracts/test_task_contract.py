"""The law of every task: what was released decides as the model's own outputs do, at every level and operating point.

A million random rows, among them ties, values on a threshold and next to it, certainties and wide logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medward.guard.errors import MedwardError
from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import probabilities
from medward.guard.release.temperature import temper_scores
from medward.guard.tasks.base import WITHHELD_DECISION, ReleaseSettings, offers
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import threshold_odds
from medward.guard.tasks.multilabel import Multilabel, packed_findings, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Level

ROWS = 20_000  # of each task and draw of operating points
DRAWS = 15
POINTS = (0.5, 0.02, 0.07, 0.7, 0.995, 0.0205)


def points(rng: np.random.Generator, count: int) -> tuple[float, ...]:
    """Operating points, round ones among them."""
    return tuple(float(rng.choice([rng.uniform(1e-4, 1 - 1e-4), rng.choice(POINTS)])) for _ in range(count))


def scores_near(rng: np.random.Generator, n: int, thresholds: tuple[float, ...], output: str, dtype: Any) -> np.ndarray:
    """One column of scores for each threshold: some on it, one step of floating point off it, certain, or anything."""
    columns = []
    for each in thresholds:
        border = dtype(each) if output == "probabilities" else dtype(threshold_odds(each))
        anything = rng.random(n) if output == "probabilities" else rng.normal(size=n) * rng.choice([1, 30])
        near = np.stack(
            [
                anything,
                np.full(n, border),
                np.full(n, np.nextafter(border, dtype(2e3))),
                np.full(n, np.nextafter(border, dtype(-2e3))),
                np.round(anything, 2),
                np.full(n, 0.0 if output == "probabilities" else -900.0),
                np.full(n, 1.0 if output == "probabilities" else 900.0),
            ]
        ).astype(dtype)
        column = near[rng.choice(7, n, p=[0.4, 0.15, 0.1, 0.1, 0.15, 0.05, 0.05]), np.arange(n)]
        columns.append(np.clip(column, 0, 1) if output == "probabilities" else column)
    return np.stack(columns, axis=1)


def classes(rng: np.random.Generator, n: int) -> tuple[Classification, np.ndarray]:
    k, output = int(rng.integers(2, 9)), str(rng.choice(["logits", "probabilities"]))
    scores = rng.choice([rng.normal(size=(n, k)), np.round(rng.normal(size=(n, k))), 300 * rng.normal(size=(n, k))])
    scores = probabilities(scores, "logits") if output == "probabilities" else scores
    return Classification(classes=tuple(map(str, range(k))), output=output), scores.astype(
        rng.choice([np.float32, float])
    )


def screening(rng: np.random.Generator, n: int) -> tuple[Classification, np.ndarray]:
    output, dtype, (point,) = (
        str(rng.choice(["logits", "probabilities"])),
        rng.choice([np.float32, float]),
        points(rng, 1),
    )
    task = Classification(classes=("no", "yes"), output=output, threshold=point, one_column=True)
    return task, task.read(scores_near(rng, n, (point,), output, dtype), "m")


def findings(rng: np.random.Generator, n: int) -> tuple[Multilabel, np.ndarray]:
    k, output, dtype = (
        int(rng.integers(1, 15)),
        str(rng.choice(["logits", "probabilities"])),
        rng.choice([np.float32, float]),
    )
    thresholds = points(rng, k)
    task = Multilabel(findings=tuple(map(str, range(k))), output=output, thresholds=thresholds)
    return task, task.read(scores_near(rng, n, thresholds, output, dtype), "m")


def numbers(rng: np.random.Generator, n: int) -> tuple[Regression, np.ndarray]:
    dtype, tolerance = rng.choice([np.float32, float]), float(rng.choice([0.1, 1 / 3, 5.0, rng.uniform(1e-3, 50)]))
    cuts = np.unique(np.round(rng.normal(size=rng.integers(0, 5)) * 20 * tolerance, int(rng.integers(0, 4))))
    task = Regression(tolerance=tolerance, cut_points=tuple(cuts.tolist()))
    borders = cuts if len(cuts) else tolerance * (rng.integers(-40, 40, 6) + 0.5)
    on = rng.choice(borders, n).astype(dtype)
    sides = np.stack(
        [on, np.nextafter(on, dtype(1e9)), np.nextafter(on, dtype(-1e9)), rng.normal(size=n) * 30 * tolerance]
    )
    return task, task.read(sides[rng.integers(0, 4, n), np.arange(n)].astype(dtype), "m")


def masks(rng: np.random.Generator, n: int) -> tuple[Opaque, np.ndarray]:
    return Opaque(), rng.normal(size=(n // 10, 2, 4, 4)).astype(np.float32)


def reports(rng: np.random.Generator, n: int) -> tuple[WrittenReport, np.ndarray]:
    names = tuple(f"finding {k}" for k in range(int(rng.integers(1, 32))))
    task = WrittenReport(findings=names, words=names, length=int(rng.integers(8, 4096)))
    return task, rng.integers(0, 3, (2 * n, len(names))).astype(np.float32)


TASKS: dict[str, Callable[[np.random.Generator, int], tuple[Any, np.ndarray]]] = {
    "one class of several": classes,
    "two classes at an operating point": screening,
    "several findings": findings,
    "a number": numbers,
    "opaque": masks,
    "a report": reports,
}


def settings_for(task: Any, scores: np.ndarray, rng: np.random.Generator) -> ReleaseSettings:
    temperature, book, pools = float(rng.choice([1.0, 0.05, 3.0, 20.0])), None, None
    if isinstance(task, Classification | Multilabel) and rng.random() < 0.7:
        pools = task.fit_pools(scores[:400], float(rng.choice([0.2, 0.9, 1.0])), temperature)
    if isinstance(task, Classification):
        likely = temper_scores(scores[:400], task.output, temperature, task.threshold)
        book = Prototypes.fit(likely, 4, task.threshold)
    decimals = int(rng.integers(1, 5))
    return ReleaseSettings(
        decimals=decimals, top=int(rng.integers(1, 4)), temperature=temperature, codebook=book, pools=pools
    )


def told(task: Any, released: np.ndarray, level: Level) -> tuple[np.ndarray, np.ndarray]:
    """What a client decides by what was released, and which rows show numbers to decide by."""
    if isinstance(task, Opaque):
        return task.decide(released), np.ones(len(released), bool)
    released = np.asarray(released, np.float64)  # as a client reads it
    shown = ~np.isnan(released).all(axis=1)
    if level is Level.TOP and isinstance(task, Classification) and task.threshold is not None:
        shown &= ~np.isnan(released[:, 1])  # the second class may be hidden where it is not decided
    reads = task
    if isinstance(task, Classification | Multilabel) and level is not Level.FULL:
        reads = dataclasses.replace(task, output="probabilities")
    filled = np.where(np.isnan(released), -1.0, released)
    return reads.decide(filled), shown


def broken_rows(task: Any, scores: np.ndarray, released: np.ndarray, level: Level) -> int:
    decided, shown = told(task, released, level)
    return int((decided != task.decide(scores))[shown].sum())


@pytest.mark.parametrize("name", TASKS)
def test_what_is_released_decides_as_the_model_does(name):
    judged = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, len(name)])
        task, scores = TASKS[name](rng, ROWS)
        chosen = settings_for(task, scores, rng)
        for level in task.levels[:-1]:
            released = task.release(scores, level, chosen)
            assert released.shape == scores.shape
            assert broken_rows(task, scores, released, level) == 0, (task, level, chosen)
            judged += len(scores)
        assert np.isnan(task.release(scores, Level.WITHHELD, chosen)).all()
    assert judged >= (20_000 if name == "opaque" else 900_000)


@pytest.mark.parametrize("name", ["two classes at an operating point", "several findings", "a number"])
def test_plain_rounding_breaks_the_law(name):
    """The negative control: the same rows, rounded and not kept on their side."""
    broken = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, len(name)])
        task, scores = TASKS[name](rng, ROWS)
        if isinstance(task, Regression):
            plain = np.round(np.asarray(scores, float) / (task.tolerance / 10)) * (task.tolerance / 10)
        elif isinstance(task, Classification):
            plain = np.round(probabilities(scores, task.output), 2)
        else:
            plain = np.round(scores if task.output == "probabilities" else expit(np.float64(scores)), 2)
        broken += broken_rows(task, scores, plain, Level.ROUNDED)
    assert broken > 1000


@pytest.mark.parametrize("name", TASKS)
def test_rows_are_answered_one_by_one(name):
    task, scores = TASKS[name](np.random.default_rng(3), 200)
    chosen = settings_for(task, scores, np.random.default_rng(4))
    for level in task.levels:
        whole = task.release(scores, level, chosen)
        np.testing.assert_array_equal(whole[7:8], task.release(scores[7:8], level, chosen))
    np.testing.assert_array_equal(task.decide(scores)[7:8], task.decide(scores[7:8]))
    assert (task.decide(scores) >= 0).all()
    assert WITHHELD_DECISION < 0
    doubt = task.doubt(scores)
    assert doubt is None or ((doubt <= 0).all() and doubt.shape == (len(scores),))


@pytest.mark.parametrize("name", TASKS)
def test_unchanged_is_reflexive_and_no_wider_than_the_decision_allows(name):
    task, scores = TASKS[name](np.random.default_rng(5), 500)
    assert task.unchanged(scores, scores).all()
    other = np.random.default_rng(6).permutation(scores)
    same = task.unchanged(scores, other)
    if not isinstance(task, Regression) or task.cut_points:
        assert (task.decide(scores) == task.decide(other))[same].all()
    assert not same.all()


@pytest.mark.parametrize("name", TASKS)
def test_levels_cost_less_the_less_they_tell(name):
    task, scores = TASKS[name](np.random.default_rng(7), 100)
    chosen = settings_for(task, scores, np.random.default_rng(8))
    for level in task.levels[:-1]:
        prices = [bits for _, bits in offers(task, scores, level, chosen)]
        assert prices == sorted(prices, reverse=True)
        assert all(bits > 0 for bits in prices)


@given(st.integers(1, 62), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_sets_of_findings_are_packed_and_unpacked(count, seed):
    table = np.random.default_rng(seed).random((20, count)) < 0.3
    packed = packed_findings(table)
    assert (packed >= 0).all()
    np.testing.assert_array_equal(unpacked_findings(packed, count), table)
    assert not unpacked_findings(np.array([WITHHELD_DECISION]), count).any()


def test_words_of_decisions():
    task = Multilabel(findings=("mass", "effusion", "nodule"), output="logits", thresholds=(0.5, 0.1, 0.5))
    assert task.word(0b101) == ["mass", "nodule"]
    assert task.word(0) == []
    assert Regression(tolerance=5, cut_points=(10.0, 20.0), unit="mg").word(1) == "10 to below 20 mg"
    grid = Regression(tolerance=2.5)
    values = np.array([[-6.0], [0.0], [6.0]])
    assert [grid.word(int(each)) for each in grid.decide(values)] == ["about -5", "about 0", "about 5"]
    released = grid.release(values, Level.LABEL, ReleaseSettings())
    assert released[:, 0].tolist() == [-5.0, 0.0, 5.0]


def test_a_rounded_number_is_within_half_a_step_and_its_cell():
    rng = np.random.default_rng(9)
    values = rng.normal(size=(5000, 1)) * 40
    for task in (Regression(tolerance=5.0), Regression(tolerance=5.0, cut_points=(-3.1, 0.02, 11.0))):
        released = task.release(values, Level.ROUNDED, ReleaseSettings())
        assert np.abs(released - values).max() <= 0.5 + 1e-9 + (0 if task.cut_points else 0.25)
        assert (task.decide(released) == task.decide(values)).all()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Multilabel(findings=tuple(map(str, range(63))), output="logits", thresholds=(0.5,) * 63), "1 to 62"),
        (lambda: Multilabel(findings=("a", "b"), output="logits", thresholds=(0.5,)), "one for each of the 2 findings"),
        (lambda: Multilabel(findings=("a",), output="logits", thresholds=(1.0,)), "above 0 and below 1"),
        (lambda: Regression(tolerance=0.0), "positive number"),
        (lambda: Regression(tolerance=1.0, cut_points=(2.0, 1.0)), "rise"),
        (lambda: Classification(classes=tuple("abc"), output="logits", one_column=True), "two classes"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(build, says):
    with pytest.raises(MedwardError, match=says):
        build()


def test_numbers_far_from_zero_keep_their_cell_or_are_refused():
    task, rng = Regression(tolerance=1 / 3), np.random.default_rng(2)
    values = rng.uniform(-1, 1, (200_000, 1)) * 2.0**46 / 3
    for level in (Level.ROUNDED, Level.LABEL):
        assert broken_rows(task, values, task.release(values, level, ReleaseSettings()), level) == 0
    for cuts in ((), (0.0,)):
        with pytest.raises(MedwardError, match="too far from 0"):
            Regression(tolerance=1.0, cut_points=cuts).read(np.array([1e308]), "m")


def test_whole_numbers_of_opaque_outputs_stay_whole():
    task, kept = Opaque(), np.array([[2**24 + 1], [5]], np.int64)
    np.testing.assert_array_equal(task.read(kept, "m"), kept)
    with pytest.raises(MedwardError, match="beyond 2\\^53"):
        task.read(np.array([[2**60 + 1]]), "m")
