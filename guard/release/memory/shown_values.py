"""Shown values: what the model was shown for this request does not leave in a disguise.

Names, dates and numbers of a request are known from its header or context. An answer is read in the same views as for
training text (`views`), so that a value leaves neither as it stands nor in letters apart, capitals, lookalikes, base64
or what else is a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations

from medward.guard.release.disguises.ciphers import CIPHERS, from_the_end, rotated_text
from medward.guard.release.disguises.encodings import encoded_stretches
from medward.guard.release.disguises.folded_text import fold_text
from medward.guard.release.disguises.folded_words import folded_words, without_zeros
from medward.guard.release.disguises.letters import UndisguisedLetters, letters_without_zeros
from medward.guard.release.disguises.spoken import spoken_as_written
from medward.guard.release.disguises.views import TokenReader, TokenViews, leetspeak, written
from medward.guard.release.memory.memory_reader import merged_spans
from medward.guard.release.memory.scanner import Span

LEAST = 4
"""Letters and digits that a value must have: shorter ones stand in every text."""
_LEAST_AS_LETTERS = 8  # digits of a number that is looked for in leetspeak: 4711 would be in "at limit"
_WORDS = 4  # of a value that may come in any order: family name first


class ShownValues:
    """Shown values are taken out of an answer wherever a view reads one of them.

    Guarantee: no value of `LEAST` letters and digits or more is left whole in any view, whatever the order of its
    words, if those are four at most. Not covered: shorter values, numbers of fewer than eight digits in leetspeak, or
    with fewer than `LEAST` digits beside zeros where they are spelled as "twenty-three"; parts of a value, other
    wordings of it.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _disguised_forms(value) if len(form) >= LEAST}
        self._of_zeros = frozenset(form for form in forms if len(without_zeros(form)) < LEAST)
        self._needles = frozenset(map(without_zeros, forms - self._of_zeros))
        self._reader = TokenReader(zeros_kept=True)

    def find(self, text: str) -> list[Span]:
        """Spans (start, end) in characters, rising and apart."""
        known = self._needles or self._of_zeros
        return merged_spans([*self._in_views(text), *self._encoded(text)]) if known else []

    def _in_views(self, text: str) -> Iterator[Span]:
        views = TokenViews(text, self._reader)
        for view, run in enumerate(views.runs):
            if self._holds(run):
                letters = views.letters(view)
                yield from _spans(letters, self._of_zeros)
                yield from _spans(letters_without_zeros(letters), self._needles)

    def _encoded(self, text: str) -> Iterator[Span]:
        """Stretches that the views read in part only: with letters before the code, or encoded twice."""
        folded = fold_text(text)
        read = [(start, end, written(inner)) for start, end, inner in encoded_stretches(folded.view)]
        if self._holds(b"\0".join([run for _, _, run in read])):
            yield from (folded.span_in_text(start, end) for start, end, run in read if self._holds(run))

    def _holds(self, run: bytes) -> bool:
        bare = without_zeros(run)
        return any(needle in bare for needle in self._needles) or any(needle in run for needle in self._of_zeros)


def _spans(found: UndisguisedLetters, needles: Iterable[bytes]) -> Iterator[Span]:
    for needle in needles:
        for place in _places(found.letters, needle):
            yield int(found.starts[place]), int(found.ends[place + len(needle) - 1])


def _disguised_forms(value: str) -> Iterator[bytes]:
    """The letters of a value: in each order of its words, spelled or spoken, enciphered, in leetspeak, turned."""
    words = [word for word in folded_words(value) if word]
    if len(b"".join(words)) >= _LEAST_AS_LETTERS or not b"".join(words).isdigit():
        yield leetspeak(value)
    accents_rotated = b"".join(folded_words(rotated_text(value)))
    yield from (accents_rotated, from_the_end(accents_rotated))
    for order in permutations(words) if len(words) <= _WORDS else (words,):
        spelled = b"".join(order)
        yield spoken_as_written(list(order))
        yield spelled
        yield b"".join(map(from_the_end, order))
        yield from (encipher(spelled) for encipher in CIPHERS.values())


def _places(run: bytes, needle: bytes) -> Iterator[int]:
    place = run.find(needle)
    while place >= 0:
        yield place
        place = run.find(needle, place + 1)
