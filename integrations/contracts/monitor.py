"""The contract of a monitor: what it fits is kept, it sees each row on its own and bets as calibration bounds it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from medward.guard.accounts.monitors import AccountMonitors, observe_batch
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.monitors.base import BenignRows, Fitted, Monitor
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.monitors.table import calibration_shares, monitors_with, plugin_monitors
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches, screens_for, split_rows
from medward.guard.screens.fused import FusedScreen
from medward.guard.statistics.binomial import log_tail
from medward.guard.statistics.combined_eprocess import Part
from medward.guard.types import Action, Array, Level, Outputs, Query, take_rows
from medward.integrations.contracts.subjects import LinearModel, hold_contract, linear_rows

POLICY, RISK = Policy.model_validate({"on_error": "flag", "monitor": {"drift": 0.0}}), 0.001
ORDINARY, CLEAR = math.log(1e-3), math.log(1e-6)
"""Logs of how unlikely an excess of benign rows may be at least, and of what must be noticed at most."""


@dataclass(frozen=True, kw_only=True)
class MonitorSubject:
    """A monitor subject is what a monitor is checked on: a model, and benign rows, ``draw(count, seed)``."""

    model: Model = field(default_factory=LinearModel)
    draw: Callable[[int, int], Array] = linear_rows

    def judged(self, inputs: Array) -> Outputs:
        """The model's outputs as defenses judge them."""
        return self.model.spec.judged(forward_batches(self.model, inputs))

    def benign(self, seed: int = 3) -> BenignRows:
        """Benign rows as a profile hands them to monitors."""
        inputs = self.draw(800, 0)
        fit, reference = split_rows(np.arange(len(inputs)), 0)
        outputs = self.judged(inputs)
        fitted_on = take_rows(inputs, outputs, fit)
        return BenignRows(
            fit=fitted_on,
            reference=take_rows(inputs, outputs, reference),
            strata=np.zeros(len(reference), np.int64),
            screen=FusedScreen.fit(screens_for(self.model.spec), *fitted_on),
            seed=seed,
        )

    @cached_property
    def profile(self) -> Profile:
        """What calibration learns for all monitors."""
        return Profile.fit(self.model, self.draw(800, 0), risk=RISK, secret=3)


def check_monitor(monitor: Monitor, noticed: Array, subject: MonitorSubject | None = None) -> None:
    """Hold `monitor`, a row of the table or installed as a plug-in, to all that monitors must do.

    `noticed` are rows of the subject that clearly have one of the events it bets on more often than benign ones; a few
    hundred. `subject` is by default a table of three numbers. Raises `MedwardError` about what does not hold.
    """
    subject = subject or MonitorSubject()
    check_monitor_row(monitor)
    check_monitor_storage(monitor, subject)
    check_monitor_seed(monitor, subject)
    check_monitor_batches(monitor, subject)
    check_monitor_benign(monitor, subject)
    check_monitor_notices(monitor, noticed, subject)
    check_monitor_failure(monitor, "flag", subject)
    check_monitor_failure(monitor, "withhold", subject)


def check_monitor_row(monitor: Monitor) -> None:
    """It is in the table once, with a share of its own."""
    hold_contract(isinstance(monitor, Monitor), f"expected a Monitor, got {type(monitor).__name__}")
    known = monitors_with([each.name for each in plugin_monitors()])
    hold_contract(
        sum(each == monitor for each in known) == 1,
        f"the monitor {monitor.name!r} is in no table; install its package with an entry point in medward.monitors",
    )
    hold_contract(0 < _shares()[monitor.name] < 1, f"the share of {monitor.name!r} must leave some to the others")


def check_monitor_storage(monitor: Monitor, subject: MonitorSubject) -> None:
    """What is fitted survives the disk, and sees the same."""
    fitted, rows = _fitted(monitor, subject), subject.draw(50, 5)
    read = monitor.read(stored_arrays(fitted.arrays()))
    hold_contract(read is not None, f"{monitor.name!r} reads nothing from the arrays it wrote")
    again = _column(monitor, _at_risk(monitor, cast(Fitted, read)), rows, subject)
    _same(again, _column(monitor, fitted, rows, subject), f"{monitor.name!r} sees otherwise what was read from disk")


def check_monitor_seed(monitor: Monitor, subject: MonitorSubject) -> None:
    """The same rows and seed give the same, to the last bit."""
    one, other = _fitted(monitor, subject), _fitted(monitor, subject)
    arrays, again = stored_arrays(one.arrays()), stored_arrays(other.arrays())
    hold_contract(bool(arrays) and arrays.keys() == again.keys(), f"{monitor.name!r} keeps no arrays, or other ones")
    for name, each in again.items():
        _same(each, arrays[name], f"{monitor.name!r} fits another {name!r} to the same rows and seed")
    rows = subject.draw(50, 5)
    seen = _column(monitor, one, rows, subject)
    _same(_column(monitor, other, rows, subject), seen, f"{monitor.name!r} sees otherwise at the same seed")


def check_monitor_batches(monitor: Monitor, subject: MonitorSubject) -> None:
    """A row is seen alike alone and in a batch; vectors up to rounding, what is bet on exactly."""
    fitted, rows = _fitted(monitor, subject), subject.draw(60, 6)
    alone = np.concatenate([_column(monitor, fitted, row[None], subject) for row in rows])
    together = _column(monitor, fitted, rows, subject)
    same = alone.shape == together.shape and (
        np.allclose(alone, together, rtol=1e-4, atol=1e-4) if together.ndim > 1 else np.array_equal(alone, together)
    )
    hold_contract(same, f"{monitor.name!r} sees a row otherwise alone than in a batch")


def check_monitor_benign(monitor: Monitor, subject: MonitorSubject) -> None:
    """Benign rows have no event more often than calibration bounds."""
    part, values = bets_of(monitor, subject.draw(600, 7), subject)
    hold_contract(all(map(part.knows, values)), f"{monitor.name!r} bets on values that its e-process does not know")
    found = clearest_excess(part, values)
    hold_contract(found > ORDINARY, f"{monitor.name!r} takes benign rows for others: chance {math.exp(found):.1e}")


def check_monitor_notices(monitor: Monitor, noticed: Array, subject: MonitorSubject) -> None:
    """The control: what it must notice it notices."""
    part, values = bets_of(monitor, np.asarray(noticed, np.float32), subject)
    hold_contract(all(map(part.knows, values)), f"{monitor.name!r} bets on values that its e-process does not know")
    found = clearest_excess(part, values)
    hold_contract(found < CLEAR, f"{monitor.name!r} does not notice what it must: chance {math.exp(found):.1e}")


def check_monitor_failure(monitor: Monitor, on_error: Literal["flag", "withhold"], subject: MonitorSubject) -> None:
    """One that fails adds the action of the policy, and takes nothing away from the others."""
    profile, policy = subject.profile, Policy(on_error=on_error)
    failing = {**profile.fitted, monitor.source: _blind(profile.fitted[monitor.source])}
    query = Query(principal=("clinic", "key"), inputs=subject.draw(3, 8))
    whole, bets = _answered(subject.model, policy, profile, query)
    answer, left = _answered(subject.model, policy, replace(profile, fitted=failing), query)
    errors = [(each.part, each.action, each.error) for each in answer.verdicts if each.error]
    wanted = Action.WITHHOLD if on_error == "withhold" else Action.FLAG
    hold_contract(errors == [(monitor.source, wanted, "RuntimeError")], f"a failing {monitor.name!r} adds {errors}")
    silent = {each.name for each in monitors_with(profile.plugins) if each.source == monitor.source}
    kept = {name: values for name, values in bets.items() if name not in silent}
    hold_contract(left == kept, f"a failing {monitor.name!r} changes what others bet on")
    parts = {each.part for each in whole.verdicts}
    hold_contract({each.part for each in answer.verdicts} >= parts, f"a failing {monitor.name!r} silences a verdict")
    levels = (Level.WITHHELD,) * 3 if on_error == "withhold" else whole.levels
    hold_contract(answer.levels == levels, f"a failing {monitor.name!r} releases {answer.levels} under {on_error!r}")


class _Log(list[Mapping[str, Any]]):
    """An audit sink in memory."""

    def check_writable(self) -> None:
        """It always is."""


class _Blind:
    """What a monitor fitted, which can no longer see."""

    def __init__(self, fitted: Any) -> None:
        self._fitted = fitted

    def see(self, inputs: Array, outputs: Outputs) -> Any:  # noqa: ARG002 (as every monitor)
        raise RuntimeError("nothing to see today")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fitted, name)


def _blind(fitted: Any) -> Any:
    if not isinstance(fitted, ScreenReference):
        return _Blind(fitted)
    made: Any = type("BlindScreen", (type(fitted),), {"see": _Blind.see})
    return made(screen=fitted.screen, scores=fitted.scores, strata=fitted.strata)


def _answered(model: Model, policy: Policy, profile: Profile, query: Query) -> tuple[Any, Any]:
    log = _Log()
    answer = Guard(model=model, policy=policy, profile=profile, audit=log).answer(query)
    return answer, log[0]["bets"]["clinic/key"]


def _shares() -> Mapping[str, float]:
    return calibration_shares([each.name for each in plugin_monitors()])


def _at_risk(monitor: Monitor, fitted: Fitted) -> Fitted:
    return fitted.at_risk(RISK * _shares()[monitor.name], 1)


def _fitted(monitor: Monitor, subject: MonitorSubject, seed: int = 3) -> Fitted:
    fitted = monitor.fit(subject.benign(seed))
    if fitted is None:
        raise MedwardError(f"contract: {monitor.name!r} fits nothing to this subject; give one that it watches")
    return _at_risk(monitor, fitted)


def _column(monitor: Monitor, fitted: Fitted, inputs: Array, subject: MonitorSubject) -> Array:
    """What the monitor bets on or judges by, row by row."""
    seen = fitted.see(inputs, subject.judged(inputs))
    return np.asarray(monitor.observe(fitted, seen, POLICY)[monitor.name])


def _same(one: Any, other: Any, said: str) -> None:
    hold_contract(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f"), said)


def stored_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as a bundle keeps them."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as archive:
        return dict(archive)


def bets_of(monitor: Monitor, inputs: Array, subject: MonitorSubject) -> tuple[Part, list[float]]:
    """The e-process of one account that asks `inputs` one by one, each a new one, and the values it bets on."""
    profile = subject.profile
    monitors = AccountMonitors.of(POLICY, profile, 1)
    sight, failed = observe_batch(POLICY, profile, inputs, subject.judged(inputs))
    hold_contract(not failed, f"{', '.join(failed)} failed on the subject's rows: {list(failed.values())}")
    _, (_, _, values) = monitors.watch([str(i) for i in range(len(inputs))], sight, None)
    part = next(bet.part for bet in monitors.bets if bet.part.name == monitor.name)
    return part, list(values[monitor.name])


def clearest_excess(part: Part, values: list[float]) -> float:
    """The log of how unlikely the clearest excess of an event is, were it as likely as calibration bounds it."""
    hits = [(event.hits(values), event.level) for event in part.events()]
    hold_contract(bool(hits), f"{part.name!r} bets on no event")
    return min(log_tail(count, len(values), level) if count > len(values) * level else 0.0 for count, level in hits)
