"""A thief of ordinary cases is judged by how many answers a copy needs, and how many a budget lets leave."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.thefts import Planted, noisy, silent

from medward.attacks.base import AttackResult
from medward.attacks.extraction import InDomainTheft, SemiSupervised
from medward.attacks.extraction.cell import TheftCell
from medward.attacks.extraction.in_domain import ANSWERED, OWN_LABELS, answer_counts
from medward.attacks.extraction.in_domain_cell import in_domain_cell
from medward.attacks.extraction.judge import CLONE, NO_VICTIM
from medward.attacks.extraction.theft_curve import LEAST, MOST, OWN_LEAST, SHARE, answers_needed, theft_curve
from medward.attacks.families import FAMILIES
from medward.attacks.intervals import Interval, clopper_pearson
from medward.attacks.suite import chosen_attacks, default_attacks, more_attacks
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Level
from medward.integrations.contracts import family as contract

THIEF = InDomainTheft(queries=48, steps=30, draws=1)
ROWS = 600
LABEL = ((Level.LABEL, 1.0),)
ROUNDED = ((Level.ROUNDED, 6.658), (Level.LABEL, 1.0))


def steal(victim, thief=THIEF, labels=None, seed=0):
    data = victim.data()
    craft = Split(victim.rows(150, seed=5), labels)
    return thief.run(victim.target(thief.threat), replace(data, craft=craft), seed=seed)


def test_more_answers_make_a_better_copy_and_the_curve_is_of_shares_of_the_whole():
    victim = Planted("tabular", 2)
    result = steal(victim)
    counts, agreement = result.curves[CLONE]
    assert counts == [1, 3, 6, 12, 24, 48]
    assert agreement[-1] > 0.9 > agreement[0]
    assert result.curves[NO_VICTIM][1] == [result.baseline.mean()] * 6
    assert result.curves[SHARE][1][-1] == pytest.approx(1)
    assert all(low <= high for low, high in zip(result.curves[LEAST][1], result.curves[MOST][1], strict=True))
    asked = np.concatenate(victim.asked)
    assert len(asked) == result.queries == 48 == len(np.unique(asked, axis=0)), "every row once"
    assert result.curves[ANSWERED] == ([48], [48])


def test_the_control_noise_and_silence_teach_nothing_and_leave_no_count():
    nothing = steal(Planted("tabular", 2, noisy))
    needed = answers_needed(nothing.curves, 0.25)
    assert nothing.outcome.mean() <= nothing.baseline.mean() + 0.1
    assert needed is None or needed.reached is None or nothing.outcome.mean() <= nothing.baseline.mean() + 0.1
    hushed = steal(Planted("tabular", 2, silent))
    np.testing.assert_array_equal(hushed.outcome, hushed.baseline)
    assert hushed.curves[ANSWERED] == ([48], [0])
    assert answers_needed(hushed.curves, 0.25) is None


@pytest.mark.slow
def test_true_labels_of_the_same_rows_buy_what_answers_do_and_wrong_ones_nothing():
    victim = Planted("tabular", 2)
    truth = victim.logits(victim.rows(150, seed=5)).argmax(axis=1)
    own = steal(victim, labels=truth)
    hard = steal(victim, replace(THIEF, labels="hard"), labels=truth)
    assert own.curves[OWN_LABELS][1][-1] > 0.85
    np.testing.assert_allclose(hard.curves[OWN_LABELS][1][-1], hard.curves[CLONE][1][-1], atol=0.05)
    wrong = steal(victim, labels=np.random.default_rng(0).permutation(truth))
    assert answers_needed(wrong.curves, 0.25).own_labels is None
    assert OWN_LABELS not in steal(victim).curves


def test_the_same_seed_steals_the_same_and_another_learner_is_another_thief():
    first, second = (steal(Planted("tabular", 2)) for _ in range(2))
    np.testing.assert_array_equal(first.outcome, second.outcome)
    assert first.curves == second.curves
    semi = replace(THIEF, learner=SemiSupervised(), labels="hard", queries=12)
    assert semi.name == "in-domain-semi-supervised-hard"
    assert steal(Planted("tabular", 2), semi).outcome.mean() > 0.7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labels": "text"}, "labels"),
        ({"steps": 0}, "steps"),
        ({"accounts": 0}, "accounts"),
        ({"per_day": 0.0}, "per_"),
    ],
)
def test_a_thief_that_cannot_be_is_refused(settings, says):
    with pytest.raises(MedwardError, match=says):
        InDomainTheft(**settings)


def test_a_thief_without_cases_is_told_so():
    victim = Planted("tabular", 2)
    data = replace(victim.data(), craft=Split(victim.rows(3, seed=5)))
    with pytest.raises(MedwardError, match="needs 4 ordinary cases at least, craft has 3"):
        THIEF.run(victim.target(THIEF.threat), data, seed=0)


def test_who_knows_the_limits_has_more_accounts_than_an_organisation_has_limits_for():
    def knowing(parents):
        return THIEF.adaptive(Policy(on_error="flag", budget={"total_bits": 5, "parents": parents}))

    assert [knowing(parents).accounts for parents in (1, 2.5, 10, 0)] == [2, 4, 11, 100]
    assert knowing(1).patient(48, 30).name == "in-domain-soft-slow-sybil2"
    assert THIEF.patient(1000, 24).per_day == 2
    assert THIEF.patient(24, 48).per_day == 0.5


@given(most=st.integers(1, 5000))
def test_counts_are_halved_down_to_one(most):
    counts = answer_counts(most)
    assert (counts[0], counts[-1]) == (1, most)
    assert all(more // 2 == less for less, more in pairwise(counts))


@cache
def curve(shares, own=(), rows=ROWS):
    """Gains ``(1, rows)`` of which the whole is one of every second row."""
    whole = np.arange(rows) % 2
    made = [[np.where(np.arange(rows) < share * rows, whole, 0.0)[None] for share in each] for each in (shares, own)]
    return theft_curve([2**i for i in range(len(shares))], *made, seed=0)


def test_the_two_numbers_are_read_off_the_bad_and_the_good_end():
    needed = answers_needed(curve((0, 0.1, 0.25, 0.5, 1), (0, 0, 0.1, 0.4, 0.9)), 0.25)
    assert (needed.within, needed.reached, needed.own_labels, needed.measured) == (2, 8, 8, 16)
    early = answers_needed(curve((0.5, 0.1, 1)), 0.25)
    assert (early.within, early.reached, early.own_labels) == (0, 1, None), "a lucky start is no number to rest on"
    assert answers_needed(curve((0, 0, 0.1, 1)), 0.5).within == 4
    assert theft_curve([1], [np.zeros((1, 9))], [], seed=0) == {}
    assert OWN_LEAST not in curve((0, 1))


def gained(share, rows=ROWS):
    whole = np.arange(rows) % 2 == 0
    return AttackResult(
        outcome=np.where(np.arange(rows) < share * rows, whole, False),
        baseline=np.zeros(rows, bool),
        curves={CLONE: ([16.0], [share]), ANSWERED: ([16.0], [4.0])},
    )


def judged(budget, prices=LABEL, traffic=None, behind=(0.05, 0.05), days=30, shares=(0, 0.05, 0.1, 0.5, 1)):
    """The verdict on thieves who gain `behind` the guard, where 4 answers are few enough and 8 too many."""
    policy = Policy(on_error="withhold", budget=budget, gate={"extraction_days": days})
    bare = gained(1)
    results = {
        "undefended": replace(bare, curves={**bare.curves, **curve(shares, (0, 0, 0.1, 0.5, 0.9))}),
        "guarded": gained(behind[0]),
        "adaptive": gained(behind[1]),
    }
    runs = Runs(
        attack=THIEF, results=results, spec=contract.SPEC, seed=0, policy=policy, prices=prices, traffic=traffic
    )
    cell = replace(FAMILIES["extraction"].judge(runs), false_refusal=clopper_pearson(0, 600))
    return (*judge_cell(cell, 0.25, policy.gate), cell)


def test_a_cap_that_no_copy_can_be_made_under_is_held():
    status, reasons, cell = judged({"total_bits": 2, "parents": 2})
    assert status is Status.HELD
    assert "which 4 answers in 30 days cannot exceed" in reasons[0]
    assert cell.notes[:2] == (
        "A copy of ordinary cases is beyond the bound with 8 answers; labelling 8 rows oneself buys the same.",
        "At the cap an account never gets so many, an organisation never gets so many.",
    )


@pytest.mark.parametrize(
    ("budget", "prices", "who", "many"),
    [
        ({"total_bits": 2, "parents": 3}, LABEL, "as an organisation", "6"),
        ({"total_bits": 2, "parents": 0}, LABEL, "as an organisation", "any number of"),
        ({"total_bits": 5, "parents": 1}, LABEL, "as an account", "5"),
        ({"daily_bits": 1, "parents": 1}, LABEL, "as an account", "30"),
        ({"total_bits": 14, "parents": 1}, ROUNDED, "as an account", "14"),  # two fine answers, or fourteen labels
    ],
)
def test_more_answers_than_are_surely_too_few_are_not_held(budget, prices, who, many):
    status, reasons, _ = judged(budget, prices)
    assert status is Status.INCONCLUSIVE
    assert any(f"may get {many} answers in 30 days {who}" in reason for reason in reasons)


@pytest.mark.parametrize("behind", [(0.9, 0.05), (0.05, 0.9)])
def test_a_thief_who_passed_the_guard_has_broken_it_whatever_the_count(behind):
    assert judged({"total_bits": 2, "parents": 2}, behind=behind)[0] is Status.BROKEN


def test_without_a_budget_there_is_nothing_to_judge_and_the_row_says_what_is_needed():
    status, reasons, cell = judged({})
    assert status is Status.NOT_APPLICABLE
    assert reasons[0].startswith("Not judged: the policy sets no [budget]")
    assert "with 8 answers" in cell.notes[0]
    assert "give --traffic and --accounts" in cell.notes[1]
    assert not any("day" in note.split("How many days")[0] for note in cell.notes), "no day count is guessed"
    assert cell.proposal == ""


def test_declared_traffic_says_the_days_and_proposes_a_budget():
    _, _, cell = judged({}, traffic=DeclaredTraffic(answers=2, accounts=3))
    assert "an account needs 4 days, an organisation needs 2 days." in cell.notes[1]
    assert cell.notes[2].startswith("No cap that this traffic allows prevents it for 30 days")
    assert Policy.from_toml(f'on_error = "flag"\n{cell.proposal}').budget.daily_bits == 2


def test_a_row_that_no_gain_was_seen_on_counts_nothing():
    status, reasons, cell = judged({"total_bits": 2}, shares=(0, 0, 0, 0, 0))
    assert (cell.needed, cell.notes, cell.proposal) == (None, (), "")
    assert status is Status.INCONCLUSIVE, "no curve is no reason to hold"
    assert "How many answers a copy needs cannot be told" in reasons[0]
    few = in_domain_cell(
        Runs(
            attack=THIEF,
            results={"undefended": replace(gained(1), curves=curve((0, 0.05, 0.2)))},
            spec=contract.SPEC,
            seed=0,
        ),
        undefended=Interval(1, 1, 1, 9),
        guarded=None,
        adaptive=None,
    )
    assert few.needed.reached == 4, "the last point is the whole gain"
    assert isinstance(few, TheftCell)


def test_models_of_rows_meet_this_thief_by_default_and_its_variants_by_name():
    spec = contract.SPEC
    assert "in-domain-soft" in [each.name for each in default_attacks(spec)]
    assert {"in-domain-hard", "in-domain-semi-supervised-hard"} <= {each.name for each in more_attacks(spec)}
    assert chosen_attacks(spec, ["in-domain-hard"])[0].labels == "hard"


def test_labels_that_the_model_made_are_nobody_s_own():
    deployment, splits = contract.line_deployment(), contract.line_splits()
    family = FAMILIES["extraction"]
    known = share_rows(contract.SignedLine(), conform_splits(splits, contract.SPEC), seed=0)
    assert family.holdings(deployment, known).craft.labels is not None
    splits = {**splits, "train": replace(splits["train"], labels=None)}
    unknown = share_rows(contract.SignedLine(), conform_splits(splits, contract.SPEC), seed=0)
    assert unknown.data.craft.labels is not None, "the model's decisions stand in for them elsewhere"
    assert family.holdings(deployment, unknown).craft.labels is None
