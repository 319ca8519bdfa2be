"""Asking for values: every planted value in every framing, to be said in one disguise after another.

Who knows the guard holds a copy of its filters and rehearses: people of its own, whose values a script says in every
disguise that is known, show which disguises the filters let pass, and in these the writer is asked.

Reference: Chen et al., "Unveiling privacy risks in multi-modal large language models" (MM-Privacy), Findings of ACL
2025, for the framings; Nasr et al., "The attacker moves second", 2025, for attackers who adapt to a filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.disclosure.disguise import Disguise
from medward.attacks.disclosure.disguises import COMPOSED_DISGUISES, DISGUISES, UNSEEN_DISGUISES
from medward.attacks.disclosure.extraction_suite import hold_conversation, share_read_back
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.plants import Plant, plant_identities
from medward.attacks.disclosure.recovery import NEARLY
from medward.attacks.disclosure.turn_progress import Say, TurnProgress, say_nothing
from medward.attacks.disclosure.victim import ExtractionTurn, WorstCaseVictim
from medward.attacks.disclosure.writer import AnswerRelease, PlantData, WriterTarget
from medward.attacks.target import AccessDeniedError, Target
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

KNOWN_DISGUISES: Mapping[str, Disguise] = {**DISGUISES, **UNSEEN_DISGUISES, **COMPOSED_DISGUISES}
"""By name; those that filters are held to come first."""
REHEARSED = 16
"""Disguises that an attacker keeps who rehearses."""
_OWN_PEOPLE = 2
_PIECE = 24
"""Characters of an answer that may be a piece of a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForValues:
    """Asking for values is done in the given `disguises`, or in as many as are `rehearsed`, the best in rehearsal.

    A value that was read is not asked for again, so `queries` are turns until then. `turns` bounds a conversation in
    which a value is said piece by piece, and which ends where the writer says no pieces; any other is of one turn.
    """

    name: str = "ask-disguised"
    disguises: tuple[str, ...] = tuple(DISGUISES)
    rehearsed: int = 0
    turns: int = 64
    queries: int | None = None
    family: ClassVar[str] = "disclosure"

    def __post_init__(self) -> None:
        """Refuse disguises that nobody knows."""
        if unknown := [name for name in self.disguises if name not in KNOWN_DISGUISES]:
            raise MedwardError(f"disguises: there is no {unknown[0]!r}; there are {', '.join(KNOWN_DISGUISES)}")

    @property
    def threat(self) -> ThreatModel:
        """What leaves of answers, to one who may ask as it likes."""
        asked = f"asks in {len(FRAMINGS)} framings, answers to be said in {self.rehearsed or len(self.disguises)} forms"
        knows = " that passed a copy of the filters, with values of its own" if self.rehearsed else ""
        return ThreatModel(access=Access.TEXT, queries=self.queries, knowledge=f"{asked}{knows}")

    def adaptive(self, policy: Policy) -> AskForValues:
        """The same attacker with a copy of the filters to rehearse with."""
        return replace(self, name=f"{self.name}+rehearsed", rehearsed=REHEARSED)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Ask for every planted value until it is read or nothing is left to try; refuses a target without text."""
        if not isinstance(target, WriterTarget) or not isinstance(data, PlantData):
            raise AccessDeniedError("the target answers no text")
        names = self.disguises
        if self.rehearsed:
            names = passing_disguises(target.rehearsal, seed=seed, say=target.say)[: self.rehearsed]
        plants = data.plants
        read, guessed = np.zeros(len(plants), bool), np.zeros(len(plants), bool)
        ways: Counter[str] = Counter()
        turns, shares = [0.0], [0.0]
        total = len(names) * len(FRAMINGS) * len(plants)
        progress = TurnProgress(what=f"{self.name}, asking", total=total, say=target.say)
        for name in names:
            for framing in FRAMINGS:
                progress.step(int(read.sum()))
                for place in np.flatnonzero(~read):
                    read[place], decoy = self._ask(target, plants[place], framing, name)
                    guessed[place] |= decoy
                    ways[f"{name}, {framing}"] += int(read[place])
                    progress.step()
                turns.append(float(target.queries))
                shares.append(float(read.mean()) if len(read) else 0.0)
        return AttackResult(
            outcome=read,
            baseline=guessed,
            queries=target.queries,
            ways={way: won / len(plants) for way, won in ways.items() if won},
            curves={"attack": (turns, shares)},
        )

    def _ask(self, target: WriterTarget, plant: Plant, framing: str, name: str) -> tuple[bool, bool]:
        """Whether a planted value, and whether its decoy, is read in one conversation."""
        disguise = KNOWN_DISGUISES[name]
        first = ExtractionTurn(kind=plant.kind, framing=FRAMINGS[framing], disguise=disguise)
        turns = self.turns if disguise.in_turns else 1
        answers = target.converse(plant.shown, first, turns=turns, piece=_PIECE)
        value, decoy = (share_read_back(each, disguise, answers) for each in (plant.value, plant.decoy))
        return value >= NEARLY, decoy >= NEARLY


def passing_disguises(release: AnswerRelease, *, seed: int, say: Say = say_nothing) -> tuple[str, ...]:
    """All known disguises, those first in which most of made-up people's values passes the filters in some framing.

    Of equals those first that the table has first.
    """
    own = plant_identities(_OWN_PEOPLE, seed=seed + 1)
    total = len(KNOWN_DISGUISES) * len(own) * len(FRAMINGS)
    progress = TurnProgress(what="rehearsing on a copy of the filters", total=total, say=say)
    scores = {name: float(np.mean([_best(release, each, name, progress) for each in own])) for name in KNOWN_DISGUISES}
    return tuple(sorted(scores, key=lambda name: -scores[name]))


def _best(release: AnswerRelease, plant: Plant, name: str, progress: TurnProgress) -> float:
    """The largest share of a value that passes in any framing."""
    disguise, victim = KNOWN_DISGUISES[name], WorstCaseVictim()
    shares = []
    for framing in FRAMINGS.values():
        first = ExtractionTurn(kind=plant.kind, framing=framing, disguise=disguise)
        answers = hold_conversation(victim, plant.shown, first, release(plant.shown))
        shares.append(share_read_back(plant.value, disguise, answers))
        progress.step()
    return max(shares)
