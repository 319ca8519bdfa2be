"""The text filter: finds identifiers in what a model wrote, and lets the text leave without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_text import fold_text
from medward.guard.release.redaction_stream import (
    RedactedText,
    RedactionStream,
    refuse_more,
    refuse_no_text,
    typed_mark,
)
from medward.guard.release.seam_reader import ADDRESS_REST
from medward.guard.release.text.known import KnownIdentifiers, check_known
from medward.guard.release.text.known_search import KnownSearch
from medward.guard.release.text.language import Language, check_language, load_language
from medward.guard.release.text.recogniser import NameRecogniser
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan, join_spans
from medward.guard.release.text.surrogates import check_key
from medward.guard.release.text.windows import BLOCK_LENGTH, CONTEXT, LOOKAHEAD, block_end

NOTHING_KNOWN = KnownIdentifiers()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFilter:
    """A text filter replaces identifiers of `kinds` by visible markers such as ``[NAME]``.

    Every other character stays as it is, in its place. What is found does not depend on the pieces a text comes in. A
    `recogniser` adds what a trained model finds. With a `surrogate_key`, made-up values stand in the places instead.
    """

    language: str = "en"
    kinds: frozenset[IdentifierKind] = frozenset(IdentifierKind)
    recogniser: NameRecogniser | None = None
    surrogate_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuses what would fail at the first text, or would find nothing."""
        check_language(self.language)
        object.__setattr__(self, "kinds", _checked_kinds(self.kinds))
        if self.recogniser is not None and not callable(getattr(self.recogniser, "recognise", None)):
            raise MedwardError(
                f"text filter: recogniser must have a method recognise(text), got {type(self.recogniser).__name__}; "
                "give a SpacyRecogniser or leave it out"
            )
        if self.surrogate_key is not None:
            check_key(self.surrogate_key)

    def find(self, text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN) -> tuple[IdentifierSpan, ...]:
        """Identifiers of the text, in order and apart. A text that is no valid Unicode is refused."""
        stream = RedactionStream(readers=(self.reader(known),), mark=typed_mark)
        return stream.redact(decode_text(text)).spans

    def redact(self, text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN, patient: str = "") -> RedactedText:
        """The text with a marker or a surrogate in the place of each identifier; surrogates need a `patient`."""
        return self.stream(known, patient).redact(decode_text(text))

    def stream(self, known: KnownIdentifiers = NOTHING_KNOWN, patient: str = "") -> RedactionStream:
        """A stream for one text that is still being generated; it holds back fewer than `MAXIMUM_DELAY` characters."""
        return RedactionStream(readers=(self.reader(known),), mark=self.mark(patient))

    def reader(self, known: KnownIdentifiers = NOTHING_KNOWN) -> IdentifierReader:
        """A reader of the identifiers of one text."""
        check_known(known)
        language = load_language(self.language)
        return IdentifierReader(
            language=language,
            known=language.search_for(known) if known.values else None,
            kinds=self.kinds,
            recogniser=self.recogniser,
        )

    def mark(self, patient: str = "") -> Callable[[str, str], str]:
        """What stands in the place of an identifier: a marker, or with a `surrogate_key` a value made up for it."""
        if self.surrogate_key is None:
            return typed_mark
        surrogates = load_language(self.language).surrogates(self.surrogate_key, patient)
        kinds = frozenset(IdentifierKind)
        return lambda kind, value: (
            surrogates.surrogate(IdentifierKind(kind), value) if kind in kinds else typed_mark(kind, value)
        )


@dataclass(slots=True, kw_only=True, repr=False)
class IdentifierReader:
    """An identifier reader finds the identifiers of a text while it is generated, block by block (`windows`)."""

    language: Language
    known: KnownSearch | None
    kinds: frozenset[IdentifierKind]
    recogniser: NameRecogniser | None = None
    _text: str = ""  # what of the text may still be needed
    _offset: int = 0  # the place of its first character
    _start: int = 0  # where the next block begins in it
    _open: IdentifierSpan | None = None  # an address or a number that may go on in the next block
    _finished: bool = False

    @property
    def settled(self) -> int:
        """Where the next block begins: identifiers that begin before are found."""
        return self._offset + self._start

    def read(self, piece: str, *, whole: bool) -> list[IdentifierSpan]:
        """The identifiers of the blocks behind which the text reaches far enough now."""
        if piece or not whole:
            refuse_more(self._finished)
        self._text += decode_text(piece)
        self._finished = whole
        found: list[IdentifierSpan] = []
        needed = 1 if whole else BLOCK_LENGTH + LOOKAHEAD
        while len(self._text) - self._start >= needed:
            end = block_end(self._text, self._start)
            found += self._whole_spans(self._start, end, self._identifiers(self._start, end))
            self._start = end
        forget = max(0, self._start - CONTEXT)
        self._text = self._text[forget:]
        self._offset, self._start = self._offset + forget, self._start - forget
        return found

    def _whole_spans(self, start: int, end: int, found: list[IdentifierSpan]) -> list[IdentifierSpan]:
        """The identifiers of a block, where what its window cuts goes on to the next white space, as addresses do."""
        going_on, self._open = self._open, None
        shown = end + LOOKAHEAD
        whole = []
        if going_on:
            whole.append(self._whole_span(replace(going_on, start=start + self._offset, end=start + self._offset), end))
        for each in found:
            behind = self._text[each.end - self._offset : shown]
            cut = len(self._text) >= shown and not behind.strip("-")
            goes_on = cut or each.kind is IdentifierKind.URL
            whole.append(self._whole_span(each, end) if goes_on else each)
        return join_spans(each for each in whole if each.end > each.start)

    def _whole_span(self, span: IdentifierSpan, end: int) -> IdentifierSpan:
        """An address or a number as far as it goes within the block; what goes on behind it is open."""
        place = span.end - self._offset
        rest = ADDRESS_REST.match(self._text, place, max(place, end))
        past = rest.end() if rest else place
        if past >= end:
            self._open = span
        return replace(span, end=past + self._offset)

    def _identifiers(self, start: int, end: int) -> list[IdentifierSpan]:
        """The identifiers that begin in a block of the text held."""
        left = max(0, start - CONTEXT)
        window = self._text[left : end + LOOKAHEAD]
        folded = fold_text(window)
        found = [*self.language.find(folded)]
        if self.known:
            found += self.known.find(folded)
        if self.recogniser:
            found += self.recogniser.recognise(window)
        place = left + self._offset
        return join_spans(
            IdentifierSpan(each.start + place, each.end + place, each.kind, each.source)
            for each in found
            if start <= each.start + left < end and each.kind in self.kinds
        )


def _checked_kinds(kinds: object) -> frozenset[IdentifierKind]:
    """The kinds by their spellings; none at all, or one that there is not, would let everything pass."""
    given = [] if isinstance(kinds, str) or not isinstance(kinds, Iterable) else list(kinds)
    wrong = [each for each in given if not isinstance(each, str) or each not in set(IdentifierKind)]
    if wrong or not given:
        raise MedwardError(
            f"text filter: kinds must be a set of kinds, got {wrong[0] if wrong else kinds!r}; there are: "
            f"{', '.join(IdentifierKind)}"
        )
    return frozenset(map(IdentifierKind, given))


def find_identifiers(
    text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN, language: str = "en"
) -> tuple[IdentifierSpan, ...]:
    """Identifiers of a text, in order and apart: where each stands, its kind and what found it, never its value."""
    return TextFilter(language=language).find(text, known)


def decode_text(text: str | bytes) -> str:
    """The text, if it is valid Unicode; bytes are read as UTF-8."""
    refuse_no_text(text, str, bytes, bytearray, memoryview)
    try:
        if isinstance(text, str):
            if not text.isascii():
                text.encode()
            return text
        return bytes(text).decode()
    except UnicodeError as error:
        place = error.start if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else 0
    raise MedwardError(f"text: position {place} is no valid Unicode; expected UTF-8 without lone surrogates")
