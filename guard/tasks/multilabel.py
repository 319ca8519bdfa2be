"""Multilabel: several findings at once, each decided where its own probability is at least its own threshold.

A decision is the set of findings, as one whole number: bit j is set where finding j is decided. Findings never compete:
scores are logits or probabilities of each alone, and rounding, temperature and bits are those of each alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.release.pooling import ConfidencePools, fit_pool, pool_side
from medward.guard.release.rounding import round_keeping_side
from medward.guard.release.temperature import temper_scores
from medward.guard.tasks.base import ReleaseSettings, check_unit, nothing, plain_bits, read_matrix
from medward.guard.tasks.decision import at_threshold, checked_threshold, decisions, in_full
from medward.guard.types import Array, Ints, Level, ScoreKind

MOST_FINDINGS = 62  # bits of a decision
_DECIMALS = 4  # of a distance from a threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Multilabel:
    """Multilabel decides for each of `findings` whether it is there: its probability is at least its threshold.

    `output` says what a score is; `thresholds` has one for each finding.
    Guarantee: whoever compares what is released with the thresholds finds what the model finds.
    """

    findings: tuple[str, ...]
    output: ScoreKind
    thresholds: tuple[float, ...]
    kind: Literal["multilabel"] = "multilabel"

    def __post_init__(self) -> None:
        """Refuse more findings than a decision holds, and thresholds that are not one for each."""
        if not 1 <= len(self.findings) <= MOST_FINDINGS:
            raise MedwardError(f"findings: must be 1 to {MOST_FINDINGS}, got {len(self.findings)}")
        if len(self.thresholds) != len(self.findings):
            raise MedwardError(
                f"thresholds: needs one for each of the {len(self.findings)} findings, got {len(self.thresholds)}"
            )
        checked = tuple(checked_threshold(each, 2) for each in self.thresholds)
        object.__setattr__(self, "thresholds", tuple(0.5 if each is None else each for each in checked))

    @property
    def names(self) -> tuple[str, ...]:
        """The findings."""
        return self.findings

    @property
    def levels(self) -> tuple[Level, ...]:
        """In full, each probability rounded, the set of findings, nothing."""
        return (Level.FULL, Level.ROUNDED, Level.LABEL, Level.WITHHELD)

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        points = ", ".join(f"{name} from {each:g}" for name, each in zip(self.findings, self.thresholds, strict=True))
        return f"decides each finding by its own probability ({points})"

    def read(self, raw: object, name: str) -> Array:
        """Scores ``(n, K)``, a column per finding; probabilities lie in [0, 1]."""
        scores = read_matrix(raw, self.findings)
        if self.output == "probabilities":
            check_unit(scores)
        return scores

    def found(self, outputs: Array) -> NDArray[np.bool_]:
        """Which findings ``(n, K)`` are decided."""
        columns = [
            decisions(pair_of(outputs, column, self.output), self.output, each) == 1
            for column, each in enumerate(self.thresholds)
        ]
        return np.stack(columns, axis=1)

    def decide(self, outputs: Array) -> Ints:
        """The set of findings ``(n,)`` as bits."""
        return packed_findings(self.found(outputs))

    def judged(self, outputs: Array) -> Array:
        """Log odds ``(n, K)`` of each finding beyond its threshold's: positive where it is decided."""
        columns = [
            at_threshold(pair_of(outputs, column, self.output), self.output, each)[:, 1]
            for column, each in enumerate(self.thresholds)
        ]
        return np.stack(columns, axis=1)

    def doubt(self, outputs: Array) -> Array:
        """Minus the distance of the nearest finding from its threshold, in log odds, rounded."""
        return np.asarray(np.round(-np.abs(self.judged(outputs)).min(axis=1), _DECIMALS))

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Where the findings are the same."""
        return np.asarray(self.decide(before) == self.decide(after))

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """Scores ``(n, K)`` at `level`: the model's own, probabilities rounded on their side of a threshold, or NaN."""
        if level is Level.FULL:
            pairs = (in_full(pair_of(outputs, k, self.output), self.output, t) for k, t in enumerate(self.thresholds))
            return np.stack([pair[:, 1] for pair in pairs], axis=1)
        if level is not Level.ROUNDED:
            return nothing(outputs)
        found, columns = self.found(outputs), []
        for column, threshold in enumerate(self.thresholds):
            pair = pair_of(outputs, column, self.output)
            likely = temper_scores(pair, self.output, settings.temperature, threshold)
            if settings.pools is not None:
                likely = pool_side(likely, found[:, column], threshold, settings.pools, column)
            columns.append(round_keeping_side(likely, found[:, column], threshold, settings.decimals)[:, 1])
        return np.stack(columns, axis=1)

    def fit_pools(self, outputs: Array, share: float, temperature: float) -> ConfidencePools:
        """The pools of each finding, absent and present, of the surest `share` of benign `outputs (n, K)`."""
        found, pools = self.found(outputs), []
        for column, threshold in enumerate(self.thresholds):
            pair = pair_of(outputs, column, self.output)
            likely = temper_scores(pair, self.output, temperature, threshold)
            present = found[:, column]
            sides = (likely[~present, 0], 1 - threshold), (likely[present, 1], threshold)
            pools.append([fit_pool(own, share, least) for own, least in sides])
        fitted = np.array(pools)
        return ConfidencePools(fitted[..., 0], fitted[..., 1], share, temperature)

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """Of each finding one bit, one step of its probability, or all of its score."""
        if level is Level.ROUNDED:
            return len(self.findings) * capacity.side_bits(settings.decimals)
        return float(len(self.findings)) if level is Level.LABEL else plain_bits(len(self.findings), outputs, level)

    def word(self, decision: int) -> list[str]:
        """The names of what was found."""
        return [name for column, name in enumerate(self.findings) if decision >> column & 1]


def pair_of(scores: Array, column: int, output: str) -> Array:
    """One finding's score as those ``(n, 2)`` of its absence and its presence."""
    present = np.asarray(scores)[:, column]
    return np.stack([np.zeros_like(present) if output == "logits" else 1 - present, present], axis=1)


def packed_findings(found: NDArray[np.bool_]) -> Ints:
    """Sets of findings ``(n, K)`` as whole numbers ``(n,)``."""
    return np.asarray(found @ (1 << np.arange(found.shape[1], dtype=np.int64)), np.int64)


def unpacked_findings(decisions: Ints, count: int) -> NDArray[np.bool_]:
    """The inverse ``(n, count)`` of `packed_findings`; a decision that was withheld holds none."""
    codes = np.maximum(np.asarray(decisions, np.int64), 0)
    return np.asarray((codes[:, None] >> np.arange(count, dtype=np.int64)) & 1, bool)
