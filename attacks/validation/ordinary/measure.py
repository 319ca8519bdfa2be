"""What a guard makes of ordinary behaviour: how many accounts are ever coarsened or withheld, and which part did it.

Everything that is sent is looked at once; then every account's monitors take what they see of it in the account's own
order, as the deployed step does (`AccountMonitors.watch`). The screen of single inputs is counted on what is sent. A
thief's stream goes the same way, so that a guard that sees nothing can't pass for one that forgives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medward.attacks.intervals import rate_interval
from medward.attacks.validation.finding import OrdinaryCost
from medward.attacks.validation.journal import Journal
from medward.attacks.validation.ordinary.behaviour import (
    Traffic,
    Visits,
    VisitSettings,
    random_visits,
)
from medward.attacks.validation.ordinary.loops import LOOPED_INPUTS
from medward.attacks.validation.ordinary.suite import BEHAVIOURS, suited_behaviours
from medward.guard.accounts.monitors import AccountMonitors, observe_batch
from medward.guard.bundle.folder import Bundle
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.monitors.strangeness import STRANGENESS
from medward.guard.policy import Policy
from medward.guard.profile import Profile, judged_batches
from medward.guard.request import keyed_digests
from medward.guard.spec import ModelSpec
from medward.guard.statistics.strata import decided_classes
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Action, Array, Ints

THIEF = "for comparison: a thief without data of the task"
_TRAFFIC_ROWS = 1000
"""Rows of the traffic at most; rare classes need many, and as they are they are looked at once for all behaviours."""
FULL_LOOK = VisitSettings()
QUICK_LOOK = VisitSettings(accounts=5, queries=50, rounds=10, rows=50)
"""Of a quick look, and of models that write, of whom every row takes long to look at."""
_LOOK = 256
"""Rows that are looked at together."""
_BLOCK = 10
"""Single queries that are stepped through together; alarms last, so it only says when to stop."""
_SHARE = "share:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Watched is what became of one account: the strictest action, and the parts' shares of the wealth at the first."""

    action: Action
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedGuard:
    """A watched guard is what judges visits: model, policy and profile as deployed, and the monitors of an account."""

    model: Model
    policy: Policy
    profile: Profile
    monitors: AccountMonitors

    @classmethod
    def of(cls, model: Model, policy: Policy, profile: Profile) -> WatchedGuard:
        """The monitors of an account without parents."""
        return cls(model=model, policy=policy, profile=profile, monitors=AccountMonitors.of(policy, profile, 1))

    def see(self, rows: Array) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
        """What the parts see of ``rows (m, *shape)`` and the names of these.

        Raises `MedwardError` where a part fails: what it does not see it can't forgive.
        """
        sight: dict[str, list[Any]] = defaultdict(list)
        for start in range(0, len(rows), _LOOK):
            some = rows[start : start + _LOOK]
            seen, failed = observe_batch(self.policy, self.profile, some, judged_batches(self.model, some)[0])
            for part, error in failed.items():
                raise MedwardError(
                    f"ordinary behaviour: the part {part!r} fails on rows that the model takes "
                    f"({type(error).__name__}: {error}); mend it, or leave it out of the policy"
                ) from error
            for part, column in seen.items():
                sight[part].extend(column)
        return sight, keyed_digests(rows, b"")

    def follow(self, sight: Mapping[str, Any], digests: Sequence[str], order: Ints, batch: int) -> Watched:
        """One account that asks rows in an `order`, to the end or until it is withheld."""
        state, action, shares = None, Action.ALLOW, dict[str, float]()
        step = max(batch, _BLOCK // batch * batch)
        for start in range(0, len(order), step):
            rows = order[start : start + step].tolist()
            seen = {part: [column[row] for row in rows] for part, column in sight.items()}
            state, (_, verdict, _) = self.monitors.watch([digests[row] for row in rows], seen, state)
            if action < Action.COARSEN <= verdict.action:
                shares = {
                    name.removeprefix(_SHARE): share
                    for name, share in verdict.evidence.items()
                    if name.startswith(_SHARE)
                }
            action = max(action, verdict.action)
            if action is Action.WITHHOLD:
                break
        return Watched(action=action, shares=shares)


def visit_settings(spec: ModelSpec, *, quick: bool) -> VisitSettings:
    """How much a validation of such a model looks at."""
    return QUICK_LOOK if quick or isinstance(spec.task, WrittenReport) else FULL_LOOK


def planned_work(spec: ModelSpec, settings: VisitSettings) -> tuple[int, int]:
    """How many rows are looked at, and how many queries of accounts are stepped through, at most and about."""
    suited = sum(spec.modality in each.modalities for each in BEHAVIOURS)
    queries = settings.accounts * (suited * settings.queries + settings.rounds * LOOPED_INPUTS)
    return _TRAFFIC_ROWS + suited * settings.rows, queries


def recalled_ordinary(
    bundle: Bundle,
    split: Split,
    pool: Array | None,
    journal: Journal,
    names: Mapping[str, Any],
    *,
    quick: bool,
    begin: Callable[[], None],
) -> tuple[tuple[OrdinaryCost, ...], bool]:
    """What ordinary behaviour costs accounts of `bundle`, and whether `journal` had it; `names` name the validation.

    `begin` is called where it is not recalled.
    """
    model, settings = bundle.model, visit_settings(bundle.model.spec, quick=quick)

    def measure() -> list[dict[str, Any]]:
        begin()
        costs = measure_ordinary(
            model, bundle.policy, bundle.profile, split, seed=int(names["seed"]), settings=settings, pool=pool
        )
        return [cost.model_dump(mode="json") for cost in costs]

    kept, recalled = journal.once({**names, "run": "ordinary", "visits": asdict(settings)}, measure)
    return tuple(OrdinaryCost.model_validate(each) for each in kept), recalled


def measure_ordinary(
    model: Model,
    policy: Policy,
    profile: Profile,
    split: Split,
    *,
    seed: int,
    settings: VisitSettings | None = None,
    pool: Array | None = None,
) -> tuple[OrdinaryCost, ...]:
    """What each behaviour costs that rows of `split` can show, and last what a thief who asks `pool` is met with."""
    settings, guard = settings or FULL_LOOK, WatchedGuard.of(model, policy, profile)
    traffic = benign_traffic(model, split, seed)
    known = guard.see(traffic.inputs)
    found = []
    for number, behaviour in enumerate(suited_behaviours(traffic)):
        visits = behaviour.visits(traffic, np.random.default_rng([seed, number]), settings)
        seen = known if visits.rows is traffic.inputs else guard.see(visits.rows)
        found.append(
            ordinary_cost(guard, visits, seen, behaviour.name, behaviour.group, behaviour.forgiven, behaviour.remedy)
        )
    if pool is not None:
        rng, some = np.random.default_rng([seed, len(found)]), pool[: settings.rows]
        orders = tuple(random_visits(len(some), rng, settings) for _ in range(settings.accounts))
        found.append(ordinary_cost(guard, Visits(rows=some, orders=orders), guard.see(some), THIEF, "theft", False))
    return tuple(found)


def ordinary_cost(
    guard: WatchedGuard,
    visits: Visits,
    seen: tuple[Mapping[str, Any], Sequence[str]],
    behaviour: str,
    group: str,
    forgiven: bool,
    remedy: str = "",
) -> OrdinaryCost:
    """What accounts that ask `visits` meet, of whose rows `seen` is what the parts see and their names."""
    sight, digests = seen
    watched = [guard.follow(sight, digests, order, visits.batch) for order in visits.orders]
    asked = np.unique(np.concatenate(visits.orders))
    strange = np.asarray(sight[STRANGENESS])[asked] > guard.profile.screen_cut(guard.policy.screen.rate)
    shares: dict[str, list[float]] = defaultdict(list)
    for account in watched:
        for part, share in account.shares.items():
            shares[part].append(share)
    return OrdinaryCost(
        behaviour=behaviour,
        group=group,
        forgiven=forgiven,
        remedy=remedy,
        acted=rate_interval([account.action >= Action.COARSEN for account in watched]),
        withheld=rate_interval([account.action >= Action.WITHHOLD for account in watched]),
        screened=rate_interval(strange),
        parts={part: round(float(np.mean(each)), 3) for part, each in shares.items()},
    )


def benign_traffic(model: Model, split: Split, seed: int) -> Traffic:
    """Rows of `split` in random order, `_TRAFFIC_ROWS` at most, with classes as labelled or else as decided."""
    spec = model.spec
    rows = np.random.default_rng(seed).permutation(len(split))[:_TRAFFIC_ROWS]
    inputs = split.inputs[rows]
    if split.labels is not None and isinstance(spec.task, Classification):
        classes = split.labels[rows]
    elif isinstance(spec.task, Classification | Multilabel | WrittenReport):
        classes = decided_classes(judged_batches(model, inputs)[0])
    else:  # numbers, and what nobody here can read, have no classes to be specialists of
        classes = np.zeros(len(rows), np.int64)
    return Traffic.of(inputs, np.asarray(classes, np.int64), spec.modality, spec.low, spec.high)
