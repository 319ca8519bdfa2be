"""The monitors of one account: what each sees of a batch, and the step of all of them through it.

Every part bets on what its own calibration bounds, each with its share of delta; `CombinedEProcess` tests them as one,
so that alpha is split over the accounts of a path only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medward.guard.monitors.coverage import REPEATED, Coverage, tally_cells
from medward.guard.monitors.kernel_features import KernelFeatures
from medward.guard.monitors.near_duplicates import ClusterMatch, DuplicateCount
from medward.guard.monitors.noise_residuals import NoiseResiduals
from medward.guard.monitors.repeats import find_repeats
from medward.guard.monitors.shared_perturbation import DRIFT_SLACK, SharedPerturbation, VectorSeen
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.statistics.combined_eprocess import (
    COVERAGE,
    EMBEDDING,
    PROBING,
    SHARED,
    SHARES,
    STRANGE,
    CombinedEProcess,
    Part,
)
from medward.guard.statistics.eprocess import EProcess
from medward.guard.statistics.strata import STRATUM
from medward.guard.types import Action, Array, Ints, Observation, Outputs, Verdict

MAX_DEPTH = 8  # levels of a principal
OFFSET = 0.1  # how much stranger an input may look, at drift 1; benign median and 95th percentile are 1 apart
RATIO = 3.0  # at drift 1 a kind of input may be 1 + RATIO times as frequent as in the calibration data
CODES, RECENT, DUPLICATES = "codes", "recent", "duplicates"

BetValues = Mapping[str, Sequence[float]]
"""Per part what it bet on, row by row: p-values, or cells; and where a profile has strata, those of the rows."""
AccountStep = tuple[Action, Verdict, BetValues]
"""Of one account: the action that stood before, the verdict, and what was bet on."""
Observations = Mapping[str, Any]
"""Per part what it sees of a batch, row by row: vectors, p-values or cells. A part that is off or failed is missing.

Also the `CODES` of images, and the `STRATUM` of each row where the profile has strata.
"""


def observation_sources(policy: Policy, profile: Profile) -> dict[str, tuple[str, ...]]:
    """Where parts other than the screens' get what they see: the name a failure is reported under, and whose it is."""
    found: dict[str, tuple[str, ...]] = {}
    if policy.monitor.shared and profile.residuals is not None:
        found["residuals"] = (SHARED,)
    if profile.embedding is not None:
        found[EMBEDDING] = (EMBEDDING, COVERAGE)
    if profile.probing is not None:
        found[PROBING] = (PROBING,)
    return found


def strata_of(profile: Profile, outputs: Outputs) -> Ints | None:
    """The stratum ``(n,)`` of each row; None where no class is rare."""
    return None if profile.strata is None else profile.strata.of(outputs)


def observe(source: str, profile: Profile, inputs: Array, outputs: Outputs) -> Observations:
    """What the parts behind one of `observation_sources` see of a batch."""
    if source == "residuals" and profile.residuals is not None:
        return {SHARED: profile.residuals.vectors(inputs), CODES: profile.residuals.codes(inputs)}
    if source == EMBEDDING and profile.embedding is not None:
        vectors, cells = profile.embedding.see(inputs, outputs)
        return {EMBEDDING: vectors, COVERAGE: cells}
    assert profile.probing is not None
    assert outputs.doubt is not None
    return {PROBING: profile.probing.p_values(outputs.doubt)}


def strangeness_p_values(policy: Policy, profile: Profile, scores: Array) -> Array:
    """What *strange* bets on: p-values ``(n,)`` of strangeness ``(n,)``, of which drift may have made a part."""
    return profile.thresholds.p_values(scores - OFFSET * policy.monitor.drift)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMonitors:
    """`watched` turn an account's vectors into p-values by what it asked before; `combined` bets on everything.

    An input repeats one just before when their codes differ in at most `radius` bits.
    """

    combined: CombinedEProcess
    watched: Mapping[str, SharedPerturbation]
    radius: int = 0

    @classmethod
    def of(cls, policy: Policy, profile: Profile, depth: int) -> AccountMonitors:
        """For each of `depth` accounts on one path: every rung's alpha is split evenly over all of them.

        Thresholds and bounds are one event of the calibration draw, whoever asks. Directions are each account's own,
        so their part of delta is split over a path, evenly over the longest there can be: accounts below a parent may
        lie at different depths, and the parent's thresholds must not change with who asks.
        """
        risks = {name: share * policy.monitor.calibration_risk for name, share in SHARES.items()}
        slack = DRIFT_SLACK * policy.monitor.drift
        spread = {"contamination": policy.monitor.contamination, "ratio": 1 + RATIO * policy.monitor.drift}
        alike = {**spread, "ratio": 1.0}
        screened = f"{profile.thresholds.fingerprint}:{OFFSET * policy.monitor.drift:g}"
        count = 1 if profile.strata is None else profile.strata.count
        parts: list[Part] = [_betting(STRANGE, profile.thresholds.levels, profile.thresholds.rare, screened, alike)]
        watched: dict[str, SharedPerturbation] = {}
        if (residuals := profile.residuals) is not None and policy.monitor.shared:
            watched[SHARED] = direction_monitor(
                residuals, risks[SHARED], slack, count=count, radius=int(residuals.radius)
            )
        if (embedding := profile.embedding) is not None:
            watched[EMBEDDING] = direction_monitor(embedding, risks[EMBEDDING], slack, count=count)
        for name, each in watched.items():
            parts.append(_betting(name, each.levels, each.rare, each.calibration, alike))
        if embedding is not None:
            cells, strata = embedding.reference_cells, embedding.reference_strata
            rare = [cells[strata == stratum] for stratum in range(1, count)]
            parts.append(
                Coverage(
                    name=COVERAGE,
                    counts=tally_cells(cells.tolist(), embedding.count),
                    rare=tuple(tally_cells(each.tolist(), embedding.count) for each in rare),
                    risk=risks[COVERAGE],
                    calibration=f"{embedding.fingerprint}:{risks[COVERAGE]:g}",
                    **spread,
                )
            )
        if (margins := profile.probing) is not None:
            parts.append(_betting(PROBING, margins.levels, margins.rare, margins.fingerprint, spread))
        total = sum(SHARES[part.name] for part in parts)
        combined = CombinedEProcess(
            parts=tuple(parts),
            weights=tuple(SHARES[part.name] / total for part in parts),
            ladder=tuple((rung.false_alarm / depth, Action[rung.action.upper()]) for rung in policy.monitor.ladder),
            strata=count,
        )
        radius = int(residuals.repeat_radius) if residuals is not None and SHARED in watched else 0
        return cls(combined=combined, watched=watched, radius=radius)

    def watch(self, digests: Sequence[str], sight: Observations, state: Any) -> tuple[Any, AccountStep]:
        """Step through a batch. What the verdict asks beyond the action before is news to a person."""
        state = _migrated(state, self.combined.name)
        codes = sight.get(CODES, [""] * len(digests))
        state[RECENT], repeated = find_repeats(state.get(RECENT, []), digests, codes, self.radius)
        values: dict[str, list[float]] = {}
        strata = [int(each) for each in sight.get(STRATUM, [0] * len(digests))]
        if STRATUM in sight:
            values[STRATUM] = [*strata]
        for name in (part.name for part in self.combined.parts if part.name in sight):
            values[name] = list(map(float, sight[name])) if name not in self.watched else []
            if name in self.watched:
                monitor, own = self.watched[name], codes if name == SHARED else [""] * len(digests)
                sightings = [VectorSeen(*each) for each in zip(sight[name], own, strata, strict=True)]
                state[name], values[name] = monitor.judge(monitor.resume(state.get(name)), sightings)
            ignored = ("exact",) if name == SHARED else ("exact", "near")
            nothing = REPEATED if name == COVERAGE else 1.0
            values[name] = [
                nothing if how in ignored else value for value, how in zip(values[name], repeated, strict=True)
            ]
        standing = self.combined.resume(state.get(self.combined.name))
        before = self.combined.action(standing["peak"])
        state[self.combined.name], verdict = fold_bets(self.combined, standing, values, len(digests))
        return state, (before, verdict, values)


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


def direction_monitor(
    fitted: NoiseResiduals | KernelFeatures, risk: float, slack: float, *, count: int = 1, radius: int = 0
) -> SharedPerturbation:
    """The directions of an account in the vectors of `fitted`, of `count` strata, at its part of `risk`."""
    risk = risk / MAX_DEPTH
    return SharedPerturbation(
        reference=fitted.reference,
        strata=fitted.reference_strata,
        count=count,
        risk=risk,
        slack=slack,
        radius=radius,
        calibration=f"{fitted.fingerprint}:{risk:g}:{slack:g}",
    )


Levels = tuple[float, ...]


def _betting(name: str, levels: Levels, rare: tuple[Levels, ...], named: str, drift: Mapping[str, float]) -> EProcess:
    contamination, ratio = drift["contamination"], drift["ratio"]
    return EProcess(name=name, levels=levels, rare=rare, calibration=named, contamination=contamination, ratio=ratio)


def _migrated(state: Any, name: str) -> dict[str, Any]:
    """A copy of `state`; of one written by medward 0.1, a bet or two of them, the largest peak."""
    if state is None:
        return {}
    bets = [state] if "hits" in state else [each for each in state.values() if "hits" in each]
    return {name: max(bets, key=lambda each: each["peak"])} if bets else dict(state)
