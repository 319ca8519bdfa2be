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


LABEL = 1.585  # bits of one of three classes, as charged


def answered(guard, rows, who):
    return sum(level < Level.WITHHELD for level in ask(guard, rows, who).levels)


ONE_NAME = [("Klinik K\u00f6ln", "key"), ("Klinik Ko\u0308ln", "KEY"), (" klinik\u2003k\u00d6ln ", "\uff4bey")]


def test_another_spelling_of_a_name_is_no_new_account(make_guard):
    guard = make_guard(policy(release={"level": "label"}, budget={"total_bits": 16.1 * LABEL, "parents": 1}))
    spent = [answered(guard, ROWS[10 * i : 10 * i + 10], who) for i, who in enumerate(ONE_NAME)]
    assert spent == [10, 6, 0]


@pytest.mark.parametrize("parents", [1, 2.5, 0])
def test_new_accounts_of_an_organisation_get_what_it_has_left_and_new_organisations_anything(make_guard, parents):
    guard = make_guard(policy(release={"level": "label"}, budget={"total_bits": 4.1 * LABEL, "parents": parents}))
    told = [answered(guard, ROWS[4 * i : 4 * i + 4], ("hospital-a", f"key-{i}")) for i in range(6)]
    assert sum(told) == (4 * parents if parents else 24)
    assert answered(guard, ROWS[40:50], ("hospital-b", "key-0")) == 4, "what creates organisations must cost something"
    assert answered(guard, ROWS[50:], ("key-9",)) == 4, "an account without a parent is an organisation of its own"


def test_an_organisation_that_asks_itself_has_spent_what_its_accounts_have(make_guard):
    guard = make_guard(policy(release={"level": "label"}, budget={"total_bits": 4.1 * LABEL, "parents": 2}))
    assert sum(answered(guard, ROWS[4 * i : 4 * i + 4], ("hospital-a", f"key-{i}")) for i in range(2)) == 8
    assert answered(guard, ROWS[20:30], ("hospital-a",)) == 0


def test_clocks_that_jump_give_a_day_no_second_limit_and_nothing_in_all(make_guard):
    day = [10.0]
    budget = {"daily_bits": 4.1 * LABEL, "total_bits": 20.1 * LABEL}
    guard = make_guard(policy(release={"level": "label"}, budget=budget))
    guard = dataclasses.replace(guard, clock=lambda: day[0] * 86400)
    told = {}
    for turn, now in enumerate((10.0, 11.0, 10.5, 9.0, 11.5, 10.9, 2000.0, 11.2, 12.0, 13.0, 14.0)):
        day[0] = now
        rows = np.random.default_rng(turn).normal(size=(9, 3)).astype(np.float32)
        told[int(now)] = told.get(int(now), 0) + answered(guard, rows, WHO)
    assert told == {10: 4, 11: 4, 9: 0, 2000: 4, 12: 4, 13: 4, 14: 0}


def test_a_loop_of_more_than_are_remembered_pays_every_time_and_tells_nothing_for_less(make_guard):
    guard = make_guard(policy(release={"level": "label"}, budget={"total_bits": 40.1 * LABEL}))
    passes = [answered(guard, ROWS[:most], WHO) for most in (16, 16, 17, 17)]
    assert passes == [16, 16, 17, 17]
    assert guard.store.get("hospital-a/key-17//leakage")["total"] == 1585 * (16 + 0 + 1 + 17)


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
