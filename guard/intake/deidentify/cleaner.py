"""What de-identifies one file after another: the reader of text, the pseudonyms, and what is said of each file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.reading import RapidReader, TextReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentification:
    """A de-identification says how files are treated: pseudonyms, the reader of text, whether all pixels are read.

    With `everywhere` the filter for strokes is left out, which takes longer and finds fainter text.
    """

    pseudonyms: Pseudonyms
    reader: TextReader = field(default_factory=RapidReader)
    everywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentifiedFile:
    """A de-identified file: its new bytes and name, and how much of each kind was removed, but never what it was."""

    content: bytes
    name: str
    kind: str
    frames: int
    removed: Counter[str]
    markers: int = 0
    pixels_changed: bool = False
