"""What a change did: within intervals, beyond them, or untested; noise alone is never called a change."""

from __future__ import annotations

import json

import pytest
from support.evidence_files import scripted_report

from medward.attacks.intervals import Interval
from medward.attacks.report.change_impact import change_impact, impact_sentences
from medward.attacks.validation.finding import Status
from medward.integrations.cli import main


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    found = scripted_report(tmp_path_factory.mktemp("before"))
    good = [each.model_copy(update={"attack": name}) for name in "ab" for each in found.findings[:1]]
    return found.model_copy(update={"findings": tuple(good)})


def retrained(report, *findings, **clean):
    facts = report.provenance.model_copy(update={"bundle": "f" * 64})
    site = report.clean.site.model_copy(update=clean)
    cost = report.clean.model_copy(update={"site": site})
    return report.model_copy(update={"provenance": facts, "findings": findings or report.findings, "clean": cost})


def test_a_retrained_model_that_did_as_before_stays_within(old):
    impact = change_impact(old, retrained(old))
    assert (impact.word, impact.reasons, impact.comparison.differs) == ("WITHIN", (), ("bundle",))
    assert {each.shift for each in impact.performance} == {"as before"}


def test_an_attack_that_was_not_run_again_is_to_be_tested(old):
    a, _ = old.findings
    impact = change_impact(old, retrained(old, a))
    assert impact.word == "RE-TEST"
    assert impact.reasons == ("b: not run on what is now",)
    assert change_impact(old, retrained(old).model_copy(update={"quick": True})).word == "RE-TEST"


def test_a_row_that_is_no_longer_good_is_beyond(old):
    a, b = old.findings
    worse = b.model_copy(update={"status": Status.BROKEN, "judged_adaptive": Interval(0.9, 0.8, 0.95, 200)})
    impact = change_impact(old, retrained(old, a, worse))
    assert impact.word == "BEYOND"
    assert impact.reasons == ("b: HELD then, BROKEN now", "b: worse beyond its interval")


@pytest.mark.parametrize(
    ("shift", "of", "word"),
    [("worse", (0.4, 0.35, 0.45), "BEYOND"), ("better", (0.0, 0.0, 0.0), "WITHIN"), ("as before", None, "WITHIN")],
)
def test_benign_users_who_pay_more_than_intervals_allow_are_beyond(old, shift, of, word):
    refused = Interval(0.1, 0.05, 0.15, 200)
    before = retrained(old, false_refusal=refused)
    impact = change_impact(before, retrained(old, false_refusal=refused if of is None else Interval(*of, 200)))
    moved = {each.measure: each.shift for each in impact.performance}
    assert moved[f"{old.clean.site.split}: false refusal"] == shift
    assert impact.word == word


def test_a_measure_that_is_missing_now_is_to_be_tested(old):
    impact = change_impact(old, retrained(old, accuracy=None))
    assert impact.word == "RE-TEST"
    assert any("accuracy" in each and "not measured" in each for each in impact.reasons)


def test_the_command_says_it_and_exits_by_it(old, tmp_path, capsys):
    a, _ = old.findings
    for name, report in (("old", old), ("within", retrained(old)), ("again", retrained(old, a))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(report.model_dump_json())
    for name, code in (("within", 0), ("again", 2)):
        with pytest.raises(SystemExit) as ended:
            main(["changes", str(tmp_path / "old"), str(tmp_path / name), "-o", str(tmp_path / f"{name}.json")])
        assert ended.value.code == code
    assert json.loads((tmp_path / "again.json").read_text())["word"] == "RE-TEST"
    said = capsys.readouterr().out
    assert "these differ: bundle." in said
    assert "WITHIN: nothing is worse" in said
    assert impact_sentences(change_impact(old, old), old)[0].startswith("Nothing differs")
