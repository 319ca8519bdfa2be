"""A thief steals an open model, gets nothing from a silent one, and pays for every row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from attacks.base import AttackData
from attacks.extraction import Knockoff
from attacks.extraction.knockoff import clone_targets, plan, pulled
from attacks.target import BudgetSpentError, Response, Target
from guard.data import Split
from guard.errors import MedwardError
from guard.policy import Policy
from guard.types import ModelSpec

SPEC = ModelSpec(
    name="digits",
    modality="tabular",
    shape=(64,),
    classes=tuple("0123456789"),
    output="logits",
    low=0,
    high=16,
)
THIEF = Knockoff(queries=400, points=2, epochs=20)


@pytest.fixture(scope="module")
def theft():
    """A victim on digits as logits, and what the thief holds; the pool is digits upside down."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    victim = LogisticRegression(max_iter=200).fit(x[:700] / 16, y[:700])

    def logits(inputs):
        return victim.decision_function(inputs / 16)

    data = AttackData(
        craft=Split(x[700:1000], y[700:1000]),
        test=Split(x[1400:], y[1400:]),
        pool=x[1000:1400][:, ::-1].copy(),
        reference=logits(x[1400:]).argmax(axis=1),
    )
    return logits, data


def open_target(logits, threat, answer=lambda response: response):
    def oracle(inputs):
        scores = logits(inputs)
        return answer(Response(scores.argmax(axis=1), scores, "logits"))

    return Target(SPEC, oracle, threat)


def silent(response):
    return Response(np.full_like(response.labels, -1), np.full_like(response.scores, np.nan), "probabilities")


def rounded(response):
    return Response(response.labels, response.probabilities.round(2), "probabilities")


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_clone_of_an_open_model_agrees_far_more_than_a_thief_without_a_victim(theft, labels):
    logits, data = theft
    thief = replace(THIEF, labels=labels)
    result = thief.run(open_target(logits, thief.threat), data, seed=0)
    assert result.outcome.shape == result.baseline.shape == (len(data.test),)
    assert result.outcome.mean() > result.baseline.mean() + 0.4
    assert result.flags == ()
    budgets, agreement = result.curves["clone"]
    assert budgets == [200.0, 400.0]
    assert agreement[-1] == pytest.approx(result.outcome.mean())


def test_logits_are_read_as_logits_and_rounded_answers_as_probabilities(theft):
    logits, data = theft
    response = open_target(logits, THIEF.threat).query(data.pool[:8])
    exact, coarse = clone_targets(response), clone_targets(rounded(response))
    assert exact.sum(axis=1) == pytest.approx(np.ones(8))
    assert coarse == pytest.approx(exact, abs=0.01)


def test_a_thief_who_gets_no_answer_is_left_with_the_baseline(theft):
    logits, data = theft
    result = THIEF.run(open_target(logits, THIEF.threat, silent), data, seed=0)
    assert result.queries == 400
    np.testing.assert_array_equal(result.outcome, result.baseline)


def test_real_rows_without_labels_teach_a_diluted_thief_more_than_the_pool_alone(theft):
    logits, data = theft
    diluted = replace(THIEF, pool_share=0.1)
    alone, helped = (each.run(open_target(logits, each.threat), data, seed=0) for each in (THIEF, diluted))
    np.testing.assert_array_equal(alone.baseline, helped.baseline)
    assert helped.outcome.mean() > alone.outcome.mean()


def test_answers_that_stop_teach_less_than_answers_that_go_on(theft):
    logits, data = theft
    asked = 0

    def tiring(response):
        nonlocal asked
        asked += len(response.labels)
        return response if asked <= 32 else silent(response)

    stopped = THIEF.run(open_target(logits, THIEF.threat, tiring), data, seed=0)
    whole = THIEF.run(open_target(logits, THIEF.threat), data, seed=0)
    assert stopped.queries == whole.queries
    assert stopped.baseline.mean() < stopped.outcome.mean() < whole.outcome.mean() - 0.1


def test_the_same_seed_gives_the_same_theft(theft):
    logits, data = theft
    thief = replace(THIEF, queries=100, epochs=5)
    first, second = (thief.run(open_target(logits, thief.threat), data, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.outcome, second.outcome)


def test_every_row_of_the_budget_is_spent_and_none_more(theft):
    logits, data = theft
    thief = Knockoff(queries=77, batch=32, points=3, epochs=1)
    target = open_target(logits, thief.threat)
    assert thief.run(target, data, seed=0).queries == target.queries == 77
    with pytest.raises(BudgetSpentError):
        target.query(data.pool[:1])


def test_a_pool_that_ends_early_is_flagged(theft):
    logits, data = theft
    thief = Knockoff(queries=500, points=1, epochs=1)
    result = thief.run(open_target(logits, thief.threat), data, seed=0)
    assert result.queries == 400
    assert "the pool ended after 400 of 500 queries" in result.flags


@pytest.mark.parametrize(("epochs", "flagged"), [(1, True), (30, False)])
def test_a_clone_that_has_not_learned_its_own_answers_is_flagged(theft, epochs, flagged):
    _, data = theft
    thief = Knockoff(queries=64, points=1, epochs=epochs)
    one_answer = open_target(lambda inputs: np.tile(np.eye(10)[[3]], (len(inputs), 1)) * 20, thief.threat)
    result = thief.run(one_answer, data, seed=0)
    assert any("failed to learn" in flag for flag in result.flags) == flagged


def test_labels_only_targets_give_hard_labels_and_withheld_rows_none():
    scores = np.array([[0.2, 0.8], [np.nan, np.nan], [np.nan, np.nan]])
    targets = clone_targets(Response(np.array([1, 0, -1]), scores, "probabilities"))
    np.testing.assert_array_equal(targets[:2], [[0.2, 0.8], [1, 0]])
    assert np.isnan(targets[2]).all()


@settings(max_examples=60, deadline=None)
@given(
    pool=st.integers(1, 60),
    own=st.integers(1, 20),
    queries=st.integers(1, 120),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 9),
)
def test_plans_ask_pool_rows_once_and_keep_the_share_at_every_point(pool, own, queries, share, seed):
    rows = plan(pool, own, queries, share, seed)
    strange = rows < pool
    assert len(np.unique(rows[strange])) == strange.sum() <= pool
    assert (rows < pool + own).all()
    assert len(rows) == queries or strange.sum() == pool
    due = np.arange(1, len(rows) + 1) * share
    assert (np.abs(np.cumsum(strange) - due) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("labels", "warm", '"soft" or "hard"'), ("pool_share", 0.0, "above 0"), ("queries", 0, "at least 1")],
)
def test_settings_out_of_bounds_are_refused(setting, value, message):
    with pytest.raises(MedwardError, match=message):
        Knockoff(**{setting: value})


def test_missing_data_is_said(theft):
    logits, data = theft
    target = open_target(logits, THIEF.threat)
    with pytest.raises(MedwardError, match="pool"):
        THIEF.run(target, replace(data, pool=None), seed=0)
    with pytest.raises(MedwardError, match="craft has none"):
        replace(THIEF, pool_share=0.1).run(target, replace(data, craft=data.craft.take(slice(0, 0))), seed=0)


def test_pulling_keeps_the_mean_and_shrinks_the_spread():
    pool = np.random.default_rng(0).normal(3, 2, size=(4000, 2, 3))
    near = pulled(pool, (1.0, 0.25))
    np.testing.assert_allclose(near[::2], pool[::2])
    assert near[1::2].std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(near.mean(0), pool.mean(0), atol=0.1)


def test_names_and_access():
    assert Knockoff().name == "knockoff-soft"
    assert Knockoff(labels="hard").name == "knockoff-hard"
    assert Knockoff(pool_share=0.1).name == "knockoff-soft-diluted"
    assert Knockoff().threat.accounts == 1
    assert Knockoff().adaptive(Policy(on_error="flag")).threat.accounts is None
    assert Knockoff(labels="hard").threat.access == 1
    assert Knockoff(queries=7).threat.queries == 7
