"""Training runs: the letters of a training text as a model may write them down."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medward.guard.release.disguises.ciphers import rotated
from medward.guard.release.disguises.folded_words import folded_words, without_zeros
from medward.guard.release.disguises.views import TOKEN_PATTERN, leetspeak, written

_NUMBER = re.compile(r"\d(?:[^\w]{0,3}\d)*")  # with what groups its digits: 555-12 34


@dataclass(frozen=True, slots=True)
class TrainingRuns:
    """Training runs are the letters of one text, in the ways in which they may be written down.

    As `written`, with numbers as digits; as `spelled`, with number words as words, for what comes letter by letter; in
    `leetspeak`; and `backwards`, each word from its end. `numbers` are its numbers. The digit 0 is left out of all.
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
            without_zeros(b"".join(map(written, tokens))),
            without_zeros(b"".join(spelled)),
            without_zeros(b"".join(map(leetspeak, tokens))),
            without_zeros(b"".join([each[::-1] for each in spelled])),
            tuple(without_zeros(b"".join(folded_words(number))) for number in _NUMBER.findall(text)),
        )

    @property
    def plain(self) -> tuple[bytes, ...]:
        """The runs that are read as they are."""
        return tuple(dict.fromkeys((self.written, self.spelled, self.leetspeak)))

    @property
    def disguised(self) -> tuple[bytes, ...]:
        """The spelled letters moved by 13 places and each word from its end: place by place as spelled."""
        return rotated(self.spelled), self.backwards
