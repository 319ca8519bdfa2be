"""A writer as it is deployed, what attackers of it hold, and the target they ask in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from medward.attacks.base import AttackData
from medward.attacks.disclosure.extraction_suite import AnswerFilter, Unguarded, hold_conversation
from medward.attacks.disclosure.plants import Plant
from medward.attacks.disclosure.turn_progress import Say, say_nothing
from medward.attacks.disclosure.victim import ExtractionTurn, Shown, Victim
from medward.attacks.target import AccessDeniedError, BudgetSpentError, Response, Target
from medward.attacks.threat import ThreatModel
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Arm
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

AnswerRelease = Callable[[Shown], AnswerFilter]
"""What stands between a writer and who asks it: a filter for each conversation, which knows what was shown in it."""


def unguarded_release(_: Shown) -> Unguarded:
    """No filter."""
    return Unguarded()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterDeployment(Deployment):
    """A writer's deployment is one whose model answers in text: the `writer`, its `release`, and what was planted.

    `say` is told how far an attack is.
    """

    writer: Victim
    release: AnswerRelease
    plants: tuple[Plant, ...] = field(default=(), repr=False)
    say: Say = field(default=say_nothing, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantData(AttackData):
    """Plant data are the values that attackers of a writer are judged on; rows they hold none."""

    plants: tuple[Plant, ...] = field(default=(), repr=False)


class WriterTarget(Target):
    """A writer's target is asked in words, and every turn is counted; rows it does not answer.

    `rehearsal` is a copy of the filters, for attackers who know them; `say` is told how far an attack is.
    """

    def __init__(
        self,
        spec: ModelSpec,
        threat: ThreatModel,
        writer: Victim,
        release: AnswerRelease,
        rehearsal: AnswerRelease | None = None,
        say: Say = say_nothing,
    ) -> None:
        super().__init__(spec, _refuse_rows, threat)
        self.say = say
        self._writer, self._release, self._rehearsal = writer, release, rehearsal

    def converse(self, shown: Shown, first: ExtractionTurn, *, turns: int, piece: int) -> list[str]:
        """What leaves of each answer in a conversation of its own; see `hold_conversation`."""
        writer, filters = _Counted(self._writer, self._count), self._release(shown)
        return hold_conversation(writer, shown, first, filters, turns=turns, piece=piece)

    @property
    def rehearsal(self) -> AnswerRelease:
        """A copy of the filters. Only who knows the guard has it."""
        if self._rehearsal is None:
            raise AccessDeniedError("a copy of the filters is not part of this threat model")
        return self._rehearsal

    def _count(self) -> None:
        if self.threat.queries is not None and self.queries >= self.threat.queries:
            raise BudgetSpentError(f"the budget of {self.threat.queries} turns is spent")
        self.queries += 1


@dataclass(frozen=True, slots=True)
class _Counted:
    """A victim whose turns are counted before they are answered."""

    victim: Victim
    count: Callable[[], None]

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        self.count()
        return self.victim.answer(shown, ask)


def writer_target(deployment: WriterDeployment, arm: Arm, threat: ThreatModel) -> WriterTarget:
    """The writer without its filters undefended, else behind them; who knows the guard holds a copy of these."""
    release = unguarded_release if arm == "undefended" else deployment.release
    copy = deployment.release if arm == "adaptive" else None
    return WriterTarget(deployment.bundle.model.spec, threat, deployment.writer, release, copy, deployment.say)


def _refuse_rows(_: Array) -> Response:
    raise AccessDeniedError("the target answers in text; ask it in words")
