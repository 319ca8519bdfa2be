"""A thief steals an open model, gets nothing from a silent one, and pays for every row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from support.release import ReleaseLevels

from medward.attacks.base import AttackData
from medward.attacks.extraction import Knockoff, RandomPool, Recovery, Theft
from medward.attacks.extraction.answers import average_views, own_turns, pull_to_mean
from medward.attacks.extraction.base import clone_decisions
from medward.attacks.learners.classes import clone_targets
from medward.attacks.target import BudgetSpentError, Response, Target
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(
    name="digits",
    modality="tabular",
    shape=(64,),
    task=Classification(classes=tuple("0123456789"), output="logits"),
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

    return Target(SPEC, oracle, threat, batch=32)


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
    thief = Knockoff(queries=77, points=3, epochs=1)
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


@given(queries=st.integers(1, 300), share=st.floats(0.01, 1))
def test_the_pools_turns_keep_their_share_at_every_point(queries, share):
    turns = own_turns(queries, share)
    assert (np.abs(np.cumsum(turns) - np.arange(1, queries + 1) * share) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("labels", "warm", '"soft", "hard" or "text"'), ("pool_share", 0.0, "above 0"), ("queries", 0, "at least 1")],
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
    near = pull_to_mean(pool, (1.0, 0.25))
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


def test_more_names():
    assert Knockoff(labelled=True, pool_share=0.5).name == "knockoff-soft-diluted-labelled"
    assert Knockoff(labels="hard", views=3, accounts=10).name == "knockoff-hard-views3-sybil10"
    assert Knockoff(accounts=None, per_day=100, recovery=Recovery(level=2)).name == "knockoff-soft-bayes-slow-sybil"
    assert Knockoff(accounts=10, per_day=100).threat == replace(Knockoff().threat, accounts=10, per_day=100)


def test_a_thief_who_knows_the_policy_recovers_only_what_it_hides():
    def against(**release):
        return Knockoff().adaptive(Policy(on_error="flag", release=release)).recovery

    assert against() is None
    assert against(level="full") is None
    assert against(level="label") is None
    assert against(level="codes") is None
    assert against(decimals=1).decimals == 1
    assert against(level="top", top=1).top == 1
    assert Knockoff(labels="hard").adaptive(Policy(on_error="flag", release={"level": "top"})).recovery is None


def test_a_clone_is_as_good_as_one_distilled_from_the_exact_probabilities(theft):
    """Guards against a thief that is weak in silence, by reading logits as probabilities for one."""
    logits, data = theft
    stolen = THIEF.run(open_target(logits, THIEF.threat), data, seed=0)
    exact = softmax(logits(data.pool), axis=1)
    settings = {"classes": 10, "modality": "tabular", "shape": (64,), "epochs": 20, "seed": 0}
    distilled = clone_decisions(fit_classifier(data.pool, exact, **settings), data.test.inputs)
    majority = np.bincount(data.reference).max() / len(data.reference)
    assert stolen.outcome.mean() >= np.mean(distilled == data.reference) - 0.03
    assert stolen.outcome.mean() > majority + 0.4
    assert stolen.baseline.mean() == pytest.approx(majority)


def test_curves_hold_agreement_in_all_and_per_class_and_accuracy(theft):
    logits, data = theft
    thief = replace(THIEF, epochs=4)
    result = thief.run(open_target(logits, thief.threat), data, seed=0)
    last = {name: ys[-1] for name, (_, ys) in result.curves.items()}
    agree = result.outcome
    for each in range(10):
        assert last[f"clone to class {each}"] == pytest.approx(agree[data.reference == each].mean())
    constant = np.bincount(data.reference).argmax()
    assert last["no victim, accuracy"] == pytest.approx(np.mean(data.test.labels == constant))
    assert {xs[-1] for xs, _ in result.curves.values()} == {400.0}
    shares = [last[f"clone to class {each}"] * np.mean(data.reference == each) for each in range(10)]
    assert sum(shares) == pytest.approx(last["clone"])
    assert abs(last["clone, accuracy"] - last["clone"]) < 0.15


def test_public_labels_make_the_thief_without_a_victim_stronger_and_are_not_needed_to_steal(theft):
    logits, data = theft
    thief = replace(THIEF, pool_share=0.2)
    plain, labelled = (
        each.run(open_target(logits, each.threat), data, seed=0) for each in (thief, replace(thief, labelled=True))
    )
    np.testing.assert_array_equal(plain.outcome, labelled.outcome)
    assert labelled.baseline.mean() > plain.baseline.mean() + 0.3
    _, rising = labelled.curves["no victim"]
    assert rising[0] < rising[-1] or rising[0] > 0.9
    assert len(set(plain.curves["no victim"][1])) == 1


def test_an_unlabelled_thief_never_sees_a_label_and_none_sees_what_it_is_judged_by(theft):
    logits, data = theft
    seen = []

    @dataclass(frozen=True)
    class Nosy:
        name: str = "nosy"
        knowledge: str = "everything it can get"
        step: int | None = None

        def open(self, held, spec, *, seed):
            seen.append(held)
            return RandomPool().open(held, spec, seed=seed)

    for labelled in (False, True):
        thief = Theft(strategy=Nosy(), queries=20, epochs=1, points=1, labelled=labelled)
        thief.run(open_target(logits, thief.threat), data, seed=0)
    assert [held.craft.labels is None for held in seen] == [True, False]
    assert all(len(held.test) == 0 and held.reference is None and held.members is None for held in seen)


def test_every_view_of_an_input_is_asked_and_their_answers_are_averaged(theft):
    _, data = theft
    asked = []

    def first_pixel(inputs):
        asked.append(np.array(inputs))
        return np.stack([inputs[:, 20], 8 - inputs[:, 20]] + [np.zeros(len(inputs))] * 8, axis=1)

    thief = Knockoff(queries=40, points=1, epochs=1, views=3)
    learned = []

    @dataclass(frozen=True)
    class Watched:
        name: str = "watched"
        knowledge: str = ""
        step: int | None = None

        def open(self, held, spec, *, seed):
            asker = RandomPool().open(held, spec, seed=seed)
            learn = asker.learn
            asker_type = type(asker)

            class Spy(asker_type):
                def learn(self, loot, *, epochs, seed):
                    learned.append(loot)
                    return learn(loot, epochs=epochs, seed=seed)

            asker.__class__ = Spy
            return asker

    thief = replace(thief, strategy=Watched())
    result = thief.run(open_target(first_pixel, thief.threat), data, seed=0)
    rows = np.concatenate(asked)
    assert result.queries == len(rows) == 39, "13 inputs, three times each"
    loot = learned[0]
    np.testing.assert_array_equal(loot.inputs, rows[::3])
    answers = softmax(first_pixel(rows), axis=1)
    np.testing.assert_allclose(loot.targets, answers.reshape(13, 3, 10).mean(axis=1))
    assert 0 < np.abs(rows[1::3] - rows[::3]).max() < 2
    assert rows.min() >= 0
    assert rows.max() <= 16


def test_averaging_leaves_out_what_was_withheld():
    answers = np.array([[0.2, 0.8], [np.nan, np.nan], [0.4, 0.6], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_allclose(average_views(answers, 3), [[0.3, 0.7], [np.nan, np.nan]])


@pytest.mark.parametrize("recovery", [Recovery(level=1, decimals=1), Recovery(level=2, top=2, method="denoise")])
def test_recovery_does_not_spoil_a_theft(theft, recovery):
    logits, data = theft
    thief = replace(THIEF, queries=200, recovery=recovery)
    release = ReleaseLevels(output="logits", decimals=recovery.decimals, top=recovery.top)

    def coarse(response):
        return Response(response.labels, release.release(response.scores, recovery.level), "probabilities")

    raw = replace(thief, recovery=None)
    with_it, without = (
        each.run(open_target(logits, each.threat, coarse), data, seed=0).outcome.mean() for each in (thief, raw)
    )
    assert with_it > without - 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 0}, "views: must be at least 1"),
        ({"accounts": 0}, "accounts: must be at least 1"),
        ({"per_day": 0}, "per_day: must be above 0"),
        ({"views": 2, "recovery": Recovery()}, "recovery: needs scores as they were released"),
    ],
)
def test_wrappers_out_of_bounds_are_refused(settings, message):
    with pytest.raises(MedwardError, match=message):
        Knockoff(**settings)
