"""What an account is forgiven as a repeat: a patient's series, and none of what a thief makes look like one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import ANSWER_MARKS, CONTENT_CODES
from medward.guard.monitors.repeats import ALIKE
from medward.guard.policy import Policy
from medward.guard.types import Action

QUERIES, RADIUS = 60, 4
SAME = ["0" * 16] * QUERIES
WALK = [f"{(1 << i) - 1:016x}" for i in range(QUERIES)]
"""Each code differs from the one before in one bit."""
ONE_ANSWER = [0.3] * QUERIES
MANY_ANSWERS = [float(each) for each in np.random.default_rng(0).permutation(QUERIES) * 1.5 * ALIKE]


def watched(profile, codes, answers, *, strange=50.0, digests=None):
    """The verdict on an account of inputs that all look so strange, one after the other."""
    monitors = dataclasses.replace(AccountMonitors.of(Policy(on_error="flag"), profile, 1), radius=RADIUS)
    state = None
    for query, code in enumerate(codes):
        sight = {"strange": [strange], CONTENT_CODES: [code], ANSWER_MARKS: [answers[query]]}
        name = f"{query}" if digests is None else digests[query]
        state, (_, verdict, _) = monitors.watch([name], sight, state)
    return verdict


def test_a_strange_patient_s_series_counts_once(linear_profile):
    assert watched(linear_profile, SAME, ONE_ANSWER).action is Action.ALLOW


def test_without_codes_the_same_series_would_be_withheld(linear_profile):
    assert watched(linear_profile, [""] * QUERIES, ONE_ANSWER).action is Action.WITHHOLD


def test_a_walk_in_steps_that_all_look_alike_is_withheld(linear_profile):
    assert watched(linear_profile, WALK, ONE_ANSWER).action is Action.WITHHOLD


def test_a_walk_whose_every_step_is_sent_twice_is_acted_upon(linear_profile):
    digests = [str(i // 2) for i in range(QUERIES)]
    found = watched(linear_profile, [WALK[i // 2] for i in range(QUERIES)], ONE_ANSWER, digests=digests)
    assert found.action >= Action.COARSEN, "half of the queries are no evidence"


def test_one_layout_that_is_answered_in_many_ways_is_withheld(linear_profile):
    assert watched(linear_profile, SAME, MANY_ANSWERS).action is Action.WITHHOLD


@pytest.mark.parametrize(("codes", "answers"), [(WALK, ONE_ANSWER), (SAME, MANY_ANSWERS), (WALK, MANY_ANSWERS)])
def test_ordinary_inputs_in_the_same_order_are_let_alone(linear_profile, codes, answers):
    ordinary = float(np.median(linear_profile.reference))
    assert watched(linear_profile, codes, answers, strange=ordinary).action is Action.ALLOW


def test_a_memory_of_before_answers_were_kept_is_begun_anew_and_no_alarm_is_lost(linear_profile):
    monitors = AccountMonitors.of(Policy(on_error="flag"), linear_profile, 1)
    sight = {"strange": [0.0], CONTENT_CODES: ["0" * 16], ANSWER_MARKS: [0.3]}
    state, (_, before, _) = monitors.watch(["a"], sight, None)
    old = {**state, "recent": {key: state["recent"][key] for key in ("digests", "codes")}}
    after, (_, verdict, _) = monitors.watch(["a"], sight, old)
    assert after["recent"] == state["recent"]
    assert verdict.evidence["n"] == before.evidence["n"] + 1
