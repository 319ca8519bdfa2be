"""A report's findings as claims of a CycloneDX bill: what is claimed of the model, and what speaks for and against it.

Every row claims the same, that the attack stays within the policy's bound behind the guard. HELD and NOT NEEDED rest on
their interval as evidence. BROKEN has its interval as counter-evidence. Of all else the interval is evidence and the
reasons why it cannot be told are counter-evidence, so that no claim of these stands unopposed. What a report has no row
for is no claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medward.attacks.report.comparison import worst_behind
from medward.attacks.report.words import accepted_text
from medward.attacks.threat_catalogue import AISVS, CATALOGUE_SOURCES, atlas_names
from medward.attacks.validation.finding import Finding, Status
from medward.attacks.validation.gate import GOOD
from medward.attacks.validation.record import Report

REQUIREMENTS = {
    "11.1.3": "models are evaluated against known adversarial attack techniques relevant to their modality",
    "11.3.2": "externally visible responses are calibrated to the extraction risk level",
    "11.2.5": "membership inference does no better than guessing",
    "6.1.4": "models pass a behavioural acceptance test suite before they are promoted",
}
"""Requirements of AISVS that findings speak of, in short; the standard has the full text."""
_SPOKEN_OF_BY = {"11.1.3": "AML.T0015", "11.3.2": "AML.T0024.002", "11.2.5": "AML.T0024.000"}  # ids of ATLAS


def declared_claims(report: Report, target: str) -> dict[str, Any]:
    """The member ``declarations`` of a bill whose model has the reference `target`."""
    rows = [each for each in report.findings if each.status is not Status.NOT_APPLICABLE or each.not_judged]
    claims, evidence = [], []
    for finding in rows:
        parts = list(_evidence(finding, report.created))
        evidence += [part for _, part in parts]
        claim: dict[str, Any] = {
            "bom-ref": claim_reference(finding),
            "target": target,
            "predicate": f"behind the guard {finding.attack} ({finding.family}) stays within the policy's bound: "
            f"{finding.judged_as} <= {finding.bound:g}",
            "reasoning": " ".join(filter(None, [f"{finding.status_words}.", accepted_text(finding), *finding.reasons])),
        }
        for kind in ("evidence", "counterEvidence"):
            if named := [part["bom-ref"] for of, part in parts if of == kind]:
                claim[kind] = named
        claims.append(claim)
    assessor = {"bom-ref": "assessor", "thirdParty": False, "organization": {"name": "whoever ran medward validate"}}
    attestations = [
        {
            "summary": "What a validation of this bundle says of requirements of OWASP AISVS 1.0",
            "assessor": "assessor",
            "map": [_mapped(identifier, rows) for identifier in REQUIREMENTS],
        }
    ]
    return {"assessors": [assessor], "attestations": attestations, "claims": claims, "evidence": evidence}


def defined_standards() -> dict[str, Any]:
    """The member ``definitions`` of a bill: the standard whose requirements the claims are mapped to."""
    requirements = [
        {"bom-ref": _requirement(identifier), "identifier": identifier, "title": title}
        for identifier, title in REQUIREMENTS.items()
    ]
    standard = {
        "bom-ref": "aisvs",
        "name": AISVS,
        "version": "1.0",
        "description": CATALOGUE_SOURCES[AISVS],
        "requirements": requirements,
    }
    return {"standards": [standard]}


def claim_reference(finding: Finding) -> str:
    """What a bill calls the claim of a finding."""
    return f"claim:{finding.family}:{finding.attack}"


def _mapped(identifier: str, rows: list[Finding]) -> dict[str, Any]:
    """What rows say of one requirement; 6.1.4, acceptance as a whole, is all rows'."""
    atlas = _SPOKEN_OF_BY.get(identifier)
    mine = [each for each in rows if atlas is None or atlas_names(each.controls, (atlas,))]
    kept = [claim_reference(each) for each in mine if each.status in GOOD]
    against = [claim_reference(each) for each in mine if each.status not in GOOD]
    found: dict[str, Any] = {"requirement": _requirement(identifier)}
    found |= {name: refs for name, refs in (("claims", kept), ("counterClaims", against)) if refs}
    rationale = f"{len(kept)} of {len(mine)} rows held or needed no defense" if mine else "no attack of it was judged"
    return {**found, "conformance": {"score": len(kept) / len(mine) if mine else 0.0, "rationale": rationale}}


def _evidence(finding: Finding, created: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What speaks for the claim, and what against it: where it is kept and the piece itself."""
    if (worst := worst_behind(finding)) is not None:
        text = f"{finding.judged_as} {worst.value:.6g}, 95 % limits {worst.low:.6g} to {worst.high:.6g}, n = {worst.n}"
        kind = "counterEvidence" if finding.status is Status.BROKEN else "evidence"
        yield kind, _piece(finding, "interval", "the worst interval behind the guard", text, created)
    if finding.status not in GOOD:
        text = " ".join((*finding.reasons, *finding.flags)) or finding.status_words
        yield "counterEvidence", _piece(finding, "reasons", "why the row is not good", text, created)


def _piece(finding: Finding, name: str, description: str, text: str, created: str) -> dict[str, Any]:
    return {
        "bom-ref": f"evidence:{finding.family}:{finding.attack}:{name}",
        "description": f"{finding.attack}: {description}",
        "data": [{"name": name, "contents": {"attachment": {"contentType": "text/plain", "content": text}}}],
        "created": created,
    }


def _requirement(identifier: str) -> str:
    return f"aisvs:{identifier}"
