"""Passage scanner: where a text, read piece by piece in every view, ends a rare passage of training text."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from medward.guard.release.disguises.views import TOKEN_LENGTH, TOKEN_PATTERN, VIEWS, TokenReader
from medward.guard.release.memory.bloom import BloomFilter
from medward.guard.release.memory.window_hash import WindowHash

Span = tuple[int, int]
_NOT_DIGITS = bytes(sorted(set(range(256)) - set(b"123456789")))
_Read = tuple[bytes, ...]  # what each view reads of one token


class PassageScanner:
    """A passage scanner reads a text token by token, and remembers of each view the letters that a passage may go on
    from, and the tokens within `reach` characters.

    Its memory does not grow with the text, and how the text was cut changes nothing.
    """

    def __init__(
        self, known: BloomFilter, passages: WindowHash, numbers: WindowHash, reader: TokenReader, reach: int
    ) -> None:
        self.position = 0
        """Characters that were read; what is beyond may still become part of a token."""
        self._known, self._reader, self._reach = known, reader, reach
        self._hashes = (passages, numbers)
        self._tails = [[b""] * len(VIEWS) for _ in self._hashes]
        self._recent: list[tuple[str, _Read]] = []
        self._line_starts = True

    def read(self, text: str, *, whole: bool) -> list[Span]:
        """The spans, from `position` on or up to `reach` before, that end passages in the tokens of `text`.

        `text` goes on where `position` is. Its last tokens are left for the next time, unless it is `whole`.
        """
        tokens = TOKEN_PATTERN.findall(text)
        if not whole:
            _leave_unfinished(tokens, len(text))
        if not tokens:
            return []
        keys = list(tokens)
        if self._line_starts:
            keys[0] = "\n" + keys[0].lstrip()
        self._line_starts = whole
        read = list(map(self._reader.__getitem__, keys))
        latest = [*self._recent, *zip(tokens, read, strict=True)]
        letters = [b"".join(column) for column in zip(*read, strict=True)]
        runs = self._runs(letters, 0), self._runs([each.translate(None, _NOT_DIGITS) for each in letters], 1)
        hashes = [hashing.hash_windows(b"".join(each)) for hashing, each in zip(self._hashes, runs, strict=True)]
        held = self._known.held_places(np.concatenate(hashes))
        spans: list[Span] = []
        if len(held):
            split = np.searchsorted(held, len(hashes[0]))
            spans = self._located(held[:split], runs[0], 0, latest)
            spans += self._located(held[split:] - len(hashes[0]), runs[1], 1, latest)
        self.position += sum(map(len, tokens))
        self._recent = latest[-self._reach :]  # a token has a character or more
        return spans

    def _runs(self, letters: list[bytes], kind: int) -> list[bytes]:
        """What each view read last, after what a passage may go on from; nothing where a view has nothing new."""
        tails, keep = self._tails[kind], self._hashes[kind].length - 1
        runs: list[bytes] = []
        for view, new in enumerate(letters):
            run = tails[view] + new
            tails[view] = run[-keep:] if keep else b""
            runs.append(run if new and run not in runs else b"")
        return runs

    def _located(
        self, held: NDArray[np.intp], runs: list[bytes], kind: int, latest: list[tuple[str, _Read]]
    ) -> list[Span]:
        """Spans in the text of the windows that are held, whose places are in all `runs` one after the other.

        Each run ends where `latest` tokens end; a window that starts before all of them is further than `reach` away.
        """
        length = self._hashes[kind].length
        sizes = np.array([len(token) for token, _ in latest])
        lead = np.array([len(token) - len(token.lstrip()) for token, _ in latest])
        ends = np.cumsum(sizes) + self.position - sum(len(token) for token, _ in self._recent)
        starts = ends - sizes + lead
        spans: list[Span] = []
        for view, (run, end) in enumerate(zip(runs, accumulate(map(len, runs)), strict=True)):
            first, last = np.searchsorted(held, (end - len(run), max(end - len(run), end - length + 1)))
            if first == last:
                continue
            letters = [read[view] for _, read in latest]
            owners = np.repeat(np.arange(len(latest)), [len(each) for each in letters])
            if kind:
                owners = owners[np.frombuffer(b"".join(letters), np.uint8) <= ord("9")]
            places = held[first:last] - end + len(owners)
            until = ends[owners[places + length - 1]]
            since = np.maximum(starts[owners[np.maximum(places, 0)]], until - self._reach)
            spans += zip(since.tolist(), until.tolist(), strict=True)
        return spans


def _leave_unfinished(tokens: list[str], length: int) -> None:
    """Take off the last tokens, which what follows may change."""
    start = length
    while tokens and start > length - TOKEN_LENGTH:
        start -= len(tokens.pop())
