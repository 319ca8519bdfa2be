"""Two organisations whose ordinary inputs differ: each account is judged by its own calibration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import LinearModel, benign_rows
from support.sights import refitted

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.accounts.stores import MemoryStore
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Action, Level, Query

SHIFT = np.array([12.0, -12.0, 6.0], np.float32)
POLICY = Policy(on_error="withhold")


@pytest.fixture(scope="module")
def clinic(linear_model):
    return Profile.fit(linear_model, benign_rows(LinearModel) + SHIFT, risk=0.001)


@pytest.fixture
def guarded(make_guard, clinic):
    def make(policy=POLICY, **parts):
        return make_guard(policy, sites={"clinic": clinic}, **parts)

    return make


def rows(n, *, seed=1, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32) + shift


def actions(guard, principal, inputs):
    """The action of each account on the path."""
    verdicts = guard.answer(Query(principal=principal, inputs=inputs)).verdicts
    return [verdict.action for verdict in verdicts if verdict.source.startswith("e-process:")]


@pytest.mark.parametrize("principal", [("clinic",), ("clinic", "ward", "key"), ("hospital",), ("hospital", "ward")])
def test_every_account_of_a_path_is_judged_by_its_own_site(guarded, principal):
    own, others = (SHIFT, 0.0) if principal[0] == "clinic" else (0.0, SHIFT)
    guard = guarded()
    answer = guard.answer(Query(principal=principal, inputs=rows(200, shift=own)))
    assert sum(level is Level.WITHHELD for level in answer.levels) < 12  # the screen's rate is 1 %
    assert actions(guard, principal, rows(1, shift=own)) == [Action.ALLOW] * len(principal)
    answer = guard.answer(Query(principal=principal, inputs=rows(60, shift=others)))
    assert set(answer.levels) == {Level.WITHHELD}
    alarms = actions(guard, principal, rows(1, shift=own))
    assert alarms == [Action.FLAG] * (len(principal) - 1) + [Action.WITHHOLD]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_guard_of_several_sites_answers_as_one_guard_for_each_would(linear_model, linear_profile, clinic, data):
    names = st.sampled_from(["clinic", "hospital", "Clinic", "ward"])
    parts = {"model": linear_model, "policy": POLICY}
    whole = Guard(**parts, profile=linear_profile, sites={"clinic": clinic})
    apart = {site: Guard(**parts, profile=own) for site, own in (("clinic", clinic), ("", linear_profile))}
    for _ in range(data.draw(st.integers(1, 6), label="queries")):
        principal = tuple(data.draw(st.lists(names, min_size=1, max_size=4), label="principal"))
        seed, shift = data.draw(st.integers(0, 9)), data.draw(st.sampled_from([0.0, SHIFT]))
        query = Query(principal=principal, inputs=rows(8, seed=seed, shift=shift), id="same")
        answer = whole.answer(query)
        expected = apart["clinic" if principal[0].casefold() == "clinic" else ""].answer(query)
        assert (answer.levels, answer.verdicts) == (expected.levels, expected.verdicts)
        np.testing.assert_array_equal(answer.scores, expected.scores)


def test_a_site_is_that_of_every_name_that_prints_like_it_and_two_such_sites_are_refused(make_guard, clinic):
    guard = make_guard(POLICY, sites={"Clinic": clinic})
    for principal in (("clinic",), ("CLINIC ",), ("ｃｌｉｎｉｃ", "ward")):
        assert Level.WITHHELD not in guard.answer(Query(principal=principal, inputs=rows(5, shift=SHIFT))).levels
    with pytest.raises(MedwardError, match="'Clinic' and 'clinic ' print alike"):
        make_guard(POLICY, sites={"Clinic": clinic, "clinic ": clinic})


def test_what_leaves_and_what_it_costs_is_the_bundle_s_whatever_the_site(make_guard, clinic):
    policy = Policy(
        on_error="withhold",
        release={"level": "codes"},
        screen={"action": "allow"},
        monitor={"ladder": [{"false_alarm": 0.01, "action": "allow"}]},
        budget={"total_bits": 1e6},
    )
    bare = dataclasses.replace(clinic, codebook=None)
    inputs, asker = rows(5, shift=SHIFT), ("clinic", "key")
    store = MemoryStore()
    before = make_guard(policy, store=store).answer(Query(principal=asker, inputs=inputs))
    after = make_guard(policy, sites={"clinic": bare}, store=store).answer(Query(principal=asker, inputs=inputs))
    assert {*before.levels, *after.levels} == {Level.CODES}
    np.testing.assert_array_equal(after.scores, before.scores)
    bits = [v.evidence["bits_total"] for a in (before, after) for v in a.verdicts if v.source.startswith("leakage:")]
    assert bits[:2] == bits[2:]  # told once, and still known: a site's calibration neither refunds nor charges
    assert min(bits) > 0


def test_a_site_s_new_calibration_clears_no_alarm(make_guard, guarded):
    store, asker = MemoryStore(), ("clinic", "key")
    old = make_guard(store=store)
    assert actions(old, asker, rows(60, shift=SHIFT))[-1] is Action.WITHHOLD
    assert actions(guarded(store=store), asker, rows(1, shift=SHIFT))[-1] is Action.WITHHOLD
    old.reset(asker)
    assert actions(guarded(store=store), asker, rows(40, seed=2, shift=SHIFT))[-1] is Action.ALLOW


def test_monitors_are_built_once_for_each_site_and_depth(guarded, monkeypatch):
    built = []
    real = AccountMonitors.of

    def counted(policy, profile, depth):
        built.append((profile, depth))
        return real(policy, profile, depth)

    monkeypatch.setattr("medward.guard.defenses.AccountMonitors.of", counted)
    guard = guarded()
    for turn in range(3):
        for principal in (("clinic",), ("clinic", f"key-{turn}"), (f"hospital-{turn}",), ("hospital", "key")):
            guard.answer(Query(principal=principal, inputs=rows(1, seed=turn)))
    clinic = guard.sites["clinic"]
    assert [(profile is clinic, depth) for profile, depth in built] == [(True, 1), (True, 2), (False, 1), (False, 2)]
    changed = dataclasses.replace(guard, policy=Policy(on_error="flag", monitor={"drift": 0.0}))
    changed.answer(Query(principal=("clinic",), inputs=rows(1)))
    assert len(built) == 5  # another policy, other monitors


@pytest.mark.parametrize("site", ["", "clinic/ward", "a\tb", "a" * 129])
def test_a_site_that_no_principal_can_be_of_is_refused(make_guard, clinic, site):
    with pytest.raises(MedwardError, match="1 to 128 printable characters"):
        make_guard(sites={site: clinic})


def test_a_site_s_profile_without_residuals_is_named(make_guard, clinic):
    with pytest.raises(MedwardError, match=r"^site 'clinic' has nothing for the monitor"):
        make_guard(sites={"clinic": refitted(clinic, residuals=None)})


@pytest.fixture(scope="module")
def ward(linear_model):
    """A site with too few rows for a screen of its own."""
    return Profile.fit(linear_model, benign_rows(LinearModel)[:150], risk=0.001)


def test_a_site_too_small_for_a_screen_is_screened_by_the_bundle_s(make_guard, ward, linear_profile):
    assert np.isinf(ward.screen_cut(POLICY.screen.rate))
    guard = make_guard(POLICY, sites={"ward": ward})
    for asker in ("ward", "hospital"):
        levels = [
            guard.answer(Query(principal=(asker, f"key-{i}"), inputs=rows(1, seed=i) / 2 + shift)).levels
            for shift in np.float32([0, 30])
            for i in range(5)
        ]
        assert levels == [(Level.ROUNDED,)] * 5 + [(Level.WITHHELD,)] * 5
    alone = Guard(model=guard.model, policy=POLICY, profile=ward)
    odd = Query(principal=("ward", "key"), inputs=rows(1, shift=30.0))
    assert alone.answer(odd).levels == (Level.ROUNDED,), "what it would be with its own screen only"


def test_the_monitors_of_such_a_site_stay_its_own(make_guard, ward):
    guard = make_guard(POLICY, sites={"ward": ward})
    answer = guard.answer(Query(principal=("ward",), inputs=rows(3)))
    assert len(answer.verdicts) > 1
    own = guard._defenses.monitors_of(("ward",))
    assert own.combined.calibration == AccountMonitors.of(POLICY, ward, 1).combined.calibration


def test_idle_screens_are_named_with_their_site(make_guard, guarded, ward):
    assert guarded().notes == ()
    (said,) = make_guard(POLICY, sites={"ward": ward}).notes
    assert said.startswith("site 'ward': the screen is idle: 150 calibration rows leave 90 for comparison")
    assert said.endswith("the bundle's own screen judges its inputs")
    assert [each[:13] for each in make_guard(POLICY, profile=ward).notes] == ["the screen is"]
