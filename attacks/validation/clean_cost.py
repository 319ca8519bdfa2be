"""What the guard costs benign users, and what accounts look like over time: measured on the deployed path.

Every row is asked once by an account of its own, which shows a guard that refuses single inputs. Then accounts
ask many rows each, one at a time, as a hospital would, which shows a guard that tires of honest users: alarms
are sticky, so the account is the unit there and not the row. `ACCOUNTS` of them can show that a guard alarms far
too often, not that it alarms seldom enough; for that there is the e-process's bound.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.attacks.intervals import Interval, larger_rate, mean_interval, median_interval, median_ratio, rate_interval
from medward.attacks.target import Response, guarded_oracle
from medward.attacks.validation.certified_share import patient_classes, rates_by_class
from medward.attacks.validation.finding import CleanCost, Curve, Pair, Utility
from medward.guard.data.labels import Labels
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.pipeline import Guard
from medward.guard.profile import forward_batches
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Action, Array, Ints, Level, Query

ACCOUNTS = 20
CLEAN_QUERIES = 200  # of each account
LATENCY_PAIRS = 100
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Account:
    """What one account saw: levels and log e-values ``(n,)``, and whether the monitor ever acted on it."""

    levels: tuple[Level, ...]
    log_e: tuple[float, ...]
    alarmed: bool

    @property
    def curve(self) -> Curve:
        """Log e-value over queries, for the report."""
        return tuple(float(i + 1) for i in range(len(self.log_e))), self.log_e


def ask_all(guard: Guard, inputs: Array, name: str) -> Account:
    """Send `inputs (n, *shape)` row by row from one account called `name`."""
    levels, log_e, alarmed = [], [], False
    for row in range(len(inputs)):
        answer = guard.answer(Query(principal=(name,), inputs=inputs[row : row + 1]))
        monitors = [verdict for verdict in answer.verdicts if "log_e" in verdict.evidence]
        levels.append(answer.levels[0])
        log_e.append(max((verdict.evidence["log_e"] for verdict in monitors), default=0.0))
        alarmed = alarmed or any(verdict.action >= Action.COARSEN for verdict in monitors)
    return Account(tuple(levels), tuple(log_e), alarmed)


def account_visits(rows: int, seed: int) -> list[NDArray[np.int64]]:
    """Which of `rows` rows each account asks: rows of its own where there are enough, else drawn with replacement."""
    rng = np.random.default_rng(seed)
    if rows >= ACCOUNTS * CLEAN_QUERIES:
        return list(rng.permutation(rows)[: ACCOUNTS * CLEAN_QUERIES].reshape(ACCOUNTS, CLEAN_QUERIES))
    return list(rng.integers(rows, size=(ACCOUNTS, min(rows, CLEAN_QUERIES))))


def clean_utility(
    name: str, split: Split, plain: Array, told: Response, accounts: list[Account], task: Task, *, seed: int = 0
) -> Utility:
    """The model's own outputs `plain (n, ...)` beside what lone visitors were `told`, and how `accounts` fared.

    A withheld answer counts as missed, whatever it was withheld for, and as refused unless that was the want of a proof
    alone. What is compared with labels follows the task: classes and findings by the
    decision, numbers by the tolerance, and of outputs that nobody here can read whether they left unchanged.
    """
    counts = Counter(level.label for account in accounts for level in account.levels)
    withheld = told.labels < 0
    common = Utility(
        split=name,
        n=len(split),
        false_refusal=rate_interval(told.refused),
        levels={level.label: counts[level.label] / counts.total() for level in Level},
        accounts=rate_interval([account.alarmed for account in accounts]),
        unchanged=rate_interval(_unchanged(plain, told)) if isinstance(task, Opaque) else None,
    )
    if told.uncertified is not None:
        common = common.model_copy(update=_uncertified_shares(told.uncertified, plain, split.labels, task))
    if split.labels is None or isinstance(task, Opaque):
        return common
    if isinstance(task, Regression):
        return common.model_copy(update=_number_costs(plain, told, split.labels, task, seed))
    own, left = task.decide(plain), told.labels
    if isinstance(task, WrittenReport):  # how sure it is of a finding is nothing that labels know
        own, left = task.found_sets(own), task.found_sets(left)
    sensitivity, specificity, lost = {}, {}, {}
    for label, truth, mine, theirs in _sides(split.labels, own, left, task):
        if truth.any():
            sensitivity[label] = Pair(
                undefended=rate_interval(mine[truth]), guarded=rate_interval((theirs & ~withheld)[truth])
            )
            lost[label] = rate_interval((mine & (~theirs | withheld))[truth])
        if not truth.all():
            specificity[label] = Pair(
                undefended=rate_interval(~mine[~truth]), guarded=rate_interval((~theirs & ~withheld)[~truth])
            )
    accuracy = Pair(undefended=rate_interval(own == split.labels), guarded=rate_interval(left == split.labels))
    return common.model_copy(
        update={"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity, "sensitivity_lost": lost}
    )


def _uncertified_shares(
    uncertified: NDArray[np.bool_], plain: Array, labels: Labels | None, task: Task
) -> dict[str, object]:
    """The share of rows that are not certified: of all, that or the balanced one of classes, and of each class."""
    kinds = patient_classes(task, task.decide(plain), labels)
    return {
        "uncertified": rate_interval(uncertified),
        "uncertified_worst": larger_rate([(uncertified, kinds if isinstance(task, Classification) else None)]),
        "uncertified_classes": rates_by_class(task, [(uncertified, kinds)]),
    }


def _sides(
    truth: Ints, own: Ints, told: Ints, task: Task
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Of each class or finding its name, and whether ``(n,)`` it is there, the model says so, and the guard does."""
    if isinstance(task, Multilabel | WrittenReport):
        bits = [unpacked_findings(each, len(task.findings)) for each in (truth, own, told)]
        for column, name in enumerate(task.findings):
            yield name, bits[0][:, column], bits[1][:, column], bits[2][:, column]
        return
    for index, name in enumerate(task.names):
        yield name, truth == index, own == index, told == index


def _number_costs(plain: Array, told: Response, labels: Labels, task: Regression, seed: int) -> dict[str, Pair]:
    """The share of rows within the tolerance of the truth, and the mean distance from it of those answered."""
    truth = np.asarray(labels, np.float64)[:, None]
    shown, answered = np.isfinite(told.scores[:, 0]), told.labels >= 0
    near = np.zeros(len(truth), bool)
    near[shown] = task.unchanged(truth[shown], told.scores[shown])
    coarse = answered & ~shown  # the cell alone left
    near[coarse] = told.labels[coarse] == task.decide(truth[coarse])
    own = task.unchanged(truth, plain)
    own[coarse] = task.decide(plain[coarse]) == task.decide(truth[coarse])  # the same question of both
    costs = {"accuracy": Pair(undefended=rate_interval(own), guarded=rate_interval(near))}
    if shown.any():
        errors = (np.abs(plain[:, 0] - truth[:, 0]), np.abs(told.scores[shown, 0] - truth[shown, 0]))
        costs["mean_error"] = Pair(
            undefended=mean_interval(errors[0], seed=seed), guarded=mean_interval(errors[1], seed=seed)
        )
    return costs


def _unchanged(plain: Array, told: Response) -> NDArray[np.bool_]:
    """Which rows left as the model gave them."""
    return np.asarray((plain == told.scores).reshape(len(plain), -1).all(axis=1))


def measure_latency(model: Model, guard: Guard, inputs: Array, *, seed: int) -> tuple[Pair, Interval]:
    """Milliseconds of an undefended and of a guarded query, and the second over the first.

    The two are measured in turn on the same rows.
    """
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
    times = [1000 * np.array(each[_WARM_UP:]) for each in (plain, guarded)]
    pair = Pair(undefended=median_interval(times[0], seed=seed), guarded=median_interval(times[1], seed=seed))
    return pair, median_ratio(times[1], times[0], seed=seed)


def measure_clean_cost(
    model: Model,
    fresh_guard: Callable[[], Guard],
    site: tuple[str, Split],
    drift: tuple[str, Split] | None,
    *,
    seed: int,
    timed: tuple[Model, Callable[[], Guard]] | None = None,
) -> tuple[CleanCost, dict[str, Curve]]:
    """The clean cost, and by split the e-values of the first account that asked.

    `timed` are the model and its guards whose latency is told, where those that are asked remember their answers.
    """
    curves, utilities = {}, []
    for name, split in filter(None, (site, drift)):
        guard = fresh_guard()
        told = guarded_oracle(guard, ("visitor",), fresh=True)(split.inputs)
        drawn = account_visits(len(split), seed)
        accounts = [ask_all(guard, split.inputs[rows], f"clinic-{i}") for i, rows in enumerate(drawn)]
        plain = forward_batches(model, split.inputs).scores
        curves[name] = accounts[0].curve
        utilities.append(clean_utility(name, split, plain, told, accounts, model.spec.task, seed=seed))
    bare, served = (model, fresh_guard) if timed is None else timed
    latency, ratio = measure_latency(bare, served(), site[1].inputs, seed=seed)
    cost = CleanCost(
        site=utilities[0],
        drift=utilities[1] if drift is not None else None,
        latency=latency,
        latency_ratio=ratio,
    )
    return cost, curves
