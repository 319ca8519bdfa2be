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
from medward.guard.monitors.strangeness import OFFSET, strangeness_p_values
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
    assert weights(POLICY, bare) == pytest.approx({"strange": 0.75, "shared": 0.25})
    off = Policy.model_validate({"on_error": "flag", "monitor": {"shared": False}})
    assert weights(off, bare) == {"strange": 1.0}


def test_what_repeats_is_unremarkable_to_every_part(linear_profile):
    rows = np.full((3, 3), 60, np.float32)
    sight = seen(linear_profile, rows)
    _, (_, _, first) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a", "b", "c"], sight, None)
    _, (_, _, again) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a"] * 3, sight, None)
    assert set(first) == {"strange", "shared", "embedding", "coverage", "probing"}
    assert first["strange"][1] < 1
    assert [again[part][1:] for part in ("strange", "shared", "embedding", "probing")] == [[1.0, 1.0]] * 4
    assert again["coverage"][1:] == [REPEATED] * 2


def test_near_duplicates_are_left_to_the_shared_monitor(linear_profile):
    sight = {**seen(linear_profile, np.full((2, 3), 60, np.float32)), "codes": ["f" * 16] * 2}
    monitors = dataclasses.replace(AccountMonitors.of(POLICY, linear_profile, 1), radius=1)
    _, (_, _, values) = monitors.watch(["a", "b"], sight, None)
    assert values["strange"][0] < 1 == values["strange"][1]
    assert values["coverage"][1] == REPEATED


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
    assert {name: part.ratio for name, part in parts.items()} == {
        "strange": 1, "shared": 1, "embedding": 1, "coverage": 1 + RATIO * drift, "probing": 1 + RATIO * drift
    }  # fmt: skip
    assert {each.slack for each in watched.values()} == {DRIFT_SLACK * drift}


def test_the_parts_spend_the_calibration_risk_and_no_more(linear_profile):
    parts, watched = parts_of(linear_profile, calibration_risk=0.01)
    profile = linear_profile.at_risk(0.01)
    spent = profile.thresholds.risk + profile.fitted["probing"].reference.thresholds.risk + parts["coverage"].risk
    assert spent + MAX_DEPTH * sum(each.risk for each in watched.values()) == pytest.approx(0.01)


def test_drift_forgives_a_little_strangeness(linear_profile):
    cut = linear_profile.thresholds.cuts[0]
    scores = np.array([cut + OFFSET / 2, cut + 2 * OFFSET])
    none = Policy.model_validate({"on_error": "flag", "monitor": {"drift": 0.0}})
    reference = linear_profile.screening.reference
    assert (strangeness_p_values(none, reference, scores) == linear_profile.thresholds.levels[0]).all()
    forgiven, strange = strangeness_p_values(POLICY, reference, scores)
    assert forgiven > strange
