"""Memory stream: a memory filter over an answer that comes in pieces, and over all answers of a conversation."""

from __future__ import annotations

from medward.guard.release.disguises.views import TOKEN_LENGTH
from medward.guard.release.memory.scanner import PassageScanner, Span

MEMORISED = "[MEMORISED]"
"""What stands where training text was taken out."""
STRIDE = 640
"""Characters that a stream waits for before it reads them together; fewer cost more time."""


class MemoryStream:
    """A memory stream takes an answer in pieces and gives back what may leave of it.

    What it gives back, put together, is what `redact` makes of the whole answer, however that was cut. After each piece
    it holds back fewer than `reach` + `stride` + 80 characters. `finish` ends an answer, not the conversation: the
    stream remembers the letters of the answers before, so that a passage which comes in many answers is known by its
    last letter.
    """

    def __init__(self, scanner: PassageScanner, reach: int, stride: int) -> None:
        self._scanner, self._reach, self._stride = scanner, reach, stride
        self._pieces: list[str] = []  # that have come and were not looked at
        self._waiting = 0  # characters that were not read
        self._held = ""  # characters that have not left
        self._left = 0  # characters that have, or were taken out
        self._spans: list[Span] = []  # of what has not left, apart and rising
        self._inside = False  # whether the last of what was taken out may go on

    def push(self, piece: str) -> str:
        """What may leave now that `piece` has come; often nothing."""
        if piece:
            self._pieces.append(piece)
        self._waiting += len(piece)
        return "" if self._waiting < self._stride + TOKEN_LENGTH else self._advance(whole=False)

    def finish(self) -> str:
        """The rest of the answer. What is pushed next begins the next answer of the conversation."""
        return self._advance(whole=True)

    def _advance(self, *, whole: bool) -> str:
        self._held += "".join(self._pieces)
        self._pieces.clear()
        found = self._scanner.read(self._held[self._scanner.position - self._left :], whole=whole)
        self._waiting = self._left + len(self._held) - self._scanner.position
        self._spans = merged_spans([*self._spans, *((max(start, self._left), end) for start, end in found)])
        until = self._scanner.position if whole else max(self._left, self._scanner.position - self._reach)
        return self._release(until)

    def _release(self, until: int) -> str:
        """What stands before `until`, with a mark for each span in the place of its text."""
        parts, place = [], self._left
        while self._spans and self._spans[0][0] < until:
            start, end = self._spans.pop(0)
            if start > place or not self._inside:
                parts += [self._held[place - self._left : start - self._left], MEMORISED]
            place = min(end, until)
            self._inside = end >= until
            if end > until:
                self._spans.insert(0, (until, end))
                break
        if place < until:
            parts.append(self._held[place - self._left : until - self._left])
            self._inside = False
        self._held, self._left = self._held[until - self._left :], until
        return "".join(parts)


def merged_spans(spans: list[Span]) -> list[Span]:
    """The same characters as spans that rise and do not touch."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
