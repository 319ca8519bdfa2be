"""A row that a person accepts is ACCEPTED and first, never HELD, and again what it was when its day is over."""

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import date, timedelta

import pytest
from rich.console import Console
from validation_fakes import SPLITS, Scripted, deployment

from medward.attacks.report.table import print_findings
from medward.attacks.validation.cause import WAIVABLE, Cause, causes_of
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import exit_code, overall_status
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.waiving import LONGEST_WAIVER, check_waivers, lay_waivers
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.waiver_policy import Waiver

TODAY = date(2026, 11, 29)
HELD, STRONG, WEAK = Scripted(name="held"), Scripted(name="strong", behind=0.7), Scripted(name="weak", free=0.3)


def waiver(attack: str, days: int = 30, **settings: object) -> Waiver:
    said = {"reason": "only staff can reach it", "by": "Ada Example", "until": TODAY + timedelta(days=days)}
    return Waiver(attack=attack, **{**said, **settings})


@pytest.fixture(autouse=True)
def _a_day(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)
    monkeypatch.setattr("medward.attacks.validation.run.today_utc", lambda: TODAY)


def report_of(out, *attacks, waivers=(), **settings) -> Report:
    bundle = replace(deployment(**settings), policy=Policy(on_error="withhold", accept=waivers))
    return run_validation(Deployment(bundle=bundle), SPLITS, out, attacks=attacks, progress=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)
        return report_of(tmp_path_factory.mktemp("plain"), HELD, STRONG, WEAK)


def test_an_accepted_row_is_first_and_says_who_until_when_why_and_for_what(tmp_path):
    report = report_of(tmp_path, HELD, STRONG, waivers=(waiver("strong"),))
    first = report.findings[0]
    assert (first.attack, first.status, first.accepted.status) == ("strong", Status.ACCEPTED, Status.BROKEN)
    assert (report.verdict, report.exit_code) == (Status.ACCEPTED, 0)
    said = "accepted by Ada Example until 2026-12-29, in the place of BROKEN: only staff can reach it"
    console = Console(width=200, record=True, file=io.StringIO())
    print_findings(report, console)
    text = console.export_text()
    assert text.startswith(f"strong: {said}")
    assert "ACCEPTED: 1 of 2 attacks failed against the guard, 1 accepted." in text
    page = (tmp_path / "report.html").read_text()
    assert page.index(said) < page.index('id="findings"')
    assert "stayed within the gate's bounds behind the guard" not in page
    kept = json.loads((tmp_path / "report.json").read_text())["findings"][0]
    assert kept["accepted"] == {
        "reason": first.accepted.reason,
        "by": "Ada Example",
        "until": "2026-12-29",
        "status": "BROKEN",
    }
    assert Report.load(tmp_path / "report.json") == report
    case = ET.parse(tmp_path / "junit.xml").getroot().find("testcase")
    assert case.find("skipped").get("message") == said
    assert "passes the guard" in case.find("skipped").text


def test_a_waiver_ends_after_its_last_day_into_what_it_was(plain):
    before = {each.attack: each for each in plain.findings}
    last = lay_waivers(plain.findings, [waiver("strong", 0)], TODAY)
    assert last[0].status is Status.ACCEPTED
    over = lay_waivers(plain.findings, [waiver("strong", 0)], TODAY + timedelta(days=1))
    assert [each.attack for each in over] == [each.attack for each in plain.findings]
    expired = over[1]
    assert (expired.status, expired.accepted) == (before["strong"].status, None)
    assert expired.reasons[0].startswith("The waiver by Ada Example expired on 2026-11-29")
    assert exit_code(over) == 1


def test_what_needs_no_waiver_keeps_its_status_and_says_so(plain):
    laid = {each.attack: each for each in lay_waivers(plain.findings, [waiver("held")], TODAY)}
    assert laid["held"].status is Status.HELD
    assert "is not needed" in laid["held"].reasons[-1]


def test_a_waiver_of_an_attack_does_not_cover_a_guard_that_refuses_everybody(tmp_path):
    report = report_of(tmp_path, STRONG, waivers=(waiver("strong"),), abstains=True)
    assert report.findings[0].status is Status.BROKEN
    assert Cause.BENIGN_REFUSED in causes_of(report.findings[0])
    assert "covers what the attack does, not what is beside it: benign refused" in report.findings[0].reasons[0]


@pytest.mark.parametrize("cause", sorted(set(Cause) - WAIVABLE))
def test_what_is_beside_the_attack_is_never_accepted_with_it(plain, cause):
    strong = next(each for each in plain.findings if each.attack == "strong")
    row = strong.model_copy(update={"status": Status.INCONCLUSIVE, "causes": (Cause.PASSED.value, cause.value)})
    (laid,) = lay_waivers([row], [waiver("strong")], TODAY)
    assert f"not what is beside it: {cause.value}." in laid.reasons[0]
    assert (laid.status, exit_code([laid])) == (Status.INCONCLUSIVE, 2)


@pytest.mark.parametrize("cause", sorted(WAIVABLE))
def test_what_the_attack_does_is_accepted(plain, cause):
    row = plain.findings[0].model_copy(update={"status": Status.INCONCLUSIVE, "causes": (cause.value,)})
    (laid,) = lay_waivers([row], [waiver(row.attack)], TODAY)
    assert laid.status is Status.ACCEPTED


def test_a_row_that_says_no_cause_is_not_accepted(plain):
    row = plain.findings[0].model_copy(update={"status": Status.BROKEN, "causes": ()})
    (laid,) = lay_waivers([row], [waiver(row.attack)], TODAY)
    assert laid.status is Status.BROKEN


def test_a_quick_look_with_a_waiver_of_what_it_left_out_never_ends_well(tmp_path):
    bundle = replace(deployment(), policy=Policy(on_error="withhold", accept=(waiver("strong"),)))
    plan = ValidationPlan(quick=True, rows=100, left_out={"strong": "Not tested: a quick look left it out."})
    report = run_validation(Deployment(bundle=bundle), SPLITS, tmp_path, attacks=(STRONG,), progress=False, plan=plan)
    assert (report.verdict, report.exit_code) == (Status.INCONCLUSIVE, 2)


@pytest.mark.parametrize(
    ("statuses", "code", "word"),
    [
        ("ACCEPTED", 0, "ACCEPTED"),
        ("ACCEPTED HELD NOT_NEEDED", 0, "ACCEPTED"),
        ("ACCEPTED BROKEN", 1, "BROKEN"),
        ("ACCEPTED INCONCLUSIVE", 2, "INCONCLUSIVE"),
        ("ACCEPTED TOO_FEW_ROWS HELD", 2, "TOO_FEW_ROWS"),
        ("ACCEPTED NOT_APPLICABLE", 0, "ACCEPTED"),
    ],
)
def test_an_accepted_row_is_no_break_and_no_success(plain, statuses, code, word):
    findings = [plain.findings[0].model_copy(update={"status": Status[each]}) for each in statuses.split()]
    assert (exit_code(findings), overall_status(findings)) == (code, Status[word])


@pytest.mark.parametrize(
    ("waivers", "words"),
    [
        ([waiver("nope")], "'nope': no attack of this model is called so; there are pgd, uap"),
        ([waiver("pgd"), waiver("pgd")], "accepted 2 times"),
        ([waiver("pgd", LONGEST_WAIVER.days + 1)], "over 366 days"),
    ],
)
def test_waivers_that_could_hide_more_than_is_meant_are_refused(waivers, words):
    with pytest.raises(MedwardError, match=words):
        check_waivers(waivers, ["pgd", "uap"], TODAY)


def test_waivers_as_they_are_meant_pass():
    check_waivers([waiver("pgd", LONGEST_WAIVER.days), waiver("uap", -3)], ["pgd", "uap"], TODAY)
