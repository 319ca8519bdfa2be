"""Signs a validation's report over the bundle it is of: these files were tested so, with this result, says this key.

The signature covers the digests of all files of the bundle and of the report. It says that the holder of the key stood
by the report, not that the report is true.
"""

from __future__ import annotations

from pathlib import Path

from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.record import Report
from medward.guard.errors import MedwardError
from medward.integrations.evidence.envelope import sign_envelope
from medward.integrations.evidence.report_file import read_report_file, validated_bundle
from medward.integrations.evidence.signing_keys import SigningKey
from medward.integrations.evidence.statement import (
    ACCEPTED_UNTIL,
    PAYLOAD_TYPE,
    REPORT_NAME,
    AttestationStatement,
    AttestedTests,
    Outcome,
    ResourceDescriptor,
)


def attest_report(report: Path | str, key: SigningKey, bundle: Path | str | None = None) -> bytes:
    """The envelope of an attestation of the `report` at a path, over its bundle, signed by `key`.

    `bundle` is where the bundle is, if not where the report says. Raises `MedwardError` where either cannot be read,
    where they are not of each other, and for a report of nothing; `IntegrityError` for a bundle that was changed.
    """
    given = read_report_file(report)
    validated = validated_bundle(given, bundle)
    statement = AttestationStatement(
        subject=tuple(ResourceDescriptor(name=name, digest={"sha256": sha}) for name, sha in validated.files.items()),
        predicate=attested_tests(given.report, given.digest),
    )
    if not statement.predicate.names:
        raise MedwardError(f"{given.path}: no attack of it applies to its model, so there is nothing to attest")
    return sign_envelope(PAYLOAD_TYPE, statement.to_bytes(), key)


def attested_tests(report: Report, digest: str) -> AttestedTests:
    """The findings of a `report`, whose file has the SHA-256 `digest`, as tests that passed, with a warning, or failed.

    HELD and NOT NEEDED passed; ACCEPTED passed with a warning, until the day it ends. All else failed: nothing showed
    that the attack is kept out, and whoever reads no more than this must not take it for shown. What does not apply
    to the model is no test of it.
    """
    found: dict[Outcome, list[str]] = {"PASSED": [], "WARNED": [], "FAILED": []}
    for finding in report.findings:
        if finding.status is not Status.NOT_APPLICABLE or finding.not_judged:
            found[_outcome(finding)].append(finding.attack)
    result: Outcome = "FAILED" if report.exit_code else "WARNED" if found["WARNED"] or found["FAILED"] else "PASSED"
    facts = report.provenance
    annotations = {
        "status": report.verdict.words,
        "created": report.created,
        **{name: str(getattr(facts, name)) for name in ("bundle", "policy", "data", "code", "seed")},
        "medward": facts.versions.get("medward", ""),
        "quick": str(report.quick).lower(),
    }
    if days := [each.accepted.until.isoformat() for each in report.findings if each.accepted is not None]:
        annotations[ACCEPTED_UNTIL] = min(days)
    return AttestedTests(
        result=result,
        configuration=(ResourceDescriptor(name=REPORT_NAME, digest={"sha256": digest}, annotations=annotations),),
        passedTests=tuple(found["PASSED"]),
        warnedTests=tuple(found["WARNED"]),
        failedTests=tuple(found["FAILED"]),
    )


def _outcome(finding: Finding) -> Outcome:
    if finding.status in GOOD:
        return "PASSED"
    return "WARNED" if finding.status is Status.ACCEPTED or finding.not_judged else "FAILED"
