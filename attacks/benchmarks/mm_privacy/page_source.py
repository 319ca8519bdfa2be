"""Where pages come from: radiographs and forms, with values of people that nobody is."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from medward.attacks.benchmarks.mm_privacy.pages import (
    PRINTED_LABELS,
    Page,
    Radiograph,
    enlarged,
    form_page,
    made_radiograph,
    radiograph_page,
)
from medward.attacks.disclosure.identities import made_identities

_STARTS = (
    "B",
    "BR",
    "C",
    "D",
    "DR",
    "F",
    "G",
    "H",
    "J",
    "K",
    "L",
    "M",
    "N",
    "P",
    "R",
    "S",
    "ST",
    "T",
    "TH",
    "V",
    "W",
    "Z",
)
_VOWELS, _ENDS = tuple("AEIOUY"), ("L", "N", "R", "S", "T", "X", "Q", "CK")
_LONGEST_NAME = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageSource:
    """A page source draws pages, half of them forms, the others one of its `radiographs`."""

    radiographs: Sequence[Radiograph] = field(repr=False)

    def page(self, values: Mapping[str, str], generator: np.random.Generator, *, form: bool | None = None) -> Page:
        """A page with these values, a `form` or not, or either by chance."""
        if generator.random() < 0.5 if form is None else form:
            return form_page(values, generator)
        return radiograph_page(self.radiographs[int(generator.integers(len(self.radiographs)))], values, generator)

    def training_page(self, generator: np.random.Generator) -> Page:
        """A page of somebody drawn by chance, of which some values are missing now and then."""
        values = drawn_values(generator)
        missing = generator.random() < 0.25
        return self.page(
            {kind: value for kind, value in values.items() if not (missing and generator.random() < 0.5)}, generator
        )


def made_source(count: int, *, seed: int) -> PageSource:
    """Procedural radiographs."""
    generator = np.random.default_rng(seed)
    return PageSource(radiographs=[made_radiograph(generator) for _ in range(count)])


def nih_sources(folder: Path, *, seed: int, held_out: float = 0.3) -> tuple[PageSource, PageSource]:
    """NIH's radiographs at the size of a page, those to train on and those of `held_out` of the patients."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    patients = sorted({row["Patient ID"] for row in rows})
    chosen = np.random.default_rng(seed).permutation(patients)[: round(held_out * len(patients))]
    sides: tuple[list[Radiograph], list[Radiograph]] = ([], [])
    for row in rows:
        grey = np.asarray(Image.open(folder / "images" / row["file"]).convert("L"))
        sides[row["Patient ID"] in chosen].append(
            Radiograph(pixels=enlarged(grey), view=row["View Position"], finding=row["folder_label"] == "pneumonia")
        )
    return PageSource(radiographs=sides[0]), PageSource(radiographs=sides[1])


def made_people(count: int, *, seed: int) -> list[dict[str, str]]:
    """`count` people of `made_identities`, no two of one name, with the values that are on a page, in capitals."""
    people: dict[str, dict[str, str]] = {}
    for person in made_identities(8 * count, seed=seed):
        people.setdefault(person["patient name"], {kind: person[kind].upper() for kind in PRINTED_LABELS})
    return list(people.values())[:count]


def drawn_values(generator: np.random.Generator) -> dict[str, str]:
    """Values of somebody whose name is of random syllables, so that no reader knows a name it is judged on by heart."""
    given, family = (_drawn_name(generator) for _ in range(2))
    digits = "".join(map(str, generator.integers(10, size=18)))
    year, month, day = (int(generator.integers(*each)) for each in ((1920, 2026), (1, 13), (1, 32)))
    return {
        "patient name": f"{given} {family}"[:_LONGEST_NAME],
        "birth date": f"{year}-{month:02d}-{day:02d}",
        "record number": digits[:8],
        "phone number": f"{digits[8:11]}-{digits[11:14]}-{digits[14:18]}",
    }


def _drawn_name(generator: np.random.Generator) -> str:
    parts = [f"{generator.choice(_STARTS)}{generator.choice(_VOWELS)}" for _ in range(int(generator.integers(1, 5)))]
    return "".join([*parts, str(generator.choice(_ENDS))])[:12]
