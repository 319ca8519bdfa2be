from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.monitors.shared_perturbation import (
    CHAINS,
    CODES,
    DRIFT_SLACK,
    HORIZON,
    SharedPerturbation,
    VectorSeen,
    direction_scores,
    epoch_risk,
    learn_means,
    shared_levels,
    unit_directions,
)
from medward.guard.monitors.sketch import without_markings
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.conformal import Thresholds, split_risk
from medward.guard.statistics.eprocess import EProcess, bettor_factors
from medward.guard.types import Action

WIDTH = 16
REFERENCE = np.random.default_rng(0).normal(size=(500, WIDTH)).astype(np.float32)
PUSH = np.eye(1, WIDTH)[0] * 8


def watching(reference=REFERENCE, risk=0.001, radius=2):
    return SharedPerturbation(reference=reference, risk=risk, radius=radius, calibration="c")


def sightings(vectors, codes=None):
    codes = [""] * len(vectors) if codes is None else codes
    rows = np.asarray(vectors, np.float32)
    return [VectorSeen(row, code) for row, code in zip(rows, codes, strict=True)]


def p_values(vectors, monitor=None, codes=None):
    monitor = monitor or watching()
    return np.array(monitor.judge(monitor.start(), sightings(vectors, codes))[1])


def alarmed(p, levels, alpha):
    return requests(p, levels, alpha) < len(p)


def requests(p, levels, alpha=0.01):
    """How many queries pass before the alarm; all of them if there is none."""
    monitor = CombinedEProcess(
        parts=(EProcess(name="p", levels=levels),), weights=(1.0,), ladder=((alpha, Action.FLAG),)
    )
    state = monitor.start()
    for i, each in enumerate(p):
        state, verdict = monitor.step(state, Observation({"p": float(each)}))
        if verdict.action is Action.FLAG:
            return i
    return len(p)


def normal(n, seed):
    return np.random.default_rng(seed).normal(size=(n, WIDTH))


def test_epochs_spend_the_risk_and_no_more():
    spent = sum(epoch_risk(0.01, j) for j in range(100_000))
    assert 0.0098 < spent <= 0.01


@given(st.integers(1, 5000), st.floats(1e-6, 0.1))
def test_levels_are_a_grid_the_calibration_rows_can_bound_up_to_the_horizon(n, risk):
    levels = shared_levels(n, risk)
    assert list(levels) == sorted(set(levels))
    assert levels[0] > 0
    assert levels[-1] <= 0.5
    if levels != (0.5,):
        assert (1 - levels[0]) ** n <= split_risk(epoch_risk(risk, HORIZON), 3)[0]


@pytest.mark.parametrize("epoch", [0, 1, 15, 1024])
def test_cuts_are_thresholds_at_the_risk_of_their_epoch(epoch):
    monitor = watching(risk=0.01)
    directions = unit_directions(np.random.default_rng(epoch).normal(size=(2, WIDTH)))
    seen, levels = direction_scores(REFERENCE, directions), monitor.levels
    right = Thresholds.calibrate(seen, risk=epoch_risk(0.01, epoch), grid=levels)
    cuts = dict(zip(levels, monitor._cuts(directions, epoch), strict=True))
    assert {level: cut for level, cut in cuts.items() if cut is not None} == pytest.approx(
        dict(zip(right.levels, right.cuts, strict=True)), abs=1e-4
    )
    careless = Thresholds.calibrate(seen, risk=0.01 * len(levels), grid=levels)  # all of it, at every level
    assert careless.cuts[0] < right.cuts[0]


def test_every_direction_spends_the_risk_of_its_own_epoch(monkeypatch):
    asked, cuts = [], SharedPerturbation._cuts

    def noted(self, directions, epoch):
        asked.append(epoch)
        return cuts(self, directions, epoch)

    monkeypatch.setattr(SharedPerturbation, "_cuts", noted)
    p_values(normal(50, 1))
    assert asked == [*range(15), 15, 16, 17]  # queries 1 to 15, then 16, 32, 48


def test_a_state_of_another_grid_starts_anew():
    monitor = watching()
    state, _ = monitor.judge(monitor.start(), sightings(normal(3, 0)))
    assert monitor.resume(state) == state
    assert monitor.resume({**state, "cuts": [*state["cuts"], None]}) == monitor.start()


def test_benign_accounts_ever_alarm_no_more_than_alpha_plus_delta():
    # A new calibration draw for every account, as the bound is stated; no slack could hide a break in heavy tails.
    alpha, risk, accounts = 0.1, 0.05, 120
    hits = 0
    for seed in range(accounts):
        rng = np.random.default_rng(seed)
        rows = rng.standard_t(3, size=(700, WIDTH)) * 4
        monitor = watching(rows[:100].astype(np.float32), risk=risk)
        hits += alarmed(p_values(rows[100:], monitor), monitor.levels, alpha)
    assert hits / accounts <= alpha + risk + 3 * math.sqrt(0.13 / accounts)


def test_the_share_of_small_p_values_is_at_most_their_level():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(20):
        rows = rng.normal(size=(1500, WIDTH)) * 10  # the slack is small beside this spread
        monitor = watching(rows[:500].astype(np.float32))
        p = p_values(rows[500:], monitor)
        shares.append([(p <= level).mean() for level in monitor.levels])
    assert (np.mean(shares, axis=0) <= monitor.levels).all()
    assert np.mean(shares) > 0.003, "a test of p-values that are never small says nothing"


def test_a_direction_taken_from_the_query_it_judges_would_break_the_levels():
    # Negative control: the same cuts, but the mean already holds the query.
    level, n = 0.1, 8
    hits = []
    for seed in range(400):
        rows = normal(n, seed)
        own = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
        hits.append(rows[-1] @ own > np.quantile(REFERENCE @ own, 1 - level))
    assert np.mean(hits) > 2 * level


def test_a_shared_push_alarms_in_a_handful_of_queries():
    monitor = watching()
    p = p_values(normal(30, 3) + PUSH, monitor)
    assert alarmed(p[:8], monitor.levels, 0.01)
    assert not alarmed(p_values(normal(1000, 4), monitor), monitor.levels, 0.01)


def test_a_push_of_either_sign_alarms_as_soon():
    monitor, signs = watching(), np.random.default_rng(0).choice([-1, 1], (100, 1))
    assert requests(p_values(normal(100, 3) + signs * PUSH, monitor), monitor.levels) < 10
    evenly = np.resize([-1, 1], (100, 1))
    assert requests(p_values(normal(100, 3) + evenly * PUSH, monitor), monitor.levels) < 10


@pytest.mark.parametrize("signs", [1, [[1], [-1]]])
def test_a_long_good_past_buys_an_attacker_few_requests(signs):
    monitor = watching()
    attacked = normal(100, 11) + np.resize(signs, (100, 1)) * PUSH
    p = p_values(np.concatenate([normal(1000, 10), attacked]), monitor)
    assert 1000 < requests(p, monitor.levels) < 1030
    wealth = np.log([bettor_factors(each, monitor.levels, 0.0, 1.0) for each in p[:1030]]).sum(axis=0)
    assert max(wealth) < math.log(100), "spread starting times must be what notices it"


def test_each_of_the_two_means_finds_what_the_other_cannot():
    # Of inputs with a weak push the mean of all finds it; of signs that alternate only the turned one does.
    rows = normal(4000, 12)
    weak, either = rows + PUSH / 16, rows + np.resize([-1, 1], (4000, 1)) * PUSH / 2
    for attacked, finder in ((weak, 0), (either, 1)):
        means = np.zeros((2, WIDTH))
        for n, row in enumerate(attacked, 1):
            means = learn_means(means, row, n, means[1])
        along = abs(unit_directions(means)[:, 0])
        assert along[finder] > 0.9 > along[1 - finder]


@given(st.integers(0, 999), st.floats(0, 5))
def test_a_score_moves_no_more_than_the_input(seed, size):
    rng = np.random.default_rng(seed)
    directions = unit_directions(rng.normal(size=(2, WIDTH)) * 10 ** rng.uniform(-3, 3))
    rows = rng.normal(size=(20, WIDTH))
    moves = np.concatenate([directions, -directions, rng.normal(size=(16, WIDTH))])
    moves *= size / np.linalg.norm(moves, axis=1, keepdims=True)
    assert (abs(direction_scores(rows + moves, directions) - direction_scores(rows, directions)) <= size + 1e-6).all()


def test_a_diluted_push_alarms_later():
    monitor, rng = watching(), np.random.default_rng(5)
    attacked = rng.random(400) < 0.2
    p = p_values(normal(400, 6) + attacked[:, None] * PUSH, monitor)
    assert alarmed(p, monitor.levels, 0.01)
    assert np.median(p[100:][attacked[100:]]) < np.median(p[100:][~attacked[100:]])


def test_drift_within_the_slack_is_forgiven_and_without_it_would_not_be():
    drift = np.eye(1, WIDTH)[0] * DRIFT_SLACK
    rows = normal(3000, 7) + drift
    monitor = watching()
    assert not alarmed(p_values(rows, monitor), monitor.levels, 0.01)
    strict = replace(monitor, slack=0.0)
    assert alarmed(p_values(rows, strict), strict.levels, 0.01)


def series(count, length, seed):
    """Accounts that send series of near-duplicates: the same vector but for a little."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=(count, WIDTH)) * 4, length, axis=0)
    return vectors + 0.1 * rng.normal(size=vectors.shape), np.repeat(
        [f"{c:016x}" for c in rng.integers(2**63, size=count)], length
    )


def test_a_series_of_near_duplicates_counts_about_once():
    wide = watching((REFERENCE * 4).astype(np.float32))
    known = unknown = 0
    for seed in range(40):
        vectors, codes = series(20, 10, seed)
        known += alarmed(p_values(vectors, wide, codes), wide.levels, 0.01)
        unknown += alarmed(p_values(vectors, wide), wide.levels, 0.01)
    assert known == 0
    assert unknown > 10, "the series must be able to alarm, or nothing was shown"


def test_sending_each_image_first_without_the_push_hides_nothing():
    rows, codes = normal(60, 8), [f"{c:016x}" for c in np.random.default_rng(0).integers(2**63, size=60)]
    pairs = np.stack([rows, rows + PUSH], axis=1).reshape(-1, WIDTH)
    monitor = watching()
    assert alarmed(p_values(pairs, monitor, np.repeat(codes, 2)), monitor.levels, 0.01)


def fading(steps, images, spread=1):
    """Near-copies of each image, with the push faded in."""
    rows, codes = (
        normal(images, 8) * spread,
        [f"{c:016x}" for c in np.random.default_rng(0).integers(2**63, size=images)],
    )
    shares = np.linspace(0, 1, steps)[:, None]
    return (rows[:, None] + shares * PUSH).reshape(-1, WIDTH), np.repeat(codes, steps)


@pytest.mark.parametrize(("steps", "images"), [(120, 1), (30, 4), (6, 20)])
def test_a_push_faded_in_on_near_copies_is_noticed(steps, images):
    monitor = watching()
    vectors, codes = fading(steps, images)
    assert alarmed(p_values(vectors, monitor, codes), monitor.levels, 0.01)


def test_of_near_copies_only_the_change_is_learnt():
    monitor = watching((REFERENCE * 4).astype(np.float32))
    vectors, codes = fading(100, 1, spread=4)
    state, _ = monitor.judge(monitor.start(), sightings(vectors, codes))
    _, p = monitor.judge(state, sightings(normal(10, 1) + 3 * PUSH))
    assert (np.array(p) < 1).all()


def test_near_copies_are_known_while_few_other_images_came_between():
    rows = np.concatenate([normal(1, 0) + PUSH, normal(CHAINS, 1)])
    codes = [f"{c:016x}" for c in np.random.default_rng(0).integers(2**63, size=CHAINS + 1)]
    monitor = watching()
    for between, kept in ((CHAINS - 1, True), (CHAINS, False)):
        state, _ = monitor.judge(monitor.start(), sightings(rows[: between + 1], codes[: between + 1]))
        assert ([codes[0]] in [known for known, _ in state["chains"]]) is kept


def test_a_chain_is_known_by_its_latest_inputs_and_judged_against_its_first():
    monitor = watching(radius=1)
    codes = [f"{2**i - 1:016x}" for i in range(8)]  # each one bit from the last, and soon far from the first
    rows = np.repeat(normal(1, 0), 8, axis=0) + np.linspace(0, 1, 8)[:, None] * PUSH
    state, _ = monitor.judge(monitor.start(), sightings(rows, codes))
    [(known, first)] = state["chains"]
    assert known == codes[-CODES:]
    assert first == monitor.judge(monitor.start(), sightings(rows[:1], codes[:1]))[0]["chains"][0][1]


def test_queries_in_a_batch_are_judged_as_one_by_one():
    monitor, rows = watching(), sightings(normal(40, 9) + PUSH / 4, [f"{i % 7:016x}" for i in range(40)])
    together, p = monitor.judge(monitor.start(), rows)
    state, one_by_one = monitor.start(), []
    for row in rows:
        state, found = monitor.judge(json.loads(json.dumps(state)), [row])
        one_by_one += found
    assert one_by_one == p
    assert json.dumps(state) == json.dumps(together)


@pytest.mark.parametrize("width", [3, 256])
def test_state_is_small_json_whatever_the_history(width):
    rng = np.random.default_rng(0)
    monitor = watching(rng.normal(size=(100, width)).astype(np.float32))
    codes = [f"{c:016x}" for c in rng.integers(2**63, size=3000)]
    early, _ = monitor.judge(monitor.start(), sightings(rng.normal(size=(CHAINS, width)), codes[:CHAINS]))
    late, _ = monitor.judge(monitor.start(), sightings(rng.normal(size=(3000, width)), codes))
    assert json.loads(json.dumps(late, allow_nan=False)).keys() == late.keys()
    assert len(json.dumps(late)) < len(json.dumps(early)) + 200 < 4400


def test_a_new_calibration_starts_anew():
    monitor = watching()
    state, _ = monitor.judge(monitor.start(), sightings(normal(20, 0)))
    assert monitor.resume(state) == state
    assert SharedPerturbation(reference=REFERENCE, risk=0.001, calibration="d").resume(state)["n"] == 0
    assert monitor.resume(None) == monitor.start()
    assert monitor.resume({"calibration": "c", "n": 5, "mean": ""})["n"] == 0, "a state of another form"


def test_too_few_calibration_rows_make_it_idle_and_not_wrong():
    monitor = watching(REFERENCE[:5])
    assert (p_values(normal(200, 0) + PUSH, monitor) == 1).all()


def test_identical_and_zero_vectors_are_no_trap():
    assert (p_values(np.zeros((20, WIDTH))) == 1).all()
    assert np.isin(p_values(np.ones((20, WIDTH)) * 3), [*watching().levels, 1.0]).all()


GRID = np.stack(np.meshgrid(range(12), range(12), indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
"""Where the numbers of a vector lie on an image."""


def drawn_on(rows, size, at=1, wide=2):
    """`rows` of numbers at the places `GRID`, a square of which `size` is added to."""
    inside = ((at <= GRID) & (GRID - at < wide)).all(axis=1)
    return rows + size * inside


def on_images(places=GRID):
    rows = np.random.default_rng(1).normal(size=(500, len(GRID))).astype(np.float32)
    return replace(watching(rows, risk=0.01), places=places)


def test_what_is_drawn_in_one_place_is_forgiven_and_what_covers_the_image_is_not():
    rows = np.random.default_rng(2).normal(size=(200, len(GRID)))
    spread = np.random.default_rng(3).choice([-0.5, 0.5], len(GRID))
    seen, blind = on_images(), on_images(places=None)
    marked = drawn_on(rows, 4)
    assert not alarmed(p_values(marked, seen), seen.levels, 0.01)
    assert requests(p_values(marked, blind), blind.levels) < 20, "without places it is as any other shared change"
    for both in (seen, blind):
        assert requests(p_values(rows + spread, both), both.levels) < 20


def test_what_hides_behind_a_marking_is_noticed():
    rows = np.random.default_rng(2).normal(size=(200, len(GRID)))
    spread = np.random.default_rng(3).choice([-0.5, 0.5], len(GRID))
    monitor = on_images()
    assert requests(p_values(drawn_on(rows + spread, 4), monitor), monitor.levels) < 20


def test_dots_all_over_an_image_hide_nothing():
    rows = np.random.default_rng(2).normal(size=(200, len(GRID)))
    spread = np.random.default_rng(3).choice([-0.4, 0.4], len(GRID))
    dots = 6 * (GRID % 3 == 1).all(axis=1) * (GRID[:, 0] < 10)
    monitor = on_images()
    left = without_markings(np.tile(dots + spread, (2, 1)), GRID)
    assert 0.2 < (left == 0).mean() <= 0.3
    assert requests(p_values(rows + dots + spread, monitor), monitor.levels) < 40


@pytest.mark.parametrize("seed", range(4))
def test_a_marking_turns_no_vector_and_so_hides_no_sign(seed):
    rows = np.random.default_rng(seed).normal(size=(200, len(GRID)))
    either = np.random.default_rng(40 + seed).choice([-0.4, 0.4], (200, 1)) * np.sign(rows[0])
    monitor = on_images()
    assert requests(p_values(drawn_on(rows + either, 4), monitor), monitor.levels) < 100


@given(st.integers(0, 999), st.floats(0, 50))
def test_only_a_marking_and_what_lies_around_it_is_left_out(seed, size):
    means = drawn_on(np.random.default_rng(seed).normal(size=(2, len(GRID))), size)
    left = without_markings(means, GRID)
    assert np.all((left == means) | (left == 0))
    if size > 20:  # places 1 and 2, and one more on every side
        assert (left[:, (GRID < 4).all(axis=1)] == 0).all()
    assert (left == 0).mean() < 0.3
