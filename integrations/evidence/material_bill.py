"""A bill of materials of a bundle with what its validation measured: CycloneDX 1.7, with a model card and claims.

Components are the bundle's files by SHA-256 and the distributions that serving needs, as installed here; one that
lacks a version or a digest is an error and not a gap. Metrics have the intervals of the report. Equal inputs give equal
bills: the serial number follows from the report's digest. Source: cyclonedx.org, bom-1.7.schema.json.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medward.attacks.intervals import Interval
from medward.attacks.report.html import untested_sentences
from medward.attacks.validation.finding import ARMS, CleanCost, Pair
from medward.attacks.validation.record import Report
from medward.guard.bundle.card import canonical_json
from medward.integrations.evidence.claims import declared_claims, defined_standards
from medward.integrations.evidence.distributions import installed_distributions
from medward.integrations.evidence.report_file import ReportFile, ValidatedBundle, read_report_file, validated_bundle

MODEL_REFERENCE = "model"


def write_material_bill(report: Path | str, bundle: Path | str | None = None) -> bytes:
    """The bill, as JSON, of the bundle that the `report` at a path is of; `bundle` is where it is, if not there.

    Raises `MedwardError` where report or bundle cannot be read, are not of each other, or serving is not installed.
    """
    given = read_report_file(report)
    return canonical_json(material_bill(given, validated_bundle(given, bundle)))


def material_bill(given: ReportFile, validated: ValidatedBundle) -> dict[str, Any]:
    """The bill as data."""
    report, spec = given.report, validated.card.spec
    serving = installed_distributions()
    libraries = [
        {
            "type": "library",
            "bom-ref": each.package_url,
            "name": each.name,
            "version": each.version,
            "purl": each.package_url,
        }
        for each in serving
    ]
    files = [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [{"alg": "SHA-256", "content": sha}]}
        for name, sha in validated.files.items()
    ]
    known = {each.name: each.package_url for each in serving}
    dependencies = [
        {"ref": MODEL_REFERENCE, "dependsOn": [*(each["bom-ref"] for each in files), serving[0].package_url]},
        *({"ref": each.package_url, "dependsOn": [known[name] for name in each.requires]} for each in serving),
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REFERENCE,
        "name": spec.name,
        "version": validated.card.digest,
        "description": f"{spec.modality} model behind the guard of its bundle; it {spec.rule}",
        "modelCard": _model_card(report, validated),
        "externalReferences": [
            {
                "type": "quality-metrics",
                "url": given.path.name,
                "comment": "the report of the validation",
                "hashes": [{"alg": "SHA-256", "content": given.digest}],
            }
        ],
        "properties": [
            {"name": f"medward:{name}", "value": str(value)}
            for name, value in (
                ("bundle", validated.card.digest),
                ("policy", report.provenance.policy),
                ("data", report.provenance.data),
                ("code", report.provenance.code),
                ("seed", report.provenance.seed),
                ("quick", report.quick),
                ("verdict", report.verdict.words),
                *((f"made-with:{name}", number) for name, number in validated.card.versions.items()),
            )
        ],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, given.digest + validated.card.digest)}",
        "version": 1,
        "metadata": {
            "timestamp": report.created,
            "tools": {"components": [{"type": "application", "name": "medward", "version": serving[0].version}]},
            "component": model,
            "properties": [{"name": "medward:libraries", "value": "as installed where this bill was made"}],
        },
        "components": [*files, *libraries],
        "dependencies": dependencies,
        "declarations": declared_claims(report, MODEL_REFERENCE),
        "definitions": defined_standards(),
    }


def _model_card(report: Report, validated: ValidatedBundle) -> dict[str, Any]:
    """What the model takes and gives, what was measured of it, and what it is not good for."""
    spec, facts = validated.card.spec, report.provenance
    rows = ", ".join(f"{name} {count}" for name, count in facts.rows.items())
    return {
        "modelParameters": {
            "task": spec.task.kind,
            "datasets": [
                {
                    "type": "dataset",
                    "name": "calibration",
                    "description": f"benign rows the guard was calibrated on; digest {validated.card.data_digest}",
                },
                {
                    "type": "dataset",
                    "name": "validation",
                    "description": f"rows the attacks were judged on: {rows}; digest {facts.data}",
                },
            ],
            "inputs": [{"format": f"{spec.modality} of shape {spec.row_shape}, {spec.low} to {spec.high}"}],
            "outputs": [{"format": f"{spec.task.kind}: {', '.join(facts.classes)}"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": [*_attack_metrics(report), *_clean_metrics(report.clean)]},
        "considerations": {
            "technicalLimitations": [*untested_sentences(report), *report.notes],
            "performanceTradeoffs": [f"{name} of benign rows: {value}" for name, value in _prices(report.clean)],
        },
    }


def _attack_metrics(report: Report) -> Iterator[dict[str, Any]]:
    for finding in report.findings:
        for arm in ARMS:
            interval: Interval | None = getattr(finding, arm)
            if interval is not None:
                yield _metric(f"{finding.family}: {finding.measure}", interval, f"{finding.attack}, {arm}")


def _clean_metrics(clean: CleanCost) -> Iterator[dict[str, Any]]:
    for split in filter(None, (clean.site, clean.drift)):
        yield _metric("false refusal", split.false_refusal, split.split)
        if split.accounts is not None:
            yield _metric("benign accounts acted upon", split.accounts, split.split)
        pairs: list[tuple[str, Pair]] = [] if split.accuracy is None else [("accuracy", split.accuracy)]
        pairs += [(f"sensitivity of {name}", pair) for name, pair in split.sensitivity.items()]
        pairs += [(f"specificity of {name}", pair) for name, pair in split.specificity.items()]
        for name, pair in pairs:
            yield _metric(name, pair.undefended, f"{split.split}, without the guard")
            yield _metric(name, pair.guarded, f"{split.split}, behind the guard")


def _metric(kind: str, interval: Interval, of: str) -> dict[str, Any]:
    limits = {"lowerBound": f"{interval.low:.6g}", "upperBound": f"{interval.high:.6g}"}
    said = f"{of}, n = {interval.n}"
    return {"type": kind, "value": f"{interval.value:.6g}", "slice": said, "confidenceInterval": limits}


def _prices(clean: CleanCost) -> Iterator[tuple[str, Interval]]:
    yield "refused share", clean.site.false_refusal
    if clean.site.accuracy is not None:
        yield "accuracy without the guard", clean.site.accuracy.undefended
        yield "accuracy behind the guard", clean.site.accuracy.guarded
