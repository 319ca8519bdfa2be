from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.models import LinearModel, benign_rows
from support.sights import refitted, sight_of

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.accounts.names import MAX_DEPTH
from medward.guard.monitors.base import RATIO
from medward.guard.monitors.coverage import REPEATED
from medward.guard.monitors.direction_bet import DirectionBet
from medward.guard.monitors.shared_perturbation import DRIFT_SLACK
from medward.guard.monitors.strangeness import OFFSET, RankBet
from medward.guard.monitors.table import calibration_shares
from medward.guard.policy import Policy
from medward.guard.types import Outputs

POLICY = Policy(on_error="flag")
ROWS = benign_rows(LinearModel)[:20].astype(np.float32)


def seen(profile, rows=ROWS, policy=POLICY):
    outputs = Outputs(LinearModel().predict(rows).scores)
    return sight_of(policy, profile, rows, outputs)


def test_every_part_has_its_weight_and_missing_ones_leave_theirs_to_the_others(linear_profile):
    def weights(policy, profile):
        combined = AccountMonitors.of(policy, profile, 1).combined
        return dict(zip([part.name for part in combined.parts], combined.weights, strict=True))

    assert weights(POLICY, linear_profile) == pytest.approx(calibration_shares())
    bare = refitted(linear_profile, embedding=None, probing=None)
    shares = calibration_shares()
    left = shares["strange"] + shares["shared"]
    assert weights(POLICY, bare) == pytest.approx({name: shares[name] / left for name in ("strange", "shared")})
    off = Policy.model_validate({"on_error": "flag", "monitor": {"shared": False}})
    assert weights(off, bare) == {"strange": 1.0}


def test_what_repeats_is_unremarkable_to_every_part(linear_profile):
    rows = np.full((3, 3), 60, np.float32)
    sight = seen(linear_profile, rows)
    _, (_, _, first) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a", "b", "c"], sight, None)
    _, (_, _, again) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a"] * 3, sight, None)
    assert set(first) == {"strange", "shared", "embedding", "coverage", "probing"}
    cells = rank_cells(linear_profile)
    assert {cells.decode(int(cell)) for cell in first["strange"]} == {(0, 0)}, "above all benign rows, and counted so"
    assert again["strange"] == [first["strange"][0], *[cells.repeat] * 2]
    assert [again[part][1:] for part in ("shared", "embedding", "probing")] == [[1.0, 1.0]] * 3
    assert again["coverage"][1:] == [REPEATED] * 2


def test_near_duplicates_are_left_to_the_shared_monitor(linear_profile):
    sight = {**seen(linear_profile, np.full((2, 3), 60, np.float32)), "codes": ["f" * 16] * 2}
    monitors = dataclasses.replace(AccountMonitors.of(POLICY, linear_profile, 1), radius=1)
    _, (_, _, values) = monitors.watch(["a", "b"], sight, None)
    cells = rank_cells(linear_profile)
    assert cells.decode(int(values["strange"][0])) == (0, 0)
    assert values["strange"][1] == cells.repeat
    assert values["coverage"][1] == REPEATED


def rank_cells(profile):
    return parts_of(profile)[0]["strange"].cells


def parts_of(profile, **monitor):
    policy = Policy.model_validate({"on_error": "flag", "monitor": monitor})
    monitors = AccountMonitors.of(policy, profile, 1)
    return {part.name: part for part in monitors.combined.parts}, {
        bet.part.name: bet.directions for bet in monitors.bets if isinstance(bet, DirectionBet)
    }


def test_contamination_reaches_every_bet(linear_profile):
    parts, _ = parts_of(linear_profile, contamination=0.02)
    assert {part.contamination for part in parts.values()} == {0.02}


@pytest.mark.parametrize("drift", [0.0, 1.0, 2.0])
def test_drift_is_forgiven_where_a_site_may_move(linear_profile, drift):
    parts, watched = parts_of(linear_profile, drift=drift)
    assert {name: part.ratio for name, part in parts.items() if name != "strange"} == {
        "shared": 1, "embedding": 1, "coverage": 1 + RATIO * drift, "probing": 1 + RATIO * drift
    }  # fmt: skip
    assert {each.slack for each in watched.values()} == {DRIFT_SLACK * drift}
    monitors = AccountMonitors.of(Policy(on_error="flag", monitor={"drift": drift}), linear_profile, 1)
    assert next(bet.slack for bet in monitors.bets if isinstance(bet, RankBet)) == OFFSET * drift


def test_the_parts_spend_the_calibration_risk_and_no_more(linear_profile):
    parts, watched = parts_of(linear_profile, calibration_risk=0.01)
    profile = linear_profile.at_risk(0.01)
    spent = parts["strange"].risk + profile.fitted["probing"].reference.thresholds.risk + parts["coverage"].risk
    assert spent + MAX_DEPTH * sum(each.risk for each in watched.values()) == pytest.approx(0.01)


def test_drift_forgives_a_little_strangeness_and_counts_it(linear_profile):
    most = linear_profile.reference[-1]
    forgiven, strange = most + OFFSET / 2, most + 2 * OFFSET

    def places(score, drift):
        policy = Policy.model_validate({"on_error": "flag", "monitor": {"drift": drift}})
        bet = next(bet for bet in AccountMonitors.of(policy, linear_profile, 1).bets if isinstance(bet, RankBet))
        (cell,) = bet.values(None, [score], [""], [0])[1]
        return bet.part.cells.decode(int(cell))

    assert places(strange, 0.0) == places(forgiven, 0.0) == places(strange, 1.0) == (0, 0)
    won, counted = places(forgiven, 1.0)
    assert won > counted == 0, "it does not win what drift may have made, and the account's past holds it all the same"
