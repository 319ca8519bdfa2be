"""What every monitor must do; a new one adds a row to `NOTICED` and to nothing else here."""

from __future__ import annotations

import ast
import io
import math

import numpy as np
import pytest
from support.arrows import ROOT
from support.models import LinearModel, benign_rows
from support.sights import refitted

from medward.guard.accounts.monitors import AccountMonitors, observe_batch
from medward.guard.monitors.base import SCREEN, BenignRows
from medward.guard.monitors.table import MONITORS, calibration_shares
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches, split_rows
from medward.guard.screens.fused import FusedScreen
from medward.guard.statistics.binomial import log_tail
from medward.guard.types import Action, Level, Query, take_rows

MODEL, POLICY, RISK = LinearModel(), Policy(on_error="flag", monitor={"drift": 0.0}), 0.001
RNG = np.random.default_rng(1)
NOTICED = {
    "strange": RNG.normal(size=(400, 3)) * 5,
    "shared": RNG.normal(size=(400, 3)) * 0.3 + [9, 0, 0],
    "embedding": RNG.normal(size=(400, 3)) * 0.5 + [2, 2, 0],
    "coverage": RNG.normal(size=(400, 3)) * 0.1 + [1, 0, 0],
    "probing": RNG.normal(size=(400, 1)) + RNG.normal(size=(400, 3)) * 0.003,
}
"""By monitor, rows that clearly have one of the events it bets on more often than benign ones."""
EACH = pytest.mark.parametrize("monitor", MONITORS, ids=lambda each: each.name)


def rows(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def judged(inputs):
    return MODEL.spec.judged(forward_batches(MODEL, inputs))


def calibration(seed=3):
    """Benign rows as a profile hands them to monitors."""
    inputs = benign_rows(LinearModel)
    fit, reference = split_rows(np.arange(len(inputs)), 0)
    fitted_on = take_rows(inputs, judged(inputs), fit)
    return BenignRows(
        fit=fitted_on,
        reference=take_rows(inputs, judged(inputs), reference),
        strata=np.zeros(len(reference), np.int64),
        screen=FusedScreen.fit(("rows",), *fitted_on),
        seed=seed,
    )


def at_risk(monitor, fitted):
    return fitted.at_risk(RISK * calibration_shares()[monitor.name], 1)


def fitted_by(monitor, seed=3):
    return at_risk(monitor, monitor.fit(calibration(seed)))


def stored(arrays):
    """Arrays as a bundle keeps them."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as archive:
        return dict(archive)


def column(monitor, fitted, inputs):
    """What the monitor bets on or judges by, row by row."""
    return np.asarray(monitor.observe(fitted, fitted.see(inputs, judged(inputs)), POLICY)[monitor.name])


def bets_of(monitor, profile, inputs):
    """The values of one account that asks `inputs` one by one, each a new one, and its part."""
    monitors = AccountMonitors.of(POLICY, profile, 1)
    sight, failed = observe_batch(POLICY, profile, inputs, judged(inputs))
    assert not failed
    _, (_, _, values) = monitors.watch([str(i) for i in range(len(inputs))], sight, None)
    part = next(bet.part for bet in monitors.bets if bet.part.name == monitor.name)
    return part, values[monitor.name]


def clearest(part, values):
    """The log of how unlikely the clearest excess of an event is, were it as likely as calibration bounds it."""
    hits = [(event.hits(values), event.level) for event in part.events()]
    assert hits
    return min(log_tail(count, len(values), level) if count > len(values) * level else 0.0 for count, level in hits)


@pytest.fixture(scope="module")
def profile():
    return Profile.fit(MODEL, benign_rows(LinearModel), risk=RISK, secret=3)


def test_every_monitor_has_a_row_here_a_share_and_a_name_of_its_own():
    names = [monitor.name for monitor in MONITORS]
    assert sorted(names) == sorted(NOTICED)
    assert len(set(names)) == len(names)
    assert all(monitor.share > 0 for monitor in MONITORS)
    assert math.fsum(calibration_shares().values()) == pytest.approx(1)
    assert SCREEN in {monitor.source for monitor in MONITORS}


def named_in(path):
    """The monitors that a file has by name: as a text, or as a row it imports."""
    texts = {node.value for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Constant)}
    known = {each.name for each in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(each, ast.alias)}
    return {each.name for each in MONITORS if each.name in texts or each.name.upper() in known}


def test_what_loops_over_the_table_knows_no_monitor_by_name():
    loops = ("profile", "accounts/monitors", "audit/replay", "audit/drift", "audit/excess")
    for name in (*loops, "statistics/combined_eprocess"):
        assert named_in(f"guard/{name}.py") == set()
    assert "coverage" in named_in("guard/monitors/coverage.py")  # the control


@EACH
def test_what_is_fitted_survives_the_disk_and_sees_the_same(monitor):
    fitted = fitted_by(monitor)
    again = at_risk(monitor, monitor.read(stored(fitted.arrays())))
    seen = rows(50, 5)
    np.testing.assert_array_equal(column(monitor, again, seen), column(monitor, fitted, seen))


@EACH
def test_the_same_rows_and_seed_give_the_same(monitor):
    one, other = fitted_by(monitor), fitted_by(monitor)
    arrays = stored(one.arrays())
    assert arrays
    for name, each in stored(other.arrays()).items():
        np.testing.assert_array_equal(each, arrays[name])
    np.testing.assert_array_equal(column(monitor, one, rows(50, 5)), column(monitor, other, rows(50, 5)))


@EACH
def test_a_row_is_seen_alike_alone_and_in_a_batch(monitor):
    fitted, seen = fitted_by(monitor), rows(60, 6)
    alone = np.concatenate([column(monitor, fitted, row[None]) for row in seen])
    together = column(monitor, fitted, seen)
    if together.ndim > 1:
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(alone, together)


@EACH
def test_benign_rows_have_no_event_more_often_than_calibration_bounds(monitor, profile):
    part, values = bets_of(monitor, profile, rows(600, 7))
    assert all(map(part.knows, values))
    assert clearest(part, values) > math.log(1e-3)


@EACH
def test_the_control_what_it_must_notice_it_notices(monitor, profile):
    part, values = bets_of(monitor, profile, np.asarray(NOTICED[monitor.name], np.float32))
    assert all(map(part.knows, values))
    assert clearest(part, values) < math.log(1e-6)


class Log(list):
    """An audit sink in memory."""

    def check_writable(self):
        pass


class Blind:
    """What a monitor fitted, which can no longer see."""

    def __init__(self, fitted):
        self._fitted = fitted

    def see(self, inputs, outputs):
        raise RuntimeError("nothing to see today")

    def __getattr__(self, name):
        return getattr(self._fitted, name)


@EACH
@pytest.mark.parametrize("on_error", ["flag", "withhold"])
def test_one_that_fails_adds_the_policy_s_action_and_takes_nothing_away(monitor, profile, on_error):
    blind = profile.fitted[monitor.source]
    if monitor.source == SCREEN:
        blind = type("BlindScreen", (type(blind),), {"see": Blind.see})(screen=blind.screen, reference=blind.reference)
    else:
        blind = Blind(blind)
    policy = Policy(on_error=on_error)
    asked = Query(principal=("clinic", "key"), inputs=rows(3, 8))

    def answered(profile):
        log = Log()
        answer = Guard(model=MODEL, policy=policy, profile=profile, audit=log).answer(asked)
        return answer, log[0]["bets"]["clinic/key"]

    whole, bets = answered(profile)
    answer, left = answered(refitted(profile, **{monitor.source: blind}))
    errors = [verdict for verdict in answer.verdicts if verdict.error]
    wanted = Action.WITHHOLD if on_error == "withhold" else Action.FLAG
    assert [(each.part, each.action, each.error) for each in errors] == [(monitor.source, wanted, "RuntimeError")]
    silent = {each.name for each in MONITORS if each.source == monitor.source}
    assert left == {name: values for name, values in bets.items() if name not in silent}
    assert {each.part for each in answer.verdicts} >= {each.part for each in whole.verdicts}
    assert answer.levels == ((Level.WITHHELD,) * 3 if on_error == "withhold" else whole.levels)
