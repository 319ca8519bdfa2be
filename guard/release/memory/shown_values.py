"""Shown values: what the model was shown for this request does not leave in a disguise.

Names, dates and numbers of a request are known from its header or context. An answer is read in the same views as for
training text (`views`), so that a value leaves neither as it stands nor in letters apart, capitals, lookalikes, base64
or what else is a view.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from itertools import permutations

import numpy as np

from medward.guard.release.memory.folding import folded_words, spoken_as_written
from medward.guard.release.memory.memory_stream import merged_spans
from medward.guard.release.memory.scanner import Span
from medward.guard.release.memory.views import TOKEN_PATTERN, TokenReader, leetspeak

LEAST = 4
"""Letters and digits that a value must have: shorter ones stand in every text."""
_WORDS = 4  # of a value that may come in any order: family name first


class ShownValues:
    """Shown values are taken out of an answer wherever a view reads one of them.

    Guarantee: no value of `LEAST` letters and digits or more, zeros aside, is left whole in any view, whatever the
    order of its words, if those are four at most. Not covered: shorter values, parts of a value, other wordings of it.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._needles = frozenset(needle for value in values for needle in _disguises(value) if len(needle) >= LEAST)
        self._reader = TokenReader()

    def find(self, text: str) -> list[Span]:
        """Spans (start, end) in characters, rising and apart."""
        tokens = TOKEN_PATTERN.findall(text)
        if not tokens or not self._needles:
            return []
        keys = ["\n" + tokens[0].lstrip(), *tokens[1:]]
        ends = np.cumsum([len(token) for token in tokens])
        starts = ends - [len(token.lstrip()) for token in tokens]
        spans = []
        for column in zip(*map(self._reader.__getitem__, keys), strict=True):
            run = b"".join(column)
            found = [(place, needle) for needle in self._needles for place in _places(run, needle)]
            if found:
                owners = np.repeat(np.arange(len(tokens)), [len(each) for each in column])
                spans += [
                    (int(starts[owners[place]]), int(ends[owners[place + len(needle) - 1]])) for place, needle in found
                ]
        return merged_spans(spans)


def _disguises(value: str) -> Iterable[bytes]:
    """The letters of a value: in each order of its words, spelled or spoken, rotated, in leetspeak, from the end."""
    words = [word for word in folded_words(value) if word]
    yield leetspeak(value)
    for order in permutations(words) if len(words) <= _WORDS else (words,):
        spelled = b"".join(order)
        yield spoken_as_written(list(order))
        yield spelled
        yield spelled[::-1]
        yield b"".join(word[::-1] for word in order)
        yield codecs.encode(spelled.decode("latin-1"), "rot13").encode("latin-1")


def _places(run: bytes, needle: bytes) -> Iterable[int]:
    place = run.find(needle)
    while place >= 0:
        yield place
        place = run.find(needle, place + 1)
