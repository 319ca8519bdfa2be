"""FDA's seven threats beside a report: each is there, tested or said not to be, under identifiers that exist."""

from __future__ import annotations

import re

import pytest
from support.evidence_files import scripted_report

from medward.attacks.families import FAMILIES
from medward.attacks.report.html import render_html
from medward.attacks.report.threat_table import threat_markdown, threat_rows
from medward.attacks.threat_catalogue import AISVS, ATLAS, CATALOGUE_SOURCES, DEVICE_THREATS, NIST, atlas_names
from medward.integrations.cli import main

FORMS = {ATLAS: r"AML\.T\d{4}(\.\d{3})?", NIST: r"NISTAML\.\d{2,3}", AISVS: r"\d{1,2}\.\d\.\d"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return scripted_report(tmp_path_factory.mktemp("threats"))


def test_the_seven_are_there_in_order_and_every_family_speaks_of_one():
    assert [each.name for each in DEVICE_THREATS] == [
        "data poisoning",
        "model inversion and stealing",
        "model evasion",
        "data leakage",
        "overfitting",
        "model bias",
        "performance drift",
    ]
    for family in FAMILIES.values():
        assert sum(atlas_names(family.controls, each.tested_by) for each in DEVICE_THREATS) == 1
    assert not atlas_names({}, ("AML.T0015",))


def test_identifiers_have_the_form_of_their_catalogue_and_a_source():
    named = [*(each.controls for each in DEVICE_THREATS), *(each.controls for each in FAMILIES.values())]
    for catalogue, ids in ((catalogue, ids) for each in named for catalogue, ids in each.items()):
        assert catalogue in CATALOGUE_SOURCES
        assert all(re.fullmatch(FORMS.get(catalogue, ".+"), each) for each in ids)


def test_a_threat_is_as_its_worst_finding_and_untested_ones_are_said_to_be(report):
    rows = {each.threat.name: each for each in threat_rows(report)}
    assert rows["model evasion"].status == "BROKEN"
    assert rows["model evasion"].counts["BROKEN"] == ["got-through"]
    assert {each.attack for each in rows["model inversion and stealing"].findings} == {"thief"}
    for name in ("data poisoning", "data leakage", "overfitting", "model bias", "performance drift"):
        assert rows[name].status == "NOT TESTED"
        assert rows[name].said
    alone = {each.threat.name: each for each in threat_rows(report.model_copy(update={"findings": ()}))}
    assert {each.status for each in alone.values()} == {"NOT TESTED"}
    assert "No attack of it was judged." in alone["model evasion"].said


def test_names_from_outside_cannot_break_the_table(report):
    hostile = report.findings[0].model_copy(update={"attack": "a|b\n<script>x</script>"})
    text = threat_markdown(report.model_copy(update={"findings": (hostile,)}))
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}
    assert len(rows) == 1 + len(DEVICE_THREATS)


def test_the_page_and_the_command_have_it(report, tmp_path, capsys):
    page = render_html(report)
    assert 'id="threats"' in page
    assert all(each.name in page for each in DEVICE_THREATS)
    (tmp_path / "report.json").write_text(report.model_dump_json())
    for more in ([], ["-o", str(tmp_path / "threats.md")]):
        with pytest.raises(SystemExit) as ended:
            main(["threats", str(tmp_path), *more])
        assert ended.value.code == 0
    assert threat_markdown(report) in capsys.readouterr().out
    assert (tmp_path / "threats.md").read_text() == threat_markdown(report)
