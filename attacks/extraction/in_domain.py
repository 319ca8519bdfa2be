"""A thief who asks about nothing but ordinary cases, and so is a client to all who watch queries.

Nothing but a count of answers is in its way, so it is measured by that: how good a clone is after so many answers. The
same learner is taught the true labels of the same rows beside it, for whoever has cases may have them labelled. Behind
the guard it takes all the days that the policy speaks of, in one account, and as one who knows the guard in so many
accounts of an organisation that only their common limit counts.

Reference: Karchmer, "Theoretical limits of provable security against model extraction by efficient observational
defenses", SaTML 2023: no observer of queries stops such a thief.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from medward.attacks.base import TABULATED, Access, AttackData, AttackResult, ThreatModel
from medward.attacks.extraction.base import QueryChooser, StolenAnswers, Strategy, clone_values
from medward.attacks.extraction.judge import CLONE, NO_VICTIM
from medward.attacks.extraction.knockoff import RandomPool
from medward.attacks.extraction.theft_curve import theft_curve
from medward.attacks.learners.base import Learner
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Target
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Array

ANSWERED = f"answered{TABULATED}"
OWN_LABELS = f"{NO_VICTIM}: own labels"
"""Curves: how many rows were answered, and the learner that was taught the true labels."""
_FEWEST = 4  # cases
_BATCH = 64  # rows of a step of learning
_ACCOUNTS = 100  # of an organisation without a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class InDomainTheft:
    """A thief of ordinary cases asks about at most `queries` of its own rows, in random order.

    A clone learns as that of `learner`, a strategy of which nothing else is used, for `steps` steps however few the
    answers are. On the bare model clones of halved numbers of answers, down to one, make the curve, each the mean of
    `draws` random choices of rows. `labels` soft trains on scores where they leave. `accounts` of one organisation
    take turns, and `per_day` spreads what they ask.
    """

    learner: Strategy = field(default_factory=RandomPool)
    labels: Literal["soft", "hard"] = "soft"
    queries: int = 1000
    steps: int = 300
    draws: int = 2
    accounts: int = 1
    per_day: float | None = None
    family: ClassVar[str] = "extraction"

    def __post_init__(self) -> None:
        if self.labels not in ("soft", "hard"):
            raise MedwardError(f'labels: must be "soft" or "hard", got {self.labels!r}')
        for key in ("queries", "steps", "draws", "accounts"):
            if getattr(self, key) < 1:
                raise MedwardError(f"{key}: must be at least 1, got {getattr(self, key)}")
        if self.per_day is not None and not self.per_day > 0:
            raise MedwardError(f"per_day: must be above 0, got {self.per_day}")

    @property
    def name(self) -> str:
        """What it learns by, unless that is plainly, and from what; ``-slow`` and ``-sybil`` as of other thieves."""
        parts = ["in-domain"] + ([] if isinstance(self.learner, RandomPool) else [self.learner.name]) + [self.labels]
        parts += ["slow"] if self.per_day is not None else []
        return "-".join([*parts, *([f"sybil{self.accounts}"] if self.accounts > 1 else [])])

    @property
    def threat(self) -> ThreatModel:
        """Scores or labels of cases like the model's own."""
        return ThreatModel(
            access=Access.SCORES if self.labels == "soft" else Access.LABELS,
            queries=self.queries,
            accounts=self.accounts,
            per_day=self.per_day,
            knowledge="ordinary cases like the model's own, and nothing else",
        )

    def adaptive(self, policy: Policy) -> InDomainTheft:
        """The thief who knows the limits: more accounts of one organisation than it has limits of accounts for."""
        parents = policy.budget.parents
        return replace(self, accounts=1 + math.ceil(parents) if parents else _ACCOUNTS)

    def patient(self, rows: int, days: int) -> InDomainTheft:
        """The same thief, who takes so many `days` for what it asks of so many `rows` that it has."""
        return replace(self, per_day=min(self.queries, rows) / days)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Ask about every row once, then learn. Raises `MedwardError` without rows, or a reference to judge by."""
        if len(data.craft) < _FEWEST:
            raise MedwardError(f"extraction: needs {_FEWEST} ordinary cases at least, craft has {len(data.craft)}")
        learner, rng = learner_of(target.spec), np.random.default_rng(seed)
        order = rng.permutation(len(data.craft))[: self.queries]
        inputs = np.asarray(data.craft.inputs[order], np.float32)
        told = learner.targets(target.query(inputs))
        asker = self.learner.open(
            replace(data, craft=Split(inputs), test=data.test.take(slice(0, 0)), pool=inputs), target.spec, seed=seed
        )
        judged = _Judged(learner, target, data, asker, self.steps)
        stolen = StolenAnswers(inputs, told).known
        last = judged.agrees(stolen, seed)
        curves = {
            CLONE: ([float(len(order))], [float(last.mean())]),
            ANSWERED: ([float(len(order))], [float(len(stolen))]),
        }
        if not target.guarded and len(stolen):
            taught = None
            if data.craft.labels is not None:
                known = learner.known(np.asarray(data.craft.labels)[order])
                taught = StolenAnswers(inputs, known)
            curves = self._curves(judged, stolen, taught, rng, seed) | {ANSWERED: curves[ANSWERED]}
        return AttackResult(outcome=last, baseline=judged.constant, queries=target.queries, curves=curves)

    def _curves(
        self,
        judged: _Judged,
        stolen: StolenAnswers,
        taught: StolenAnswers | None,
        rng: np.random.Generator,
        seed: int,
    ) -> dict[str, tuple[list[float], list[float]]]:
        """Agreement over the number of answers, and the shares of the whole gain that `theft_curve` reads off it."""
        sizes = answer_counts(len(stolen))
        gains: dict[str, list[NDArray[np.float64]]] = {CLONE: [], OWN_LABELS: []}
        for size in sizes:
            for name, lessons in ((CLONE, stolen), (OWN_LABELS, taught)):
                if lessons is not None:
                    runs = [
                        judged.agrees(lessons.take(rng.permutation(len(lessons))[:size]), seed + draw)
                        for draw in range(self.draws)
                    ]
                    gains[name].append(np.array(runs, np.float64) - judged.constant)
        counts, constant = [float(size) for size in sizes], float(judged.constant.mean())
        curves = {name: (counts, [float(each.mean()) + constant for each in runs]) for name, runs in gains.items()}
        curves[NO_VICTIM] = (counts, [constant] * len(counts))
        curves |= theft_curve(counts, gains[CLONE], gains[OWN_LABELS], seed=seed)
        return {name: curve for name, curve in curves.items() if curve[1]}


def answer_counts(most: int) -> list[int]:
    """`most` answers and its halves down to one, the fewest first."""
    return sorted({most >> halvings for halvings in range(most.bit_length())})


@dataclass(frozen=True, slots=True)
class _Judged:
    """Learns by `asker` and compares with what the undefended model says of the test rows of `data`."""

    learner: Learner
    target: Target
    data: AttackData
    asker: QueryChooser
    steps: int

    @property
    def reference(self) -> Array:
        return self.learner.reference(self.data)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Where the best constant answer agrees, which is all that a thief without a victim can say."""
        reference = self.reference
        return self.learner.same(reference, np.broadcast_to(self.learner.constant(reference), reference.shape))

    def agrees(self, lessons: StolenAnswers, seed: int) -> NDArray[np.bool_]:
        """Where a clone of `lessons` agrees; one of none says the constant answer."""
        batches = max(1, math.ceil(len(lessons.known) / _BATCH))
        clone = self.asker.learn(lessons, epochs=math.ceil(self.steps / batches), seed=seed)
        if clone is None:
            return self.constant
        return self.learner.same(self.reference, clone_values(self.target.spec, clone, self.data.test.inputs))
