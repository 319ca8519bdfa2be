import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from validation_fakes import SPLITS, Scripted, deployment

from medward.attacks.base import PER_CLASS, Access, ThreatModel
from medward.attacks.intervals import Interval
from medward.attacks.report.files import save_report
from medward.attacks.report.html import render_html, untested_sentences
from medward.attacks.report.plots import report_plots
from medward.attacks.report.summary import MEANINGS, summary_parts
from medward.attacks.report.table import print_findings
from medward.attacks.report.words import ICONS, latency_text, report_headline, verdicts_text
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import ARMS, Finding, Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.guard.errors import MedwardError

HOSTILE = '<script>alert("x")</script>&$\\frac{1}{2}$'


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    attacks = (
        Scripted(name="pgd"),
        Scripted(name=HOSTILE, behind=0.7),
        Scripted(name="thief", family="extraction", behind=0.1),
        Scripted(name="weak", free=0.2),
        Scripted(name="lira", family="membership"),
    )
    report = run_validation(
        Deployment(bundle=deployment()), SPLITS, tmp_path_factory.mktemp("plain"), attacks=attacks, progress=False
    )
    findings = list(report.findings)
    delta = np.random.default_rng(0).normal(size=(1, 8, 8))
    pictures = {
        "perturbation": delta.tolist(),
        "clean": (delta * 0 + 0.5).tolist(),
        "perturbed": delta.tolist(),
    }
    findings[0] = findings[0].model_copy(update={"images": pictures})
    roc = {arm: {"roc": ((0.0, 0.1, 1.0), (0.0, 0.6, 1.0))} for arm in ARMS}
    findings[4] = findings[4].model_copy(update={"curves": roc, "status": Status.NOT_APPLICABLE, "reasons": (HOSTILE,)})
    pair = report.clean.site.accuracy
    site = report.clean.site.model_copy(update={"sensitivity": {HOSTILE: pair}, "specificity": {HOSTILE: pair}})
    facts = report.provenance.model_copy(
        update={
            "classes": (HOSTILE, "b"),
            "model": HOSTILE,
            "modality": "image",
            "shape": (1, 8, 8),
            "low": 0,
            "high": 1,
        }
    )
    return report.model_copy(
        update={
            "findings": tuple(findings),
            "clean": report.clean.model_copy(update={"site": site}),
            "provenance": facts,
        }
    )


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_report(report, folder)
    return folder


class Page(HTMLParser):
    """Every tag with its attributes, and unclosed elements."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page((folder / "report.html").read_text())


def test_the_json_reads_back_equal_and_has_a_version(report, folder):
    assert Report.load(folder / "report.json") == report
    raw = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert raw["schema_version"] == 1
    assert raw["findings"][0]["undefended"].keys() == {"value", "low", "high", "n"}
    (folder / "other.json").write_text(json.dumps({**raw, "schema_version": 2}))
    with pytest.raises(MedwardError, match="schema_version"):
        Report.load(folder / "other.json")
    with pytest.raises(MedwardError, match="cannot read"):
        Report.load(folder / "absent.json")


def test_the_junit_has_a_testcase_per_finding_and_broken_fails(report, folder):
    suite = ET.parse(folder / "junit.xml").getroot()
    ordinary = [case for case in suite.findall("testcase") if case.get("classname") == "medward.ordinary"]
    assert [case.get("name") for case in ordinary] == [each.behaviour for each in report.clean.ordinary]
    cases = [case for case in suite.findall("testcase") if case not in ordinary]
    outcome = {case.get("name"): [child.tag for child in case] for case in cases}
    assert outcome == {
        "pgd": ["system-out"],
        HOSTILE: ["failure"],
        "thief": ["system-out"],
        "weak": ["error"],
        "lira": ["skipped"],
    }
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        str(5 + len(ordinary)),
        "1",
        "1",
        str(1 + len(ordinary)),
    )
    assert "bound" in cases[1].find("failure").get("message")


def test_the_page_is_well_formed_and_fetches_nothing(folder, page):
    assert page.open == []
    text = re.sub(r"base64,[\w+/=]+", "", (folder / "report.html").read_text())
    assert not re.search(r"https?://|url\(\s*['\"]?(?!#)|@import|//[a-z]", text, re.IGNORECASE)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form"}
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,"))
        assert not [key for key in attributes if key.startswith("on")]


def test_hostile_names_are_text_not_markup(folder, page):
    assert "<script" not in (folder / "report.html").read_text().lower()
    assert sum(HOSTILE in words for words in page.words) >= 3


def test_the_page_follows_the_theme_and_can_be_read_without_colour(folder, page, report):
    text = (folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "#0a0b" not in text, "a sentinel colour was not replaced"
    drawn = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert {"--undefended", "--guarded", "--adaptive", "--baseline", "--ink"} <= drawn
    light, dark = text.split("prefers-color-scheme: dark")
    assert all(f"{name}:" in light and f"{name}:" in dark for name in drawn - {"--tone", "--tint", "--series"})
    svgs = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(svgs) >= 6
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in svgs)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3
    assert all(image["alt"] for image in images)
    words = " ".join(page.words)
    assert all(finding.status_words in words for finding in report.findings)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_was_found_and_what_was_not_tested(page, report):
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert "1 of 4 attacks broke the guard, 1 could not be decided, 2 failed against the guard." in words
    assert report.provenance.bundle in words
    assert "Poisoned or backdoored training data" in words
    assert "judged by transfer" in words
    for finding in report.findings:
        assert re.sub(r"\s+", " ", finding.reasons[0]) in words


def test_a_page_without_a_leak_does_not_say_that_one_was_defended_against(report):
    """A model is HELD against membership too where nothing breaks even the bare one."""
    held = report.model_copy(
        update={"findings": tuple(each.model_copy(update={"status": Status.HELD}) for each in report.findings)}
    )
    text = re.sub(r"\s+", " ", " ".join(Page(render_html(held)).words))
    assert "Every attack stayed within the gate's bounds" in text
    assert "broke the bare model" not in text
    assert f"members named at 1% false positives ≤ {report.gate.membership_tpr:g}" in text


def test_the_terminal_table_names_every_attack_and_the_verdict(report):
    console = Console(width=80, record=True, file=io.StringIO())
    print_findings(report, console)
    text = console.export_text()
    assert all(finding.attack.split("&")[0] in text for finding in report.findings)
    told = re.sub(r"\s+", " ", text)
    assert "BROKEN: 1 of 4 attacks broke the guard, 1 could not be decided, 2 failed against the guard." in told
    assert "95.0%" in text


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ("HELD HELD", "2 of 2 attacks failed against the guard."),
        (
            "HELD NOT_NEEDED NOT_NEEDED",
            "1 of 3 attacks failed against the guard, 2 did so little even without the guard that none is needed.",
        ),
        ("NOT_NEEDED NOT_NEEDED", "2 of 2 attacks did so little even without the guard that none is needed."),
        ("HELD TOO_FEW_ROWS", "1 of 2 attacks had too few rows, 1 failed against the guard."),
        ("INCONCLUSIVE TOO_FEW_ROWS", "1 of 2 attacks could not be decided, 1 had too few rows."),
        ("HELD NOT_APPLICABLE", "1 of 1 attack failed against the guard."),
        ("NOT_APPLICABLE", "Nothing could be tested with this data."),
    ],
)
def test_the_headline_counts_each_status_apart(report, statuses, said):
    arms = {"NOT_APPLICABLE": {"undefended": None}}
    findings = tuple(
        report.findings[0].model_copy(update={"status": Status[status], **arms.get(status, {})})
        for status in statuses.split()
    )
    assert report_headline(report.model_copy(update={"findings": findings})) == said


def test_each_attacker_has_a_verdict_in_the_terminal_and_on_the_page(report, page):
    said = "does not know the guard ✓ HELD; knows the guard ✓ HELD"
    assert verdicts_text(report.findings[0]) == said
    apart = report.findings[0].model_copy(update={"verdicts": {"guarded": Status.HELD, "adaptive": Status.BROKEN}})
    for finding, told in ((report.findings[0], False), (apart, True)):  # two that agree are the status
        console = Console(width=200, record=True, file=io.StringIO())
        print_findings(report.model_copy(update={"findings": (finding,)}), console)
        assert ("knows the guard ✕ BROKEN" in console.export_text()) is told
    assert f"An attacker who {said}." in re.sub(r"\s+", " ", " ".join(page.words))


def test_a_query_is_told_in_milliseconds_beside_the_ratio(report, page):
    before, after = report.clean.latency.undefended.value, report.clean.latency.guarded.value
    said = (
        f"a query takes {after:.3g} ms instead of {before:.3g} ms, {report.clean.latency_ratio.value:.2f} times as long"
    )
    assert latency_text(report.clean) == said
    assert said in re.sub(r"\s+", " ", " ".join(page.words))
    console = Console(width=400, record=True, file=io.StringIO())
    print_findings(report, console)
    assert said in console.export_text()
    assert after > before > 0
    assert latency_text(report.clean.model_copy(update={"latency_ratio": None})) == ""


def test_the_threat_is_shown(report, page):
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert "up to 4 grey levels of 255 in a change for one image, 10 in one for all" in words
    console = Console(width=200, record=True, file=io.StringIO())
    print_findings(report, console)
    assert "threat: inputs changed up to 4 grey levels of 255" in console.export_text()


def test_what_is_not_protected_is_said_in_the_terminal_and_on_the_page(report, tmp_path):
    noted = report.model_copy(update={"notes": ("the screen is idle",)})
    console = Console(width=80, record=True, file=io.StringIO())
    print_findings(noted, console)
    assert "note: the screen is idle" in console.export_text()
    save_report(noted, tmp_path)
    assert "Note: the screen is idle." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("width", [80, 100])
def test_no_status_and_no_number_is_cut_short_in_the_terminal(report, width):
    names = ["universal perturbation to class 0 (knows the guard)", "knockoff-nets/10 % of the pool", "lira"]
    statuses = [Status.NOT_APPLICABLE, Status.INCONCLUSIVE, Status.BROKEN]
    findings = tuple(
        finding.model_copy(update={"attack": name, "status": status})
        for finding, name, status in zip(report.findings, names, statuses, strict=False)
    )
    console = Console(width=width, record=True, file=io.StringIO())
    print_findings(report.model_copy(update={"findings": findings}), console)
    text = console.export_text()
    assert all(f"{ICONS[each.status]} {each.status_words}" in text for each in findings)
    assert "…" not in text
    assert "95.0%" in text
    assert "of 20 benign accounts ever coarsened or withheld" in " ".join(text.split())


def test_what_each_class_attains_is_said_below_the_plot_and_is_no_line_of_it(report, tmp_path):
    def drawn(classes):
        curves = {arm: {"pgd": ((0.0, 1.0), (0.0, 0.9)), **classes} for arm in ARMS}
        finding = report.findings[0].model_copy(update={"curves": curves})
        (plot,) = [
            p for p in report_plots(report.model_copy(update={"findings": (finding,)})) if "success over" in p.title
        ]
        return plot

    some = {f"pgd{PER_CLASS}{name}": ((0.0, 1.0), (0.0, share)) for name, share in (("benign", 0.25), ("b", 0.875))}
    assert "Each class on its own" not in drawn({}).caption
    assert "undefended: benign 25.0%, b 87.5%" in drawn(some).caption
    assert drawn(some).svg == drawn({}).svg


ALONE = ThreatModel(access=Access.SCORES, queries=10)


def judged(name, family, threat=ALONE, knowing=ALONE, figures=None):
    """A finding as `untested_sentences` reads it."""
    arm = Interval(0.9, 0.8, 1.0, 50)
    return Finding.model_construct(
        attack=name,
        family=family,
        threat=threat,
        status=Status.BROKEN,
        reasons=(),
        undefended=arm,
        adaptive=arm,
        adaptive_name=f"{name}+",
        adaptive_threat=knowing,
        figures=figures or {},
    )


@pytest.mark.parametrize(
    ("sentence", "tested", "not_tested"),
    [
        (
            "several accounts that work together",
            {"knowing": replace(ALONE, accounts=None)},
            {"knowing": replace(ALONE, accounts=1)},
        ),
        ("spread their queries over days", {"threat": replace(ALONE, per_day=20.0)}, {"threat": ALONE}),
        ("spread their queries over days", {"figures": {"answers that left, guarded": 9.0}}, {"figures": {}}),
        ("only ever sends ordinary cases", {"name": "semi-supervised-hard"}, {"name": "knockoff-soft"}),
    ],
)
def test_a_thief_who_was_tried_is_not_listed_as_untested(report, sentence, tested, not_tested):
    def listed(name="knockoff-soft", threat=ALONE, knowing=ALONE, figures=None):
        found = judged(name, "extraction", threat, knowing, figures)
        return " ".join(untested_sentences(report.model_copy(update={"findings": (found,)})))

    assert sentence not in listed(**tested)
    assert sentence in listed(**not_tested)


def test_what_no_attack_was_run_for_is_listed_and_what_was_is_not(report):
    every = untested_sentences(report)
    only = untested_sentences(report.model_copy(update={"findings": report.findings[:1]}))
    for what in ("Inputs changed", "Theft of the model"):
        assert not any(what in line for line in every)
    assert any("Theft of the model" in line for line in only)
    assert any("records trained the model" in line for line in only)
    assert not any("thief" in line.lower() for line in only), "said once, as a whole"
    stolen = untested_sentences(report.model_copy(update={"findings": report.findings[2:3]}))
    assert any("Inputs changed" in line for line in stolen)
    assert not any("Attackers who hold the model" in line for line in stolen)


def test_an_attacker_who_knows_the_guard_and_could_not_be_judged_is_not_said_to_be_absent(report):
    named = judged("pgd", "evasion").model_copy(update={"adaptive": None})
    nameless = judged("square", "evasion").model_copy(update={"adaptive": None, "adaptive_name": ""})
    lines = untested_sentences(report.model_copy(update={"findings": (named, nameless)}))
    assert "pgd: the attacker who knows the guard was judged on no row." in lines
    assert "square: no attacker who knows the guard." in lines


def test_a_missing_picture_or_curve_is_simply_not_drawn(report, tmp_path):
    bare = [finding.model_copy(update={"curves": {}, "images": {}}) for finding in report.findings]
    save_report(report.model_copy(update={"findings": tuple(bare), "accounts": {}}), tmp_path)
    assert Page((tmp_path / "report.html").read_text()).open == []
    save_report(report.model_copy(update={"findings": ()}), tmp_path)
    assert "Nothing could be tested" in (tmp_path / "report.html").read_text()


def test_on_a_phone_a_row_is_a_card_that_says_its_status_first(folder, page):
    text = (folder / "report.html").read_text()
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    narrow = text[text.index("@media (max-width: 640px)") : text.index("@media print")]
    for rule in ("thead { display: none; }", ".scroll { overflow-x: visible; }", "content: attr(data-label)"):
        assert rule in narrow
    assert re.search(r"table, tbody, tr, th, td \{ display: block; width: auto; \}", narrow)
    assert not [width for width in re.findall(r"(?<!max-)(?<!\()(?:min-)?width:\s*(\d+)px", text) if int(width) > 300]
    body = text[text.index("<body>") :]
    assert ".chip { white-space: normal; }" in narrow
    rows = body[body.index('id="findings"') : body.index("</table>")].split("<tbody>")[1:]
    for row in rows:
        cells = re.findall(r"<td([^>]*)>", row)
        assert 'class="status"' in cells[0]
        assert all("data-label=" in cell for cell in cells if "colspan" not in cell)
    clean = body[body.index('id="clean"') : body.index('id="tested"')]
    assert all("data-label=" in cell for cell in re.findall(r"<td([^>]*)>", clean))


def test_the_clean_cost_is_told_once_beside_the_findings_and_not_in_every_row(folder, report):
    text = (folder / "report.html").read_text()
    body = text[text.index("<body>") :]
    beside = body[body.index('id="findings"') : body.index('id="next"')]
    assert "Clean cost" not in beside
    assert beside.count("rows refused") == 1
    assert beside.count(latency_text(report.clean)) == 1


def test_one_page_says_it_in_plain_words(report, page):
    parts = dict(summary_parts(report))
    words = re.sub(r"\s+", " ", " ".join(page.words))
    for heading, sentences in parts.items():
        assert heading in words
        assert all(re.sub(r"\s+", " ", sentence) in words for sentence in sentences)
    tried = " ".join(parts["What was tried, and what came of it"])
    assert (
        "Inputs changed so that the model decides otherwise: 1 of 3 got through, 1 of 3 cannot be told and 1 of 3 was"
        in tried
    )
    assert "Theft of the model by its answers: 1 of 1 was kept out." in tried
    plain = " ".join(sentence for sentences in parts.values() for sentence in sentences)
    assert not re.search(r"interval|AUC|adaptive|arm\b|%", plain)
    assert set(MEANINGS) == set(Status) - {Status.NOT_APPLICABLE}
    held = report.model_copy(update={"findings": (report.findings[0],)})
    assert "What would help" not in dict(summary_parts(held))


def test_what_is_not_certified_is_a_price_too(report):
    site = report.clean.site.model_copy(update={"uncertified": Interval(0.125, 0.1, 0.15, 400)})
    certified = report.model_copy(update={"clean": report.clean.model_copy(update={"site": site})})
    page = re.sub(r"\s+", " ", " ".join(Page(render_html(certified)).words))
    assert "12.5 in 100 ordinary cases are read by a person" in page
    assert "12.5% not certified and so read by a person" in page
    assert page.count("not certified") == 3  # beside the findings, in the table of costs, and in the bounds
