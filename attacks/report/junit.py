"""JUnit XML: a pipeline shows each attack as a test; broken fails, inconclusive errs, neither is green."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from medward.attacks.report.remedy import Advice, finding_advice
from medward.attacks.report.words import accepted_text, ordinary_rows, ordinary_sentence
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report

OUTCOMES = {
    Status.ACCEPTED: "skipped",
    Status.BROKEN: "failure",
    Status.INCONCLUSIVE: "error",
    Status.TOO_FEW_ROWS: "error",
    Status.NOT_APPLICABLE: "skipped",
}
ORDINARY_OUTCOMES = {
    Status.BROKEN: "failure",
    Status.INCONCLUSIVE: "skipped",
    Status.NOT_APPLICABLE: "skipped",
}
"""Of ordinary behaviour: too few accounts to tell stop no pipeline, nor does what is not meant to be forgiven."""


def render_junit(report: Report) -> bytes:
    """One testcase per finding, its reasons as the message, and one per ordinary behaviour."""
    ordinary = ordinary_rows(report)
    outcomes = [
        *(OUTCOMES.get(finding.status) for finding in report.findings),
        *(ORDINARY_OUTCOMES.get(status) for _, status in ordinary),
    ]
    suite = ET.Element("testsuite", name="medward validate", tests=str(len(outcomes)))
    suite.set("timestamp", report.created)
    for tag in dict.fromkeys(OUTCOMES.values()):
        plural = "skipped" if tag == "skipped" else f"{tag}s"
        suite.set(plural, str(outcomes.count(tag)))
    properties = ET.SubElement(suite, "properties")
    facts = report.provenance
    for name in ("model", "bundle", "policy", "data", "seed", "code"):
        ET.SubElement(properties, "property", name=name, value=_clean(str(getattr(facts, name))))
    for finding in report.findings:
        case = ET.SubElement(suite, "testcase", classname=f"medward.{finding.family}", name=_clean(finding.attack))
        reasons = (*filter(None, [accepted_text(finding)]), *finding.reasons)
        text = _clean("\n".join((*reasons, *(_advice_text(each) for each in finding_advice(finding, report)))))
        if finding.status in OUTCOMES:
            first = reasons[0] if reasons else finding.status.value
            ET.SubElement(case, OUTCOMES[finding.status], message=_clean(first), type=finding.status.value).text = text
        else:
            ET.SubElement(case, "system-out").text = text
    for cost, status in ordinary:
        case = ET.SubElement(suite, "testcase", classname="medward.ordinary", name=_clean(cost.behaviour))
        text = _clean(ordinary_sentence(cost))
        if status in ORDINARY_OUTCOMES:
            ET.SubElement(case, ORDINARY_OUTCOMES[status], message=text, type=status.value).text = text
        else:
            ET.SubElement(case, "system-out").text = text
    ET.indent(suite)
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def _advice_text(advice: Advice) -> str:
    """What to do, the command on a line of its own."""
    return "\n".join(filter(None, [f"To do: {advice.sentence}", advice.command, advice.brought]))


def _clean(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped."""
    return "".join(each if each in "\n\t" or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
