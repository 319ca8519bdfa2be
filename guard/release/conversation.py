"""Conversation: filters that judge an answer together with the answers before it.

Whoever asks for one letter at a time gets answers that say nothing each by itself. So every answer is read after what
was *said* before, taken out or not. And as a value would be known by its last letter only, when the others have left,
short answers that together spell a part of a known value are withheld from the third letter on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_words import folded_words, without_zeros
from medward.guard.release.disguises.spoken import spoken_as_written
from medward.guard.release.memory.memory_stream import merged_spans
from medward.guard.release.memory.scanner import Span

WITHHELD_PART = "[WITHHELD]"
"""What stands in the place of a part of an answer that a conversation may not add."""
FRAGMENT = 12
"""Letters and digits of an answer up to which it counts as a fragment."""
SPELLED = 3
"""Letters and digits in a row of a known value that fragments may not add up to."""
_KEPT = 128  # letters of fragments that are remembered


class SpanFinder(Protocol):
    """A span finder says which parts of a text may not leave."""

    def find(self, text: str) -> Sequence[Span]:
        """Spans (start, end) in characters."""
        ...


class Conversation:
    """A conversation keeps what was said in its answers, the last `remembered` characters, and filters each new one.

    Guarantee: what a filter would take out of the answers put together, with or without spaces between them, is taken
    out from the answer on that completes it; and fragments together spell no three letters in a row of one of `known`.
    One object serves one conversation, one answer after the other; it grows no further than `remembered`.
    """

    def __init__(self, filters: Sequence[SpanFinder], *, known: Iterable[str] = (), remembered: int = 2000) -> None:
        if remembered < 0:
            raise MedwardError(f"conversation: remembered must be at least 0 characters, got {remembered}")
        self._filters, self._remembered = tuple(filters), remembered
        self._known = [run for run in map(_letters, known) if run]
        self._said: dict[str, str] = {"": "", " ": ""}  # by what stands between two answers
        self._fragments = b""

    def redact(self, answer: str) -> str:
        """`answer` with a visible mark in the place of each part that may not leave; it is part of the conversation."""
        spans: list[Span] = []
        for between, before in self._said.items():
            start = len(before) + len(between) if before else 0
            whole = (before + between if before else "") + answer
            found = [span for each in self._filters for span in each.find(whole)]
            spans += [(max(since, start) - start, until - start) for since, until in found if until > start]
            self._said[between] = whole[-self._remembered :] if self._remembered else ""
        if self._spells(answer):
            spans = [(0, len(answer))]
        parts, place = [], 0
        for since, until in merged_spans(spans):
            parts += [answer[place:since], WITHHELD_PART]
            place = until
        return "".join([*parts, answer[place:]])

    def _spells(self, answer: str) -> bool:
        """Whether a fragment adds a letter to a run of a known value that spans answers."""
        letters = _letters(answer)
        if not letters or len(letters) > FRAGMENT:
            return False
        before, self._fragments = self._fragments, (self._fragments + letters)[-_KEPT:]
        seam = before[-SPELLED + 1 :] + letters
        starts = range(len(seam) - SPELLED + 1)
        new = len(seam) - len(letters)
        runs = [seam[start : start + SPELLED] for start in starts if start < new < start + SPELLED]
        return any(run in value for run in runs for value in self._known)


def _letters(text: str) -> bytes:
    return without_zeros(spoken_as_written(folded_words(text)))
