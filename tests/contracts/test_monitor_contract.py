"""Every monitor is held to its contract; a new one adds a row to `NOTICED` and to nothing else here."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.arrows import ROOT

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import SCREEN
from medward.guard.monitors.table import MONITORS, calibration_shares
from medward.integrations.contracts import monitor as contract

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


@pytest.fixture(scope="module")
def subject():
    return contract.MonitorSubject()


def test_every_monitor_has_a_row_here_a_share_and_a_name_of_its_own():
    names = [monitor.name for monitor in MONITORS]
    assert sorted(names) == sorted(NOTICED)
    assert len(set(names)) == len(names)
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
def test_the_contract_holds(monitor, subject):
    contract.check_monitor(monitor, NOTICED[monitor.name], subject)


@dataclass(frozen=True)
class Spoilt:
    """What a monitor fitted, with another sight of a batch."""

    fitted: object
    spoil: object

    def see(self, inputs, outputs):
        return self.spoil(self.fitted.see(inputs, outputs))

    def at_risk(self, risk, strata):
        return replace(self, fitted=self.fitted.at_risk(risk, strata))

    def __getattr__(self, name):
        return getattr(self.fitted, name)


def spoilt(spoil, name="probing"):
    """A monitor of the table that sees otherwise than it should."""
    (whole,) = (each for each in MONITORS if each.name == name)
    return replace(
        whole,
        fit=lambda rows: Spoilt(whole.fit(rows), spoil),
        read=lambda arrays: Spoilt(whole.read(arrays), lambda seen: seen),
    )


BROKEN = {
    "sees otherwise what was read from disk": (contract.check_monitor_storage, spoilt(lambda seen: seen + 1)),
    "alone than in a batch": (contract.check_monitor_batches, spoilt(lambda seen: seen * (1 + len(seen)))),
    "to the same rows and seed": (
        contract.check_monitor_seed,
        replace(
            MONITORS[4],
            fit=lambda rows: MONITORS[4].fit(
                replace(rows, reference=tuple(each for each in (rows.reference[0], contract_noise(rows.reference[1]))))
            ),
        ),
    ),
}


def contract_noise(outputs):
    """Other outputs at every call."""
    return replace(outputs, doubt=outputs.doubt + np.random.default_rng().uniform(size=len(outputs.doubt)))


@pytest.mark.parametrize("said", BROKEN)
def test_the_control_what_breaks_the_contract_is_said(said, subject):
    check, monitor = BROKEN[said]
    with pytest.raises(MedwardError, match=said):
        check(monitor, subject)


def test_the_control_rows_without_the_event_are_not_noticed_and_strange_ones_are_not_benign(subject):
    with pytest.raises(MedwardError, match="'probing' does not notice what it must"):
        contract.check_monitor_notices(MONITORS[4], subject.draw(400, 9), subject)
    odd = replace(subject, draw=lambda count, seed: subject.draw(count, seed) * (5 if seed == 7 else 1))
    with pytest.raises(MedwardError, match="'strange' takes benign rows for others"):
        contract.check_monitor_benign(MONITORS[0], odd)


def test_a_monitor_of_no_table_is_told_to_be_installed():
    with pytest.raises(MedwardError, match=r"'mine' is in no table; install its package"):
        contract.check_monitor_row(replace(MONITORS[4], name="mine"))
