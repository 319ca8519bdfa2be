"""What a thief's accounts and patience look like to the guard."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from validation_fakes import Linear, deployment, rows

from medward.attacks.base import AttackData
from medward.attacks.extraction import Knockoff
from medward.attacks.target import Clock, Target, guarded_oracle
from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError
from medward.guard.policy import BudgetPolicy


class Recording:
    """A guard that notes who asks, and when; `guard` answers."""

    def __init__(self, guard, clock=None):
        self.guard, self.clock, self.asked, self.times = guard, clock, [], []

    def answer(self, query):
        self.asked.append(query.principal)
        self.times.append(self.clock() if self.clock else 0.0)
        self.last = self.guard.answer(query)
        return self.last


@pytest.fixture(scope="module")
def bundle():
    return deployment()


def test_k_accounts_take_turns_below_one_parent(bundle):
    store = MemoryStore()
    guard = Recording(bundle.guard(store=store, ephemeral=True))
    thief = Knockoff(queries=30, points=1, epochs=1, accounts=5)
    target = Target(Linear.spec, guarded_oracle(guard, accounts=thief.threat.accounts), thief.threat)
    data = AttackData(craft=rows(0, 0), test=rows(20, 1), pool=rows(40, 2).inputs, reference=rows(20, 1).labels)
    thief.run(target, data, seed=0)
    assert Counter(guard.asked) == {("attacker", f"key-{i}"): 6 for i in range(5)}
    assert [name[1] for name in guard.asked[:6]] == ["key-0", "key-1", "key-2", "key-3", "key-4", "key-0"]
    assert store.get("attacker") is not None, "the parent keeps a state of its own"


def test_the_guard_judges_the_parent_by_what_all_its_accounts_asked(bundle):
    strange = np.full((12, 6), 8, np.float32) + np.arange(12, dtype=np.float32)[:, None] / 100
    evidence = []
    for accounts in (1, 12):
        guard = Recording(bundle.guard(store=MemoryStore(), ephemeral=True))
        guarded_oracle(guard, accounts=accounts)(strange)
        evidence.append({verdict.source: verdict.evidence for verdict in guard.last.verdicts}["e-process:attacker"])
    assert evidence[0] == evidence[1]
    assert evidence[1]["n"] == 12


def test_one_account_is_the_account_itself_and_a_fresh_one_has_no_parent(bundle):
    for settings, expected in (({}, ("attacker",)), ({"fresh": True}, ("attacker-0",))):
        guard = Recording(bundle.guard(store=MemoryStore(), ephemeral=True))
        guarded_oracle(guard, **settings)(rows(1, 0).inputs)
        assert guard.asked == [expected]


def test_a_patient_thief_is_answered_on_more_days(bundle):
    policy = bundle.policy.model_copy(update={"budget": BudgetPolicy(daily_bits=20.0)})
    answered = {}
    for per_day in (None, 4):
        clock = Clock()
        inner = replace(bundle.guard(store=MemoryStore(clock=clock), ephemeral=True), policy=policy, clock=clock)
        guard = Recording(inner, clock)
        labels = guarded_oracle(guard, clock=clock, per_day=per_day)(rows(40, 3).inputs).labels
        answered[per_day] = (labels >= 0).sum()
        assert guard.times[-1] == pytest.approx(0 if per_day is None else 39 * 86400 / 4)
    assert answered[4] > answered[None]


@pytest.mark.parametrize("settings", [{"accounts": 0}, {"per_day": 4}, {"per_day": 0, "clock": Clock()}])
def test_accounts_and_patience_out_of_bounds_are_refused(bundle, settings):
    with pytest.raises(MedwardError, match="oracle: needs"):
        guarded_oracle(bundle.guard(store=MemoryStore(), ephemeral=True), **settings)
