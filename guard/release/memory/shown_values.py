"""Shown values: what the model was shown for this request does not leave in a disguise.

Names, dates and numbers of a request are known from its header or context. An answer is read in the same views as for
training text (`views`), so that a value leaves neither as it stands nor in letters apart, capitals, lookalikes, base64
or what else is a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import permutations

from medward.guard.release.disguises.ciphers import CIPHERS, from_the_end, rotated_text
from medward.guard.release.disguises.encodings import encoded_stretches
from medward.guard.release.disguises.folded_text import fold_text
from medward.guard.release.disguises.folded_words import folded_words, without_zeros
from medward.guard.release.disguises.letters import UndisguisedLetters, letters_without_zeros
from medward.guard.release.disguises.spoken import spoken_as_written
from medward.guard.release.disguises.views import TokenReader, TokenViews, leetspeak, written
from medward.guard.release.memory.memory_stream import merged_spans
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
        forms = {form for value in values for form in _disguised_forms(value)}
        self._needles = _long_enough(forms)
        self._without_zeros = _long_enough(map(without_zeros, forms))
        self._reader = TokenReader(zeros_kept=True)

    def find(self, text: str) -> list[Span]:
        """Spans (start, end) in characters, rising and apart."""
        return merged_spans([*self._in_views(text), *self._encoded(text)]) if self._needles else []

    def _in_views(self, text: str) -> Iterator[Span]:
        views = TokenViews(text, self._reader)
        for view, run in enumerate(views.runs):
            yield from _spans(run, self._needles, lambda view=view: views.letters(view))
            yield from _spans(
                without_zeros(run), self._without_zeros, lambda view=view: letters_without_zeros(views.letters(view))
            )

    def _encoded(self, text: str) -> Iterator[Span]:
        """Stretches that the views read in part only: with letters before the code, or encoded twice."""
        folded = fold_text(text)
        for start, end, inner in encoded_stretches(folded.view):
            run = written(inner)
            if any(needle in run for needle in self._needles):
                yield folded.span_in_text(start, end)


def _long_enough(forms: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(form for form in forms if len(form) >= LEAST)


def _spans(run: bytes, needles: Iterable[bytes], read: Callable[[], UndisguisedLetters]) -> Iterator[Span]:
    """Where a run holds needles; the run is read with places only where it does."""
    found = [(place, needle) for needle in needles for place in _places(run, needle)]
    if found:
        letters = read()
        for place, needle in found:
            yield int(letters.starts[place]), int(letters.ends[place + len(needle) - 1])


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
