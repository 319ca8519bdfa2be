"""The leakage budget and the finer release levels on the serving path."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.types import Level, Query

ROWS = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
WHO = ("hospital-a", "key-17")


def policy(on_error="withhold", **sections):
    return Policy.model_validate({"on_error": on_error, "screen": {"action": "allow"}, **sections})


def ask(guard, rows, who=WHO):
    return guard.answer(Query(principal=who, inputs=rows))


def test_a_spent_budget_coarsens_then_withholds_in_the_open(make_guard):
    guard = make_guard(policy(budget={"total_bits": 60}))
    answer = ask(guard, ROWS)
    assert list(answer.levels) == sorted(answer.levels)
    assert set(answer.levels) == {Level.ROUNDED, Level.LABEL, Level.WITHHELD}
    assert (answer.labels < 0).tolist() == [level is Level.WITHHELD for level in answer.levels]
    (verdict,) = (each for each in answer.verdicts if each.source == "leakage:hospital-a/key-17")
    assert verdict.action.label == "withhold"
    assert 60 - 3 < verdict.evidence["bits_total"] <= 60


def test_each_day_begins_anew_and_a_reset_does_not(make_guard):
    day = [10.0]
    guard = dataclasses.replace(make_guard(policy(budget={"daily_bits": 60})), clock=lambda: day[0] * 86400)
    assert ask(guard, ROWS).levels[-1] is Level.WITHHELD
    guard.reset(WHO)
    assert ask(guard, ROWS[-1:]).levels == (Level.WITHHELD,)
    day[0] += 1
    assert ask(guard, ROWS[-1:]).levels == (Level.ROUNDED,)


@pytest.mark.parametrize("wrong", [3660.0, 0.0, float("nan"), float("inf"), -1e9])
def test_one_query_at_a_wrong_time_locks_no_account_out(make_guard, wrong):
    day = [10.0]
    guard = dataclasses.replace(make_guard(policy(budget={"daily_bits": 60})), clock=lambda: day[0] * 86400)
    told = []
    for now in (10.0, wrong, 11.0, 12.0, 13.0):
        day[0] = now
        rows = ROWS[:1] if now is wrong else ROWS
        told.append(sum(level is not Level.WITHHELD for level in ask(guard, rows).levels))
    assert told[0] > 5
    assert told[3:] == [told[0]] * 2


def test_a_retry_is_answered_though_the_budget_is_spent(make_guard):
    guard = make_guard(policy(budget={"total_bits": 16}))
    first = ask(guard, ROWS[:1])
    ask(guard, ROWS[1:2])
    again = ask(guard, ROWS[:1])
    assert again.levels == first.levels == (Level.LABEL,)
    assert ask(guard, ROWS[:20]).levels[-1] is Level.WITHHELD


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.ROUNDED)])
def test_a_store_without_budgets_is_handled_as_the_site_chose(make_guard, on_error, level):
    class NoBudgets(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            if any(key.endswith("//leakage") for key in keys):
                raise UnavailableError("store is away")
            return super().transact_all(keys, step, ttl=ttl)

    answer = ask(make_guard(policy(on_error, budget={"total_bits": 60}), store=NoBudgets()), ROWS[:1])
    assert answer.levels == (level,)
    assert "error:budget:UnavailableError" in {verdict.source for verdict in answer.verdicts}


@pytest.mark.parametrize("level", ["top", "codes"])
def test_the_finer_levels_leave_and_keep_the_decision(make_guard, linear_model, level):
    answer = ask(make_guard(policy(release={"level": level, "top": 1})), ROWS)
    assert set(answer.levels) == {Level[level.upper()]}
    assert (np.nanargmax(answer.scores, axis=1) == linear_model.predict(ROWS).scores.argmax(axis=1)).all()


def test_codes_need_a_codebook(make_guard, linear_profile):
    with pytest.raises(MedwardError, match="no codebook"):
        make_guard(policy(release={"level": "codes"}), profile=dataclasses.replace(linear_profile, codebook=None))
