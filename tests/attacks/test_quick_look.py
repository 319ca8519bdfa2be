"""A quick look is as strong and less sure: fewer rows, fewer attacks, nothing held that its intervals do not show."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from support.report_models import FINDINGS, report_labels, report_policy
from support.report_thefts import coarse_images
from validation_fakes import SPLITS, Linear, Scripted, deployment

from medward.attacks.base import AttackData
from medward.attacks.candidates.controls import surrogate_lessons
from medward.attacks.estimate import (
    FEWER_ROWS,
    OVERTIME,
    QUICK_ROWS,
    QUICK_SECONDS,
    UnitSeconds,
    clean_seconds,
    duration_text,
    fewer_rows,
    measure_units,
    plan_validation,
    planned_seconds,
    quick_choice,
    usual_seconds,
    written_candidates,
)
from medward.attacks.membership import LossThreshold
from medward.attacks.membership.attack import COPIES
from medward.attacks.report.remedy import finding_advice
from medward.attacks.report.table import print_findings
from medward.attacks.suite import default_attacks
from medward.attacks.validate import validate
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.plan import WHOLE_PLAN, ValidationPlan
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy

UNITS = UnitSeconds(answer=1e-4, guard=1e-3, network=1e-4, learn=1e-5)
SPEC = Linear.spec


@pytest.fixture(autouse=True)
def _short_accounts(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)


def run(out, *attacks, plan=WHOLE_PLAN, splits=SPLITS):
    return run_validation(
        Deployment(bundle=deployment()), splits, out, attacks=attacks, progress=False, plan=plan, resume=True
    )


QUICK = ValidationPlan(quick=True, rows=60, left_out={"slow": "Not tested: a quick look left it out."})


def test_what_is_left_out_is_never_held_and_says_how_it_is_run(tmp_path):
    report = run(tmp_path, Scripted(name="held", behind=0.0), Scripted(name="slow", behind=0.0), plan=QUICK)
    status = {each.attack: each.status for each in report.findings}
    assert status["slow"] is Status.INCONCLUSIVE
    assert report.quick
    assert report.exit_code == 2, "a quick look that leaves something out cannot be green"
    assert "a quick look: 1 of 2 attacks were run" in report.notes[0] + report.notes[-1]
    assert finding_advice(report.findings[1], report)[0].command == "medward validate BUNDLE --data DATA -o report/"
    console = Console(width=200, record=True, file=io.StringIO())
    print_findings(report, console)
    assert "note: a quick look" in console.export_text()


def test_a_quick_look_holds_only_what_its_own_wide_intervals_show(tmp_path):
    attack = Scripted(name="near", behind=0.15)
    whole, quick = run(tmp_path / "whole", attack), run(tmp_path / "quick", attack, plan=QUICK)
    (full,), (few,) = whole.findings, quick.findings
    assert (full.n, few.n) == (200, 60)
    assert few.adaptive.high - few.adaptive.low > full.adaptive.high - full.adaptive.low
    assert few.status is Status.TOO_FEW_ROWS, "0.15 of 60 rows is not shown to be below 0.2"
    held = run(tmp_path / "none", Scripted(name="near", behind=0.0), plan=QUICK).findings[0]
    assert held.status is Status.HELD
    assert held.judged_adaptive.high <= held.bound


def test_a_broken_row_is_broken_in_a_quick_look_too(tmp_path):
    assert run(tmp_path, Scripted(name="strong", behind=0.7), plan=QUICK).exit_code == 1


def test_the_rows_of_a_quick_look_are_among_those_of_the_whole_one_and_what_is_crafted_on_is_the_same():
    splits = conform_splits({"test": SPLITS["test"]}, SPEC)
    whole, quick = share_rows(Linear(), splits, seed=3).data, share_rows(Linear(), splits, seed=3, most=20).data
    assert np.array_equal(whole.craft.inputs, quick.craft.inputs)
    judged = {row.tobytes() for row in whole.test.inputs}
    assert len(quick.test) == 20
    assert {row.tobytes() for row in quick.test.inputs} < judged


def test_a_quick_look_and_a_whole_one_do_not_take_each_other_s_runs(tmp_path):
    counter = str(tmp_path / "runs")
    attack = Scripted(name="each", counter=counter)
    run(tmp_path / "out", attack, plan=QUICK)
    assert run(tmp_path / "out", attack).findings[0].n == 200
    assert len((tmp_path / "runs").read_text().splitlines()) == 6


def test_of_each_family_the_quickest_first_and_never_more_than_there_is_time_for():
    planned = {"uap": 30.0, "pgd": 20.0, "thief": 25.0, "loss": 1.0, "lira": 6.0}
    families = {"uap": "evasion", "pgd": "evasion", "thief": "extraction", "loss": "membership", "lira": "membership"}
    assert quick_choice(planned, families, seconds=60) == ("pgd", "thief", "loss", "lira")
    assert quick_choice(planned, families, seconds=27) == ("pgd", "loss", "lira")
    assert quick_choice(planned, families, seconds=0) == ("pgd", "loss"), "next to nothing"
    assert quick_choice({**planned, "loss": 5.0}, families, seconds=0) == ("pgd",)
    assert quick_choice(planned, families, seconds=1000) == tuple(planned)
    slow = {name: 40 * seconds for name, seconds in planned.items()}
    assert quick_choice({**planned, "uap": 200.0, "pgd": 300.0}, families, seconds=0) == ("uap", "loss"), "overtime"
    near = {**slow, "loss": slow["pgd"] / 2, "lira": slow["pgd"]}
    assert quick_choice(near, families, seconds=0) == ("pgd",), "what takes twice as long and changes inputs"
    assert quick_choice(slow, families, seconds=0) == ("loss",), "no attack of minutes where there is a shorter one"


@pytest.mark.parametrize("attack", default_attacks(SPEC), ids=lambda attack: attack.name)
def test_more_rows_and_a_slower_model_take_longer(attack):
    less = planned_seconds(attack, UNITS, rows=100, craft=100)
    slower = UnitSeconds(answer=1e-3, guard=1e-2, network=1e-3, learn=1e-4)
    assert 0 < less < planned_seconds(attack, slower, rows=100, craft=100)
    assert planned_seconds(attack, UNITS, rows=200, craft=200) >= less


def test_units_are_measured_and_told():
    units = measure_units(Deployment(bundle=deployment()), SPLITS["test"].inputs[:50])
    assert min(units.answer, units.guard, units.network, units.learn) > 0
    assert clean_seconds(units, 200) > clean_seconds(units, 100) > clean_seconds(units, 100, remembered=True) > 0
    assert [duration_text(each) for each in (1, 32, 61, 300)] == [
        "about 5 seconds",
        "about 30 seconds",
        "about 1 minute",
        "about 5 minutes",
    ]


def test_a_plan_leaves_out_what_a_minute_is_not_enough_for(monkeypatch):
    attacks = default_attacks(SPEC)
    known = Deployment(bundle=deployment())
    whole = plan_validation(known, SPLITS, attacks, quick=False)
    assert (whole.quick, whole.rows, dict(whole.left_out)) == (False, None, {})
    assert whole.told.endswith(f"for {len(attacks)} attacks")
    monkeypatch.setattr(
        "medward.attacks.estimate.measure_units", lambda *_: UnitSeconds(answer=1, guard=1, network=1, learn=1)
    )
    quick = plan_validation(known, SPLITS, attacks, quick=True)
    assert quick.rows in FEWER_ROWS
    assert len(quick.left_out) == len(attacks) - 1
    assert all(reason.endswith("minutes.") for reason in quick.left_out.values())


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return protect(
        "support.report_models:corner_writer",
        Split(coarse_images(300, 9)),
        report_policy(),
        tmp_path_factory.mktemp("quick") / "bundle",
        task="report",
        classes=FINDINGS,
        low=0.0,
        high=1.0,
        layout="NCHW",
        allow_code=True,
    )


def labelled(rows, seed):
    images = coarse_images(rows, seed)
    return Split(images, report_labels(images))


def test_membership_of_a_writer_counts_its_copies_and_its_control():
    said = {"rows": 100, "craft": 100, "candidates": 160}
    asked = 160 * (UNITS.answer + UNITS.guard * (1 + COPIES))
    assert planned_seconds(LossThreshold(), UNITS, **said) == pytest.approx(asked)
    taught = planned_seconds(LossThreshold(), UNITS, **said, lessons=5000)
    assert taught == pytest.approx(asked + 5000 * UNITS.learn)
    assert planned_seconds(LossThreshold(), UNITS, rows=100, craft=100, candidates=0) == 0, "nobody to ask about"


def test_the_control_s_lessons_are_those_that_it_is_taught(writer, monkeypatch):
    from medward.attacks.candidates import controls
    from medward.attacks.learners.reports import ReportLearner

    seen = []
    monkeypatch.setattr(
        ReportLearner, "fit", lambda self, spec, x, y, *, epochs, **_: seen.append(epochs * len(x)) or None
    )
    monkeypatch.setattr(controls, "network_oracle", lambda *_: None)
    shadow, others = labelled(60, 1), labelled(50, 2)
    held = AttackData(craft=shadow, test=others, members=labelled(50, 3), nonmembers=others, shadow=shadow)
    controls.control_examinations(None, writer.model.spec, held, seed=0)[0].prepare()
    assert seen == [surrogate_lessons(60, 50)]


def test_candidates_of_a_writer_are_counted_and_of_no_other_model(writer):
    splits = {name: labelled(each, each) for name, each in (("train", 70), ("holdout", 90), ("test", 40))}
    assert written_candidates(Deployment(bundle=writer), splits) == (90, surrogate_lessons(45, 45))
    del splits["train"]
    assert written_candidates(Deployment(bundle=writer), splits) == (0, 0)
    assert written_candidates(Deployment(bundle=deployment()), splits) == (None, 0)


def test_where_an_answer_takes_long_fewer_rows_are_judged_so_that_inputs_are_changed():
    families = {"pgd": "evasion", "loss": "membership"}

    def planned(seconds):
        return lambda rows: {"pgd": seconds * rows, "loss": 100.0}

    most = OVERTIME * QUICK_SECONDS
    assert fewer_rows(planned(most / 100), families)[0] == QUICK_ROWS
    rows, told = fewer_rows(planned(most / 30), families)
    assert (rows, quick_choice(told, families, seconds=0)) == (25, ("pgd",))
    rows, told = fewer_rows(planned(most), families)
    assert (rows, quick_choice(told, families, seconds=0)) == (QUICK_ROWS, ("loss",)), "no number is few enough"


def test_where_rows_make_nothing_shorter_all_are_judged():
    slow = OVERTIME * QUICK_SECONDS + 100
    assert fewer_rows(lambda rows: {"knockoff": slow}, {"knockoff": "extraction"})[0] == QUICK_ROWS
    assert fewer_rows(lambda rows: {"pgd": slow * rows}, {"pgd": "evasion"})[0] == FEWER_ROWS[-1]
    judged = fewer_rows(lambda rows: {"pgd": slow * max(rows, 25)}, {"pgd": "evasion"})[0]
    assert judged == 25, "the cost falls no further"
    assert fewer_rows(lambda rows: {}, {})[0] == QUICK_ROWS


def test_a_quick_look_at_a_slow_writer_says_what_its_control_takes(writer, monkeypatch):
    slow = UnitSeconds(answer=0.15, guard=0.11, network=0.05, learn=0.01)
    monkeypatch.setattr("medward.attacks.estimate.measure_units", lambda *_: slow)
    splits = {name: labelled(170, at) for at, name in enumerate(("train", "holdout", "test"))}
    attacks = default_attacks(writer.model.spec)
    plan = plan_validation(Deployment(bundle=writer), splits, attacks, quick=True)
    run_at_all = [each for each in attacks if each.name not in plan.left_out]
    assert [each.family for each in run_at_all] == ["evasion"]
    assert plan.rows in FEWER_ROWS[1:]
    assert plan.left_out["membership-loss"].endswith("about 8 minutes.")
    del splits["train"]
    plan = plan_validation(Deployment(bundle=writer), splits, attacks, quick=True)
    assert "membership-loss" not in plan.left_out, "its family says why it is not tested"


def test_what_writes_is_timed_on_few_rows_as_it_writes_about_all_at_once(writer, monkeypatch):
    asked = []
    monkeypatch.setattr("medward.attacks.estimate._learn_seconds", lambda *_: 1.0)
    predict = type(writer.model).predict
    monkeypatch.setattr(type(writer.model), "predict", lambda self, x: asked.append(len(x)) or predict(self, x))
    measure_units(Deployment(bundle=writer), coarse_images(50, 1))
    assert max(asked) == FEWER_ROWS[-1]


def test_validate_says_how_long_before_it_starts(tmp_path, capfd):
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(rows, labels)
    bundle = protect(
        model, Split(rows[:300]), Policy(on_error="withhold"), tmp_path / "b", classes=["a", "b"], name="c"
    )
    capfd.readouterr()
    report = validate(bundle, {"test": Split(rows[300:], labels[300:])}, tmp_path / "out", names=["fgsm"], quick=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("about ")
    assert lines[0].endswith("for 1 of 1 attacks, a quick look")
    assert report.quick
    assert report.places == {"bundle": str(tmp_path / "b"), "out": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("runs", "seconds", "asked"),
    [
        ([9.0, 0.1, 0.2, 0.1], 0.1, 4),
        ([0.1, 9.0, 0.1, 0.1], 0.1, 4),
        ([0.5, 0.1, 0.1, 9.0], 0.1, 4),
        ([3.0, 2.5], 2.5, 2),
        ([25.0], 25.0, 1),
        ([0.1, 0.3, 0.3, 0.1], 0.3, 4),
    ],
)
def test_one_stall_of_the_machine_changes_no_estimate(monkeypatch, runs, seconds, asked):
    clock, left = [0.0], list(runs)

    def work():
        clock[0] += left.pop(0)

    monkeypatch.setattr("medward.attacks.estimate.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert usual_seconds(work) == pytest.approx(seconds)
    assert len(runs) - len(left) == asked
