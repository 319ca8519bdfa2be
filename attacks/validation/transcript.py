"""What a guard was asked, in order, and what it answered: who asks the same from the start is told the same.

A guard with an empty memory answers the same rows in the same order alike, whoever asks. So attacks that begin with the
same rows share one guard for as long as they agree. Whoever then asks another row gets a guard of its own, which is
first asked all that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from medward.attacks.target import Oracle, Response, joined_responses
from medward.guard.types import Array

KEPT_BYTES = 2**29
"""Bytes of rows and answers that are kept; an oracle that was asked more is shared no further."""


class Transcript:
    """A transcript holds the rows that one oracle was asked, row by row, and its answers.

    `opened` gives an oracle with an empty memory. `shared` is this one's, None once somebody has it alone.
    """

    def __init__(self, opened: Callable[[], Oracle]) -> None:
        self._opened = opened
        self.shared: Oracle | None = opened()
        self._rows: list[Array] = []
        self._answers: list[Response] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def agreeing(self, place: int, inputs: Array) -> int:
        """How many of `inputs (n, *shape)`, from the first on, are the rows that were asked from `place` on."""
        for count, (kept, row) in enumerate(zip(self._rows[place:], inputs, strict=False)):
            if kept.dtype != row.dtype or kept.tobytes() != row.tobytes():
                return count
        return min(len(inputs), len(self) - place)

    def told(self, start: int, stop: int) -> Response:
        """The answers to the rows from `start` to `stop`."""
        return joined_responses(self._answers[start:stop])

    def ask(self, inputs: Array) -> Response:
        """Ask more rows; the oracle is shared no further where that fails, or there are too many rows to keep."""
        oracle, self.shared = self.shared, None
        if oracle is None:
            raise ValueError("somebody has the oracle of this transcript alone")
        inputs = inputs.copy()  # whoever asks may write other rows where these were
        answer = oracle(inputs)
        self._bytes += inputs.nbytes + answer.scores.nbytes + sum(len(text or "") for text in answer.texts)
        if self._bytes <= KEPT_BYTES:
            self._rows += list(inputs)
            self._answers += [answer.take(np.array([row])) for row in range(len(inputs))]
            self.shared = oracle
        return answer

    def branch(self, place: int) -> tuple[Transcript, Oracle]:
        """A new transcript, of an oracle that was asked the rows before `place`, and that oracle."""
        other = Transcript(self._opened)
        assert other.shared is not None
        oracle = other.shared
        if place:
            other.ask(np.stack(self._rows[:place]))
        return other, oracle


class Transcripts:
    """Transcripts keeps the last transcript, for whoever asks an oracle of the same key next."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._last: Transcript | None = None

    def oracle(self, key: Hashable, opened: Callable[[], Oracle]) -> Oracle:
        """An oracle that answers as the one that `opened` gives; equal keys say that two of these answer alike."""
        if self._last is None or key != self._key:
            self._key, self._last = key, Transcript(opened)
        transcript, place = self._last, 0
        own: Oracle | None = None

        def ask(inputs: Array) -> Response:
            nonlocal transcript, place, own
            if own is not None:
                return own(inputs)
            known = transcript.agreeing(place, inputs)
            parts = [transcript.told(place, place + known)] if known else []
            place += known
            if known < len(inputs):
                oracle = transcript.shared if place == len(transcript) else None
                if oracle is None:
                    transcript, oracle = transcript.branch(place)
                    self._last = transcript if key == self._key else self._last
                parts.append(transcript.ask(inputs[known:]))
                place = len(transcript)
                own = oracle if transcript.shared is None else None
            return joined_responses(parts)

        return ask
