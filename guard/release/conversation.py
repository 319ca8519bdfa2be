"""Conversation: answers are filtered one by one, and judged together with the answers before them.

Every answer is read after what was *said* before, taken out or not: what the answers put together would not let leave
is taken out of the one that completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medward.guard.errors import MedwardError
from medward.guard.release.fragments import FragmentReader, Fragments, LoneCharacterReader
from medward.guard.release.redaction_stream import NEVER, RedactionStream, SpanReader, TextSpan, typed_mark
from medward.guard.release.seam_reader import SeamReader

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.memory.memory_filter import MemoryFilter
    from medward.guard.release.text.filter import IdentifierReader, TextFilter
    from medward.guard.release.text.known import KnownIdentifiers
    from medward.guard.release.text.spans import IdentifierSpan

REMEMBERED_CHARACTERS = 512
"""Characters of a conversation that an answer is read after."""


class Conversation:
    """A conversation filters its answers, one after the other, by a filter of identifiers, of training text, or both.

    Guarantee: what `identifiers` would take out of the answers put together, with or without spaces between them, is
    taken out from the answer on that completes it, as far as `remembered` characters reach; what `memory` knows, as if
    all answers were one; fragments together spell no three letters in a row of a value that is `known`, and lone
    characters in longer answers no four. `patient`
    is for identifiers with surrogates. `on_redaction` is told the kind of each part that is replaced, and not its text,
    before that leaves: it must be quick.
    """

    def __init__(
        self,
        *,
        identifiers: TextFilter | None = None,
        memory: MemoryFilter | None = None,
        known: KnownIdentifiers | None = None,
        patient: str = "",
        remembered: int = REMEMBERED_CHARACTERS,
        on_redaction: Callable[[str], object] | None = None,
    ) -> None:
        if not isinstance(remembered, int) or remembered < 0:
            raise MedwardError(f"conversation: remembered must be at least 0 characters, got {remembered!r}")
        _check_filters(identifiers, memory, known)
        self._identifiers, self._known = identifiers, known
        self._scanner = None if memory is None else memory.scanner()
        mark = typed_mark if identifiers is None else identifiers.mark(patient)
        self._mark = mark if on_redaction is None else _told_mark(mark, on_redaction)
        self._remembered = remembered
        self._said = {"": "", " ": ""}  # by what stands between two answers
        self._open: RedactionStream | None = None
        self._fragments = Fragments(value for _, value in known.values) if known is not None else Fragments(())

    def answer(self) -> RedactionStream:
        """A stream for the next answer. One that was left open ends here: what was said in it counts as said."""
        if self._open is not None:
            self._open.finish()
        readers: list[SpanReader] = [FragmentReader(self._fragments), LoneCharacterReader(self._fragments)]
        if self._identifiers is not None:
            readers += [self._reader(self._identifiers), SeamReader(self._found, self._said)]
        if self._scanner is not None:
            readers.append(self._scanner.reader())
        self._open = RedactionStream(readers=[*readers, _Listener(self, self._remembered)], mark=self._mark)
        return self._open

    def redact(self, answer: str) -> str:
        """`answer` with a visible mark in the place of each part that may not leave; it is part of the conversation."""
        return self.answer().redact(answer).text

    def hear(self, answer: str) -> None:
        """Remember the end of an answer, which is over, as it was said."""
        self._open = None
        for between, before in self._said.items():
            heard = (before + between if before else "") + answer
            self._said[between] = heard[-self._remembered :] if self._remembered else ""

    def _reader(self, identifiers: TextFilter) -> IdentifierReader:
        return identifiers.reader() if self._known is None else identifiers.reader(self._known)

    def _found(self, text: str) -> Sequence[IdentifierSpan]:
        return () if self._identifiers is None else self._reader(self._identifiers).read(text, whole=True)


def _told_mark(mark: Callable[[str, str], str], tell: Callable[[str], object]) -> Callable[[str, str], str]:
    """`mark`, which a stream asks for once for each part that it replaces, where each is told of."""

    def told(kind: str, value: str) -> str:
        tell(kind)
        return mark(kind, value)

    return told


def _check_filters(identifiers: object, memory: object, known: object) -> None:
    """Refuse no filter at all, each filter in the place of the other, and known identifiers that are none."""
    if identifiers is None and known is not None and getattr(known, "values", True):
        raise MedwardError("conversation: known identifiers are searched for by a text filter; give identifiers")
    if identifiers is None and memory is None:
        raise MedwardError("conversation: got no filter, so everything would leave; give identifiers=TextFilter()")
    for name, given, needed, expected in (
        ("identifiers", identifiers, "mark", "TextFilter"),
        ("memory", memory, "scanner", "MemoryFilter"),
    ):
        if given is not None and not callable(getattr(given, needed, None)):
            raise MedwardError(
                f"conversation: {name} must be a {expected}, got {type(given).__name__}; give {name}={expected}(...)"
            )
    if identifiers is not None and known is not None:
        from medward.guard.release.text.known import check_known  # needs the extra `text`, as the filter does

        check_known(known)


class _Listener:
    """Finds nothing, and tells its conversation what was said."""

    settled = NEVER

    def __init__(self, conversation: Conversation, most: int) -> None:
        self._conversation, self._most, self._end = conversation, most, ""

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """Nothing."""
        self._end = (self._end + piece)[-self._most :] if self._most else ""
        if whole:
            self._conversation.hear(self._end)
        return []
