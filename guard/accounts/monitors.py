"""The monitors of one account: what each sees of a batch, and the step of all of them through it.

Every part bets on what its own calibration bounds, each with its share of delta; `CombinedEProcess` tests them as one,
so that alpha is split over the accounts of a path only. Which there are is `guard.monitors.table`'s business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medward.guard.accounts.names import MAX_DEPTH
from medward.guard.errors import MedwardError
from medward.guard.monitors.base import ANSWER_MARKS, CONTENT_CODES, Bet, BetSettings, Monitor, Observations
from medward.guard.monitors.near_duplicates import ClusterMatch, DuplicateCount
from medward.guard.monitors.repeats import RecentInputs, answer_marks, find_repeats, no_inputs
from medward.guard.monitors.table import calibration_shares, monitors_with
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.strata import STRATUM
from medward.guard.types import Action, Array, Outputs, Verdict

RECENT, DUPLICATES = "recent", "duplicates"

BetValues = Mapping[str, Sequence[float]]
"""Per part what it bet on, row by row: p-values, or cells; and where a profile has strata, those of the rows."""
AccountStep = tuple[Action, Verdict, BetValues]
"""Of one account: the action that stood before, the verdict, and what was bet on."""


def active_monitors(policy: Policy, profile: Profile) -> tuple[Monitor, ...]:
    """The rows of the table that `policy` asks for and `profile` has something for."""
    return tuple(
        each for each in monitors_with(profile.plugins) if each.asked(policy) and each.source in profile.fitted
    )


def check_monitors(policy: Policy, profile: Profile, what: str, remedy: str) -> None:
    """Refuse a profile that lacks a monitor which a key of `policy` asks for; ``{switch}`` in `remedy` is that key."""
    for monitor in monitors_with(profile.plugins):
        if monitor.switch and monitor.asked(policy) and monitor.source not in profile.fitted:
            raise MedwardError(
                f"{what} has nothing for the monitor {monitor.name!r}, which its policy asks for; "
                f"{remedy.format(switch=monitor.switch)}"
            )


def parts_of(sources: Collection[str], plugins: Sequence[str] = ()) -> set[str]:
    """The parts that bet on what these `sources` see, monitors called `plugins` among them."""
    return {monitor.name for monitor in monitors_with(plugins) if monitor.source in sources}


def observe_batch(
    policy: Policy, profile: Profile, inputs: Array, outputs: Outputs
) -> tuple[dict[str, Any], dict[str, Exception]]:
    """What the monitors see of a batch, each source looking once, and why a source saw nothing."""
    sight: dict[str, Any] = {}
    failed: dict[str, Exception] = {}
    seen: dict[str, Any] = {}
    if profile.strata is not None:
        sight[STRATUM] = profile.strata.of(outputs)
    if (marks := answer_marks(outputs)) is not None:
        sight[ANSWER_MARKS] = marks
    for monitor in active_monitors(policy, profile):
        source, fitted = monitor.source, profile.fitted[monitor.source]
        try:
            if source not in seen and source not in failed:
                seen[source] = fitted.see(inputs, outputs)
            if source in seen:
                sight.update(monitor.observe(fitted, seen[source], policy))
        except Exception as error:
            failed[source] = error
    return without_sources(sight, failed, profile.plugins), failed


def without_sources(sight: Observations, sources: Collection[str], plugins: Sequence[str] = ()) -> dict[str, Any]:
    """`sight` less what the monitors of `sources` see, those called `plugins` among them."""
    if not sources:
        return dict(sight)
    silent = parts_of(sources, plugins)
    return {name: column for name, column in sight.items() if name not in silent}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMonitors:
    """The monitors of one account: `bets` make values of what is seen, `combined` bets on all of them.

    An input may repeat another when their codes differ in at most `radius` bits.
    """

    combined: CombinedEProcess
    bets: tuple[Bet, ...]
    radius: int = 0

    @classmethod
    def of(cls, policy: Policy, profile: Profile, depth: int) -> AccountMonitors:
        """For each of `depth` accounts on one path: every rung's alpha is split evenly over all of them.

        Thresholds and bounds are one event of the calibration draw, whoever asks.
        """
        shares, monitors = calibration_shares(profile.plugins), active_monitors(policy, profile)
        strata = 1 if profile.strata is None else profile.strata.count
        bets = []
        for each in monitors:
            settings = BetSettings.under(policy.monitor, shares[each.name], strata=strata, longest=MAX_DEPTH)
            bets.append(each.bet(profile.fitted[each.source], settings))
        total = sum(shares[each.name] for each in monitors)
        combined = CombinedEProcess(
            parts=tuple(bet.part for bet in bets),
            weights=tuple(shares[each.name] / total for each in monitors),
            ladder=tuple((rung.false_alarm / depth, Action[rung.action.upper()]) for rung in policy.monitor.ladder),
            strata=strata,
        )
        return cls(combined=combined, bets=tuple(bets), radius=max(bet.repeat_radius for bet in bets))

    def watch(self, digests: Sequence[str], sight: Observations, state: Any) -> tuple[Any, AccountStep]:
        """Step through a batch. What the verdict asks beyond the action before is news to a person."""
        state, (found,) = self.watch_all([(digests, sight)], state)
        return state, found

    def watch_all(
        self, batches: Sequence[tuple[Sequence[str], Observations]], state: Any
    ) -> tuple[Any, list[AccountStep]]:
        """Step through several batches as `watch` does through one after the other; the same parts see each of them."""
        state = _migrated(state, self.combined.name)
        digests = [digest for own, _ in batches for digest in own]
        sight = _joined([seen for _, seen in batches])
        codes = sight.get(CONTENT_CODES, [""] * len(digests))
        state[RECENT], repeated = find_repeats(
            state.get(RECENT) or no_inputs(), digests, codes, self.radius, sight.get(ANSWER_MARKS)
        )
        values: dict[str, list[float]] = {}
        any_repeated = any(repeated)
        strata = [int(each) for each in sight.get(STRATUM, [0] * len(digests))]
        if STRATUM in sight:
            values[STRATUM] = [*strata]
        for bet in self.bets:
            name = bet.part.name
            if name in sight:
                own, found = bet.values(state.get(name), sight[name], codes, strata)
                if own is not None:
                    state[name] = own
                values[name] = _without_repeats(bet, found, repeated) if any_repeated else found
        standing = self.combined.resume(state.get(self.combined.name))
        steps: list[AccountStep] = []
        first = 0
        for own_digests, _ in batches:
            rows = slice(first, first := first + len(own_digests))
            bets = {name: column[rows] for name, column in values.items()}
            before = self.combined.action(standing["peak"])
            standing, verdict = fold_bets(self.combined, standing, bets, len(own_digests))
            steps.append((before, verdict, bets))
        state[self.combined.name] = standing
        return state, steps


def _joined(sights: Sequence[Observations]) -> Observations:
    """The columns of several batches, one below the other."""
    (first, *others) = sights
    if not others:
        return first
    return {
        name: np.concatenate([sight[name] for sight in sights])
        if isinstance(column, np.ndarray)
        else [value for sight in sights for value in sight[name]]
        for name, column in first.items()
    }


def _without_repeats(bet: Bet, values: list[float], repeated: Sequence[str]) -> list[float]:
    """`values`, those of repeats being what `bet` takes in their place."""
    ignored = bet.repeats
    return [bet.part.repeated(value) if how in ignored else value for value, how in zip(values, repeated, strict=True)]


def fold_bets(monitor: CombinedEProcess, state: Any, values: BetValues, count: int) -> tuple[Any, Verdict]:
    """Step through the `count` >= 1 rows of `values` in order; the last verdict stands for all, alarms being sticky."""
    state = monitor.resume(state)
    for row in range(count):
        state, verdict = monitor.step(state, Observation({name: column[row] for name, column in values.items()}))
    return state, verdict


def count_near_duplicates(
    monitor: DuplicateCount, found: Sequence[ClusterMatch], state: Any
) -> tuple[Any, tuple[Action, Verdict]]:
    """Count a batch of near-duplicates: the state, the action that stood before, and the verdict."""
    count = (state or {}).get(DUPLICATES) or monitor.start()
    before = monitor.verdict(count).action
    for each in found:
        count, verdict = monitor.step(count, each)
    return {**(state or {}), DUPLICATES: count}, (before, verdict)


def _migrated(state: Any, name: str) -> dict[str, Any]:
    """A copy of `state`, less a memory of inputs of an older form; of a bet or two of medward 0.1, their peak."""
    if state is None:
        return {}
    bets = [state] if "hits" in state else [each for each in state.values() if "hits" in each]
    if bets:
        return {name: max(bets, key=lambda each: each["peak"])}
    return {
        key: each
        for key, each in state.items()
        if key != RECENT or (isinstance(each, dict) and each.keys() == RecentInputs.__annotations__.keys())
    }
