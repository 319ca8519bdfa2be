"""Images with reports: NIH ChestX-ray14 radiographs and PneumoniaMNIST, split by patient where patients are known.

The references of "test" are by authors of one bank of phrases, all others by authors of another that shares none with
it. Everything is drawn by the seed: splits, doubt, which author wrote what.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medward.attacks.benchmarks.base import data_root, stratified_partition
from medward.attacks.benchmarks.datasets.nih_cxr import NIH_REMEDY
from medward.attacks.benchmarks.datasets.pneumoniamnist import load_pneumoniamnist
from medward.attacks.benchmarks.reports.facts import (
    RADIOGRAPH_VIEWS,
    ImageFacts,
    Place,
    age_group,
    box_place,
    joined_places,
    normal_parts,
    stated_findings,
)
from medward.attacks.benchmarks.reports.mined_phrases import mined_phrase_bank
from medward.attacks.benchmarks.reports.own_phrases import own_phrase_bank
from medward.attacks.benchmarks.reports.phrases import Author, PhraseBank
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

NIH_FINDINGS = (
    "pneumonia",
    "infiltration",
    "atelectasis",
    "edema",
    "effusion",
    "cardiomegaly",
    "consolidation",
    "emphysema",
    "fibrosis",
    "hernia",
    "mass",
    "nodule",
    "pleural thickening",
    "pneumothorax",
)
"""The labels of ChestX-ray14, in the order in which reports speak of them."""
NIH_SPOKEN_OF = NIH_FINDINGS[:5]
"""Those that every report speaks of, there or not: each has 90 images or more here; others are told where they are."""
NIH_SHARES = {"train": 700, "validation": 80, "test": 220}
PNEUMONIA_SHARES = {"train": 3000, "holdout": 1700}
AUTHORS = {"train": 6, "test": 3}
_BOX = ("Bbox [x", "y", "w", "h]")  # columns of bbox.csv
_NIH_SIDE = 1024  # pixels of an original, in which boxes are given
_EDGE = 2  # pixels that are repeated at each edge of a PneumoniaMNIST image, of 28 a side: networks halve 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSplit:
    """Images ``(n, C, H, W)`` from 0 to 1 with the facts and the reference of each, and patients where known."""

    images: Array
    facts: tuple[ImageFacts, ...]
    reports: tuple[str, ...]
    patients: Ints | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Ints) -> ReportSplit:
        """The rows at `index`."""
        rows = [int(each) for each in index]
        return ReportSplit(
            images=self.images[rows],
            facts=tuple(self.facts[row] for row in rows),
            reports=tuple(self.reports[row] for row in rows),
            patients=None if self.patients is None else self.patients[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Report data has splits of images with references, and the authors of all but "test".

    `findings` are those that its labels know, in the order of reports.
    """

    name: str
    findings: tuple[str, ...]
    splits: Mapping[str, ReportSplit]
    authors: tuple[Author, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image."""
        return tuple(self.splits["train"].images.shape[1:])


def load_nih_reports(seed: int, *, side: int = 64, mined: bool = True, root: Path | None = None) -> ReportData:
    """1,000 NIH radiographs of 682 patients at `side` pixels, with findings, view, age group and boxes where there are.

    `mined` reports are in phrases of the Indiana University reports, others in our own. Raises `MedwardError` where
    the data is missing.
    """
    folder = data_root(root) / "nih_cxr"
    if not (folder / "labels.csv").is_file():
        raise MedwardError(f"{folder / 'labels.csv'} is missing: {NIH_REMEDY} (the folder is set by MEDWARD_DATA)")
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    present = [
        frozenset(label.lower().replace("_", " ") for label in row["Finding Labels"].split("|")) - {"no finding"}
        for row in rows
    ]
    if unknown := sorted(frozenset().union(*present).difference(NIH_FINDINGS)):
        raise MedwardError(
            f"{folder / 'labels.csv'}: has the label {unknown[0]!r}; known are {', '.join(NIH_FINDINGS)}"
        )
    places = _nih_places(folder / "bbox.csv")
    draws = np.random.default_rng([seed, 1])
    facts = [
        ImageFacts(
            findings=stated_findings(found, NIH_SPOKEN_OF, draws),
            view=next(view for view in RADIOGRAPH_VIEWS if view == row["View Position"]),
            age=age_group(int(row["Patient Age"])),
            places={name: place for name, place in places.get(row["Image Index"], {}).items() if name in found},
            normal=normal_parts(found, NIH_FINDINGS),
        )
        for row, found in zip(rows, present, strict=True)
    ]
    images = np.stack([_resized(folder / "images" / row["file"], side) for row in rows])
    patients = np.array([int(row["Patient ID"]) for row in rows], np.int64)
    labels = np.array([len(found) > 0 for found in present], np.int64)
    index = _partition(labels, NIH_SHARES, seed, patients)
    bank = phrase_bank(NIH_FINDINGS, mined=mined, root=root)
    return with_reports("nih-cxr", NIH_FINDINGS, images, facts, index, bank=bank, seed=seed, patients=patients)


def load_pneumonia_reports(seed: int, *, mined: bool = True, root: Path | None = None) -> ReportData:
    """PneumoniaMNIST at 32 pixels a side, of which no more is known than pneumonia or not; patients are not known.

    "validation" is the official one, "test" too, and another draw than the rest. "holdout" is left for attackers, who
    have images like those of "train". Raises `MedwardError` where the data is missing.
    """
    task = load_pneumoniamnist(seed, root, PNEUMONIA_SHARES)
    parts = {"train": "train", "validation": "selection", "holdout": "holdout", "test": "test"}
    draws = np.random.default_rng([seed, 1])
    images: list[Array] = []
    facts: list[ImageFacts] = []
    index: dict[str, Ints] = {}
    for name, part in parts.items():
        rows = task.splits[part]
        index[name] = np.arange(len(facts), len(facts) + len(rows))
        images.append(np.pad(rows.inputs, ((0, 0), (0, 0), (_EDGE, _EDGE), (_EDGE, _EDGE)), mode="edge"))
        for label in np.asarray(rows.labels).tolist():
            found = frozenset({"pneumonia"} if label else ())
            stated = stated_findings(found, ("pneumonia",), draws)
            facts.append(ImageFacts(findings=stated, normal=normal_parts(found, ("pneumonia",))))
    bank = phrase_bank(("pneumonia",), mined=mined, root=root)
    return with_reports("pneumoniamnist", ("pneumonia",), np.concatenate(images), facts, index, bank=bank, seed=seed)


def phrase_bank(findings: Sequence[str], *, mined: bool, root: Path | None = None) -> PhraseBank:
    """Our own phrases about `findings`, or those of the Indiana University reports filled up with our own."""
    own = own_phrase_bank(findings)
    return mined_phrase_bank(own, root) if mined else own


def with_reports(
    name: str,
    findings: tuple[str, ...],
    images: Array,
    facts: Sequence[ImageFacts],
    index: Mapping[str, Ints],
    *,
    bank: PhraseBank,
    seed: int,
    patients: Ints | None = None,
) -> ReportData:
    """Report data of images ``(n, C, H, W)`` with facts: each reference by an author drawn for it, as the bank is cut.

    `index` has the rows of each split. Raises `MedwardError` where a reference would not read back as its facts.
    """
    halves = dict(zip(AUTHORS, bank.halves(seed), strict=True))
    authors = {which: halves[which].authors(count, seed) for which, count in AUTHORS.items()}
    drawn = np.random.default_rng([seed, 2]).random(len(facts))
    splits = {}
    for split, rows in index.items():
        known = authors["test" if split == "test" else "train"]
        splits[split] = ReportSplit(
            images=np.ascontiguousarray(images[rows], np.float32),
            facts=tuple(facts[row] for row in rows.tolist()),
            reports=tuple(known[int(drawn[row] * len(known))].report(facts[row]) for row in rows.tolist()),
            patients=None if patients is None else patients[rows],
        )
    return ReportData(name=name, findings=findings, splits=splits, authors=authors["train"])


def _partition(labels: Ints, sizes: Mapping[str, int], seed: int, patients: Ints) -> dict[str, Ints]:
    """Rows of splits of about those sizes, by patient and stratified by label."""
    rows = Split(np.arange(len(labels), dtype=np.float64)[:, None], labels, patients)
    found = stratified_partition(rows, sizes, seed=seed)
    return {name: np.sort(part.inputs[:, 0].astype(np.int64)) for name, part in found.items()}


def _resized(path: Path, side: int) -> Array:
    """A grey image ``(1, side, side)`` from 0 to 1, each pixel the mean of those that it stands for."""
    with Image.open(path) as opened:
        grey = opened.convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(grey, np.float32)[None] / 255


def _nih_places(path: Path) -> dict[str, dict[str, Place]]:
    """For each image with boxes, where its findings are."""
    boxes: dict[tuple[str, str], list[Place]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = row["Finding Label"].lower().replace("infiltrate", "infiltration")
            box = [float(row[column]) / _NIH_SIDE for column in _BOX]
            boxes[row["Image Index"], name].append(box_place(*box))
    places: dict[str, dict[str, Place]] = defaultdict(dict)
    for (image, name), found in boxes.items():
        places[image][name] = joined_places(found)
    return places
