"""How well chest reports are read: findings of IU X-ray reports against the MeSH headings that annotators gave them.

Reports with even numbers were looked at while the words were chosen; those with odd numbers are read once, here. MeSH
is another person's reading: it leaves out much of what a report only suspects, so that doubt read as presence costs
precision, and headings for pleural thickening are those of any thickening.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from claim import Claim

from medward.guard.tasks.report_reader import CHEST_TERMS, Mention, ReportReader

CLAIMS = ("report_reader_mesh",)

LEAST, RESAMPLES, SEED = 0.75, 2000, 0
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "atelectasis": ("pulmonary atelectasis",),
    "cardiomegaly": ("cardiomegaly",),
    "consolidation": ("consolidation",),
    "edema": ("pulmonary edema", "pulmonary congestion"),
    "effusion": ("pleural effusion",),
    "emphysema": ("emphysema", "pulmonary emphysema", "pulmonary disease, chronic obstructive"),
    "fibrosis": ("pulmonary fibrosis",),
    "fracture": ("fractures, bone",),
    "granuloma": ("granuloma", "calcified granuloma", "granulomatous disease"),
    "hernia": ("hernia, hiatal",),
    "infiltration": ("infiltrate",),
    "mass": ("mass",),
    "nodule": ("nodule",),
    "opacity": ("opacity", "airspace disease", "density"),
    "pleural thickening": ("thickening",),
    "pneumonia": ("pneumonia",),
    "pneumothorax": ("pneumothorax", "hydropneumothorax"),
}
"""The headings of each finding."""


@dataclass(frozen=True, slots=True)
class IndexedReport:
    """An indexed report is its findings and impression as one text, and its MeSH headings without qualifiers."""

    text: str
    headings: frozenset[str]


def measure() -> Iterator[Claim]:
    """F1 of every finding, and their mean."""
    reports = set_aside()
    reader = ReportReader(CHEST_TERMS)
    read = [reader.read(report.text) for report in reports]
    rows, means = {}, []
    drawn = np.random.default_rng(SEED).integers(0, len(reports), (RESAMPLES, len(reports)))
    for name, headings in HEADINGS.items():
        truth = np.array([not report.headings.isdisjoint(headings) for report in reports])
        found = {
            how: np.array([said.get(name, Mention.ABSENT) >= least for said in read])
            for how, least in {"doubt counts": Mention.UNCERTAIN, "doubt does not count": Mention.PRESENT}.items()
        }
        spread = [f1(truth[rows_], found["doubt counts"][rows_]) for rows_ in drawn]
        rows[name] = {
            "n": int(truth.sum()),
            "f1": {how: f1(truth, said) for how, said in found.items()},
            "interval": tuple(float(each) for each in np.quantile(spread, [0.025, 0.975])),
            "precision": float((truth & found["doubt counts"]).sum() / max(1, found["doubt counts"].sum())),
            "recall": float((truth & found["doubt counts"]).sum() / max(1, truth.sum())),
        }
        means.append(spread)
    mean = float(np.mean([row["f1"]["doubt counts"] for row in rows.values()]))
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    yield Claim(
        claim=CLAIMS[0],
        value=mean,
        interval=(float(low), float(high)),
        target=f">= {LEAST} F1, the mean over {len(HEADINGS)} findings, doubt counting as presence",
        met=mean >= LEAST,
        n=len(reports),
        seed=SEED,
        details={"findings": rows},
    )


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Twice what both say, over what either does; 1 where neither says anything."""
    either = int(truth.sum() + said.sum())
    return 1.0 if either == 0 else 2 * float((truth & said).sum()) / either


def set_aside() -> list[IndexedReport]:
    """The indexed reports with odd numbers."""
    archive = Path(os.environ["MEDWARD_DATA"]) / "iu_xray_reports" / "NLMCXR_reports.tgz"
    found = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda each: each.name):
            if not member.name.endswith(".xml"):
                continue
            content = files.extractfile(member)
            assert content is not None
            root = ElementTree.fromstring(content.read())
            number = root.find("uId")
            assert number is not None
            said = {each.get("Label"): each.text for each in root.iter("AbstractText")}
            text = "\n\n".join(filter(None, (said.get("FINDINGS"), said.get("IMPRESSION"))))
            headings = frozenset((each.text or "").split("/")[0].lower() for each in root.iter("major"))
            if int(number.attrib["id"].removeprefix("CXR")) % 2 and text and "no indexing" not in headings:
                found.append(IndexedReport(text, headings))
    return found
