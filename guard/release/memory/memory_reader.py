"""Memory reader: finds rare passages of training text in a text that comes in pieces, and over a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from medward.guard.release.disguises.views import TOKEN_LENGTH
from medward.guard.release.memory.scanner import PassageScanner
from medward.guard.release.memory.short_answers import MEMORISED_KIND, ShortAnswerReader, ShortAnswers
from medward.guard.release.redaction_stream import TextSpan

MEMORISED = "[MEMORISED]"
"""What stands where training text was taken out."""
STRIDE = 640
"""Characters that a reader waits for before it reads them together; fewer cost more time."""


@dataclass(frozen=True, slots=True)
class MemoryScanner:
    """A memory scanner holds what is remembered of one conversation, which the readers of its answers share."""

    passages: PassageScanner
    short: ShortAnswers
    reach: int

    def reader(self, stride: int = STRIDE) -> MemoryReader:
        """A reader of what comes next."""
        return MemoryReader(self, stride)


class MemoryReader:
    """A memory reader finds the passages that `scanner` knows, each up to its reach of characters back from its end,
    and the short answers that spell too much.

    Places count from where the scanner was when the reader was made. What is whole is an answer, not the conversation:
    the scanner remembers the letters of the answers before, so that a passage which comes in many answers is known by
    its last letter.
    """

    def __init__(self, scanner: MemoryScanner, stride: int = STRIDE) -> None:
        self._passages, self._reach, self._stride = scanner.passages, scanner.reach, stride
        self._short = ShortAnswerReader(scanner.short, scanner.reach)
        self._base = self._passages.position
        self._unread, self._old = "", 0  # the first `old` characters of it were read, but may go on
        self._complete = True

    @property
    def settled(self) -> int:
        """What was read, less the reach: a passage may end behind it, or an answer may be short."""
        return self._passages.position - self._base - (0 if self._complete else self._reach)

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """The spans of passages that ended since, and short answers; nothing while too little is unread."""
        self._unread += piece
        if not whole and len(self._unread) < self._stride + TOKEN_LENGTH:
            return []
        short = self._short.read(self._unread[self._old :], whole=whole)
        before = self._passages.position
        found = self._passages.read(self._unread, whole=whole)
        self._unread, self._complete = self._unread[self._passages.position - before :], whole
        self._old = len(self._unread)
        passages = [
            TextSpan(max(0, start - self._base), end - self._base, MEMORISED_KIND, "memory") for start, end in found
        ]
        return passages + short
