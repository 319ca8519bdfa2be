"""The policies of docs/policy.md admit as many answers as it says, at the prices of the task."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medward.guard.accounts.budget import Leakage, PriceRequest
from medward.guard.policy import Policy
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Level

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
NAMED = ("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "pneumonia", "pneumothorax")
TASK = WrittenReport(findings=NAMED, length=191, vocabulary=600)


def policies():
    return [
        Policy.from_toml(f'on_error = "withhold"\n{text}') for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    ]


def admitted(policy, share=None):
    """At which levels an account is answered that asks about ever new images."""
    none, levels = np.zeros((1, len(NAMED))), [level for level in TASK.levels if level >= policy.release.default]
    offers = tuple((level, TASK.bits(none, level, ReleaseSettings())) for level in levels if level < Level.WITHHELD)
    budget, state, told = policy.budget, None, []
    kept = budget.label_share if share is None else share
    account = Leakage(daily=budget.daily_bits, total=budget.total_bits, label_share=kept)
    for image in range(100):
        state, levels = account.step(state, 1, [PriceRequest(f"image {image}", offers)])
        told += levels
    return told


def test_a_budget_of_fifty_findings_admits_fifty():
    alone, _ = policies()
    assert admitted(alone) == [Level.LABEL] * 50 + [Level.WITHHELD] * 50


def test_a_budget_of_ten_reports_and_fifty_findings_admits_these():
    _, both = policies()
    assert admitted(both) == [Level.FULL] * 10 + [Level.LABEL] * 50 + [Level.WITHHELD] * 40
    assert admitted(both, share=0.5).count(Level.FULL) == 5, "at the default share less is left for texts"
