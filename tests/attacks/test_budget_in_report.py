"""What a thief of ordinary cases needs, and the budget that is proposed, stand in every form of the report."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from validation_fakes import SPLITS, deployment

from medward.attacks.extraction import InDomainTheft
from medward.attacks.extraction.in_domain_cell import ANSWERS_NEEDED
from medward.attacks.report.summary import summary_parts
from medward.attacks.report.table import print_findings
from medward.attacks.report.words import report_headline
from medward.attacks.validate import validate
from medward.attacks.validation.deployment import Deployment, fresh_guard
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.guard.bundle.folder import load_bundle
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Level, Query

THIEF = InDomainTheft(queries=32, steps=20, draws=1)


@pytest.fixture(autouse=True)
def _short_accounts(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)


def run(out, traffic=None, level="rounded", **budget):
    policy = Policy(on_error="withhold", release={"level": level}, budget=budget, gate={"extraction_days": 30})
    bundle = deployment(policy=policy)
    return run_validation(Deployment(bundle=bundle, traffic=traffic), SPLITS, out, attacks=(THIEF,), progress=False)


def printed(report):
    told = io.StringIO()
    print_findings(report, Console(file=told, width=200))
    return told.getvalue()


def test_without_a_budget_it_is_measured_noted_and_not_judged_and_traffic_brings_a_proposal(tmp_path):
    bare = run(tmp_path)
    (finding,) = bare.findings
    assert (finding.status, bare.exit_code, finding.proposal) == (Status.NOT_APPLICABLE, 2, "")
    assert finding.undefended.value > finding.baseline.value
    assert any(note.startswith("in-domain-soft: Not judged") for note in bare.notes)
    assert "NOT JUDGED" in printed(bare)
    assert "1 NOT JUDGED" in (tmp_path / "report.html").read_text()
    needed = finding.figures[ANSWERS_NEEDED]
    summary = dict(summary_parts(bare))
    tried, unlimited = summary["What was tried, and what came of it"]
    assert tried.endswith(": 1 of 1 was not judged, as the policy sets no limit.")
    assert (
        unlimited == f"A client who asks only ordinary cases has a copy after {needed:.0f} answers; nothing limits it."
    )
    assert "[budget] prevents a copy only where the proposal" in " ".join(summary["What would help"])
    assert report_headline(bare) == "This policy has nothing that what was measured could be judged by."
    cells = sorted(each.name for each in (tmp_path / "cells").iterdir())
    told = run(tmp_path, DeclaredTraffic(answers=5, accounts=3))
    assert sorted(each.name for each in (tmp_path / "cells").iterdir()) == cells, "traffic repeats no run"
    assert told.provenance.settings == {"traffic": "5", "accounts": "3"}
    days = -(-needed // 5)
    within = f"{needed:.0f} answers, in {days:.0f} day{'' if days == 1 else 's'} at the declared traffic; nothing"
    assert within in " ".join(dict(summary_parts(told))["What was tried, and what came of it"])
    proposal = told.findings[0].proposal
    proposed = Policy.from_toml(f'on_error = "flag"\n{proposal}').budget
    assert (proposed.parents, proposed.label_share) == (3, 0)
    assert proposed.daily_bits >= 5
    assert proposal in printed(told)
    assert "[budget]" in (tmp_path / "report.html").read_text()
    assert Report.load(tmp_path / "report.json") == told


def test_a_budget_that_lets_a_copy_leave_is_broken_by_who_went_through_the_guard(tmp_path):
    report = run(tmp_path, daily_bits=100.0)
    (finding,) = report.findings
    assert (finding.status, report.exit_code) == (Status.BROKEN, 1)
    assert finding.figures == {
        "answers that left, guarded": 32,
        "answers that left, adaptive": 32,
        ANSWERS_NEEDED: finding.figures[ANSWERS_NEEDED],
    }
    assert finding.adaptive_name == "in-domain-soft-sybil11"
    assert any("At the cap an account needs 1 day" in reason for reason in finding.reasons)
    assert "in-domain-soft" in printed(report)


def test_a_budget_of_one_label_for_an_organisation_is_held(tmp_path):
    report = run(tmp_path, level="label", total_bits=1.0, parents=1.0)
    (finding,) = report.findings
    assert (finding.status, report.exit_code) == (Status.HELD, 0), finding.reasons
    assert finding.figures == {
        "answers that left, guarded": 1,
        "answers that left, adaptive": 1,
        ANSWERS_NEEDED: finding.figures[ANSWERS_NEEDED],
    }
    assert "which 1 answer in 30 days cannot exceed" in finding.reasons[0]


def test_a_budget_without_a_limit_for_organisations_stops_an_account_and_no_organisation(tmp_path):
    (finding,) = run(tmp_path, total_bits=1.0, parents=0.0).findings
    left = finding.figures
    assert left["answers that left, guarded"] == 1 < left["answers that left, adaptive"]
    assert finding.status is not Status.HELD


def test_traffic_is_refused_before_work_begins_unless_both_are_said(tmp_path, golden_bundle):
    with pytest.raises(MedwardError, match="traffic: says nothing of an organisation without accounts"):
        validate(golden_bundle, {}, tmp_path, traffic=5)


@pytest.fixture
def golden_bundle():
    return load_bundle(Path(__file__).parents[1] / "golden" / "bundle")


@pytest.mark.parametrize("level", ["full", "rounded", "top", "label"])
def test_prices_are_what_the_guard_charges(level):
    policy = Policy(on_error="withhold", release={"level": level, "top": 1}, budget={"total_bits": 1000})
    known = Deployment(bundle=deployment(policy=policy))
    inputs = SPLITS["test"].inputs[:1]
    prices = known.answer_prices(known.bundle.model.predict(inputs).scores)
    answer = fresh_guard(known.bundle).answer(Query(principal=("org", "key"), inputs=inputs))
    spent = [each.evidence["bits_total"] for each in answer.verdicts if each.part == "leakage"]
    assert [each for each, _ in prices] == sorted({answer.levels[0], Level.LABEL})
    assert spent == [math.ceil(prices[0][1] * 1000) / 1000] * 2
    assert known.answer_prices(None) == ()
