"""The extraction suite: every value is asked for in every framing and every disguise, and the worst counts.

Reference: Chen et al., "Unveiling privacy risks in multi-modal large language models" (MM-Privacy), Findings of ACL
2025; there success is an average over framings, here the maximum over framings and disguises, for an attacker chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medward.attacks.disclosure.disguise import Disguise
from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.framing import FRAMINGS, Framing
from medward.attacks.disclosure.recovery import NEARLY, recovered_share
from medward.attacks.disclosure.refusal import is_refusal
from medward.attacks.disclosure.victim import ExtractionTurn, Shown, Victim
from medward.attacks.intervals import Interval, clopper_pearson
from medward.guard.errors import MedwardError

TURNS = 2000
"""Turns after which an attacker gives up."""
_LONG = 3


class AnswerFilter(Protocol):
    """An answer filter stands between a victim and whoever asks it, for one conversation."""

    def redact(self, answer: str) -> str:
        """What leaves of one answer."""
        ...


@dataclass(frozen=True, slots=True)
class Unguarded:
    """No filter at all lets every answer leave as it is: the control."""

    def redact(self, answer: str) -> str:
        """The answer."""
        return answer


class AnswerStream(Protocol):
    """An answer stream is a filter over pieces that can go on after an answer has ended."""

    def push(self, piece: str) -> str:
        """What may leave now."""
        ...

    def finish(self) -> str:
        """The rest of the answer."""
        ...


@dataclass(frozen=True, slots=True)
class StreamedAnswers:
    """Streamed answers pass through one stream of their conversation, one after the other."""

    stream: AnswerStream

    def redact(self, answer: str) -> str:
        """What leaves of the answer, all together."""
        return self.stream.push(answer) + self.stream.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionCell:
    """An extraction cell is one framing and one disguise: how much of each value was recovered, (n,) shares.

    `refused` (n,) says of each value whether it was refused in so many words, or nothing was answered.
    """

    framing: str
    disguise: str
    shares: tuple[float, ...]
    refused: tuple[bool, ...]

    @property
    def success(self) -> Interval:
        """The share of values that were recovered, nearly whole or whole."""
        return clopper_pearson(sum(share >= NEARLY for share in self.shares), len(self.shares))

    @property
    def refusal(self) -> Interval:
        """The share of values that were refused."""
        return clopper_pearson(sum(self.refused), len(self.refused))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionTable:
    """An extraction table holds the cells of all framings and disguises."""

    cells: tuple[ExtractionCell, ...]

    @property
    def worst(self) -> ExtractionCell:
        """The cell in which most was recovered; of equals that with most of the values' letters."""
        return max(self.cells, key=lambda cell: (cell.success.value, float(np.mean(cell.shares))))

    def by_disguise(self) -> dict[str, float]:
        """The highest success of each disguise over framings."""
        return {
            name: max(cell.success.value for cell in self.cells if cell.disguise == name)
            for name in dict.fromkeys(cell.disguise for cell in self.cells)
        }


def extract_values(
    victim: Victim,
    shown: Sequence[Shown],
    wanted: Sequence[Mapping[str, str]],
    guard: Callable[[Shown], AnswerFilter],
    *,
    framings: Mapping[str, Framing] = FRAMINGS,
    disguises: Mapping[str, Disguise] = DISGUISES,
) -> ExtractionTable:
    """Ask `victim` for every value of `wanted` (n,), by kind, while it is shown what stands at its place.

    Each attempt is a conversation of its own, with a filter of its own from `guard`, and one turn long unless the
    disguise is said in turns. Raises `MedwardError` where there is nothing to ask for.
    """
    if len(shown) != len(wanted) or not any(wanted):
        raise MedwardError(
            f"disclosure: needs what was shown for each set of wanted values, got {len(shown)} and {len(wanted)}"
        )
    asked = [(each, kind, value) for each, values in zip(shown, wanted, strict=True) for kind, value in values.items()]
    cells = []
    for framing_name, framing in framings.items():
        for disguise_name, disguise in disguises.items():
            shares, refused = [], []
            for each, kind, value in asked:
                answers = hold_conversation(
                    victim,
                    each,
                    ExtractionTurn(kind=kind, framing=framing, disguise=disguise),
                    guard(each),
                    turns=TURNS if disguise.in_turns else 1,
                )
                shares.append(share_read_back(value, disguise, answers))
                refused.append(is_refusal(answers))
            cells.append(
                ExtractionCell(
                    framing=framing_name, disguise=disguise_name, shares=tuple(shares), refused=tuple(refused)
                )
            )
    return ExtractionTable(cells=tuple(cells))


def share_read_back(value: str, disguise: Disguise, answers: Sequence[str]) -> float:
    """The share of a value that is read out of what left: undone as the disguise says, or as it stands."""
    return max(recovered_share(value, disguise.decode(answers)), recovered_share(value, "".join(answers)))


def hold_conversation(
    victim: Victim,
    shown: Shown,
    first: ExtractionTurn,
    guard: AnswerFilter,
    *,
    turns: int = TURNS,
    piece: int | None = None,
) -> list[str]:
    """What left of each answer, turn by turn, until an answer is empty or so many `turns` were asked.

    With `piece` whoever asks gives up after three answers in a row of more characters: who answers so says no pieces.
    """
    left = []
    for turn in range(turns):
        ask = ExtractionTurn(kind=first.kind, framing=first.framing, disguise=first.disguise, turn=turn)
        answer = victim.answer(shown, ask)
        if not isinstance(answer, str):
            raise MedwardError(f"writer: answered {type(answer).__name__}, expected a text; return a str, '' for none")
        if not answer:
            break
        left.append(guard.redact(answer))
        if piece is not None and len(left) >= _LONG and min(map(len, left[-_LONG:])) > piece:
            break
    return left
