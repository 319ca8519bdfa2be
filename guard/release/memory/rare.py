"""Rare passages: stretches of training text that say something which hardly any other patient's text says.

A stretch of letters is rare when it holds several phrases, apart from each other, that no more than so many patients
have. One such phrase is not enough: where two sentences of boilerplate meet, the seam is often new. A stretch with a
rare phrase is held by no more patients than that phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release.fragments import FRAGMENT
from medward.guard.release.memory.short_answers import spelled_hashes
from medward.guard.release.memory.training_runs import TrainingRuns
from medward.guard.release.memory.window_hash import Hashes, WindowHash


@dataclass(frozen=True, slots=True, kw_only=True)
class RareSettings:
    """Rare settings say what counts as rare, by letters and digits without spaces.

    `passage` letters in a row that hold `phrases` phrases of `phrase` letters, each held by at most `patients`
    patients; and `digits` digits in a row of one number, held by at most as many. The digit 0 is not counted.
    Short answers may not spell `spelled` letters in a row that hold such a phrase, near a rare passage.
    """

    passage: int = 64
    phrase: int = 20
    phrases: int = 3
    digits: int = 8
    patients: int = 1
    spelled: int = 32  # a phrase and a fragment more: ordinary answers spell 20 now and then

    def __post_init__(self) -> None:
        if min(self.phrase, self.phrases, self.digits, self.patients) < 1:
            raise MedwardError(f"memory filter: every setting must be at least 1, got {self}")
        if self.passage < self.phrase * self.phrases:
            raise MedwardError(
                f"memory filter: passage must be at least phrases * phrase = {self.phrase * self.phrases} letters, "
                f"got {self.passage}"
            )
        if self.spelled < max(self.phrase, FRAGMENT + 1):
            raise MedwardError(
                f"memory filter: spelled must be more than the {FRAGMENT} letters of a short answer and no less than "
                f"the {self.phrase} of a phrase, got {self.spelled}; ordinary answers would be withheld"
            )


@dataclass(frozen=True, slots=True)
class RareHashes:
    """Rare hashes are made of texts by four window hashes: of phrases, of passages, of numbers, of what is spelled.

    What is spelled starts within `reach` letters of a rare passage's start.
    """

    settings: RareSettings
    phrases: WindowHash
    passages: WindowHash
    numbers: WindowHash
    spelled: WindowHash
    reach: int

    def of(self, texts: Sequence[TrainingRuns], patients: Sequence[int]) -> Hashes:
        """The hashes of all rare passages and numbers of `texts`, disguised too, and of what is spelled near them;
        `patients (n,)` are the owners.
        """
        hashed = self.phrases.hash_windows
        pairs = list(zip(texts, patients, strict=True))
        common = self._common((hashed(run), who) for text, who in pairs for run in text.plain)
        found = [np.zeros(0, np.uint64)]
        for text in texts:
            for run in text.plain:
                rare = self._rare(run, common)
                rich, spelled = self._rich(rare, len(run)), spelled_hashes(self.spelled, run)
                near = self._near(rich, len(spelled)) & self._holding(rare)
                found += [self.passages.hash_windows(run)[rich], spelled[near]]
            mask = self._rich(self._rare(text.spelled, common), len(text.spelled))
            found += [self.passages.hash_windows(run)[mask] for run in text.disguised]
            found.append(self.passages.hash_windows(text.spelled[::-1])[mask[::-1]])
        usual = self._common((hashes, who) for text, who in pairs for hashes in self._digits(text))
        found += [hashes[~_among(hashes, usual)] for text in texts for hashes in self._digits(text)]
        return np.unique(np.concatenate(found))

    def _digits(self, text: TrainingRuns) -> Iterator[Hashes]:
        for number in text.numbers:
            if len(number) >= self.settings.digits:
                yield self.numbers.hash_windows(number)
                yield self.numbers.hash_windows(number[::-1])

    def _common(self, hashed: Iterable[tuple[Hashes, int]]) -> Hashes:
        """The hashes, sorted, that more patients hold than may hold a rare one."""
        pairs = [(np.zeros(0, np.uint64), 0), *((np.unique(hashes), who) for hashes, who in hashed)]
        hashes = np.concatenate([each for each, _ in pairs])
        owners = np.concatenate([np.full(len(each), who, np.int64) for each, who in pairs])
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        first = np.ones(len(hashes), bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        held, counts = np.unique(hashes[first], return_counts=True)
        return held[counts > self.settings.patients]

    def _rare(self, run: bytes, common: Hashes) -> NDArray[np.bool_]:
        """Which phrases of `run`, by where they start, are not `common`."""
        return ~_among(self.phrases.hash_windows(run), common)

    def _rich(self, rare: NDArray[np.bool_], letters: int) -> NDArray[np.bool_]:
        """Which passages of a run of so many letters hold enough of its `rare` phrases, apart from each other."""
        settings = self.settings
        beyond = letters + settings.passage
        following = np.full(beyond + 1, beyond)  # the first rare phrase from each place on
        places = np.where(rare, np.arange(len(rare)), beyond)
        following[: len(rare)] = np.minimum.accumulate(places[::-1])[::-1]
        start = np.arange(max(0, letters - settings.passage + 1))
        place = following[start]
        for _ in range(settings.phrases - 1):
            place = following[np.minimum(place + settings.phrase, beyond)]
        return np.asarray(place + settings.phrase <= start + settings.passage)

    def _holding(self, rare: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which stretches of what is spelled hold a `rare` phrase; what holds none is boilerplate."""
        before = np.concatenate([[0], np.cumsum(rare)])
        phrases = self.settings.spelled - self.settings.phrase + 1  # of one stretch
        return np.asarray(before[phrases:] > before[:-phrases])

    def _near(self, rich: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
        """Which of the first `count` places are within reach of one that is `rich`."""
        rare, places = np.flatnonzero(rich), np.arange(count)
        return np.searchsorted(rare, places - self.reach) < np.searchsorted(rare, places + self.reach, "right")


def _among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Which of `hashes` are among `known`, which are sorted."""
    if not len(known):
        return np.zeros(len(hashes), bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes)
