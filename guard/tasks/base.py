"""What a model answers, as a type: how its outputs are read, what they decide, and what may leave of them.

A decision is one whole number per row, so that two answers say the same exactly where their decisions are equal. One
law holds for every task, level and operating point: deciding what was released gives what deciding the outputs gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release import capacity
from medward.guard.release.pooling import ConfidencePools
from medward.guard.release.quantise import Prototypes
from medward.guard.types import Array, Ints, Level, OutputKind

_ROUNDING = 1e-6
WITHHELD_DECISION = -1
"""In the place of a decision that did not leave."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReleaseSettings:
    """Release settings are what a site chose about the levels that a task has.

    `decimals` is for the levels rounded and top, `top` for top, `codebook` for codes; `temperature` and `pools` are for
    every level of probabilities but full.
    """

    decimals: int = 2
    top: int = 3
    temperature: float = 1.0
    codebook: Prototypes | None = None
    pools: ConfidencePools | None = None


class Task(Protocol):
    """A task says what a model answers. Implementations hold settings; rows are judged one by one, whatever the batch.

    `names` are those of the columns of a row of outputs, empty where these are no columns. `levels` are the release
    levels that there are, finest first; `DECISION` among them says nothing but the decision.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a row of outputs, by name."""
        ...

    @property
    def output(self) -> OutputKind:
        """What a number in the outputs means."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels at which an answer can leave, finest first, withheld last."""
        ...

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        ...

    def read(self, raw: object, name: str) -> Array:
        """What the model called `name` returned for a batch, as outputs ``(n, ...)``; refuses what is none."""
        ...

    def decide(self, outputs: Array) -> Ints:
        """The decision ``(n,)`` on each row of outputs."""
        ...

    def judged(self, outputs: Array) -> Array:
        """Scores ``(n, G)`` as defenses judge them: the largest is the group that a row belongs to."""
        ...

    def doubt(self, outputs: Array) -> Array | None:
        """How near ``(n,)`` rows are to another decision, 0 on the border, negative elsewhere; None for no border."""
        ...

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Which rows ``(n,)`` of two outputs mean the same to whoever acts on them."""
        ...

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """What leaves of outputs at `level`, of their shape; NaN for what does not."""
        ...

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """How much a row can carry at `level`, of any model and any question; see `guard.release.capacity`."""
        ...

    def word(self, decision: int) -> Any:
        """A decision as a client reads it, plain data for JSON."""
        ...


def offers(task: Task, outputs: Array, level: Level, settings: ReleaseSettings) -> tuple[tuple[Level, float], ...]:
    """What a row may leave as, finest first, with bits: `level` or, when a budget asks for less, its decision alone."""
    levels = (each for each in sorted({level, Level.LABEL}) if level <= each < Level.WITHHELD and each in task.levels)
    return tuple((each, task.bits(outputs, each, settings)) for each in levels)


def plain_bits(columns: int, outputs: Array, level: Level) -> float:
    """The bits of the levels that every task has, of rows of so many numbers."""
    if level is Level.FULL:
        return capacity.full_bits(columns, 8 * outputs.dtype.itemsize)
    return capacity.WITHHELD_BITS


def nothing(outputs: Array) -> Array:
    """Outputs of which nothing left."""
    return np.full(np.shape(outputs), np.nan)


def check_level(task: Task, level: Level) -> None:
    """Refuse a release level that a task does not have."""
    if level not in task.levels:
        raise MedwardError(
            f"release.level = {level.label!r}: a model that {task.rule} has the levels "
            f"{', '.join(each.label for each in task.levels)}; choose one of them"
        )


def read_matrix(raw: object, names: Sequence[str]) -> Array:
    """A matrix ``(n, K)`` of numbers with a column for each of `names`, single or double precision."""
    s, k = np.asarray(raw), len(names)
    if s.dtype.kind not in "fiub":
        raise MedwardError(f"scores: expected numbers of shape (n, {k}), got dtype {s.dtype}")
    if s.ndim != 2 or s.shape[1] != k:
        raise MedwardError(
            f"scores: expected one column per class, shape (n, {k}), got {s.shape}; name as many classes as there are "
            "columns"
        )
    return in_floats(s)


def check_unit(likely: Array) -> None:
    """Refuse probabilities, each of its own, that lie outside 0 to 1 by more than rounding; NaN too."""
    inside = (likely >= -_ROUNDING) & (likely <= 1 + _ROUNDING)
    if not inside.all():
        raise MedwardError(f'scores: the spec claims probabilities, got {likely[~inside][0]:g}; use output = "logits"')


def in_floats(values: NDArray[Any]) -> Array:
    """Numbers in single or double precision, as they came where they came so; whole ones in what holds them exactly.

    Raises `MedwardError` for whole numbers that no floating-point number holds.
    """
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype.kind in "iu" and values.dtype.itemsize > 2:
        exact = values.astype(np.float64)
        if values.size and max(-int(values.min()), int(values.max())) > 2**53:
            raise MedwardError(f"outputs: whole numbers beyond 2^53 cannot be kept exactly, got {values.max()}")
        return exact if values.size and np.abs(exact).max() > 2**24 else exact.astype(np.float32)
    return values.astype(np.float32)
