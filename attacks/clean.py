"""What the guard costs benign users, and what accounts look like over time: measured on the deployed path.

One account asks all rows of a split, one row at a time, as a hospital would; so a guard that tires of honest
users shows it here as surely as one that refuses single inputs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.finding import CleanCost, Curve, Pair, Utility
from attacks.intervals import Interval, median_ratio, rate
from guard.data import Split
from guard.pipeline import Guard
from guard.profile import forward
from guard.protocols import Model
from guard.types import Array, Ints, Level, Query

Bools = NDArray[np.bool_]

LATENCY_PAIRS = 100
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Account:
    """What one account saw: labels ``(n,)``, -1 where withheld, levels, and log e-values ``(n,)``."""

    labels: Ints
    levels: tuple[Level, ...]
    log_e: tuple[float, ...]

    @property
    def curve(self) -> Curve:
        """Log e-value over queries, for the report."""
        return tuple(float(i + 1) for i in range(len(self.log_e))), self.log_e


def ask_all(guard: Guard, inputs: Array, name: str) -> Account:
    """Send `inputs (n, *shape)` row by row from one account called `name`."""
    labels, levels, log_e = [], [], []
    for row in range(len(inputs)):
        answer = guard.answer(Query(principal=(name,), inputs=inputs[row : row + 1]))
        labels.append(int(answer.labels[0]))
        levels.append(answer.levels[0])
        log_e.append(max((v.evidence["log_e"] for v in answer.verdicts if "log_e" in v.evidence), default=0.0))
    return Account(np.array(labels, np.int64), tuple(levels), tuple(log_e))


def utility(name: str, split: Split, plain: Ints, account: Account, classes: tuple[str, ...]) -> Utility:
    """Undefended labels `plain (n,)` beside what `account` was told, on the rows of `split`."""
    counts = Counter(level.label for level in account.levels)
    common = Utility(
        split=name,
        n=len(split),
        false_refusal=rate(account.labels < 0),
        levels={level.label: counts[level.label] / len(split) for level in Level},
    )
    if split.labels is None:
        return common
    truth, told = split.labels, account.labels
    sensitivity, specificity = {}, {}
    for index, label in enumerate(classes):
        inside = truth == index
        if inside.any():
            sensitivity[label] = Pair(undefended=rate(plain[inside] == index), guarded=rate(told[inside] == index))
        if not inside.all():
            others, answers = plain[~inside], told[~inside]
            specificity[label] = Pair(
                undefended=rate(others != index), guarded=rate((answers != index) & (answers >= 0))
            )
    accuracy = Pair(undefended=rate(plain == truth), guarded=rate(told == truth))
    return common.model_copy(update={"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity})


def latency_ratio(model: Model, guard: Guard, inputs: Array, *, seed: int) -> Interval:
    """Time of one guarded query over one undefended query, the two measured in turn on the same rows."""
    rows = np.resize(np.arange(len(inputs)), LATENCY_PAIRS + _WARM_UP)
    guarded, plain = [], []
    for row in rows:
        one = inputs[row : row + 1]
        start = time.perf_counter()
        model.predict(one)
        middle = time.perf_counter()
        guard.answer(Query(principal=("latency",), inputs=one))
        plain.append(middle - start)
        guarded.append(time.perf_counter() - middle)
    return median_ratio(guarded[_WARM_UP:], plain[_WARM_UP:], seed=seed)


def measure(
    model: Model,
    fresh_guard: Callable[[], Guard],
    site: tuple[str, Split],
    drift: tuple[str, Split] | None,
    *,
    seed: int,
) -> tuple[CleanCost, dict[str, Curve]]:
    """The clean cost, and the e-values of the accounts that asked, by name."""
    curves, utilities = {}, []
    for name, split in filter(None, (site, drift)):
        account = ask_all(fresh_guard(), split.inputs, "clinic")
        plain = np.argmax(forward(model, split.inputs).scores, axis=1)
        curves[name] = account.curve
        utilities.append(utility(name, split, plain, account, model.spec.classes))
    cost = CleanCost(
        site=utilities[0],
        drift=utilities[1] if drift is not None else None,
        latency_ratio=latency_ratio(model, fresh_guard(), site[1].inputs, seed=seed),
    )
    return cost, curves
