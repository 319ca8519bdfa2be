"""Seam reader: finds what began in the answers before and ends in this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medward.guard.release.redaction_stream import NEVER

HEAD = 256
"""Characters of an answer in which what began before it ends; no identifier is longer."""


class SeamReader:
    """A seam reader puts the head of an answer behind what was said, and reads both by `find`.

    `said` is what was said before, by what stands between two answers: nothing, for a word whose letters came apart,
    and a space. What ends before the answer has left already, and what begins in it is for the answer's own readers.
    """

    def __init__(self, find: Callable[[str], Sequence[Any]], said: Mapping[str, str]) -> None:
        self._find, self._said = find, {between: before for between, before in said.items() if before}
        self._head = ""
        self._done = not self._said

    @property
    def settled(self) -> int:
        """Nothing until the head is there, then all."""
        return NEVER if self._done else 0

    def read(self, piece: str, *, whole: bool) -> list[Any]:
        """The spans across the seam, once the head is there."""
        if self._done:
            return []
        self._head += piece
        if len(self._head) < HEAD and not whole:
            return []
        self._done = True
        found = []
        for between, before in self._said.items():
            start = len(before) + len(between)
            for span in self._find(before + between + self._head[:HEAD]):
                if span.start < len(before) and span.end > start:
                    found.append(replace(span, start=0, end=span.end - start))
        return found
