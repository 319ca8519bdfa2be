from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.models import LinearModel, benign_rows
from support.sights import sight_of

from medward.guard.accounts.monitors import MAX_DEPTH, OFFSET, RATIO, AccountMonitors, strangeness_p_values
from medward.guard.monitors.coverage import REPEATED
from medward.guard.monitors.shared_perturbation import DRIFT_SLACK
from medward.guard.policy import Policy
from medward.guard.statistics.combined_eprocess import COVERAGE, EMBEDDING, PROBING, SHARED, SHARES, STRANGE
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

    assert weights(POLICY, linear_profile) == pytest.approx(SHARES)
    bare = dataclasses.replace(linear_profile, embedding=None, probing=None)
    assert weights(POLICY, bare) == pytest.approx({STRANGE: 0.75, SHARED: 0.25})
    off = Policy.model_validate({"on_error": "flag", "monitor": {"shared": False}})
    assert weights(off, bare) == {STRANGE: 1.0}


def test_what_repeats_is_unremarkable_to_every_part(linear_profile):
    rows = np.full((3, 3), 60, np.float32)
    sight = seen(linear_profile, rows)
    _, (_, _, first) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a", "b", "c"], sight, None)
    _, (_, _, again) = AccountMonitors.of(POLICY, linear_profile, 1).watch(["a"] * 3, sight, None)
    assert set(first) == {STRANGE, SHARED, EMBEDDING, COVERAGE, PROBING}
    assert first[STRANGE][1] < 1
    assert [again[part][1:] for part in (STRANGE, SHARED, EMBEDDING, PROBING)] == [[1.0, 1.0]] * 4
    assert again[COVERAGE][1:] == [REPEATED] * 2


def test_near_duplicates_are_left_to_the_shared_monitor(linear_profile):
    sight = {**seen(linear_profile, np.full((2, 3), 60, np.float32)), "codes": ["f" * 16] * 2}
    monitors = dataclasses.replace(AccountMonitors.of(POLICY, linear_profile, 1), radius=1)
    _, (_, _, values) = monitors.watch(["a", "b"], sight, None)
    assert values[STRANGE][0] < 1 == values[STRANGE][1]
    assert values[COVERAGE][1] == REPEATED


def parts_of(profile, **monitor):
    policy = Policy.model_validate({"on_error": "flag", "monitor": monitor})
    monitors = AccountMonitors.of(policy, profile, 1)
    return {part.name: part for part in monitors.combined.parts}, monitors.watched


def test_contamination_reaches_every_bet(linear_profile):
    parts, _ = parts_of(linear_profile, contamination=0.02)
    assert {part.contamination for part in parts.values()} == {0.02}


@pytest.mark.parametrize("drift", [0.0, 1.0, 2.0])
def test_drift_is_forgiven_where_a_site_may_move(linear_profile, drift):
    parts, watched = parts_of(linear_profile, drift=drift)
    assert {name: part.ratio for name, part in parts.items()} == {
        STRANGE: 1, SHARED: 1, EMBEDDING: 1, COVERAGE: 1 + RATIO * drift, PROBING: 1 + RATIO * drift
    }  # fmt: skip
    assert {each.slack for each in watched.values()} == {DRIFT_SLACK * drift}


def test_the_parts_spend_the_calibration_risk_and_no_more(linear_profile):
    parts, watched = parts_of(linear_profile, calibration_risk=0.01)
    profile = linear_profile.at_risk(0.01)
    spent = profile.thresholds.risk + profile.probing.risk + parts[COVERAGE].risk
    assert spent + MAX_DEPTH * sum(each.risk for each in watched.values()) == pytest.approx(0.01)


def test_drift_forgives_a_little_strangeness(linear_profile):
    cut = linear_profile.thresholds.cuts[0]
    scores = np.array([cut + OFFSET / 2, cut + 2 * OFFSET])
    none = Policy.model_validate({"on_error": "flag", "monitor": {"drift": 0.0}})
    assert (strangeness_p_values(none, linear_profile, scores) == linear_profile.thresholds.levels[0]).all()
    assert (
        strangeness_p_values(POLICY, linear_profile, scores)[0]
        > strangeness_p_values(POLICY, linear_profile, scores)[1]
    )
