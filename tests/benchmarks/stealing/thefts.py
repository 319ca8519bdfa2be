"""One theft from the victim, bare or behind its guard, kept on disk: its curves, and what it had when it was flagged.

Flagged is who reaches alpha = 1e-3, an organisation by all that its accounts asked; the ladder acts at 1e-2 first. A
kept run is named by all it depends on, the code included, so a benchmark that was stopped goes on where it was, and
several processes may do different seeds.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from stealing import watched
from stealing.watched import divided, victim

from medward.attacks.base import Access, AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.extraction import DFME, Disagreement, StolenAnswers, Theft
from medward.attacks.extraction.base import clone_decisions
from medward.attacks.intervals import surviving_share
from medward.attacks.learners.classes import clone_targets
from medward.attacks.target import Clock, Response, Target, guarded_oracle, open_oracle
from medward.attacks.validation.journal import Journal, code_version, settings_of
from medward.guard.accounts.stores import MemoryStore
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.types import Answer, Array, Query

TASK = "pneumoniamnist"
POLICY = Policy(on_error="withhold")
ALPHA, ACTS = 1e-3, POLICY.monitor.ladder[0].false_alarm
EFFORT = 4  # times the epochs of a theft, for the few answers there are at the flag
POOL, SEEDS = 3000, 1000  # photographs to ask about, and those that a thief who makes its own inputs starts from
FOLDER = Path(tempfile.gettempdir()) / "medward-stealing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is run. `generated` queries are for thieves without any images, who need more; `points` halve budgets.

    `epochs` is the most a theft may take. `accounts` is for one organisation's. `folder` keeps the finished runs.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    queries: int = 2000
    generated: int = 5000
    points: int = 6
    epochs: int = 30
    accounts: int = 100
    folder: Path = FOLDER

    def theft(self, theft: Theft) -> Theft:
        """`theft` at this plan's size."""
        free = isinstance(theft.strategy, DFME | Disagreement)
        queries = self.generated if free else self.queries
        return replace(theft, queries=queries, points=self.points, epochs=min(self.epochs, theft.epochs))


@dataclass(frozen=True, slots=True)
class Scene:
    """One draw of calibration rows. `data` holds photographs alone; `public` are labelled rows of the victim's kind."""

    model: Model
    profile: Profile
    data: AttackData
    public: Split

    def held(self, holds: str) -> AttackData:
        """What a thief has who `holds` "photographs", "public" rows, or "both", photographs being the pool."""
        if holds == "photographs":
            return self.data
        pool = self.public.inputs if holds == "public" else self.data.pool
        return replace(self.data, craft=self.public, pool=pool)


@dataclass(slots=True)
class Watched:
    """A guard that notes what it answered, and the largest wealth so far at the top of the path of who asked."""

    guard: Guard
    inputs: list[Array] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def answer(self, query: Query) -> Answer:
        """What the guard answers. Alpha is split over a path, so a longer one must reach more."""
        answer = self.guard.answer(query)
        verdict = {each.source: each for each in answer.verdicts}[f"e-process:{query.principal[0]}"]
        self.inputs.append(np.asarray(query.inputs))
        self.answers.append(answer)
        self.peaks.append(verdict.evidence["peak"] - math.log(len(query.principal)))
        return answer

    def reached(self, alpha: float) -> int | None:
        """The number of the query, from 1, that reached `alpha`; None where none did."""
        return next((i for i, peak in enumerate(self.peaks, 1) if peak >= -math.log(alpha)), None)

    def loot(self, queries: int, access: Access) -> StolenAnswers:
        """What a thief with `access` learned from the first `queries`."""
        first = self.answers[:queries]
        scores = np.concatenate([answer.scores for answer in first])
        if access < Access.SCORES:
            scores = np.full_like(scores, np.nan)
        response = Response(np.concatenate([answer.labels for answer in first]), scores, first[0].output)
        return StolenAnswers(np.concatenate(self.inputs[:queries]), clone_targets(response))


def kept(plan: Plan, theft: Theft, policy: Policy | None, seed: int, holds: str = "photographs") -> dict[str, Any]:
    """`stolen`, done once."""
    settings = {
        "theft": settings_of(theft),
        "policy": None if policy is None else policy.fingerprint,
        "seed": seed,
        "holds": holds,
        "code": _code(),
    }
    found, _ = Journal(plan.folder).once(settings, lambda: stolen(scene(seed), theft, policy, seed, holds))
    return dict(found)


def stolen(where: Scene, theft: Theft, policy: Policy | None, seed: int, holds: str) -> dict[str, Any]:
    """One theft from the bare model, or from the guard with `policy`. Of each test row, whether the clones agree."""
    data, clock, guarded = where.held(holds), Clock(), None
    oracle = open_oracle(where.model)
    if policy is not None:
        store, accounts = MemoryStore(clock=clock), theft.accounts
        guarded = Watched(Guard(model=where.model, policy=policy, profile=where.profile, store=store, clock=clock))
        oracle = guarded_oracle(
            guarded, fresh=accounts is None, accounts=accounts or 1, clock=clock, per_day=theft.per_day
        )
    result = theft.run(Target(where.model.spec, oracle, theft.threat), data, seed=seed)
    found = {
        "curves": {name: curve for name, curve in result.curves.items() if " to class " not in name},
        "agrees": _rows(result.outcome),
        "no_victim": _rows(result.baseline),
        "flags": list(result.flags),
    }
    return found if guarded is None else {**found, **at_flag(where, theft, guarded, data, seed, found)}


def at_flag(
    where: Scene, theft: Theft, guarded: Watched, data: AttackData, seed: int, found: Mapping[str, Any]
) -> dict[str, Any]:
    """What was answered, and the clone of what was learned up to the flag; who is never flagged has all it `found`."""
    flagged = guarded.reached(ALPHA)
    loot = guarded.loot(flagged or len(guarded.answers), theft.threat.access)
    agrees = found["agrees"]
    if flagged is not None:
        asker = theft.strategy.open(data, where.model.spec, seed=seed)
        clone = asker.learn(loot, epochs=EFFORT * theft.epochs, seed=seed)
        won = None if clone is None else clone_decisions(clone, data.test.inputs) == data.reference
        agrees = found["no_victim"] if won is None else _rows(won)
    return {
        "flagged": flagged,
        "acted": guarded.reached(ACTS),
        "answered_at_flag": len(loot.known),
        "agrees_at_flag": agrees,
        "levels": dict(Counter(level.label for answer in guarded.answers for level in answer.levels)),
    }


@cache
def scene(seed: int) -> Scene:
    """Divide anew the rows the victim never saw: calibration, and what is public beside the rows it was selected by."""
    model, task = victim(TASK)
    calibration, traffic = divided(TASK, seed)
    profile = Profile.fit(model, calibration.inputs, risk=POLICY.monitor.calibration_risk, seed=seed, secret=seed)
    photographs = natural_images(POOL + SEEDS, task.shape, seed=seed)
    test, selection = task.splits["test"], task.splits["selection"]
    data = AttackData(
        craft=Split(photographs[POOL:]),
        test=test,
        pool=photographs[:POOL],
        reference=np.argmax(forward_batches(model, test.inputs).scores, axis=1),
    )
    public = Split(
        *(np.concatenate([getattr(each, part) for each in (traffic, selection)]) for part in ("inputs", "labels"))
    )
    return Scene(model, profile, data, public)


def gain(runs: Sequence[Mapping[str, Any]], which: str = "agrees") -> Array:
    """Per run and test row, agreement of the clone less that of the thief without a victim ``(runs, rows)``."""
    return np.array([np.subtract(run[which], run["no_victim"]) for run in runs], np.float64)


def share(some: Array, of: Array) -> dict[str, Any]:
    """What is left of a gain, by seed and of the rows' means; None where nothing was gained that could be left."""
    whole = surviving_share(some.mean(axis=0), of.mean(axis=0), seed=0)
    return {
        "gains": np.round(some.mean(axis=1), 4).tolist(),
        "seeds": [float(a.mean() / b.mean()) if b.mean() > 0 else None for a, b in zip(some, of, strict=True)],
        "mean": None if whole is None else whole.value,
        "interval": None if whole is None else [whole.low, whole.high],
    }


def curves(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the queries, by seed: agreement of the clone and of the thief without a victim, and accuracy of both."""
    found = {name: [np.round(run["curves"][name][1], 4).tolist() for run in runs] for name in runs[0]["curves"]}
    return {"queries": [run["curves"]["clone"][0] for run in runs], **found}


def notes(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the thefts said of themselves."""
    return sorted({flag for run in runs for flag in run["flags"]})


@cache
def _code() -> str:
    own = b"".join(Path(str(file)).read_bytes() for file in (__file__, watched.__file__))
    return code_version() + hashlib.sha256(own).hexdigest()[:8]


def _rows(values: Any) -> list[int]:
    return np.asarray(values, int).tolist()
