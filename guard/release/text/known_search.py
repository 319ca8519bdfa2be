"""Search for known identifiers, however they are written."""

from __future__ import annotations

from collections.abc import Iterator

from medward.guard.release.text.fold import FoldedText, fold_text
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.spans import IdentifierSpan


class KnownSearch:
    """A search for the known identifiers of one request in the windows of a text."""

    def __init__(self, known: KnownIdentifiers) -> None:
        self._needles = [
            (kind, part.lower())
            for kind, value in known.values
            for part in fold_text(value).view.replace(b"^", b" ").split()
        ]

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every place at which a known identifier stands."""
        view = folded.view.lower()
        for kind, needle in self._needles:
            at = view.find(needle)
            while at >= 0:
                yield IdentifierSpan(*folded.span_in_text(at, at + len(needle)), kind, "known")
                at = view.find(needle, at + 1)
