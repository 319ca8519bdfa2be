"""A theft: ask within a budget, train a clone on the answers, judge it beside a thief without a victim.

The clone is compared with the undefended model's own decisions on held-out rows. What lies above the thief without a
victim was learned from the target: that one holds the same inputs and runs the same code, with the public labels of
those rows where the thief knows them (`labelled`), and else can only give the best constant answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from torch import nn

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.extraction.answers import own_turns, pull_to_mean
from medward.attacks.extraction.base import QueryChooser, StolenAnswers, Strategy, clone_probabilities, clone_values
from medward.attacks.extraction.course import TheftSession
from medward.attacks.extraction.judge import CloneJudge
from medward.attacks.extraction.recovery import Recovery
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Target
from medward.attacks.whitebox.surrogate import as_scored, deciding_probabilities
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.tasks.classification import Classification

PULLS = (1.0, 0.5, 0.25, 0.1)  # what an adaptive thief tries
_ENOUGH = 32  # answers from which a clone must at least learn their most common label


@dataclass(frozen=True, slots=True, kw_only=True)
class Theft:
    """A thief with one `strategy`, who spends the whole budget, whatever comes back, and what it wraps around it.

    `labels` soft trains on scores where they leave, hard on labels alone, text on the texts of a model that writes
    reports, and on its findings where these alone leave. `points` clones, at halved budgets, make the curve; those with
    fewer answers train for more epochs, up to four times `epochs`. Rows withheld teach nothing.

    `pool_share` is the share of queries the strategy asks; the others are the thief's own in-distribution rows
    (``data.craft``), evenly spaced between and learned from as well, once each, then repeated as cover only.
    `labelled` says that the thief knows the public labels of its own rows, so that it gains less from the target.
    `accounts` is how many accounts of one organisation take turns; None is a new account, of nobody, for every row.
    `per_day` spreads the queries over time. `views` asks every input so many times, slightly changed, and averages
    the answers. `recovery` undoes what the release made coarse. `pulls` are how far pool rows keep from the pool's
    mean, each for an equal share of them: the mean of a table looks ordinary, and a row near it may pass where the
    row itself would not.
    """

    strategy: Strategy
    labels: Literal["soft", "hard", "text"] = "soft"
    queries: int = 2000
    points: int = 5
    epochs: int = 30
    pool_share: float = 1.0
    labelled: bool = False
    accounts: int | None = 1
    per_day: float | None = None
    views: int = 1
    recovery: Recovery | None = None
    pulls: tuple[float, ...] = (1.0,)
    family: ClassVar[str] = "extraction"

    def __post_init__(self) -> None:
        if self.labels not in ("soft", "hard", "text"):
            raise MedwardError(f'labels: must be "soft", "hard" or "text", got {self.labels!r}')
        if not 0 < self.pool_share <= 1:
            raise MedwardError(f"pool_share: must be above 0 and at most 1, got {self.pool_share}")
        if self.per_day is not None and not self.per_day > 0:
            raise MedwardError(f"per_day: must be above 0, got {self.per_day}")
        counts = ["queries", "points", "epochs", "views"] + ["accounts"] * (self.accounts is not None)
        for key in counts:
            if getattr(self, key) < 1:
                raise MedwardError(f"{key}: must be at least 1, got {getattr(self, key)}")
        if self.recovery is not None and (self.views > 1 or self.labels != "soft"):
            raise MedwardError("recovery: needs scores as they were released, so labels = soft and views = 1")

    @property
    def name(self) -> str:
        """The strategy and what it learns from; ``-diluted`` hides the pool, ``-sybil`` the account, and so on."""
        parts = [self.strategy.name, self.labels]
        parts += ["diluted"] if self.pool_share < 1 else []
        parts += ["labelled"] if self.labelled else []
        parts += [f"views{self.views}"] if self.views > 1 else []
        parts += [self.recovery.method] if self.recovery else []
        parts += ["slow"] if self.per_day is not None else []
        parts += ["sybil"] if self.accounts is None else [f"sybil{self.accounts}"] if self.accounts > 1 else []
        return "-".join(parts)

    @property
    def threat(self) -> ThreatModel:
        """Scores or labels, which texts leave beside, and a budget in rows."""
        share = f"{1 - self.pool_share:.0%}"
        rows = f"in-distribution rows{', with labels' if self.labelled else ''}"
        own = f"; {share} of the queries are {'' if self.labelled else 'unlabelled '}{rows}"
        texts = "the texts that leave; " if self.labels == "text" else ""
        return ThreatModel(
            access=Access.SCORES if self.labels == "soft" else Access.LABELS,
            queries=self.queries,
            accounts=self.accounts,
            per_day=self.per_day,
            knowledge=f"{texts}{self.strategy.knowledge}{own if self.pool_share < 1 else ''}",
        )

    def adaptive(self, policy: Policy) -> Theft:
        """The thief that knows it is watched: every row comes from a new account, and some are pulled to the mean.

        So no history builds up, and only what the guard sees in a single row can stop it. Where the policy releases
        coarse scores, it also recovers what it can of the fine ones. Nothing that only observes queries stops a patient
        thief who asks about in-distribution rows (Karchmer, SaTML 2023); `pool_share` below 1 is that thief.
        """
        recovery = Recovery.against(policy.release) if self.labels == "soft" and self.views == 1 else None
        return replace(self, accounts=None, pulls=PULLS, recovery=recovery or self.recovery)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Steal, then judge. Raises `MedwardError` when `data` lacks the reference, cover rows or what asking needs, or
        for a model that nothing can be learned of.
        """
        judge = CloneJudge(data, target.spec)
        if self.pool_share < 1 and len(data.craft) == 0:
            raise MedwardError("extraction: a diluted thief needs rows to hide its pool among, craft has none")
        held = self._held(data)
        asker = self.strategy.open(held, target.spec, seed=seed)
        course = TheftSession(
            target,
            asker,
            held.craft,
            own_turns(self.queries, self.pool_share),
            views=self.views,
            seed=seed,
            texts=self.labels == "text",
        )
        clone = None
        for stop in sorted({max(1, self.queries >> halvings) for halvings in range(self.points)}):
            course.ask_until(stop, clone, step=self.strategy.step)
            clone = self._learned(asker, course, seed)
            naive = self._naive(asker, course, seed) if self.labelled else None
            judge.note(min(stop, course.spent) if course.ended else stop, clone, naive)
            if course.ended:
                break
        return AttackResult(
            outcome=judge.outcome,
            baseline=judge.baseline,
            queries=target.queries,
            flags=self._flags(course, clone),
            curves=judge.curves(),
        )

    def _held(self, data: AttackData) -> AttackData:
        """What the thief itself holds of `data`; nothing that it is judged by."""
        craft = data.craft if self.labelled else replace(data.craft, labels=None)
        pool = None if data.pool is None else pull_to_mean(data.pool, self.pulls).astype(np.float32)
        return AttackData(craft=craft, test=data.test.take(slice(0, 0)), pool=pool)

    def _learned(self, asker: QueryChooser, course: TheftSession, seed: int) -> nn.Module | None:
        """A clone of all that was learned so far; with `recovery` a second one, of what the first helped to recover."""
        loot = course.loot
        clone = asker.learn(loot, epochs=self._effort(loot), seed=seed)
        spec = course.spec
        if clone is None or self.recovery is None or not isinstance(spec.task, Classification):
            return clone
        scored, shadow = (as_scored(each, spec) for each in (loot.targets, clone_probabilities(clone, loot.inputs)))
        recovery = replace(self.recovery, threshold=spec.threshold)
        targets = deciding_probabilities(recovery.recover(course.released, scored, shadow, seed=seed), spec)
        return asker.learn(StolenAnswers(loot.inputs, targets), epochs=self._effort(loot), seed=seed)

    def _naive(self, asker: QueryChooser, course: TheftSession, seed: int) -> nn.Module | None:
        """What the same code learns from the same inputs without the target; it decides at the public thresholds."""
        learned = asker.learn(course.public, epochs=self._effort(course.public), seed=seed)
        return None if learned is None else learner_of(course.spec).operated(learned)

    def _effort(self, loot: StolenAnswers) -> int:
        """Epochs for a clone of so many answers."""
        return round(self.epochs * min(4.0, max(1.0, self.queries / max(1, len(loot.known)))))

    def _flags(self, course: TheftSession, clone: nn.Module | None) -> tuple[str, ...]:
        flags = []
        if course.ended:
            flags.append(f"the pool ended after {course.spent} of {self.queries} queries")
        known = course.loot.known
        if clone is not None and len(known) >= _ENOUGH:
            learner = learner_of(course.spec)
            constant = np.broadcast_to(learner.constant(known.targets), known.targets.shape)
            fit = float(np.mean(learner.same(known.targets, clone_values(course.spec, clone, known.inputs))))
            if fit < float(np.mean(learner.same(known.targets, constant))):
                flags.append(f"the clone failed to learn: it agrees with {fit:.0%} of its own {len(known)} answers")
        return tuple(flags)
