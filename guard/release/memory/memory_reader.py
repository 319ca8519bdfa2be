"""Memory reader: finds rare passages of training text in a text that comes in pieces, and over a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from medward.guard.release.disguises.views import TOKEN_LENGTH
from medward.guard.release.memory.scanner import PassageScanner
from medward.guard.release.memory.short_answers import MEMORISED_KIND, ShortAnswerReader, ShortAnswers
from medward.guard.release.redaction_stream import SpanReader, TextSpan

MEMORISED = "[MEMORISED]"
"""What stands where training text was taken out."""
STRIDE = 640
"""Characters that a reader waits for before it reads them together; fewer cost more time."""


class MemoryReader:
    """A memory reader finds the passages that `scanner` knows, each up to `reach` characters back from its end.

    Places count from where the scanner was when the reader was made. What is whole is an answer, not the conversation:
    the scanner remembers the letters of the answers before, so that a passage which comes in many answers is known by
    its last letter.
    """

    def __init__(self, scanner: PassageScanner, reach: int, stride: int = STRIDE) -> None:
        self._scanner, self._reach, self._stride = scanner, reach, stride
        self._base = scanner.position
        self._unread = ""
        self._complete = True

    @property
    def settled(self) -> int:
        """What was read, less the reach of a passage that may still end behind it."""
        return self._scanner.position - self._base - (0 if self._complete else self._reach)

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """The spans of passages that ended since; nothing while too little is unread."""
        self._unread += piece
        if not whole and len(self._unread) < self._stride + TOKEN_LENGTH:
            return []
        before = self._scanner.position
        found = self._scanner.read(self._unread, whole=whole)
        self._unread, self._complete = self._unread[self._scanner.position - before :], whole
        return [
            TextSpan(max(0, start - self._base), end - self._base, MEMORISED_KIND, "memory") for start, end in found
        ]


@dataclass(frozen=True, slots=True)
class MemoryScanner:
    """A memory scanner holds what is remembered of one conversation, which the readers of its answers share."""

    passages: PassageScanner
    short: ShortAnswers
    reach: int

    def readers(self, stride: int = STRIDE) -> list[SpanReader]:
        """Readers of what comes next: of passages, and of what short answers spell together."""
        return [MemoryReader(self.passages, self.reach, stride), ShortAnswerReader(self.short, self.reach)]
