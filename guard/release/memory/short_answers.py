"""Short answers: what a conversation's short answers spell together, before it is long enough to be a rare passage.

A passage would leave letter by letter before its first rare stretch is complete. So short answers may not spell much
training text that stands near a rare passage, unless it is boilerplate throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, product

from medward.guard.release.disguises.ciphers import CIPHERS, LEETSPEAK
from medward.guard.release.disguises.folded_words import folded_words, without_zeros
from medward.guard.release.disguises.views import TOKEN_PATTERN, VIEWS, TokenReader
from medward.guard.release.fragments import FRAGMENT
from medward.guard.release.memory.bloom import BloomFilter
from medward.guard.release.memory.window_hash import Hashes, WindowHash
from medward.guard.release.redaction_stream import TextSpan

MEMORISED_KIND = "memorised"
"""The kind of what a memory filter takes out."""
_CODES = [place for place, name in enumerate(VIEWS) if name in ("base64", "hex", "decimal")]  # few words read as one
_MIXED = 128  # runs that are remembered of answers which may each be in another code


def spelled_hashes(spelled: WindowHash, letters: bytes) -> Hashes:
    """The hashes of all stretches of letters, look-alike digits read as letters: of training text and of answers."""
    return spelled.hash_windows(letters.translate(LEETSPEAK))


class ShortAnswers:
    """Short answers remember the last letters that those of one conversation spelled, and whether `known` holds them.

    An answer is short with no more letters than a fragment, or without white space in it. Longer ones between them
    count for nothing, so that nobody hides letters behind them. Letters are read in every view, as the code that each
    answer may be or as they stand, and with each answer from its end, and undone by every cipher. The memory does not
    grow.
    """

    def __init__(self, known: BloomFilter, spelled: WindowHash, reader: TokenReader) -> None:
        self._known, self._spelled, self._reader = known, spelled, reader
        self._tails = [b""] * (2 * len(VIEWS) + 2)
        self._mixed = {b"": 0}  # to how often what reads as a code was read as it stands

    def letters(self, answer: str) -> list[bytes] | None:
        """What every view reads of a short answer, and its letters as they are spelled; nothing of a longer one."""
        keys = TOKEN_PATTERN.findall(answer)
        keys[0] = "\n" + keys[0].lstrip()
        read = list(zip(*map(self._reader.__getitem__, keys), strict=True))
        if len(answer.split()) > 1 and sum(map(len, read[0])) > FRAGMENT:
            return None
        return [*(b"".join(each) for each in read), without_zeros(b"".join(folded_words(answer)))]

    def completes(self, letters: Sequence[bytes]) -> bool:
        """Whether a short answer of these letters completes a stretch of training text; they are remembered."""
        runs: list[bytes] = []
        for place, new in enumerate([*letters, *(each[::-1] for each in letters)]):
            if new:
                runs.append(self._tails[place] + new)
                self._tails[place] = runs[-1][-self._spelled.length + 1 :]
        mixed = self._mixed_runs(letters)
        undone = [undo(run) for run in dict.fromkeys(runs) for undo in (bytes, *CIPHERS.values())]
        undone = list(dict.fromkeys([*undone, *mixed]))
        held = self._known.held_places(spelled_hashes(self._spelled, b"".join(undone)))
        ends = accumulate(map(len, undone))
        return any(
            ((held >= end - len(run)) & (held <= end - self._spelled.length)).any()
            for run, end in zip(undone, ends, strict=True)
        )

    def _mixed_runs(self, letters: Sequence[bytes]) -> list[bytes]:
        """What the answers spell when each may be in another code, or in none; the likeliest are remembered."""
        read = [each for each in dict.fromkeys([*(letters[place] for place in _CODES), letters[-1]]) if each]
        costs: dict[bytes, int] = {}
        for (tail, cost), (rank, new) in product(self._mixed.items(), enumerate(read)):
            costs[tail + new] = min(cost + rank, costs.get(tail + new, cost + rank))
        likeliest = sorted(costs, key=costs.__getitem__)[:_MIXED]
        if likeliest:
            self._mixed = {run[-self._spelled.length + 1 :]: costs[run] for run in reversed(likeliest)}
        return likeliest


class ShortAnswerReader:
    """A short answer reader waits whether an answer is short, and takes it out as a whole where it spells too much.

    It waits for fewer than `head` characters. An answer that goes on with next to no letters is judged by so many at a
    time, so that padding hides nothing.
    """

    def __init__(self, answers: ShortAnswers, head: int) -> None:
        self._answers, self._size = answers, head
        self._head, self._start, self._long = "", 0, False

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """The whole answer, where it is short and may not leave; what comes when it is `whole` is the next one."""
        if self._long:
            self._start, self._long = self._start + len(piece), not whole
            return []
        text, at, found = self._head + piece, 0, []
        while not self._long and (len(text) - at >= self._size or (whole and at < len(text))):
            head = text[at : at + self._size]
            letters = self._answers.letters(head)
            self._long = letters is None
            if letters is not None:
                if self._answers.completes(letters):
                    start = self._start + at
                    found.append(TextSpan(start, start + len(head), MEMORISED_KIND, "memory"))
                at += len(head)
        if self._long:
            at = len(text)
        self._head, self._start, self._long = text[at:], self._start + at, self._long and not whole
        return found
