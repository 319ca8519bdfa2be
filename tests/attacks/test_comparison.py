"""Two reports side by side: what changed, told apart from noise, and what an older one no longer shows."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from validation_fakes import POLICY, SPLITS, Scripted, deployment

from medward.attacks.intervals import Interval
from medward.attacks.report.comparison import compare_reports, difference_sentence, load_report
from medward.attacks.report.files import save_report
from medward.attacks.report.table import print_comparison
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Acceptance, Status
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.record import SETTING_NAMES, said_keys
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.waiving import today_utc
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    attacks = [Scripted(name=name, behind=power) for name, power in (("a", 0.7), ("b", 0.0), ("c", 0.0))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)
        out = tmp_path_factory.mktemp("old")
        return run_validation(Deployment(bundle=deployment()), SPLITS, out, attacks=attacks, progress=False)


def other(report, *findings, **facts):
    """The report with other findings, of another bundle, policy or data."""
    provenance = report.provenance.model_copy(update=facts)
    return report.model_copy(update={"findings": findings or report.findings, "provenance": provenance})


def judged(finding, status, low, high):
    interval = Interval((low + high) / 2, low, high, 200)
    return finding.model_copy(update={"status": status, "judged_guarded": None, "judged_adaptive": interval})


def test_a_report_beside_itself_shows_no_change(old):
    found = compare_reports(old, old)
    assert (found.differs, found.again, found.stands, found.new) == ((), (), (), ())
    assert {row.shift for row in found.rows} == {"as before"}
    assert "Nothing differs" in difference_sentence(found)


@pytest.mark.parametrize("fact", ["bundle", "policy", "data", "code", "versions"])
def test_what_was_not_run_again_must_be_where_anything_differs(old, fact):
    a, b, _ = old.findings
    assert compare_reports(old, other(old, a, b)).stands == ("c",)
    found = compare_reports(old, other(old, a, b, **{fact: "f" * 64 if fact != "versions" else {"numpy": "0"}}))
    assert (found.differs, found.again, found.stands) == ((fact,), ("c",), ())
    assert f"these differ: {fact}." in difference_sentence(found)


def test_the_keys_of_the_policy_that_differ_are_named(old, tmp_path):
    strict = Policy(on_error="flag", release={"level": "label"}, budget={"total_bits": 250.0})
    new = other(old, policy=strict.fingerprint).model_copy(update={"policy": said_keys(strict)})
    found = compare_reports(old, new)
    assert found.policy_keys == ("budget.total_bits", "on_error", "release.level")
    assert "policy (budget.total_bits, on_error, release.level)." in difference_sentence(found)
    assert compare_reports(new, new).policy_keys == ()
    assert compare_reports(old.model_copy(update={"policy": None}), new).policy_keys == (), "it does not tell its own"
    save_report(old, tmp_path)
    assert load_report(tmp_path, "old").policy == old.policy == said_keys(POLICY)


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_what_else_was_said_is_a_fact_too(old, name):
    found = compare_reports(other(old, settings={name: "1"}), other(old, *old.findings[:2], settings={name: "2"}))
    assert (found.differs, found.again, found.stands) == ((name,), ("c",), ())


def test_a_quick_look_shows_nothing_of_a_whole_validation(old):
    found = compare_reports(old.model_copy(update={"quick": True}), other(old, *old.findings[:2]))
    assert (found.differs, found.stands) == (("quick",), ())


def test_settings_are_kept_by_a_validation(old, tmp_path):
    plan = ValidationPlan(quick=True, rows=100)
    few = run_validation(
        *(Deployment(bundle=deployment()), SPLITS, tmp_path),
        attacks=(Scripted(name="a"),),
        progress=False,
        plan=plan,
        settings={"immutable": "2"},
    )
    assert few.provenance.settings == {"immutable": "2", "rows": "100"}
    assert set(compare_reports(old, few).differs) == {"quick", "immutable", "rows"}


@pytest.mark.parametrize(
    ("status", "days", "stands"),
    [
        *(("HELD", 0, True), ("NOT_NEEDED", 0, True), ("ACCEPTED", 0, True), ("ACCEPTED", -1, False)),
        *(("BROKEN", 0, False), ("INCONCLUSIVE", 0, False), ("TOO_FEW_ROWS", 0, False)),
    ],
)
def test_only_what_was_good_or_is_accepted_today_stands(old, status, days, stands):
    a, b, c = old.findings
    until = today_utc() + timedelta(days=days)
    accepted = Acceptance(reason="known for long", by="Ada", until=until, status=Status.BROKEN)
    then = c.model_copy(
        update={"status": Status[status], "accepted": accepted if Status[status] is Status.ACCEPTED else None}
    )
    found = compare_reports(other(old, a, b, then), other(old, a, b))
    assert (found.stands, found.again) == ((("c",), ()) if stands else ((), ("c",)))


def test_a_row_that_a_quick_look_left_out_is_not_run_again(old):
    a, b, c = old.findings
    left = c.model_copy(update={"status": Status.INCONCLUSIVE, "causes": ("not run",)})
    assert compare_reports(old, other(old, a, b, left, data="other")).again == ("c",)


def test_better_and_worse_are_said_only_of_intervals_that_do_not_overlap(old):
    a, b, c = old.findings
    then = other(
        old, judged(a, Status.BROKEN, 0.6, 0.8), judged(b, Status.HELD, 0.0, 0.1), judged(c, Status.HELD, 0, 0.1)
    )
    now = other(
        old,
        judged(a, Status.HELD, 0.05, 0.15),
        judged(b, Status.BROKEN, 0.3, 0.4),
        judged(c, Status.INCONCLUSIVE, 0.05, 0.2),
    )
    found = compare_reports(then, now)
    assert {row.attack: row.shift for row in found.rows} == {"a": "better", "b": "worse", "c": "as before"}
    assert [row.attack for row in found.rows] == ["b", "c", "a"], "what became worse comes first"


def test_an_auc_below_one_half_is_no_better_than_one_as_far_above(old):
    def leak(low, high):
        found = old.findings[0].model_copy(update={"attack": "lira", "family": "membership", "judged_as": "AUC"})
        return other(old, judged(found, Status.BROKEN, low, high))

    assert compare_reports(leak(0.55, 0.6), leak(0.05, 0.1)).rows[0].shift == "worse"
    assert compare_reports(leak(0.8, 0.9), leak(0.45, 0.55)).rows[0].shift == "better"


def test_it_is_printed_shown_on_the_page_and_kept(old, tmp_path):
    a, b, _ = old.findings
    new = other(old, judged(a, Status.HELD, 0.05, 0.15), b.model_copy(update={"attack": "fresh"}), policy="f" * 12)
    console = Console(width=200, record=True, file=io.StringIO())
    print_comparison(compare_reports(old, new), new, console)
    said = console.export_text()
    save_report(new, tmp_path, old)
    page = (tmp_path / "report.html").read_text()
    for text in ("BROKEN → HELD", "these differ: policy", "ust be tested again", "b, c", "fresh"):
        assert text in said
        assert text in page
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert kept["again"] == ["b", "c"]
    assert load_report(tmp_path, "against") == load_report(tmp_path / "report.json", "against") == new


def test_an_old_report_that_is_none_is_named(tmp_path):
    with pytest.raises(MedwardError, match=r"against: .*cannot read the report"):
        load_report(tmp_path, "against")
