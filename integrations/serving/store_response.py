"""What a client of STOW-RS reads: each instance answered or failed, in DICOM's own JSON.

Reference: DICOM PS3.18, sec. 10.5.3 and annex F (JSON), PS3.3 sec. 10.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medward.guard.types import Answer
from medward.integrations.clinical.dicom_report import row_words
from medward.integrations.serving.study_instances import FailedInstance, StudyRead

DICOM_JSON = "application/dicom+json"
_IMPRESSION = {"value": "121073", "scheme": "DCM", "meaning": "Impression"}


def store_content(answer: Answer | None, read: StudyRead | None, failed: Sequence[FailedInstance]) -> dict[str, Any]:
    """The response as a data set: a referenced item with the answer in words for each row, a failed one for the rest.

    Nothing was stored, so no item has an address that it could be retrieved from.
    """
    content: dict[str, Any] = {}
    if answer is not None and read is not None:
        items = [
            {
                **_named(instance.sop_class, instance.sop_instance),
                "0040A730": _sequence([_text(f"{name}: {value}") for name, value in row_words(answer, row)]),
            }
            for row, instance in zip(answer.rows(), read.instances, strict=True)
        ]
        content["00081199"] = _sequence(items)
    if failed:
        content["00081198"] = _sequence(
            [
                {**_named(each.sop_class, each.sop_instance), "00081197": {"vr": "US", "Value": [each.reason]}}
                for each in failed
            ]
        )
    return content


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


def _named(sop_class: str, sop_instance: str) -> dict[str, Any]:
    """References to a class and an instance; one that a file does not name has no value."""
    said = {"00081150": sop_class, "00081155": sop_instance}
    return {tag: {"vr": "UI", **({"Value": [value]} if value else {})} for tag, value in said.items()}


def _text(text: str) -> dict[str, Any]:
    """An item of text."""
    concept = {
        "00080100": {"vr": "SH", "Value": [_IMPRESSION["value"]]},
        "00080102": {"vr": "SH", "Value": [_IMPRESSION["scheme"]]},
        "00080104": {"vr": "LO", "Value": [_IMPRESSION["meaning"]]},
    }
    return {
        "0040A040": {"vr": "CS", "Value": ["TEXT"]},
        "0040A043": _sequence([concept]),
        "0040A160": {"vr": "UT", "Value": [text]},
    }
