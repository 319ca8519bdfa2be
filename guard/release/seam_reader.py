"""Seam reader: finds what began in the answers before and ends in this one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medward.guard.release.redaction_stream import NEVER

HEAD = 256
"""Characters of an answer in which what began before it ends; what is longer goes on to the next white space."""
ADDRESS_REST = re.compile(r"(?:[).,;:!?]*[^\s\"'<>\])).,;:!?])*")
"""What may still belong to a web address behind what was recognised of it."""


class SeamReader:
    """A seam reader puts the head of an answer behind what was said, and reads both by `find`.

    `said` is what was said before, by what stands between two answers: nothing, for a word whose letters came apart,
    and a space. What ends before the answer has left already, and what begins in it is for the answer's own readers.
    """

    def __init__(self, find: Callable[[str], Sequence[Any]], said: Mapping[str, str]) -> None:
        self._find, self._said = find, {between: before for between, before in said.items() if before}
        self._head = ""
        self._done = not self._said
        self._open: Any = None  # what goes on behind what was read, in pieces of `HEAD` characters

    @property
    def settled(self) -> int:
        """Nothing until the head is there, then all, or as far as an address is followed."""
        if self._open is not None:
            return int(self._open.end)
        return NEVER if self._done else 0

    def read(self, piece: str, *, whole: bool) -> list[Any]:
        """The spans across the seam, once the head is there."""
        if self._done and self._open is None:
            return []
        self._head += piece
        if self._done:
            return self._going_on(whole=whole)
        if len(self._head) < HEAD and not whole:
            return []
        self._done = True
        found = []
        for between, before in self._said.items():
            start = len(before) + len(between)
            for span in self._find(before + between + self._head[:HEAD]):
                if span.start < len(before) and span.end > start:
                    found.append(replace(span, start=0, end=span.end - start))
        longest = next((each for each in found if not self._head[each.end : HEAD].strip("-")), None)
        if longest:
            self._open, self._head = replace(longest, start=HEAD, end=HEAD), self._head[HEAD:]
            found += self._going_on(whole=whole)
        return found

    def _going_on(self, *, whole: bool) -> list[Any]:
        """What of the text that came belongs to an address that began before it."""
        found = []
        while self._open is not None and (len(self._head) >= HEAD or whole):
            rest = ADDRESS_REST.match(self._head, 0, HEAD)
            length = rest.end() if rest else 0
            span = replace(self._open, start=self._open.end, end=self._open.end + length)
            found += [span] if length else []
            self._head = self._head[HEAD:]
            self._open = span if length == HEAD else None
        return found
