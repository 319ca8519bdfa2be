"""The report of a de-identified folder, for a privacy officer: what was removed by kind and count, what was refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medward.guard.files import write_durably
from medward.integrations.deidentification.outcome import EarlierOutputs, FileOutcome

NOTES = ".medward-deidentify"
REPORT_FILES = ("report.json", "report.md")
WHAT_WAS_DONE = (
    "Headers: DICOM PS3.15 Annex E Basic Profile with Clean Pixel Data; dates are moved into the past by a number of "
    "days of each patient's own, times of day are removed, and unique identifiers, names and numbers are replaced by "
    "pseudonyms that depend on the secret key alone. Pixels: burned-in text in every frame but laterality, view and "
    "position markers and scale labels is filled, and the result is read again. Overlay planes, private attributes, "
    "thumbnails and metadata of image files are removed."
)
WHAT_REMAINS = (
    "What this cannot say: text that is too faint, small or ornate to be read by machine may remain; faces in head "
    "scans are not removed; a picture of anatomy can itself be known again. Sample the output before it is passed on. "
    "Whoever has the key or the list of sources can link the output to patients: keep both."
)
WHAT_TO_PASS_ON = (
    "Pass on the folders of images only. This report, whose numbers follow the order of the sources' names, and the "
    f"folder `{NOTES}`, with which a later run goes on, stay with you; neither holds an identifier or the key."
)
WHAT_COLUMNS_SAY = (
    "*Text filled* counts regions of burned-in text that were filled. *Markers kept* counts texts that were read and "
    "left, as laterality, view or position (L, AP, ERECT) or as a label of a scale: look at such images first, since a "
    "name can read like a marker."
)


def write_report(out: Path, outcomes: Sequence[FileOutcome], earlier: EarlierOutputs) -> None:
    """Write ``report.md`` and ``report.json`` into the folder `out`."""
    said = report_content(outcomes, earlier)
    for name, text in zip(REPORT_FILES, (json.dumps(said, indent=1) + "\n", report_text(said)), strict=True):
        write_durably(out / name, text.encode())


def report_content(outcomes: Sequence[FileOutcome], earlier: EarlierOutputs) -> dict[str, Any]:
    """The report as plain data: totals, each file, and what of `earlier` runs was removed."""
    total: Counter[str] = Counter()
    for each in outcomes:
        total.update(each.removed)
    refused = [each for each in outcomes if each.refused]
    return {
        "files": len(outcomes),
        "written": len(outcomes) - len(refused),
        "refused": len(refused),
        "with_filled_text": sum(each.pixels_changed for each in outcomes),
        "earlier_outputs_removed": earlier.removed,
        "earlier_outputs_kept": earlier.kept,
        "removed": dict(sorted(total.items())),
        "done": WHAT_WAS_DONE,
        "cannot": WHAT_REMAINS,
        "pass_on": WHAT_TO_PASS_ON,
        "per_file": [each.as_json() for each in outcomes],
    }


def report_text(said: dict[str, Any]) -> str:
    """The report in words and tables."""
    files = said["per_file"]
    lines = [
        "# De-identification report",
        "",
        f"{said['files']} files: {said['written']} written, {said['refused']} refused, pixels of "
        f"{said['with_filled_text']} changed. Numbers are places in the list of sources that is kept with the key.",
        "",
        *_earlier(said["earlier_outputs_removed"], said["earlier_outputs_kept"]),
        said["done"],
        "",
        said["cannot"],
        "",
        said["pass_on"],
        "",
        "## Removed, by kind",
        "",
        *_table(("kind", "count"), said["removed"].items()),
        "",
        "## Refused: not in the output",
        "",
        *_table(("number", "why"), [(each["number"], each["refused"]) for each in files if each["refused"]]),
        "",
        "## Written",
        "",
        WHAT_COLUMNS_SAY,
        "",
        *_table(
            ("number", "output", "kind", "frames", "text filled", "markers kept", "removed"),
            [
                (
                    each["number"],
                    each["name"],
                    each["kind"],
                    each["frames"],
                    each["removed"].get("burned-in text filled", 0),
                    each["markers"],
                    ", ".join(f"{kind} {count}" for kind, count in sorted(each["removed"].items())),
                )
                for each in files
                if not each["refused"]
            ],
        ),
        "",
    ]
    return "\n".join(lines)


def _earlier(removed: int, kept: int) -> list[str]:
    """What is said of the outputs of earlier runs, where there were any besides those of this one."""
    lines = []
    if removed:
        lines.append(f"{removed} files that earlier runs wrote here and this one did not were removed.")
    if kept:
        lines.append(f"{kept} files that earlier runs wrote here were changed since and were left; look at them.")
    return [" ".join(lines), ""] if lines else []


def _table(head: Sequence[str], rows: Any) -> list[str]:
    found = [tuple(str(each).replace("|", "/") for each in row) for row in rows]
    if not found:
        return ["None."]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in found)]
