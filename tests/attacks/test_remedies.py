"""Every row that is not good is told what to do, by data; what a remedy quotes is what was measured."""

import io
import json
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer
from rich.console import Console
from validation_fakes import SPEC, SPLITS, Scripted, deployment

from medward.attacks.families import FAMILIES
from medward.attacks.report.files import save_report
from medward.attacks.report.remedy import UNMEASURED, finding_advice, grouped_advice, remedy_table, rows_text
from medward.attacks.report.table import print_findings
from medward.attacks.suite import known_attacks
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.validation.cause import Cause
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Acceptance, Finding, Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.integrations.cli import app

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    attacks = (Scripted(name="good"), Scripted(name="pgd", behind=0.7), Scripted(name="weak", free=0.3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)
        return run_validation(
            Deployment(bundle=deployment()),
            SPLITS,
            tmp_path_factory.mktemp("out"),
            attacks=attacks,
            progress=False,
            places={"bundle": "my bundle/", "data": "data.npz", "out": "my report/"},
        )


def finding_of(report: Report, family: str, cause: Cause, *, universal: bool = False) -> Finding:
    status = {Cause.PASSED: Status.BROKEN, Cause.TOO_FEW_ROWS: Status.TOO_FEW_ROWS}.get(cause, Status.INCONCLUSIVE)
    threat = ThreatModel(access=Access.GRADIENTS, epsilon=10 / 255, universal=universal)
    told = {"family": family, "causes": (cause.value,), "status": status, "threat": threat}
    return report.findings[1].model_copy(update=told)


def found(value: object, path: tuple[str, ...]) -> float:
    """The number that a path of a result leads to; the mean over what "*" stands for."""
    if not path:
        return float(str(value).split(" ")[0])
    parts = value if isinstance(value, list) else list(value.values())
    if path[0] == "*":
        return sum(found(each, path[1:]) for each in parts) / len(parts)
    return found(value[int(path[0])] if isinstance(value, list) else value[path[0]], path[1:])


@pytest.mark.parametrize(
    ("claim", "path", "value"),
    sorted({(each.claim, each.path, each.value) for row in remedy_table() for each in row.figures}),
)
def test_a_quoted_number_is_what_was_measured(claim, path, value):
    measured = found(json.loads((RESULTS / f"{claim}.json").read_text()), path)
    assert value == pytest.approx(measured, abs=6e-5), "quote what docs/results says"


def test_a_number_that_was_not_measured_would_be_seen():
    assert found({"a": {"x": {"b": 1}, "y": {"b": "2.0 [1, 3]"}}}, ("a", "*", "b")) == 1.5
    assert found([{"b": 4}], ("0", "b")) == 4


@pytest.mark.parametrize("hardened", [False, True])
@pytest.mark.parametrize("universal", [False, True])
@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_every_cause_is_told_what_to_do(report, family, cause, universal, hardened):
    facts = report.provenance.model_copy(update={"white_box": hardened, "rows": {"train": 9, "test": 9}})
    known = report.model_copy(update={"provenance": facts})
    advice = finding_advice(finding_of(known, family, cause, universal=universal), known)
    assert advice
    for each in advice:
        assert each.sentence.endswith(".")
        assert not re.search(r"[{}]", each.sentence + each.command + each.brought)


def test_only_good_rows_are_told_nothing_and_an_old_report_is_told_something(report):
    for status in Status:
        bare = report.findings[1].model_copy(update={"status": status, "causes": ()})
        assert bool(finding_advice(bare, report)) is (status not in (Status.HELD, Status.NOT_NEEDED))


def test_a_method_that_the_model_was_hardened_by_is_not_advised_again(report):
    class Hardened:
        method = "uat"

    facts = report.provenance.model_copy(update={"white_box": True})
    fresh = report.model_copy(update={"provenance": facts})
    done = fresh.model_copy(update={"certificate": Hardened()})
    finding = finding_of(fresh, "evasion", Cause.PASSED, universal=True)
    commands = [
        {each.command.partition("--method ")[2].split(" ")[0] for each in finding_advice(finding, kind)}
        for kind in (fresh, done)
    ]
    assert commands[0] - commands[1] == {"uat"}
    trees = report.model_copy(update={"provenance": report.provenance.model_copy(update={"white_box": False})})
    as_it_is, other = finding_advice(finding, trees)
    assert "without training" in as_it_is.sentence
    assert "--architecture trees" in other.command


def test_a_model_trained_for_certificates_that_gives_none_is_told_to_turn_them_on(report):
    class Hardened:
        method = "certified"

    facts = report.provenance.model_copy(update={"white_box": True})
    hardened = report.model_copy(update={"provenance": facts, "certificate": Hardened()})
    site = report.clean.site.model_copy(update={"uncertified": report.clean.site.false_refusal})
    certifying = hardened.model_copy(update={"clean": report.clean.model_copy(update={"site": site})})
    for cause in (Cause.PASSED, Cause.NEAR_BOUND):
        finding = finding_of(hardened, "evasion", cause)
        assert "enabled = true" in " ".join(each.sentence for each in finding_advice(finding, hardened))
        assert "medward protect" in " ".join(each.command for each in finding_advice(finding, hardened))
        assert "enabled = true" not in " ".join(each.sentence for each in finding_advice(finding, certifying))
    fresh = report.model_copy(update={"provenance": facts})
    told = finding_advice(finding_of(fresh, "evasion", Cause.PASSED), fresh)
    assert not any(each.command.startswith("medward protect") for each in told)
    assert any("--method certified" in each.command and "[certify]" in each.sentence for each in told)


def test_trees_whose_answers_are_certified_are_not_told_to_turn_that_on(report):
    finding = finding_of(report, "evasion", Cause.TOO_WEAK)
    site = report.clean.site.model_copy(update={"uncertified": report.clean.site.false_refusal})
    for whose, told in ((report.clean.site, True), (site, False)):
        trees = report.model_copy(
            update={
                "clean": report.clean.model_copy(update={"site": whose}),
                "provenance": report.provenance.model_copy(update={"white_box": False}),
            }
        )
        assert any("without training" in each.sentence for each in finding_advice(finding, trees)) == told


def test_a_bundle_whose_answers_are_certified_is_not_told_to_give_that_up(report):
    finding = finding_of(report, "evasion", Cause.PASSED, universal=True)
    site = report.clean.site
    certifying = report.model_copy(
        update={
            "clean": report.clean.model_copy(
                update={"site": site.model_copy(update={"uncertified": site.false_refusal})}
            ),
            "provenance": report.provenance.model_copy(update={"white_box": True}),
        }
    )
    commands = [each.command for each in finding_advice(finding, certifying)]
    assert commands
    assert all("--method certified" in each for each in commands if each.startswith("medward harden"))
    plain = certifying.model_copy(update={"clean": report.clean})
    assert any("--method uat" in each.command for each in finding_advice(finding, plain))


def test_answers_are_certified_for_one_input_even_where_one_change_serves_all(report):
    facts = report.provenance.model_copy(update={"white_box": True, "modality": "image", "low": 0.0, "high": 1.0})
    images = report.model_copy(update={"provenance": facts})
    told = finding_advice(finding_of(images, "evasion", Cause.PASSED, universal=True), images)
    radii = {
        each.command.split("--method ")[1].split(" ")[0]: each.command.split("--epsilon ")[1].split(" ")[0]
        for each in told
    }
    assert (radii["certified"], radii["uat"]) == ("0.01569", "0.03922")


def test_commands_name_what_the_user_said(report):
    facts = report.provenance.model_copy(update={"settings": {"immutable": "2", "rows": "100"}})
    places = report.places | {
        "before": "old.onnx",
        "canaries": "c.npz",
        "options": "--labels 'my labels.csv' --allow-code",
    }
    said = report.model_copy(update={"provenance": facts, "places": places})
    (told,) = finding_advice(finding_of(said, "extraction", Cause.TOO_FEW_ROWS), said)
    words = shlex.split(told.command)
    assert words[: words.index("-o") + 2] == [
        "medward",
        "validate",
        "my bundle/",
        "--data",
        "data.npz",
        "-o",
        "my report/",
    ]
    assert words[words.index("-o") + 2 :] == (
        shlex.split("--before old.onnx --canaries c.npz --immutable 2 --labels 'my labels.csv' --allow-code")
    )
    (told,) = finding_advice(finding_of(said, "audit", Cause.TOO_FEW_ROWS), said)
    assert told.command.count("--canaries c.npz") == told.command.count("--canaries") == 1
    facts = facts.model_copy(update={"seed": 3})
    places = places | {"bundle": "x--before-hardening --seed/bundle"}
    said = report.model_copy(update={"provenance": facts, "places": places})
    (told,) = finding_advice(finding_of(said, "extraction", Cause.TOO_FEW_ROWS), said)
    words = shlex.split(told.command)
    assert words[2] == places["bundle"]
    assert (words[words.index("--before") + 1], words[words.index("--seed") + 1]) == ("old.onnx", "3")
    unsaid = report.model_copy(update={"places": {}})
    (told,) = finding_advice(finding_of(unsaid, "extraction", Cause.TOO_FEW_ROWS), unsaid)
    assert told.command == "medward validate BUNDLE --data DATA -o report/"


def test_too_few_rows_are_told_once_and_name_the_bounds_that_fewer_can_show(report):
    keys = {"evasion": "evasion_success", "membership": "membership_auc or membership_tpr"}
    for family, key in {**keys, "extraction": "extraction_gain", "disclosure": "disclosure"}.items():
        finding = finding_of(report, family, Cause.TOO_FEW_ROWS)
        both = finding.model_copy(update={"causes": (Cause.TOO_FEW_ROWS.value, Cause.HARM_NEAR_BOUND.value)})
        rows = [each for each in finding_advice(both, report) if "rows" in each.sentence and "Give" in each.sentence]
        assert len(rows) == 1
        assert f"{key} under [gate]" in rows[0].sentence
    alone = finding.model_copy(update={"causes": (Cause.HARM_NEAR_BOUND.value,)})
    assert finding_advice(alone, report)[0].sentence.startswith("Give more rows")


COMMANDS = [row.command for row in remedy_table() if row.command]


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_command_exists_with_its_options_and_attacks(command):
    words = shlex.split(
        command.replace("{radius}", " --epsilon 0.1")
        .replace("{single_radius}", " --epsilon 0.1")
        .replace("{range}", " --low 0 --high 1")
    )
    assert words[0] == "medward"
    options = {name for each in typer.main.get_command(app).commands[words[1]].params for name in each.opts}
    assert {word for word in words if word.startswith("-")} <= options
    if "--attacks" in words and "{attack}" not in command:
        assert set(words[words.index("--attacks") + 1].split(",")) <= set(known_attacks(SPEC))


@pytest.mark.parametrize("text", [row.does + row.brought for row in remedy_table()])
def test_what_is_quoted_is_filled_in_from_figures(text):
    digits = re.sub(r"\{\d[^}]*\}", "", text)
    assert "{" not in digits.replace("{rows}", "").replace("{gate}", "")
    assert not re.search(r"\d%|\d\.\d\d", digits), "a measured number belongs in figures"


def test_how_many_rows_of_which_label_are_missing():
    assert rows_text({"malignant": 45, "": 3}) == '45 more rows labelled "malignant" and 3 more rows'
    assert rows_text({}) == "as many more rows as the reason says"


def test_it_is_told_on_the_terminal_on_the_page_and_to_pipelines(report, tmp_path):
    advice = grouped_advice(report)
    assert {name for names, _ in advice for name in names.split(", ")} == {"pgd", "weak"}
    console = Console(width=300, record=True, file=io.StringIO())
    print_findings(report, console)
    printed = console.export_text()
    save_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    junit = "\n".join(ET.parse(tmp_path / "junit.xml").getroot().itertext())
    for _, each in advice:
        for text in filter(None, (each.sentence, each.command, each.brought)):
            assert text in printed
            assert text in junit
            assert text.replace("'", "&#39;").replace('"', "&#34;").replace(">", "&gt;") in page
    assert "medward validate 'my bundle/' --data data.npz" in printed


def test_an_accepted_row_is_told_what_would_end_it(report):
    accepted = Acceptance(reason="a reason", by="Ada", until="2027-01-01", status=Status.BROKEN)
    row = report.findings[1].model_copy(update={"status": Status.ACCEPTED, "accepted": accepted})
    assert finding_advice(row, report)


def test_what_was_never_measured_says_so(report):
    facts = report.provenance.model_copy(update={"white_box": True})
    told = finding_advice(
        finding_of(report, "extraction", Cause.BENIGN_REFUSED), report.model_copy(update={"provenance": facts})
    )
    assert [each.brought for each in told] == [UNMEASURED]


def test_a_model_that_writes_is_told_of_nothing_that_needs_a_network_of_scores(report):
    written = report.model_copy(update={"provenance": report.provenance.model_copy(update={"task": "report"})})
    for cause in (Cause.PASSED, Cause.TOO_WEAK):
        for universal in (False, True):
            advised = finding_advice(finding_of(written, "evasion", cause, universal=universal), written)
            assert advised
            assert not any("medward harden" in each.command for each in advised)
    told = finding_advice(finding_of(written, "evasion", Cause.PASSED), written)
    assert any("TowerTraining" in each.sentence and each.brought for each in told)
    plain = finding_advice(finding_of(report, "evasion", Cause.PASSED), report)
    assert any("medward harden" in each.command for each in plain)
