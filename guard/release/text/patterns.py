"""The pattern engine: expressions in RE2, which reads a text in linear time whatever is in it, and their checks.

Expressions are run on folded text. A set of all of them says in one pass which occur in a window at all (Cox 2010,
"Regular expression matching in the wild"); only those are searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import re2

from medward.guard.errors import MedwardError
from medward.guard.release.text.checksums import CHECKS
from medward.guard.release.text.fold import FoldedText
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierPattern:
    """An identifier pattern says what an identifier of one kind looks like.

    Where the expression has a group ``(?P<id>...)``, that is the identifier and the rest is context that must be there.
    `check` names a checksum that must hold.
    """

    kind: IdentifierKind
    expression: str
    check: str = ""


class PatternSet:
    """A pattern set searches a window for many identifier patterns."""

    def __init__(self, patterns: Sequence[IdentifierPattern]) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        self._compiled = []
        self._occurring = re2.Set.SearchSet(options)
        for pattern in patterns:
            expression = pattern.expression.encode("ascii")
            try:
                compiled = re2.compile(expression, options)
            except re2.error:
                raise MedwardError(
                    f"pattern for {pattern.kind}: not an expression RE2 can read: {pattern.expression}"
                ) from None
            self._occurring.Add(expression)
            check = CHECKS[pattern.check] if pattern.check else None
            self._compiled.append((pattern.kind, compiled, compiled.groupindex.get(b"id", 0), check))
        self._occurring.Compile()

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every match in the window, of every pattern."""
        for number in self._occurring.Match(folded.view):
            kind, expression, group, check = self._compiled[number]
            for match in expression.finditer(folded.view):
                start, end = match.span(group)
                if start < end and (check is None or check(folded.view[start:end].decode())):
                    yield IdentifierSpan(*folded.span_in_text(start, end), kind, "pattern")
