"""What monitors do quickly is what their formulas say, written here as plainly as they can be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.monitors.coverage import (
    LENGTH,
    REPEATED,
    SMOOTHING,
    Coverage,
    cell_payoffs,
    usual_shares,
)
from medward.guard.monitors.noise_residuals import FAR_DEVIATIONS, REACH_DEVIATIONS, NoiseResiduals, surely_within
from medward.guard.monitors.shared_perturbation import (
    CHAINS,
    CODES,
    GRAIN,
    RECENT,
    SCORE_DECIMALS,
    SIDE,
    ZERO,
    SharedPerturbation,
    VectorSeen,
    direction_scores,
    epoch_risk,
    learn_means,
    unit_directions,
)
from medward.guard.statistics.binomial import tolerance_rank
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.conformal import Thresholds
from medward.guard.statistics.eprocess import EProcess, late_start_wealth, unpacked_wealth
from medward.guard.statistics.rank_eprocess import MOST_PAID, STAKES, RankEProcess, rank_factors
from medward.guard.types import Action

WIDTH = 12
seeds = st.integers(0, 2**32 - 1)


def plain_means(means, vector, n, toward):
    side = -1 if vector @ toward < 0 else 1
    rows = zip(means, (1 / n, max(1 / n, RECENT)), (vector, np.float32(side) * vector), strict=True)
    return np.array([row + np.float32(rate) * (new - row) for row, rate, new in rows]).astype(np.float16)


@given(seeds, st.integers(1, 10_000))
def test_means_move_by_their_rates(seed, n):
    rng = np.random.default_rng(seed)
    means = (rng.normal(size=(2, WIDTH)) * 10 ** rng.uniform(-4, 2)).astype(np.float16).astype(np.float32)
    vector = rng.normal(size=WIDTH).astype(np.float32)
    toward = rng.normal(size=WIDTH).astype(np.float32)
    assert (learn_means(means, vector, n, toward) == plain_means(means, vector, n, toward)).all()
    assert (learn_means(means, -vector, n, toward) == plain_means(means, -vector, n, toward)).all()


def text_of(steps):
    return "".join(chr(int(min(max(round(float(step)) + ZERO, ZERO - SIDE), ZERO + SIDE))) for step in steps)


class PlainShared:
    """`SharedPerturbation.judge`, one input after the other and nothing kept in other than plain lists."""

    def __init__(self, monitor):
        self.monitor, self.n, self.chains = monitor, 0, []
        self.means = np.zeros((2, WIDTH), np.float32)
        self.directions = np.zeros((2, WIDTH), np.float32)
        self.cuts = [None] * (len(monitor.levels) * monitor.count)

    def change(self, vector, code):
        for at in reversed(range(len(self.chains))):
            codes, first = self.chains[at]
            if code and any((int(code, 16) ^ int(each, 16)).bit_count() <= self.monitor.radius for each in codes):
                own = [*(each for each in codes if each != code), code][-CODES:]
                self.chains = [*self.chains[:at], *self.chains[at + 1 :], [own, first]]
                return vector - np.array([ord(each) - ZERO for each in first], np.float32) * np.float32(GRAIN)
        if code:
            self.chains = [*self.chains, [[code], text_of(vector / GRAIN)]][-CHAINS:]
        return vector

    def ask(self, vector, code, stratum):
        n, monitor = self.n, self.monitor
        if n and (n < 16 or n % 16 == 0):
            self.directions = unit_directions(self.means)
            self.cuts = monitor._cuts(self.directions, epoch=n - 1 if n < 16 else 14 + n // 16)
        change = self.change(vector, code)
        along = [self.directions @ each for each in (change, vector)]
        score = min(max(float(first), abs(float(second))) for first, second in along)
        self.n += 1
        self.means = plain_means(self.means, change, self.n, self.directions[1]).astype(np.float32)
        levels = monitor.levels
        own = self.cuts[stratum * len(levels) : (stratum + 1) * len(levels)]
        exceeded = [
            level
            for level, cut in zip(levels, own, strict=True)
            if cut is not None and round(score, SCORE_DECIMALS) > cut + monitor.slack
        ]
        return min(exceeded, default=1.0)


@given(seeds, st.floats(0, 3), st.integers(1, 3))
@settings(max_examples=30)
def test_an_account_is_judged_as_the_plain_formulas_judge_it(seed, push, count):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(600, WIDTH)).astype(np.float32)  # more than one block of rows
    strata = rng.integers(count, size=600)
    monitor = SharedPerturbation(reference=reference, risk=0.05, radius=2, slack=0.2, strata=strata, count=count)
    pool = [f"{each:016x}" for each in rng.integers(2**63, size=9)]
    plain, state = PlainShared(monitor), monitor.start()
    for _ in range(60):
        vector = (rng.normal(size=WIDTH) + push).astype(np.float32)
        bits = int(pool[rng.integers(9)], 16) ^ (1 << int(rng.integers(63))) if rng.random() < 0.8 else None
        seen = VectorSeen(vector, "" if bits is None else f"{bits:016x}", int(rng.integers(count)))
        state, [p] = monitor.judge(json.loads(json.dumps(state)), [seen])
        assert p == plain.ask(*seen)
        assert json.loads(json.dumps(state["chains"])) == plain.chains
    assert state["n"] == plain.n
    assert state["cuts"] == plain.cuts


@pytest.mark.parametrize("rows", [60, 511, 512, 513, 1500])
def test_cuts_are_of_all_rows_however_many_are_scored_at_a_time(rows):
    rng = np.random.default_rng(rows)
    reference = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    directions = unit_directions(rng.normal(size=(2, WIDTH)))
    monitor = SharedPerturbation(reference=reference, risk=0.05)
    alone = np.array([direction_scores(row, directions) for row in reference])
    plain = Thresholds.calibrate(alone, risk=epoch_risk(0.05, 3), grid=monitor.levels)
    assert monitor._cuts(directions, epoch=3) == pytest.approx(plain.cuts, abs=1e-4)
    assert len(plain.cuts) == len(monitor.levels)


@given(seeds, st.floats(0, 1), st.sampled_from([1.0, 4.0]))
@settings(max_examples=40)
def test_cells_pay_as_if_all_of_them_were_ranked_each_time(seed, narrow, ratio):
    rng = np.random.default_rng(seed)
    counts = tuple(rng.multinomial(200, rng.dirichlet(np.ones(10))).tolist())
    part = Coverage(counts=counts, risk=0.01, ratio=ratio, rare=(tuple(rng.integers(5, size=10).tolist()),))
    state, shares, known, wealth = part.start(), np.zeros(10), 0, []
    weights, usual = np.array(SMOOTHING)[:, None], usual_shares(counts)
    for n in range(1, 80):
        cell = 3 if rng.random() < narrow else int(rng.choice([REPEATED, *range(10)]))
        now = shares / (shares.sum() or 1.0)
        pays, least = cell_payoffs((known * now + weights * usual) / (known + weights), part.bounds)
        wealth = late_start_wealth(wealth, n, (least if cell == REPEATED else pays[:, cell]).tolist())
        wealth = np.array(wealth, np.float32).tolist()
        if cell != REPEATED:
            rate = 1 / min(known + 1, LENGTH)
            now = now * (1 - rate)
            now[cell] += rate
            shares, known = now.astype(np.float16).astype(np.float64), known + 1
        state = part.step(state, n, float(cell))
        assert list(unpacked_wealth(state["wealth"])) == wealth


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12), st.integers(0, 13))
def test_rank_factors_are_those_of_their_formula(chances, won):
    won = min(won, len(chances))
    plain = []
    for place, chance in enumerate(chances):
        for stake in STAKES:
            own = min(stake, (MOST_PAID - 1) * chance / max(1 - chance, 1e-9))
            plain.append(1 - own + own * (1 / chance if place >= won else 0.0))
    assert rank_factors(chances, won) == plain


@given(st.integers(1, 400), st.floats(0.001, 0.5), st.floats(1e-9, 0.9))
def test_tolerance_ranks_count_tails_from_the_lowest(n, tau, risk):
    below, k = 0.0, 0
    while k <= n:
        term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(term + k * math.log(tau) + (n - k) * math.log1p(-tau))
        if below > risk:
            break
        k += 1
    assert tolerance_rank(n, tau, risk) == k


@given(st.lists(st.one_of(st.integers(0, 9).map(float), st.just(math.nan), st.just(math.inf)), max_size=20))
def test_a_p_value_is_the_smallest_level_whose_cut_is_exceeded(scores):
    thresholds = Thresholds(levels=(0.01, 0.02, 0.04, 0.08), cuts=(7.0, 5.0, 5.0, 2.0), risk=0.1, n=100)
    plain = [
        min((level for level, cut in zip(thresholds.levels, thresholds.cuts, strict=True) if not s <= cut), default=1.0)
        for s in scores
    ]
    assert thresholds.p_values(np.array(scores)).tolist() == plain


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0, 5.0])), min_size=1, max_size=30))
def test_the_alarm_reads_the_largest_of_what_is_alone_and_the_sum_of_the_others(values):
    parts = (
        EProcess(name="a", levels=(0.1, 0.4)),
        RankEProcess(name="r", sizes=(20,), risk=0.1),
        EProcess(name="b", levels=(0.2,)),
    )
    weights = (0.5, 0.3, 0.2)
    monitor = CombinedEProcess(parts=parts, weights=weights, ladder=((0.5, Action.FLAG), (0.05, Action.WITHHOLD)))
    state, peak = monitor.start(), 0.0
    for p, cell in values:
        state, verdict = monitor.step(state, Observation({"a": p, "r": cell, "b": p}))
        wealth = [w * math.exp(part.log_e(state["parts"][part.name])) for w, part in zip(weights, parts, strict=True)]
        log_e = math.log(max(wealth[1], wealth[0] + wealth[2]))
        peak = max(peak, log_e)
        assert verdict.evidence["log_e"] == pytest.approx(log_e)
        assert verdict.evidence["peak"] == state["peak"] == pytest.approx(peak)
        assert verdict.evidence["share:r"] == pytest.approx(wealth[1] / sum(wealth))
        asked = [action for alpha, action in monitor.ladder if peak >= -math.log(alpha)]
        assert verdict.action == max(asked, default=Action.ALLOW)


@pytest.fixture(scope="module")
def residuals():
    rng = np.random.default_rng(0)
    return NoiseResiduals.fit(rng.random((200, 1, 12, 12)), rng.random((50, 1, 12, 12)))


@given(seeds, st.sampled_from([0.3, 1.0, 30.0, 1e7, 1e30]), st.integers(1, 3))
@settings(max_examples=40)
def test_vectors_are_cut_to_the_ball_row_by_row(residuals, seed, size, rows):
    images = (np.random.default_rng(seed).random((rows, 1, 12, 12)) * size).astype(np.float32)
    images[-1] = 0.5  # well within, whatever stands beside it
    whitened = residuals.whitened(images)
    reach = whitened.shape[1] ** 0.5 + REACH_DEVIATIONS
    lengths = np.sqrt((whitened.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    plain = whitened * np.minimum(1, reach / np.maximum(lengths, 1e-9))
    assert np.allclose(residuals.vectors(images), plain, rtol=1e-5, atol=1e-6)
    detail = residuals.vectors(np.where(np.isnan(images), 0, images))
    assert np.isfinite(detail).all()


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0.1, 20))
def test_what_is_surely_within_is(values, reach):
    rows = np.array([values], np.float32)
    if surely_within(rows, reach):
        assert np.linalg.norm(rows.astype(np.float64)) <= reach
    assert surely_within(rows * 0, reach)
    for strange in (math.nan, math.inf, 2 * reach, FAR_DEVIATIONS * 1e30):
        with np.errstate(over="ignore", invalid="ignore"):
            assert not surely_within(np.array([[*values, strange]], np.float32), reach)
