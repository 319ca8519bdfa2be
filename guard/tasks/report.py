"""Report: a text about an image, which decides the findings that it says are there or may be.

A decision is one whole number a row: of K findings bit j is set where finding j is there or may be, as in a set of
findings (`guard.tasks.multilabel`), and bit K + j where it only may be. Texts stand in `guard.types.Outputs.texts`;
their scores ``(n, K)`` are what the reader made of them: 0 absent or not mentioned, 1 may be, 2 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.tasks.base import ReleaseSettings, nothing
from medward.guard.tasks.multilabel import packed_findings
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention, ReportReader
from medward.guard.types import Array, Ints, Level, OutputKind

MOST_REPORTED = 31  # findings, of two bits each
BYTES = 256  # kinds of bytes in UTF-8
_LONGEST = 1_000_000  # bytes or tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A written report decides `findings` by what its text says of them, as `ReportReader` reads it by their `words`.

    `words` has a pattern for each finding, by default that of the usual findings of chest radiographs. `length` is the
    most that a text may have: tokens of the model's `vocabulary`, or bytes of UTF-8 where that is None. `prompt` is
    what the model is asked about every image; clients bring none.
    Guarantee: a text leaves only where reading it gives the model's own findings; a longer one than `length` does not.
    """

    findings: tuple[str, ...] = tuple(CHEST_TERMS)
    words: tuple[str, ...] = ()
    length: int = 4096
    vocabulary: int | None = None
    prompt: str = ""
    kind: Literal["report"] = "report"

    def __post_init__(self) -> None:
        """Refuse more findings than a decision holds, findings without words, and a length that prices nothing."""
        if not 1 <= len(self.findings) <= MOST_REPORTED:
            raise MedwardError(f"findings: a report decides 1 to {MOST_REPORTED}, got {len(self.findings)}")
        if not self.words:
            unknown = [each for each in self.findings if _plain_name(each) not in CHEST_TERMS]
            if unknown:
                raise MedwardError(
                    f"findings: no words are known for {unknown[0]!r}; give words, a pattern for each finding, or "
                    f"choose of {', '.join(CHEST_TERMS)}"
                )
            object.__setattr__(self, "words", tuple(CHEST_TERMS[_plain_name(each)] for each in self.findings))
        if len(self.words) != len(self.findings):
            raise MedwardError(f"words: needs one for each of the {len(self.findings)} findings, got {len(self.words)}")
        _reader(self.findings, self.words)
        if not 1 <= self.length <= _LONGEST:
            raise MedwardError(f"length: must be 1 to {_LONGEST} bytes or tokens, got {self.length}")
        if self.vocabulary is not None and self.vocabulary < 2:
            raise MedwardError(f"vocabulary: must be 2 tokens or more, or None for bytes, got {self.vocabulary}")

    @property
    def names(self) -> tuple[str, ...]:
        """The findings."""
        return self.findings

    @property
    def output(self) -> OutputKind:
        """What the text says of a finding: 0, 1 or 2."""
        return "values"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Text and findings, findings alone, nothing."""
        return (Level.FULL, Level.LABEL, Level.WITHHELD)

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        return f"writes a report, which says what is there, or may be, of {', '.join(self.findings)}"

    def read(self, raw: object, name: str) -> Array:
        """What texts say of each finding ``(n, K)``; refuses what is no text, and one beyond the length limit."""
        if isinstance(raw, str) or not isinstance(raw, Sequence | np.ndarray):
            raise MedwardError(f"{name}: a report model gives a list of texts, one a row, got {type(raw).__name__}")
        for text in raw:
            self.check_length(text, name)
        return np.array([self.said_in(text) for text in raw], np.float32).reshape(len(raw), len(self.findings))

    def said_in(self, text: str) -> list[float]:
        """What one text says of each finding: 0 absent or not mentioned, 1 may be, 2 there."""
        found = _reader(self.findings, self.words).read(text)
        return [float(found.get(each, Mention.ABSENT)) for each in self.findings]

    def check_length(self, text: object, name: str) -> None:
        """Refuse what is no text, and one of more bytes than its price covers; tokens are the model's to count."""
        if not isinstance(text, str):
            raise MedwardError(f"{name}: a report model gives texts, got {type(text).__name__}")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise MedwardError(f"{name}: wrote half a character (a lone surrogate); give whole Unicode text") from None
        self.check_size(size, name)

    def check_size(self, size: int, name: str) -> None:
        """Refuse more bytes than the price covers."""
        if self.vocabulary is None and size > self.length:
            raise MedwardError(
                f"{name}: wrote a report of {size} bytes, and its price covers {self.length}; raise the task's length"
            )

    def decide(self, outputs: Array) -> Ints:
        """The findings ``(n,)`` as bits: which are there or may be, then which only may be."""
        said = np.asarray(outputs)
        return packed_findings(np.concatenate([said > Mention.ABSENT, said == Mention.UNCERTAIN], axis=1))

    def found(self, outputs: Array) -> NDArray[np.bool_]:
        """Which findings ``(n, K)`` are there or may be."""
        return np.asarray(np.asarray(outputs) > Mention.ABSENT)

    def found_sets(self, decisions: Ints) -> Ints:
        """The sets of findings ``(n,)`` that are there or may be, in which labels are written; -1 stays -1."""
        return np.where(decisions < 0, decisions, decisions & ((1 << len(self.findings)) - 1))

    def judged(self, outputs: Array) -> Array:
        """Zeros ``(n, 1)``: all rows are of one group, and are judged before anything is written."""
        return np.zeros((len(outputs), 1), np.float32)

    def doubt(self, outputs: Array) -> None:
        """None: there is no border."""
        return

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Where the findings are the same, and as sure."""
        return np.asarray(self.decide(before) == self.decide(after))

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """What the text says of each finding, which is the decision, or NaN; texts are `guard.report_filter`'s."""
        return nothing(outputs) if level is Level.WITHHELD else np.asarray(outputs, np.float64)

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """Of a text the capacity of its length limit; of findings one of three states each, and no more than a text."""
        if level is Level.WITHHELD:
            return capacity.WITHHELD_BITS
        text = capacity.text_bits(self.length, self.vocabulary or BYTES)
        return text if level is Level.FULL else min(text, len(self.findings) * log2(len(Mention)))

    def word(self, decision: int) -> dict[str, str]:
        """The findings that are there or may be, and which of both."""
        said, count = {}, len(self.findings)
        for place, name in enumerate(self.findings):
            if decision >> place & 1:
                meant = Mention.UNCERTAIN if decision >> (count + place) & 1 else Mention.PRESENT
                said[name] = meant.name.lower()
        return said


def _plain_name(finding: str) -> str:
    """A finding's name as `CHEST_TERMS` writes it: data sets have capitals and underscores."""
    return finding.lower().replace("_", " ")


@lru_cache(64)
def _reader(findings: tuple[str, ...], words: tuple[str, ...]) -> ReportReader:
    return ReportReader(dict(zip(findings, words, strict=True)))
