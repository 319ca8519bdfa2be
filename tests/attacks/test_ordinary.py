"""What a validation makes of ordinary behaviour: measured by the monitors, judged by the gate, told in the report."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from rich.console import Console
from validation_fakes import SPLITS, Linear, Scripted, deployment, rows

from medward.attacks.estimate import UnitSeconds, ordinary_seconds
from medward.attacks.intervals import clopper_pearson
from medward.attacks.report.html import render_html
from medward.attacks.report.junit import render_junit
from medward.attacks.report.summary import summary_parts
from medward.attacks.report.table import print_findings
from medward.attacks.report.words import ordinary_headline
from medward.attacks.validation.deployment import Deployment, fresh_guard
from medward.attacks.validation.finding import OrdinaryCost, Status
from medward.attacks.validation.ordinary import measure as module
from medward.attacks.validation.ordinary.behaviour import Traffic, Visits, VisitSettings
from medward.attacks.validation.ordinary.measure import (
    THIEF,
    WatchedGuard,
    benign_traffic,
    measure_ordinary,
    ordinary_cost,
    planned_work,
)
from medward.attacks.validation.ordinary.suite import suited_behaviours
from medward.attacks.validation.ordinary.verdict import acted_upon, ordinary_harm, ordinary_status, told_ordinary
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.guard.errors import MedwardError
from medward.guard.policy import MonitorPolicy, Policy, Rung
from medward.guard.types import Action, Query

SETTINGS = VisitSettings(accounts=4, queries=50, rounds=2, rows=50)
FEW = VisitSettings(accounts=2, queries=20, rounds=1, rows=20)
NOISE = np.random.default_rng(5).uniform(-6, 6, (100, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle():
    return deployment()


@pytest.fixture(scope="module")
def costs(bundle):
    return measured(bundle)


def measured(bundle, seed=0, policy=None, split=SPLITS["holdout"], settings=SETTINGS):
    return measure_ordinary(
        bundle.model, policy or bundle.policy, bundle.profile, split, seed=seed, settings=settings, pool=NOISE
    )


def named(costs, name):
    return next(cost for cost in costs if cost.behaviour == name)


def test_every_behaviour_of_a_table_is_measured_once_and_a_thief_last(bundle, costs):
    traffic = benign_traffic(bundle.model, SPLITS["holdout"], seed=0)
    assert [cost.behaviour for cost in costs] == [*(each.name for each in suited_behaviours(traffic)), THIEF]
    assert all(cost.acted.n == cost.withheld.n == SETTINGS.accounts for cost in costs)
    assert all(cost.withheld.value <= cost.acted.value for cost in costs)
    assert {cost.forgiven for cost in costs if cost.group in ("loops", "specialists", "retries")} == {True}


def test_the_same_seed_finds_the_same(bundle):
    once = measured(bundle, settings=FEW)
    assert measured(bundle, settings=FEW) == once
    assert measured(bundle, seed=1, settings=FEW) != once


def test_a_thief_in_the_same_table_does_alarm(costs):
    thief = named(costs, THIEF)
    assert thief.acted.value == thief.withheld.value == 1
    assert thief.screened.value > 0.5
    assert sum(thief.parts.values()) == pytest.approx(1, abs=0.01)
    assert max(thief.parts, key=thief.parts.get) == "strange"
    assert not thief.forgiven


def test_what_is_far_off_is_acted_upon_and_what_is_not_is_left_alone(costs):
    assert named(costs, "one column in another unit, x 10").acted.value > 0.5
    assert named(costs, "one class alone, any").acted.value == 0
    assert named(costs, "bursts of retries").acted.value == 0


def test_a_guard_calibrated_elsewhere_acts_on_every_account_and_one_that_only_flags_on_none(bundle):
    """The control of a table of zeros."""
    elsewhere = SPLITS["holdout"].__class__(SPLITS["holdout"].inputs * 3, SPLITS["holdout"].labels)
    acted = [cost.acted.value for cost in measured(bundle, split=elsewhere) if cost.group not in ("loops", "retries")]
    assert np.mean(acted) > 0.8
    flag = Policy(on_error="withhold", monitor=MonitorPolicy(ladder=(Rung(false_alarm=0.01, action="flag"),)))
    flagged = measured(bundle, policy=flag, split=elsewhere, settings=FEW)
    assert all(cost.acted.value == 0 for cost in flagged), "a flag costs no answer"


def test_streams_come_to_what_the_deployed_guard_does(bundle):
    """Account by account the same action as `Guard.answer` comes to, asked row by row."""
    watch, guard = WatchedGuard.of(bundle.model, bundle.policy, bundle.profile), fresh_guard(bundle)
    benign = SPLITS["holdout"].inputs[:40]
    sent = np.concatenate([benign, NOISE[:40], 1.7 * benign])
    sight, digests = watch.see(sent)
    orders = (np.arange(40), np.arange(40, 80), np.arange(80, 120), np.tile(np.arange(17), 5), np.arange(20, 60))
    for account, order in enumerate(orders):
        strictest = Action.ALLOW
        for row in order:
            answer = guard.answer(Query(principal=(f"clinic-{account}",), inputs=sent[[row]]))
            acted = [each.action for each in answer.verdicts if "log_e" in each.evidence]
            strictest = max([strictest, *acted])
        for batch in (1, 10):
            assert watch.follow(sight, digests, order, batch).action == strictest
    assert watch.follow(sight, digests, orders[0], 1).action is Action.ALLOW
    assert watch.follow(sight, digests, orders[1], 1).action is Action.WITHHOLD


def test_a_part_that_fails_is_not_taken_for_one_that_sees_nothing(bundle, monkeypatch):
    def broken(*_):
        return {}, {"screen": RuntimeError("no screen")}

    monkeypatch.setattr(module, "observe_batch", broken)
    with pytest.raises(MedwardError, match=r"the part 'screen' fails on rows .*no screen"):
        measured(bundle, settings=FEW)


def test_the_screen_is_counted_once_for_every_row_that_is_sent(bundle):
    watch = WatchedGuard.of(bundle.model, bundle.policy, bundle.profile)
    sent = np.concatenate([SPLITS["holdout"].inputs[:5], NOISE[:5] * 4])
    orders = (np.repeat(np.arange(10), 9), np.arange(5, 10))
    cost = ordinary_cost(watch, Visits(rows=sent, orders=orders), watch.see(sent), "x", "y", True)
    assert (cost.screened.n, cost.screened.value) == (10, 0.5)


def test_traffic_takes_labels_and_without_them_decisions(bundle):
    holdout = SPLITS["holdout"]
    labelled = benign_traffic(bundle.model, holdout, 3)
    decided = benign_traffic(bundle.model, holdout.__class__(holdout.inputs), 3)
    np.testing.assert_array_equal(labelled.classes, decided.classes, "labels are the model's own decisions here")
    np.testing.assert_array_equal(labelled.inputs, decided.inputs)
    assert len(np.unique(labelled.inputs, axis=0)) == len(holdout)
    turned = holdout.__class__(holdout.inputs, 1 - holdout.labels)
    np.testing.assert_array_equal(benign_traffic(bundle.model, turned, 3).classes, 1 - labelled.classes)
    assert isinstance(labelled, Traffic)


def cost(name="17 fixed inputs", acted=0, n=20, forgiven=True, parts=None):
    share = clopper_pearson(acted, n)
    return OrdinaryCost(
        behaviour=name,
        group="loops",
        forgiven=forgiven,
        remedy="" if forgiven else "Do otherwise.",
        acted=share,
        withheld=clopper_pearson(acted // 2, n),
        screened=clopper_pearson(3, 100),
        parts=parts or {},
    )


def test_a_forgiven_behaviour_is_broken_only_for_sure_and_for_many_looks():
    others = [cost(f"other {i}") for i in range(29)]
    for acted, alone, among in (
        (1, Status.INCONCLUSIVE, Status.INCONCLUSIVE),
        (4, Status.BROKEN, Status.INCONCLUSIVE),
        (6, Status.BROKEN, Status.BROKEN),
    ):
        one = cost(acted=acted)
        assert ordinary_status(one, [one], 0.05) is alone
        assert ordinary_status(one, [one, *others], 0.05) is among
    none, plenty = cost(acted=0), cost(acted=0, n=100)
    assert ordinary_status(none, [none], 0.05) is Status.INCONCLUSIVE, "20 accounts cannot show 5 %"
    assert ordinary_status(plenty, [plenty], 0.05) is Status.HELD


def test_what_is_not_forgiven_breaks_nothing():
    one = cost(acted=20, forgiven=False)
    assert ordinary_status(one, [one], 0.05) is Status.NOT_APPLICABLE
    assert acted_upon([one], 0.05) == ()
    assert ordinary_harm([one], 0.05) == ()
    assert told_ordinary([one, cost()], 0.05) == "0 of 1 that are meant to be forgiven were acted upon"


def test_the_worst_are_named_first():
    found = [cost(f"loop {i}", acted=i) for i in (20, 12, 18, 19, 0)]
    (sentence,) = ordinary_harm(found, 0.05)
    assert sentence.index('"loop 20"') < sentence.index('"loop 19"') < sentence.index('"loop 18"')
    assert "and 1 more are coarsened or withheld, the bound is 5.0%." in sentence
    assert "loop 12" not in sentence


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report as it is, and one whose guard acts upon a loop."""
    found = [
        cost("17 fixed inputs", acted=18, parts={"shared": 0.8, "embedding": 0.2, "strange": 0.001}),
        cost("5 fixed inputs"),
        cost("inverted", acted=20, forgiven=False),
    ]
    made = []
    for chosen in (found[1:], found):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "measure_ordinary", lambda *_, chosen=chosen, **__: tuple(chosen))
            patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)
            out = tmp_path_factory.mktemp("report")
            report = run_validation(Deployment(bundle=deployment()), SPLITS, out, attacks=[Scripted()], progress=False)
            made.append((report, out))
    return made


def test_a_guard_that_turns_on_ordinary_behaviour_is_broken(reports):
    (good, _), (bad, _) = reports
    assert good.findings[0].status is not Status.BROKEN
    assert bad.findings[0].status is Status.BROKEN
    assert "ordinary accounts" in bad.findings[0].causes
    assert "ordinary accounts" not in good.findings[0].causes
    assert '"17 fixed inputs" (at least' in " ".join(bad.findings[0].reasons)
    assert bad.exit_code == 1


def test_a_report_tells_it_once_and_reads_back(reports):
    report, out = reports[1]
    assert [each.behaviour for each in report.clean.ordinary] == ["17 fixed inputs", "5 fixed inputs", "inverted"]
    assert report.findings[0].clean_cost.ordinary == ()
    assert Report.load(out / "report.json") == report


def test_the_page_the_terminal_and_the_pipeline_tell_it(reports):
    report, _ = reports[1]
    page = " ".join(render_html(report).split())
    section = page[page.index('id="ordinary"') : page.index('id="tested"')]
    assert "17 fixed inputs" in section
    assert "90.0% <span" in section
    assert "shared 80%, embedding 20%" in section
    assert "Do otherwise." in section
    assert section.count("<tr>") == 1 + len(report.clean.ordinary)
    assert "of 2 ordinary behaviours that are meant to be forgiven, 1 had accounts coarsened" in section
    screen = io.StringIO()
    print_findings(report, Console(file=screen, width=160))
    text = " ".join(screen.getvalue().split())
    assert "ordinary behaviour: of 2 ordinary behaviours" in text
    assert "17 fixed inputs 90.0%" in text
    assert "5 fixed inputs 0" not in text, "what nobody was acted upon for is on the page"
    cases = {
        case.get("name"): [child.tag for child in case]
        for case in ET.fromstring(render_junit(report)).findall("testcase")
        if case.get("classname") == "medward.ordinary"
    }
    assert cases == {"17 fixed inputs": ["failure"], "5 fixed inputs": ["skipped"], "inverted": ["skipped"]}
    price = " ".join(dict(summary_parts(report))["What patients and clinics pay"])
    assert "Of 2 ordinary things that hospitals do, such as sending a fixed set every day, 1 had clients" in price


def test_where_nobody_was_acted_upon_it_says_none(reports):
    report, _ = reports[0]
    assert ordinary_headline(report).startswith("none of 1 ordinary behaviours that are meant to be forgiven had")
    assert "none of 1 ordinary" in " ".join(render_html(report).split())


def test_a_report_without_ordinary_behaviour_says_nothing_of_it(reports):
    report, _ = reports[0]
    older = report.model_copy(update={"clean": report.clean.model_copy(update={"ordinary": ()})})
    assert "ordinary" not in older.clean.model_dump(mode="json")
    assert 'id="ordinary"' not in render_html(older)
    assert "medward.ordinary" not in render_junit(older).decode()
    screen = io.StringIO()
    print_findings(older, Console(file=screen, width=160))
    assert "ordinary behaviour" not in screen.getvalue()


def test_its_time_is_planned():
    looked, stepped = planned_work(Linear.spec, SETTINGS)
    assert looked > SETTINGS.rows
    traffic = benign_traffic(Linear(), rows(200, 8), 0)
    orders = [each.visits(traffic, np.random.default_rng(0), SETTINGS).orders for each in suited_behaviours(traffic)]
    assert 0.5 < sum(len(order) for each in orders for order in each) / stepped < 1.5
    units = UnitSeconds(answer=1e-4, guard=1e-3, network=0, learn=0)
    assert ordinary_seconds(units, looked, stepped) > ordinary_seconds(units, looked, stepped // 2) > 0
