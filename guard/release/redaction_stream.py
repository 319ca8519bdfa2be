"""Redaction stream: a text leaves piece by piece, with a mark in the place of each span that its readers find in it.

Readers say where something stands that may not leave; what is held back, in which order spans are replaced, and that a
text in pieces leaves as the whole text would, is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from medward.guard.errors import MedwardError

NEVER = 2**62
"""Characters before which a reader has settled that finds nothing more."""


class FoundSpan(Protocol):
    """A found span says that characters `start` to `end` (half open) may not leave, why, and what found it."""

    @property
    def start(self) -> int:
        """Its first character."""

    @property
    def end(self) -> int:
        """The character after its last."""

    @property
    def kind(self) -> str:
        """What it is: a kind of identifier, or memorised."""

    @property
    def source(self) -> str:
        """What found it."""


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A text span is a found span of any kind; the text itself is never kept, so it may be logged."""

    start: int
    end: int
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text and the spans of what was replaced in it, as places in the text before."""

    text: str
    spans: tuple[Any, ...]


class SpanReader(Protocol):
    """A span reader reads a text piece by piece, and says what of it may not leave.

    What it finds in the end may not depend on the pieces.
    """

    @property
    def settled(self) -> int:
        """Characters of the text before which it finds no span any more."""

    def read(self, piece: str, *, whole: bool) -> Sequence[FoundSpan]:
        """Spans that the next piece brought, as places in the text; `whole` says that the text is complete."""


@dataclass(slots=True, kw_only=True, repr=False)
class RedactionStream:
    """A redaction stream redacts a text while it is generated: ``push`` pieces of it, then ``finish``.

    What was returned is final. Of spans that overlap, the one that begins first is replaced, then what is left of the
    next; touching ones of one kind are one, but not over a ``finish``: each text shows its marks. `spans` says
    what was replaced so far, as places in the text before.
    """

    readers: Sequence[SpanReader]
    mark: Callable[[str, str], str]
    """What stands in the place of a span of this kind and these characters."""
    spans: list[Any] = field(default_factory=list)
    _text: str = ""  # of which the first `_at` characters have left or been replaced
    _at: int = 0
    _left: int = 0  # the place in the whole text of the first character that has not
    _begun: int = 0  # the place at which what was pushed since the last `finish` begins
    _found: list[FoundSpan] = field(default_factory=list)

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return len(self._text) - self._at

    def push(self, piece: str) -> str:
        """Takes the next piece; returns what may leave now, which can be nothing."""
        return self._read(piece, whole=False)

    def finish(self) -> str:
        """Returns the rest; the text is complete."""
        rest = self._read("", whole=True)
        self._begun = self._left
        return rest

    def redact(self, text: str) -> RedactedText:
        """The whole text at once."""
        return RedactedText(self.push(text) + self.finish(), tuple(self.spans))

    def _read(self, piece: str, *, whole: bool) -> str:
        refuse_no_text(piece, str)
        for reader in self.readers:
            self._found += reader.read(piece, whole=whole)
        self._text = self._text[self._at :] + piece
        self._at = 0
        until = self._left + len(self._text)
        return self._release(until if whole else min([until, *(each.settled for each in self.readers)]))

    def _release(self, until: int) -> str:
        """What stands before `until`, with a mark for each span that begins there."""
        self._found.sort(key=lambda each: (each.start, -each.end))
        parts: list[str] = []
        done = 0
        for span in self._found:
            if span.start >= until:
                break
            done += 1
            if span.end > self._left:
                parts.append(self._replaced(span))
        del self._found[:done]
        parts.append(self._taken(until - self._left))
        return "".join(parts)

    def _replaced(self, span: FoundSpan) -> str:
        """What leaves before a span, and its mark; its characters are gone."""
        last = self.spans[-1] if self.spans else None
        touching = last is not None and last.end == self._left > self._begun
        if last is not None and touching and last.kind == span.kind and span.start <= last.end:
            self.spans[-1] = replace(last, end=span.end)
            self._taken(span.end - self._left)
            return ""
        before = self._taken(span.start - self._left)
        start, value = self._left, self._taken(span.end - self._left)
        self.spans.append(_moved(span, start))
        return before + self.mark(span.kind, value)

    def _taken(self, count: int) -> str:
        """The next characters, which are held no longer."""
        if count <= 0:
            return ""
        taken = self._text[self._at : self._at + count]
        self._at += count
        self._left += count
        return taken


def _moved(span: Any, start: int) -> Any:
    return span if span.start == start else replace(span, start=start)


def typed_mark(kind: str, value: str) -> str:
    """The visible mark of a kind, such as ``[NAME]``."""
    del value
    return f"[{kind.upper()}]"


def refuse_no_text(text: object, *types: type) -> None:
    """Raise `MedwardError` for what is no text, by its type."""
    if not isinstance(text, types):
        raise MedwardError(f"text: expected {types[0].__name__}, got {type(text).__name__}; give the text itself")


def refuse_more(finished: bool) -> None:
    """Raise `MedwardError` where a text is complete and more of it comes."""
    if finished:
        raise MedwardError("text stream: a piece came after finish(); open a new stream for the next text")
