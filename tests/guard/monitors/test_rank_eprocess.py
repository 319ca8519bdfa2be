"""The rank bet, counted out: the mean of a step, what an input pays, what is kept, and how it joins other parts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from medward.guard.monitors.table import calibration_shares
from medward.guard.statistics import rank_eprocess
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.eprocess import EProcess
from medward.guard.statistics.rank_eprocess import (
    FLAGGED,
    MOST_MISTAKEN,
    MOST_PAID,
    PAID_THEREAFTER,
    STAKES,
    RankCells,
    RankEProcess,
    bettor_capital,
    mistaken_share,
    rank_cuts,
    rank_factors,
    rank_limits,
    ranks_within,
)
from medward.guard.types import Action

RISK, WEIGHT = 7e-4, calibration_shares()["strange"]
DELTA = 0.01
TOP = 0.0  # the cell of an input that outranks all calibration rows


def rank_bet(*sizes, **settings):
    return RankEProcess(name="strange", sizes=sizes, risk=RISK, **settings)


def after(part, cells, state=None, start=1, stratum=0):
    state = state or part.start()
    for n, cell in enumerate(cells, start):
        state = part.step(state, n, cell, stratum)
    return state


@pytest.mark.parametrize("floor", [True, False])
def test_a_quiet_past_does_not_make_ordinary_inputs_dear(floor, monkeypatch):
    """1,500 inputs of the less strange half, then ordinary ones; where a quiet past counts, all accounts pay."""

    def without_floor(part, stratum, counts):
        seen, *above = part._counted(counts, stratum)
        rows = part.sizes[stratum] + 1 + seen
        urn = zip(part.ranks[stratum], above, part.limits[stratum], strict=True)
        return [min((rank + each) / rows, limit) for rank, each, limit in urn]

    if not floor:
        monkeypatch.setattr(RankEProcess, "chances", without_floor)
    rng = np.random.default_rng(0)
    part, reached = rank_bet(150), 0
    for _ in range(6):
        scores = rng.normal(size=150)
        cuts, state = rank_cuts(scores), part.start()
        quiet = np.minimum(rng.normal(size=1500), -abs(rng.normal(size=1500)))
        for n, score in enumerate([*quiet, *rng.normal(size=300)], 1):
            state = part.step(state, n, float(part.cells.encode(score, cuts, 0.0)))
        reached += part.log_e(state) > math.log(100)
    assert reached == 0 if floor else reached >= 5


# The mean of one step, counted out


@given(n=st.integers(1, 60), past=st.lists(st.integers(0, 60), max_size=80))
def test_no_bettor_gains_on_average_in_the_urn(n, past):
    """The next input is equally likely to take any place among the rows and the past: gap g with weight 1 + count."""
    gaps = np.bincount([min(gap, n) for gap in past], minlength=n + 1)
    ranks = ranks_within(n)
    urn = [(rank + int(gaps[:rank].sum())) / (n + 1 + len(past)) for rank in ranks]
    mean = np.zeros(len(ranks) * len(STAKES))
    for gap in range(n + 1):
        won = next((place for place, rank in enumerate(ranks) if gap < rank), len(ranks))
        mean += (1 + gaps[gap]) / (n + 1 + len(past)) * np.array(rank_factors(urn, won))
    assert (mean <= 1 + 1e-12).all()
    assert mean[0] > 1 - 1e-9 or urn[0] > 0.99, "and it loses nothing either"


@given(
    m=st.integers(1, 40),
    n=st.integers(1, 160),
    above=st.integers(0, 40),
    seen=st.integers(0, 400),
    b=st.floats(1e-3, 1),
)
def test_a_chance_that_is_known_to_be_below_its_limit_is_lower_on_average(m, n, above, seen, b):
    """What is left of the chance given the past is Beta; cut off at the limit its mean is below both, so `min` pays."""
    assume(m <= n and above <= seen)
    a, c = m + above, n + 1 - m + seen - above
    whole = stats.beta.cdf(b, a, c)
    assume(whole > 1e-9)
    mean = a / (a + c) * stats.beta.cdf(b, a + 1, c) / whole
    assert mean <= min(a / (a + c), b) * (1 + 1e-6)


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=5).filter(sum),
    stratum=st.integers(0, 4),
    past=st.lists(st.integers(0, 9), max_size=60),
    contamination=st.sampled_from([0.0, 0.01, 0.2]),
)
def test_every_stratum_is_paid_at_its_urn_start_or_limit_and_contamination_at_the_limit_alone(
    sizes, stratum, past, contamination
):
    stratum %= len(sizes)
    part, ranks = rank_bet(*sizes, contamination=contamination), ranks_within(sizes[stratum])
    above = [sum(gap <= place for gap in past) for place in range(len(ranks))]
    chances = part.chances(stratum, {str(stratum): [len(past), *above]})
    limits = rank_limits(sizes[stratum], RISK * max(sizes[stratum], 1) / sum(sizes))
    if contamination:
        assert chances == pytest.approx([(1 - contamination) * limit + contamination for limit in limits])
    else:
        rows = sizes[stratum] + 1
        urn = [(rank + each) / (rows + len(past)) for rank, each in zip(ranks, above, strict=True)]
        start = [rank / rows for rank in ranks]
        assert chances == pytest.approx([min(max(pair), b) for *pair, b in zip(urn, start, limits, strict=True)])
    for place, chance in enumerate(chances):  # a share of anything, and as much else as the limit allows
        won, lost = (np.array(rank_factors(chances, each)) for each in (place, len(ranks)))
        own = slice(place * len(STAKES), (place + 1) * len(STAKES))
        assert (chance * won[own] + (1 - chance) * lost[own] <= 1 + 1e-12).all()


@pytest.mark.parametrize("n", [1, 12, 120, 2000])
def test_limits_are_those_of_wilks_and_strata_share_the_risk(n):
    spent = [
        stats.binom.cdf(rank - 1, n, limit) for rank, limit in zip(ranks_within(n), rank_limits(n, DELTA), strict=True)
    ]
    assert sum(spent) == pytest.approx(DELTA, rel=1e-3)
    part = rank_bet(n, 3 * n, 0)
    assert part.limits[0] == rank_limits(n, RISK / 4)
    assert part.limits[2] == (1.0,), "no rows bound nothing"


# Specialists, whose rows the model mistakes for other classes


@given(
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=5),
    seen=st.lists(st.integers(0, 500), min_size=5, max_size=5),
    stratum=st.integers(0, 4),
)
def test_the_mistaken_share_is_bounded_and_none_where_nothing_else_is_asked_too_often(sizes, seen, stratum):
    stratum, seen = stratum % len(sizes), seen[: len(sizes)]
    assert 0 <= mistaken_share(sizes, seen, stratum) <= MOST_MISTAKEN
    assert mistaken_share(sizes, sizes, stratum) == 0, "an account as the calibration rows are"
    alone = [count if each == stratum else 0 for each, count in enumerate(seen)]
    assert mistaken_share(sizes, alone, stratum) == 0
    assert not sizes[stratum] or mistaken_share(sizes, alone, stratum) <= mistaken_share(sizes, seen, stratum)


def specialist(part, queries, mistaken, rng):
    """An account of the rare stratum 1, one in six of whose inputs the model takes for the common one."""
    state, most = part.start(), 0.0
    for n in range(1, queries + 1):
        common = rng.random() < 1 / 6
        ordinary = part.cells.depth * (part.cells.base + 1)
        state = part.step(state, n, mistaken if common else ordinary, 0 if common else 1)
        most = max(most, part.log_e(state))
    return most


@pytest.mark.parametrize(("forgiven", "most"), [(True, math.log(100)), (False, math.inf)])
def test_rows_that_the_model_mistakes_do_not_alarm_a_specialist(forgiven, most, monkeypatch):
    """60 inputs, of which ten are among the sixteen strangest of 425; without the share they would be withheld for."""
    if not forgiven:
        monkeypatch.setattr(rank_eprocess, "MISTAKEN", 0.0)
    part = rank_bet(425, 35)
    place = ranks_within(425).index(16)
    found = [specialist(part, 60, place * (part.cells.base + 1), np.random.default_rng(seed)) for seed in range(20)]
    assert max(found) < most
    assert forgiven or np.median(found) > math.log(1000)


def test_who_hides_behind_one_class_is_noticed_later_and_not_never():
    part = rank_bet(425, 35)
    found = [specialist(part, 400, TOP, np.random.default_rng(seed)) for seed in range(20)]
    assert min(found) > math.log(1000)


# What one input pays


@given(chances=st.lists(st.floats(1e-9, 1), min_size=1, max_size=9), won=st.integers(0, 9))
def test_no_input_pays_more_than_most_paid_and_none_costs_all(chances, won):
    for paid in (MOST_PAID, PAID_THEREAFTER):
        factors = rank_factors(chances, won, paid)
        assert 0 < min(factors) <= max(factors) <= paid * (1 + 1e-9)


@pytest.mark.parametrize("n", [120, 480, 2285, 20000])
def test_five_strange_inputs_do_not_reach_the_strictest_rung_and_eight_do(n):
    part, strictest = rank_bet(n), 1e4
    wealth = [WEIGHT * math.exp(part.log_e(after(part, [TOP] * count))) for count in range(1, 9)]
    assert wealth[4] < strictest
    assert wealth[7] >= strictest
    assert sorted(wealth) == wealth


@pytest.mark.parametrize("n", [120, 2285])
def test_an_account_that_is_flagged_is_paid_less_from_there_on(n):
    part = rank_bet(n)
    wealth = [math.exp(part.log_e(after(part, [TOP] * count))) for count in range(1, 12)]
    for before, now in pairwise(wealth):
        assert now <= (before + 1) * (PAID_THEREAFTER if before >= FLAGGED else MOST_PAID)
    assert any(before >= FLAGGED for before in wealth)


def test_one_strange_image_sent_a_thousand_times_makes_no_strange_input_cheap():
    part = rank_bet(480)
    once = after(part, [TOP])
    again = after(part, [part.cells.repeat] * 1000, once, 2)
    assert again["counts"] == once["counts"]
    taught = after(part, [TOP] * 1000, once, 2)
    assert part.chances(0, taught["counts"])[0] == part.limits[0][0], "counted, such would be usual but for the limits"
    assert part.chances(0, again["counts"])[0] == pytest.approx(2 / 482)


@given(score=st.floats(-3, 12), slack=st.floats(0, 2))
def test_what_drift_may_have_made_is_counted_and_not_won(score, slack):
    cuts, cells = rank_cuts(np.arange(1.0, 9)), RankCells(2)  # ranks 1 and 2 of 8: the scores 8 and 7
    assert cuts == (7.0, 8.0)
    won, counted = cells.decode(cell := cells.encode(score, cuts, slack))
    assert won == (0 if score - slack > 8 else 1 if score - slack > 7 else 2)
    assert counted == (0 if score >= 8 else 1 if score >= 7 else 2)
    assert cells.knows(float(cell))


def test_nan_is_as_strange_as_can_be_and_a_stratum_without_rows_wins_nothing():
    cells = RankCells(3)
    assert cells.decode(cells.encode(math.nan, (1.0, 2.0, 3.0), 0.1)) == (0, 0)
    assert cells.decode(cells.encode(math.nan, rank_cuts(np.zeros(0)), 0.1))[0] == 3
    known = {cells.encode(score, (1.0, 2.0, 3.0), slack) for score in np.arange(0, 9, 0.25) for slack in (0, 0.5, 9)}
    assert all(cells.knows(float(each)) for each in (*known, cells.repeat))
    assert not any(cells.knows(each) for each in (-1.0, 0.5, float(cells.base**2), float(cells.base - 1)))


# What is kept


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_a_state_is_the_same_after_a_round_trip(asked):
    part = rank_bet(30, 5, 0)
    state, kept = part.start(), part.start()
    for n, (stratum, one, other) in enumerate(asked, 1):
        cell = min(one, other) * part.cells.base + max(one, other)
        state = part.step(state, n, cell, stratum)
        kept = json.loads(json.dumps(part.step(kept, n, cell, stratum)))
    assert kept == state
    assert part.log_e(kept) == part.log_e(state)


def test_states_stay_small_and_finite_however_long_an_account_asks():
    part, rng = rank_bet(700, *[60] * 15), np.random.default_rng(0)
    state = part.start()
    for n in range(1, 10_001):
        stratum = n % 16
        place = int(rng.integers(len(part.ranks[stratum]) + 1)) if rng.random() < 0.2 else part.cells.depth
        state = part.step(state, n, place * part.cells.base + place, stratum)
    old = {"wealth": state["wealth"], "counts": {k: [each * 1000 for each in v] for k, v in state["counts"].items()}}
    assert len(json.dumps(state, separators=(",", ":"))) < 1200
    assert len(json.dumps(old, separators=(",", ":"))) < 1500
    late = after(part, [TOP] * 300, old, 10**7, 1)
    assert math.isfinite(part.log_e(late))
    assert part.log_e(late) > part.log_e(old)


def test_the_capital_of_all_bettors_is_one():
    for depth in range(1, 14):
        assert sum(bettor_capital(depth)) == pytest.approx(1)
        assert len(bettor_capital(depth)) == depth * len(STAKES)


# Beside the other monitors


PLAIN = EProcess(name="plain", levels=(0.01, 0.1))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 8]), st.sampled_from([0.01, 0.1, 1.0])), min_size=1, max_size=20))
def test_a_part_that_knows_no_calibration_is_tested_alone_and_the_shares_sum_to_one(rows):
    strange = rank_bet(30)
    monitor = CombinedEProcess(
        parts=(strange, PLAIN, replace(PLAIN, name="other")), weights=(0.5, 0.3, 0.2), ladder=((0.01, Action.FLAG),)
    )
    state = monitor.start()
    for place, p in rows:
        cell = min(place, strange.cells.depth) * (strange.cells.base + 1)
        state, verdict = monitor.step(state, Observation({"strange": float(cell), "plain": p, "other": 1.0}))
    wealth = {part.name: weight * math.exp(part.log_e(state["parts"][part.name]))
              for part, weight in zip(monitor.parts, monitor.weights, strict=True)}  # fmt: skip
    expected = max(wealth["strange"], wealth["plain"] + wealth["other"])
    assert verdict.evidence["log_e"] == pytest.approx(math.log(expected), abs=1e-9)
    shares = {name: verdict.evidence[f"share:{name}"] for name in wealth}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["strange"] == pytest.approx(wealth["strange"] / sum(wealth.values()))


def test_averaged_with_a_part_that_knows_more_it_could_break_the_bound():
    """Why it is not averaged, counted out. X bets on two coins; the calibration rows hold the second, as Y's part sees.

    X is fair to whoever sees X alone, Y to whoever sees all: it waits for the second coin where X will win by it, and
    goes for the level at once where X will lose. Each by itself reaches a level c no more often than 1 / c.
    """
    level, averaged = Fraction(5, 2), Fraction(0)
    for first, second in product((0, 1), repeat=2):
        largest = max(2 * first, 4 * first * second)  # of X, after one coin and after two
        needed = max(Fraction(1), 2 * level - largest)  # of Y, which begins at 1 and has it with chance 1 / needed
        averaged += Fraction(1, 4) / needed
    assert averaged == Fraction(13, 30) > 1 / level, "the mean of X and Y"
    assert 2 * level > 4, "X / 2 never reaches the level, and Y / 2 does with chance 1 / (2 level)"
