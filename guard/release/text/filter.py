"""The text filter: finds identifiers in what a model wrote, and lets the text leave without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_text import fold_text
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.known_search import KnownSearch
from medward.guard.release.text.language import Language, load_language
from medward.guard.release.text.recogniser import NameRecogniser
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan, join_spans
from medward.guard.release.text.surrogates import Surrogates
from medward.guard.release.text.windows import BLOCK_LENGTH, CONTEXT, LOOKAHEAD, block_end

NOTHING_KNOWN = KnownIdentifiers()


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text and the spans of what was replaced in it, as places in the text before."""

    text: str
    spans: tuple[IdentifierSpan, ...]


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

    def find(self, text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN) -> tuple[IdentifierSpan, ...]:
        """Identifiers of the text, in order and apart. A text that is no valid Unicode is refused."""
        stream = self._stream(known, None)
        stream.push(decode_text(text))
        stream.finish()
        return tuple(stream.spans)

    def redact(self, text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN, patient: str = "") -> RedactedText:
        """The text with a marker or a surrogate in the place of each identifier; surrogates need a `patient`."""
        stream = self.stream(known, patient)
        redacted = stream.push(decode_text(text)) + stream.finish()
        return RedactedText(redacted, tuple(stream.spans))

    def stream(self, known: KnownIdentifiers = NOTHING_KNOWN, patient: str = "") -> TextStream:
        """A stream for one text that is still being generated."""
        if self.surrogate_key is None:
            return self._stream(known, None)
        return self._stream(known, load_language(self.language).surrogates(self.surrogate_key, patient))

    def _stream(self, known: KnownIdentifiers, surrogates: Surrogates | None) -> TextStream:
        language = load_language(self.language)
        return TextStream(
            language=language,
            known=language.search_for(known) if known.values else None,
            kinds=self.kinds,
            recogniser=self.recogniser,
            surrogates=surrogates,
        )


@dataclass(slots=True, kw_only=True, repr=False)
class TextStream:
    """A text stream redacts a text while it is generated: ``push`` pieces of it, then ``finish``.

    What was returned is final and equals the redaction of the whole text. Fewer than `MAXIMUM_DELAY` characters are
    held back, and `spans` says what was found so far.
    """

    language: Language
    known: KnownSearch | None
    kinds: frozenset[IdentifierKind]
    recogniser: NameRecogniser | None = None
    surrogates: Surrogates | None = None
    spans: list[IdentifierSpan] = field(default_factory=list)
    _text: str = ""  # what of the text may still be needed
    _offset: int = 0  # the place of its first character
    _start: int = 0  # where the next block begins in it
    _covered: int = 0  # up to where it was replaced already
    _finished: bool = False

    def push(self, piece: str) -> str:
        """Takes the next piece; returns what may leave now, which can be nothing."""
        if self._finished:
            raise MedwardError("text stream: a piece came after finish(); open a new stream for the next text")
        self._text += decode_text(piece)
        return "".join(self._blocks(BLOCK_LENGTH + LOOKAHEAD))

    def finish(self) -> str:
        """Returns the rest; the text is complete."""
        left = "".join(self._blocks(1))
        self._finished = True
        return left

    def _blocks(self, needed: int) -> Iterator[str]:
        """The blocks behind which the text reaches far enough, redacted."""
        while len(self._text) - self._start >= needed:
            yield from self._block(self._start, block_end(self._text, self._start))
        forget = max(0, self._start - CONTEXT)
        self._text = self._text[forget:]
        self._offset, self._start, self._covered = self._offset + forget, self._start - forget, self._covered - forget

    def _block(self, start: int, end: int) -> Iterator[str]:
        """The block redacted: what it holds before, between and behind its identifiers, and what stands for them."""
        at = max(start, self._covered)
        for span in self._identifiers(start, end):
            if span.end <= at:
                continue
            first = max(span.start, at)
            yield self._text[at:first]
            if span.start < at and self.spans and self.spans[-1].kind is span.kind:
                self._lengthen(span.end)  # it began in the block before, and is replaced already
            else:
                here, behind = first + self._offset, span.end + self._offset
                self.spans.append(IdentifierSpan(here, behind, span.kind, span.source))
                yield self._replacement(span.kind, self._text[first : span.end])
            at = self._covered = span.end
        yield self._text[at:end]
        self._start = end

    def _identifiers(self, start: int, end: int) -> list[IdentifierSpan]:
        """The identifiers that begin in a block, as places in the text held."""
        left = max(0, start - CONTEXT)
        window = self._text[left : end + LOOKAHEAD]
        folded = fold_text(window)
        found = [*self.language.find(folded)]
        if self.known:
            found += self.known.find(folded)
        if self.recogniser:
            found += self.recogniser.recognise(window)
        return join_spans(
            IdentifierSpan(each.start + left, each.end + left, each.kind, each.source)
            for each in found
            if start <= each.start + left < end and each.kind in self.kinds
        )

    def _replacement(self, kind: IdentifierKind, value: str) -> str:
        return self.surrogates.surrogate(kind, value) if self.surrogates else f"[{kind.upper()}]"

    def _lengthen(self, end: int) -> None:
        self.spans[-1] = replace(self.spans[-1], end=end + self._offset)


def find_identifiers(
    text: str | bytes, known: KnownIdentifiers = NOTHING_KNOWN, language: str = "en"
) -> tuple[IdentifierSpan, ...]:
    """Identifiers of a text, in order and apart: where each stands, its kind and what found it, never its value."""
    return TextFilter(language=language).find(text, known)


def decode_text(text: str | bytes) -> str:
    """The text, if it is valid Unicode; bytes are read as UTF-8."""
    try:
        if isinstance(text, str):
            if not text.isascii():
                text.encode()
            return text
        return bytes(text).decode()
    except UnicodeError as error:
        place = error.start if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else 0
    raise MedwardError(f"text: position {place} is no valid Unicode; expected UTF-8 without lone surrogates")
