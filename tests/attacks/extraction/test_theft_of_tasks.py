"""Findings and numbers are stolen as classes are: what is gained is over the best constant answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.tasks import CUT, FINDINGS, MONTHS, WHOLE, PlantedTask, noise

from medward.attacks.base import ACCURACY, PER_CLASS
from medward.attacks.extraction import (
    DFME,
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    Jacobian,
    Knockoff,
    SemiSupervised,
    Theft,
)
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Level

TASKS = {"findings": FINDINGS, "months": MONTHS, "cut": CUT}
THIEF = Knockoff(queries=400, points=2)
COPYCAT = Theft(strategy=CopyCat(), labels="hard", queries=400, points=2)
CENTERS = Theft(strategy=ActiveThief(by="k-center"), queries=400, points=2)


def stolen(thief, victim, data=None):
    result = thief.run(victim.target(thief.threat), data or victim.data(), seed=0)
    return result.outcome.mean() - result.baseline.mean(), result


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize(
    ("thief", "level"),
    [(THIEF, Level.FULL), (THIEF, Level.ROUNDED), (replace(THIEF, labels="hard"), Level.FULL), (COPYCAT, Level.FULL)],
    ids=["full", "rounded", "hard", "copycat"],
)
def test_a_clone_gains_over_the_best_constant_answer(task, thief, level):
    gain, result = stolen(thief, PlantedTask(task, level=level))
    assert gain > 0.2
    assert result.flags == ()


def test_k_centers_choose_by_any_values():
    assert stolen(CENTERS, PlantedTask(FINDINGS))[0] > 0.2


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_thief_of_noise_or_of_nothing_gains_nothing(task):
    assert stolen(THIEF, PlantedTask(task, answer=noise))[0] < 0.1
    gain, result = stolen(THIEF, PlantedTask(task, level=Level.WITHHELD, answer=_withheld))
    assert gain == 0
    assert (result.outcome == result.baseline).all()


def _withheld(response, inputs):
    return replace(response, labels=np.full(len(inputs), -1))


def test_a_thief_who_knows_labels_gains_little_from_the_target():
    gain, result = stolen(replace(THIEF, labelled=True, pool_share=0.5), PlantedTask(FINDINGS))
    assert result.baseline.mean() > stolen(THIEF, PlantedTask(FINDINGS))[1].baseline.mean() + 0.1
    assert gain < 0.15


def test_the_curves_show_each_finding_beside_a_constant_answer():
    _, result = stolen(THIEF, PlantedTask(FINDINGS))
    for name in FINDINGS.findings:
        assert result.curves[f"clone{PER_CLASS}{name}"][1][-1] > 0.2
        assert result.curves[f"no victim{PER_CLASS}{name}"][1][-1] == 0
    assert result.curves[f"clone{ACCURACY}"][1] == result.curves["clone"][1], "labels are the victim's own"


def test_the_thief_who_knows_the_guard_steals_findings_and_numbers_too():
    for task in (FINDINGS, MONTHS):
        knowing = THIEF.adaptive(Policy(on_error="withhold"))
        assert stolen(knowing, PlantedTask(task))[0] > 0.15


CLASSES_ONLY = (
    AdaptivePool(),
    ActiveThief(by="entropy"),
    ActiveThief(by="dfal"),
    Alignment(),
    Jacobian(),
    SemiSupervised(),
    DFME(),
    Disagreement(),
)


@pytest.mark.parametrize("strategy", CLASSES_ONLY, ids=lambda strategy: strategy.name)
def test_a_strategy_that_needs_classes_says_so(strategy):
    with pytest.raises(MedwardError, match=f"{strategy.name} is for models of classes, and this one"):
        stolen(replace(THIEF, strategy=strategy), PlantedTask(FINDINGS))


def test_outputs_that_nobody_reads_are_not_stolen():
    data = PlantedTask(FINDINGS).data()
    with pytest.raises(MedwardError, match="nothing that a network could be taught"):
        THIEF.run(PlantedTask(WHOLE).target(THIEF.threat), data, seed=0)
