"""Validating models of findings, of a number, and of outputs that nobody here can read."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from support.tasks import CUT, FINDINGS, MONTHS, WHOLE, PlantedTask, rows_of

from medward.attacks.report.html import untested_sentences
from medward.attacks.report.table import print_findings
from medward.attacks.target import Response
from medward.attacks.validate import validate
from medward.attacks.validation.clean_cost import Account, clean_utility
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.types import Level

POLICY = Policy(on_error="withhold", threat={"table": 1.0})
NAMES = ("knockoff-soft", "knockoff-hard", "membership-loss")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 10)
    monkeypatch.setattr("medward.attacks.validation.clean_cost.LATENCY_PAIRS", 2)


class Line(torch.nn.Module):
    """The planted model as a network."""

    def __init__(self, task):
        super().__init__()
        planted = PlantedTask(task)
        self.line = torch.nn.Linear(6, planted._weight.shape[1], bias=False)
        with torch.no_grad():
            self.line.weight.copy_(torch.as_tensor(planted._scale * planted._weight.T, dtype=torch.float32))

    def forward(self, x):
        return self.line(x)


def splits_of(task, labels=True):
    planted, found = PlantedTask(task), {}
    for seed, (name, n) in enumerate((("train", 160), ("holdout", 160), ("test", 120))):
        data = planted.data() if labels else None
        rows = rows_of(n, 20 + seed)
        said = planted.outputs(rows)
        truth = None if data is None else (said[:, 0] if task.kind == "regression" else task.found(said))
        found[name] = Split(rows, truth)
    return found


def bundle_of(task, folder):
    return protect(Line(task).eval(), Split(rows_of(400, 9)), POLICY, folder / "bundle", task=task)


@pytest.mark.slow
def test_a_model_of_findings_is_stolen_and_asked_for_members(tmp_path):
    bundle = bundle_of(FINDINGS, tmp_path)
    report = validate(bundle, splits_of(FINDINGS), tmp_path / "out", names=NAMES, progress=False)
    soft, hard, member = report.findings
    assert soft.undefended.value > soft.baseline.value + 0.3
    assert hard.undefended.value > hard.baseline.value + 0.2
    assert soft.status in (Status.HELD, Status.BROKEN)
    assert member.status is Status.INCONCLUSIVE
    assert "does not leak enough" in member.reasons[0], "the rows were never learned"
    assert report.provenance.task == "multilabel"
    assert report.provenance.classes == FINDINGS.findings
    assert set(report.clean.site.sensitivity) == set(FINDINGS.findings)
    page = (tmp_path / "out/report.html").read_text()
    assert "Findings" in page
    assert "nodule from 0.5, effusion from 0.2, mass from 0.7" in page
    assert Report.load(tmp_path / "out/report.json") == report


@pytest.mark.parametrize("task", [pytest.param(MONTHS, marks=pytest.mark.slow), CUT], ids=["months", "cut"])
def test_a_model_of_a_number_is_stolen_within_its_tolerance(task, tmp_path):
    bundle = bundle_of(task, tmp_path)
    report = validate(bundle, splits_of(task), tmp_path / "out", names=NAMES[:1], progress=False)
    (soft,) = report.findings
    assert soft.undefended.value > soft.baseline.value + 0.3
    site = report.clean.site
    assert site.accuracy.undefended.value == 1.0
    assert site.mean_error.undefended.value < 1e-4 < site.mean_error.guarded.value < task.tolerance / 10
    page = (tmp_path / "out/report.html").read_text()
    assert "within the tolerance of the truth" in page
    assert "mean absolute error" in page
    assert Report.load(tmp_path / "out/report.json") == report


def test_what_is_not_tested_of_an_opaque_model_is_said(tmp_path):
    bundle = bundle_of(WHOLE, tmp_path)
    report = validate(bundle, splits_of_whole(), tmp_path / "out", progress=False)
    assert {finding.status for finding in report.findings} == {Status.NOT_APPLICABLE}
    assert report.exit_code == 2
    assert report.clean.site.unchanged.value > 0.9
    assert "left unchanged" in (tmp_path / "out/report.html").read_text()
    told = io.StringIO()
    print_findings(report, Console(file=told, width=200))
    for text in (told.getvalue(), (tmp_path / "out/report.html").read_text()):
        assert "nothing that it decides was attacked; say what it decides (--decide package:function)" in text
    assert "Inputs changed so that the model decides otherwise." in untested_sentences(report)
    for text in (told.getvalue(), " ".join(untested_sentences(report))):
        assert "no answer that a copy could be compared by" in text
        assert "no confidence to read a record from" in text


def test_what_an_opaque_model_decides_can_be_said(tmp_path):
    bundle = bundle_of(WHOLE, tmp_path)

    def decide(outputs):
        return (outputs[:, 0] > 0).astype(int)

    def wrong(outputs):
        return outputs

    settings = {"names": ("hopskipjump",), "progress": False}
    (finding,) = validate(bundle, splits_of_whole(), tmp_path / "out", decide=decide, **settings).findings
    assert finding.status is not Status.NOT_APPLICABLE
    assert finding.undefended.value > 0.9
    with pytest.raises(MedwardError, match="a whole number from 0 on for each of"):
        validate(bundle, splits_of_whole(), tmp_path / "no", decide=wrong, **settings)
    other = bundle_of(MONTHS, tmp_path / "other")
    with pytest.raises(MedwardError, match="decide: is for opaque models, and this one gives bone age"):
        validate(other, splits_of(MONTHS), tmp_path / "no", names=NAMES, decide=decide, progress=False)


def splits_of_whole():
    return {name: Split(rows_of(n, seed)) for seed, (name, n) in enumerate((("train", 160), ("test", 60)))}


ACCOUNTS = [Account((Level.ROUNDED,), (0.0,), False)]


def utility(task, level, hidden=()):
    planted = PlantedTask(task)
    rows = rows_of(60, 4)
    own = planted.outputs(rows)
    labels, left = task.decide(own), np.array(task.release(own, level, ReleaseSettings()), np.float64)
    truth = own[:, 0] + np.where(np.arange(60) < 30, 0.0, 10.0) if task.kind == "regression" else labels.copy()
    for row in hidden:
        labels[row], left[row] = -1, np.nan
    told = Response(labels, left, "probabilities" if task is FINDINGS and level is not Level.FULL else task.output)
    return clean_utility("test", Split(rows, None if task is WHOLE else truth), own, told, ACCOUNTS, task)


@pytest.mark.parametrize("level", [Level.FULL, Level.ROUNDED, Level.LABEL])
def test_findings_cost_is_of_each_finding_present_and_absent(level):
    found = utility(FINDINGS, level)
    assert found.accuracy.guarded.value == 1.0
    assert {pair.guarded.value for pair in (*found.sensitivity.values(), *found.specificity.values())} == {1.0}
    fewer = utility(FINDINGS, level, hidden=range(30))
    assert fewer.false_refusal.value == fewer.accuracy.guarded.value == 0.5
    assert {lost.value for lost in found.sensitivity_lost.values()} == {0.0}
    for name, pair in fewer.sensitivity.items():
        lost = fewer.sensitivity_lost[name]
        assert (lost.value, lost.n) == (pytest.approx(1 - pair.guarded.value), pair.guarded.n)
    for pair in (*fewer.sensitivity.values(), *fewer.specificity.values()):
        assert pair.undefended.value == 1.0
        assert pair.guarded.value < 0.8, "a withheld answer finds nothing and rules nothing out"


@pytest.mark.parametrize("task", [MONTHS, CUT], ids=["months", "cut"])
def test_numbers_cost_is_the_tolerance_and_the_distance(task):
    found = utility(task, Level.FULL)
    assert found.accuracy.undefended.value == found.accuracy.guarded.value == 0.5
    assert found.mean_error.guarded.value == pytest.approx(5.0)
    fewer = utility(task, Level.FULL, hidden=range(15))
    assert fewer.accuracy.guarded.value == 0.25
    assert fewer.mean_error.guarded.value > 5.0, "those answered are the farther ones"
    coarse = utility(task, Level.LABEL)
    assert coarse.accuracy.guarded.value >= 0.5
    assert (coarse.mean_error is None) == bool(task.cut_points), "of a cell alone there is no distance"


def test_opaque_outputs_leave_whole_or_count_as_changed():
    assert utility(WHOLE, Level.FULL).unchanged.value == 1.0
    assert utility(WHOLE, Level.FULL, hidden=range(15)).unchanged.value == 0.75
    assert utility(WHOLE, Level.FULL).accuracy is None


def test_reports_of_plain_classes_say_nothing_of_other_tasks():
    plain = utility(replace(FINDINGS), Level.FULL).model_dump(mode="json")
    assert not {"mean_error", "unchanged"} & plain.keys()
    assert "unchanged" in utility(WHOLE, Level.FULL).model_dump(mode="json")


CLASSES = Classification(classes=("dark", "light"), output="logits")


def certified_utility(without_proof, *, screened=False, labelled=True):
    """100 rows, of which the last 12 are "light" and without a proof: withheld for that, by a screen, or not at all."""
    truth = np.repeat([0, 1], [88, 12])
    light, scores = truth == 1, np.eye(2)[truth]
    told = Response(
        np.where(light & (without_proof or screened), -1, truth),
        scores,
        "logits",
        certified=~light,
        uncertified=light,
        without_proof=light & (without_proof and not screened),
    )
    split = Split(rows_of(100, 4), truth if labelled else None)
    return clean_utility("test", split, scores, told, ACCOUNTS, CLASSES)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_rare_class_without_certificates_is_seen_whatever_its_share_of_rows(labelled):
    found = certified_utility(without_proof=False, labelled=labelled)
    assert found.uncertified.value == 0.12
    assert found.uncertified_worst.value == 0.5
    assert {name: (share.value, share.n) for name, share in found.uncertified_classes.items()} == {
        "dark": (0.0, 88),
        "light": (1.0, 12),
    }
    assert found.uncertified_classes["light"].low > 0.6
    assert found.false_refusal.value == 0


def test_a_row_withheld_for_want_of_a_proof_is_lost_and_one_that_a_screen_withholds_is_refused():
    marked, withheld = certified_utility(without_proof=False), certified_utility(without_proof=True)
    assert (marked.false_refusal.value, marked.sensitivity_lost["light"].value) == (0, 0)
    assert (withheld.false_refusal.value, withheld.sensitivity_lost["light"].value) == (0, 1)
    for both in (certified_utility(without_proof=True, screened=True), certified_utility(False, screened=True)):
        assert (both.false_refusal.value, both.sensitivity_lost["light"].value) == (0.12, 1)
