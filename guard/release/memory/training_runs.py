"""Training runs: the letters of a training text as a model may write them down."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from medward.guard.release.memory.folding import folded_words
from medward.guard.release.memory.views import TOKEN_PATTERN, leetspeak, written

_NUMBER = re.compile(r"\d(?:[^\w]{0,3}\d)*")  # with what groups its digits: 555-12 34


@dataclass(frozen=True, slots=True)
class TrainingRuns:
    """Training runs are the letters of one text, in the ways in which they may be written down.

    As `written`, with numbers as digits; as `spelled`, with number words as words, for what comes letter by letter; in
    `leetspeak`; and `backwards`, each word from its end. `numbers` are its numbers.
    """

    written: bytes
    spelled: bytes
    leetspeak: bytes
    backwards: bytes
    numbers: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str) -> TrainingRuns:
        """The runs of a text."""
        tokens = TOKEN_PATTERN.findall(text)
        spelled = [b"".join(folded_words(token)) for token in tokens]
        return cls(
            b"".join(map(written, tokens)),
            b"".join(spelled),
            b"".join(map(leetspeak, tokens)),
            b"".join([each[::-1] for each in spelled]),
            tuple(b"".join(folded_words(number)) for number in _NUMBER.findall(text)),
        )

    @property
    def plain(self) -> tuple[bytes, ...]:
        """The runs that are read as they are."""
        return tuple(dict.fromkeys((self.written, self.spelled, self.leetspeak)))

    @property
    def disguised(self) -> tuple[bytes, ...]:
        """The spelled letters moved by 13 places and each word from its end: place by place as spelled."""
        rotated = codecs.encode(self.spelled.decode("latin-1"), "rot13").encode("latin-1")
        return rotated, self.backwards
