"""What every way to steal must do: keep its budget, repeat itself, learn from a victim, and nothing from noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from support.thefts import Coarse, Planted, every_other, noisy, silent

from medward.attacks.extraction import (
    DFME,
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    HeadAlgebra,
    Jacobian,
    RandomPool,
    SemiSupervised,
    Strategy,
    Theft,
    WalkedPool,
)
from medward.attacks.validation.journal import settings_of


@dataclass(frozen=True)
class Row:
    """One strategy, and the share of the gap between the best constant answer and 1 that its clone must close.

    Thieves without data need far more queries for images than there are here.
    """

    strategy: Strategy
    labels: str = "soft"
    image: float = 0.5
    table: float = 0.5


ROWS = [
    Row(RandomPool()),
    Row(RandomPool(), labels="hard"),
    Row(AdaptivePool()),
    Row(WalkedPool(steps=3)),
    Row(CopyCat(), labels="hard"),
    Row(ActiveThief(by="entropy")),
    Row(ActiveThief(by="k-center")),
    Row(ActiveThief(by="dfal", considered=200)),
    Row(ActiveThief(by="dfal-k-center", considered=200)),
    Row(Jacobian(step=30, seeds=30), table=0.35),
    Row(DFME(batch=20, probed=5), image=0.0),
    Row(Disagreement(batch=20), labels="hard", image=0.0),
    Row(SemiSupervised(), labels="hard"),
    Row(HeadAlgebra(encoder=Coarse()), image=0.98, table=0.98),
    Row(Alignment()),
]
NAMES = [f"{row.strategy.name}-{row.labels}" for row in ROWS]
VICTIMS = [("image", 2), ("tabular", 7)]


def theft_of(row, **settings):
    return Theft(
        **{"strategy": row.strategy, "labels": row.labels, "queries": 150, "points": 2, "epochs": 8, **settings}
    )


def steal(row, victim, **settings):
    theft = theft_of(row, **settings)
    return theft.run(victim.target(theft.threat), victim.data(), seed=0)


@pytest.mark.parametrize(("modality", "classes"), VICTIMS)
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_thief_closes_its_share_of_the_gap_within_its_budget(row, modality, classes):
    victim = Planted(modality, classes)
    result = steal(row, victim)
    asked = np.concatenate(victim.asked)
    assert len(asked) == result.queries <= 150
    assert victim.spec.check(asked).shape == asked.shape, "no input is outside the model's range"
    start, gained = result.baseline.mean(), result.outcome.mean()
    assert gained >= start + (row.image if modality == "image" else row.table) * (1 - start)
    assert result.flags == ()


def test_kept_runs_of_two_strategies_are_never_taken_for_each_other():
    settings = [settings_of(theft_of(row)) for row in ROWS]
    assert all(one != two for one, two in combinations(settings, 2))


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_same_seed_asks_the_same(row):
    first, second = (Planted("tabular", 3) for _ in range(2))
    for victim in (first, second):
        steal(row, victim, queries=60, epochs=2)
    np.testing.assert_array_equal(np.concatenate(first.asked), np.concatenate(second.asked))


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_victim_that_answers_noise_teaches_nothing(row):
    result = steal(row, Planted("tabular", 7, noisy), epochs=3)
    assert result.outcome.mean() <= result.baseline.mean() + 0.1


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_rows_withheld_do_not_stop_a_thief(row):
    result = steal(row, Planted("tabular", 7, every_other))
    assert result.outcome.mean() > result.baseline.mean() + 0.1


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_silent_victim_leaves_a_thief_with_the_baseline(row):
    result = steal(row, Planted("tabular", 7, silent), epochs=1)
    np.testing.assert_array_equal(result.outcome, result.baseline)
    assert result.queries > 0
