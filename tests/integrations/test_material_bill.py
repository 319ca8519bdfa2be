"""A bundle's bill of materials keeps to the official schema, and what it claims is what the report found, no more."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support.evidence_files import accepted, lay_out, scripted_report

from medward.attacks.validation.finding import Status
from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.cli import main
from medward.integrations.evidence.distributions import installed_distributions
from medward.integrations.evidence.material_bill import write_material_bill


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    found = scripted_report(tmp_path_factory.mktemp("bill"))
    unlike = found.findings[0].model_copy(update={"attack": "lived-with"})
    return found.model_copy(update={"findings": (*found.findings, accepted(unlike, 3))})


@pytest.fixture(scope="module")
def placed(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("placed")
    return lay_out(report, folder)


@pytest.fixture(scope="module")
def bill(placed):
    return json.loads(write_material_bill(placed[0]))


def schema_error(bill):
    return JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(bill))


def test_it_keeps_to_the_official_schema_and_the_schema_would_notice(bill):
    assert schema_error(bill) is None
    assert schema_error({**bill, "components": [{"type": "file"}]}) is not None
    metric = {"type": "accuracy", "value": 0.5}  # a number, where the schema has text
    model = {**bill["metadata"]["component"], "modelCard": {"quantitativeAnalysis": {"performanceMetrics": [metric]}}}
    assert schema_error({**bill, "metadata": {**bill["metadata"], "component": model}}) is not None


def test_every_file_of_the_bundle_is_there_by_its_digest_and_every_library_by_its_version(bill, placed):
    _, bundle = placed
    files = {each["name"]: each["hashes"] for each in bill["components"] if each["type"] == "file"}
    assert files == {
        each.name: [{"alg": "SHA-256", "content": hashlib.sha256(each.read_bytes()).hexdigest()}]
        for each in bundle.iterdir()
    }
    libraries = {each["name"]: each["version"] for each in bill["components"] if each["type"] == "library"}
    assert libraries["onnxruntime"] == version("onnxruntime")
    assert "torch" not in libraries  # serving needs none
    assert all(version(name) == number for name, number in libraries.items())
    references = {each["bom-ref"] for each in bill["components"]} | {"model"}
    assert {each["ref"] for each in bill["dependencies"]} <= references
    assert {name for each in bill["dependencies"] for name in each["dependsOn"]} <= references


def test_claims_have_evidence_and_counter_evidence_as_their_rows_stand(bill, report):
    claims = {each["bom-ref"].rsplit(":", 1)[1]: each for each in bill["declarations"]["claims"]}
    for finding in report.findings:
        claim = claims[finding.attack]
        good = finding.status in (Status.HELD, Status.NOT_NEEDED)
        assert ("counterEvidence" not in claim) is good
        assert ("evidence" in claim) is (finding.status is not Status.BROKEN)
        assert claim["reasoning"].startswith(finding.status_words)
    assert "Dr. Ada Example" in claims["lived-with"]["reasoning"]
    pieces = {each["bom-ref"] for each in bill["declarations"]["evidence"]}
    named = {
        name for each in claims.values() for kind in ("evidence", "counterEvidence") for name in each.get(kind, ())
    }
    assert named == pieces
    mapped = {each["requirement"]: each for each in bill["declarations"]["attestations"][0]["map"]}
    assert "claim:evasion:got-through" in mapped["aisvs:11.1.3"]["counterClaims"]
    assert mapped["aisvs:11.1.3"]["conformance"]["score"] < 1
    assert mapped["aisvs:11.2.5"]["conformance"] == {"score": 0.0, "rationale": "no attack of it was judged"}


def test_metrics_have_the_report_s_intervals(bill, report):
    metrics = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    by_slice = {each["slice"].partition(", n")[0]: each for each in metrics}
    for finding in report.findings:
        found = by_slice[f"{finding.attack}, adaptive"]["confidenceInterval"]
        assert float(found["lowerBound"]) == pytest.approx(finding.adaptive.low, abs=1e-5)
        assert float(found["upperBound"]) == pytest.approx(finding.adaptive.high, abs=1e-5)
    accuracy = [each for each in metrics if each["type"] == "accuracy"]
    assert {each["slice"].split(", ")[1] for each in accuracy} == {"without the guard", "behind the guard"}
    limits = bill["metadata"]["component"]["modelCard"]["considerations"]["technicalLimitations"]
    assert any("Poisoned" in each for each in limits)


def test_equal_inputs_give_equal_bills_and_a_changed_bundle_gives_none(report, placed, tmp_path):
    assert write_material_bill(placed[0]) == write_material_bill(placed[0])
    folder, bundle = lay_out(report, tmp_path)
    (bundle / "profile.npz").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"profile\.npz"):
        write_material_bill(folder)
    with pytest.raises(MedwardError, match="give its folder with --bundle"):
        write_material_bill(_without_place(report, tmp_path / "moved"))


def _without_place(report, folder):
    folder.mkdir()
    (folder / "report.json").write_text(report.model_dump_json())
    return folder


def test_a_list_that_would_lack_a_library_is_refused(monkeypatch):
    assert installed_distributions()[0].name == "medward"
    from medward.integrations.evidence import distributions

    real = distributions.distribution

    def lacking(name):
        if name == "uvicorn":
            raise distributions.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(distributions, "distribution", lacking)
    with pytest.raises(MedwardError, match="needs uvicorn, which is not installed here"):
        installed_distributions()


def test_the_command_writes_it_beside_the_report(placed, bill, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["bom", str(placed[0])])
    assert ended.value.code == 0
    assert json.loads((placed[0] / "bom.cdx.json").read_bytes()) == bill
