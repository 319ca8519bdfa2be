"""The power statement: what a calibration can notice, measured on its own rows, and what it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.sights import sight_of

from medward import protect
from medward.attacks.benchmarks.datasets.natural import tabular_pool
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.invented_inputs import FAR_SCANNER, invented_inputs, within_range
from medward.guard.bundle.more_rows import ALPHA, PATIENCE_QUERIES, WANTED_QUERIES, reference_needed
from medward.guard.bundle.power import STOLEN_SHARES, NeededRows, Noticed, Power, dilution_limit, measure_power
from medward.guard.bundle.power_words import power_cautions, power_words
from medward.guard.models import wrap
from medward.guard.policy import Policy
from medward.guard.profile import Profile, calibration_size, fitted_count, forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.statistics.rank_accounts import RankAccounts
from medward.guard.statistics.rank_eprocess import RankEProcess
from medward.guard.tasks.classification import Classification

POLICY = Policy(on_error="withhold")
SHUFFLED = "rows of shuffled columns"


def spec(columns, **settings):
    task = Classification(classes=("a", "b"), output="probabilities")
    return ModelSpec(name="risk", modality="tabular", shape=(columns,), task=task, **settings)


def answers(rows):
    likely = 1 / (1 + np.exp(-np.asarray(rows, np.float64).reshape(len(rows), -1)[:, 0]))
    return np.stack([1 - likely, likely], axis=1)


def table(n, seed, *, dependent):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, 6))
    return (rng.normal(size=(n, 1)) + 0.2 * own if dependent else own).astype(np.float32)


def calibrated(n=300, *, dependent):
    rows = table(n, 0, dependent=dependent)
    model = wrap(answers, spec=spec(6), sample=rows[:32])
    return model, Profile.fit(model, rows, risk=POLICY.monitor.calibration_risk, secret=1), rows


def noticed(power, kind, share, cover="all"):
    found = (kind, share, cover)
    return next(each.queries for each in power.noticed if (each.kind, each.share, each.cover) == found)


def test_a_table_of_dependent_columns_notices_invented_rows_soon():
    power = measure_power(*calibrated(dependent=True)[:2], POLICY, table(300, 0, dependent=True))
    for kind in ("rows drawn from normals", SHUFFLED):
        assert noticed(power, kind, 1.0) <= 10
        assert noticed(power, kind, 1.0) <= (noticed(power, kind, 0.1) or PATIENCE_QUERIES)
    assert all(SHUFFLED not in each for each in power_cautions(power))
    assert any(f"{SHUFFLED}: noticed after" in each for each in power_words(power))


def test_of_independent_columns_it_says_that_nothing_tells_shuffled_rows():
    """The negative control: shuffled rows have the law of benign ones, and no statement may claim them."""
    model, profile, rows = calibrated(dependent=False)
    power = measure_power(model, profile, POLICY, rows)
    assert noticed(power, SHUFFLED, 1.0) is None
    assert next(each for each in power.needed if each.kind == SHUFFLED).calibration is None
    said = next(each for each in power_cautions(power) if SHUFFLED in each)
    assert said.startswith(f"A thief who sends {SHUFFLED} and nothing else is not noticed within 600 queries. ")
    assert "up to 500 rows also train the screens (120 now), which may. Otherwise set [budget]" in said


def test_of_independent_columns_no_number_of_rows_helps_once_the_screens_have_all_they_use():
    power = measure_power(*calibrated(1400, dependent=False)[:2], POLICY, table(1400, 0, dependent=False))
    said = next(each for each in power_cautions(power) if SHUFFLED in each)
    assert said.endswith("not noticed within 600 queries. More calibration rows do not help: set [budget]")


def test_more_rows_notice_a_diluted_thief_sooner():
    found = []
    for n in (150, 1500):
        model, profile, rows = calibrated(n, dependent=True)
        power = measure_power(model, profile, POLICY, rows)
        found.append((power.smallest_tail, noticed(power, SHUFFLED, 0.1) or PATIENCE_QUERIES + 1))
    assert found[1] < found[0]


@pytest.fixture(scope="module")
def clinic():
    """A model of WDBC, its training rows, and rows that it never saw."""
    bunch = load_breast_cancer()
    rows, labels = bunch.data.astype(np.float32), bunch.target
    order = np.random.default_rng(0).permutation(len(rows))
    train, rest = order[:100], order[100:]
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[train], labels[train])
    task = Classification(classes=("malignant", "benign"), output="probabilities")
    described = ModelSpec(name="wdbc", modality="tabular", shape=(30,), task=task)
    return wrap(fitted, spec=described, sample=rows[rest[:32]]), rows[train], rows[rest]


def calibrated_clinic(clinic, known, draw):
    """Calibrated on `known` rows of a draw of them; and the rows that it never saw."""
    model, _, rest = clinic
    order = np.random.default_rng(draw).permutation(len(rest))
    profile = Profile.fit(model, rest[order[:known]], risk=POLICY.monitor.calibration_risk, seed=draw, secret=draw)
    return profile, rest[order[known:]]


def pool_thief_noticed(clinic, known, draw, *, accounts=15, patience=2 * WANTED_QUERIES):
    """At which queries accounts that hide the pool thief as a tenth are noticed, by the deployed monitors."""
    model, train, _ = clinic
    profile, ordinary = calibrated_clinic(clinic, known, draw)
    rows = np.concatenate([ordinary, tabular_pool(train, 400, seed=1)])
    sight = sight_of(POLICY, profile, rows, forward_batches(model, rows))
    monitors, rng, firsts = AccountMonitors.of(POLICY, profile, 1), np.random.default_rng(2), []
    for _ in range(accounts):
        stolen = rng.random(patience) < STOLEN_SHARES[-1]
        pool = len(ordinary) + rng.permutation(400)[:patience]
        asked = np.where(stolen, pool, rng.integers(len(ordinary), size=patience))
        state, first = None, math.inf
        for query, row in enumerate(asked, 1):
            seen = {part: column[row : row + 1] for part, column in sight.items()}
            state, (_, verdict, _) = monitors.watch([str(query)], seen, state)
            if verdict.evidence["peak"] >= -math.log(ALPHA):
                first = query
                break
        firsts.append(first)
    return firsts


def test_as_many_rows_as_the_statement_asks_for_notice_the_pool_thief_as_soon_as_it_says(clinic):
    """On WDBC, through the deployed monitors and on rows that calibration never saw."""
    few, draws = 120, range(3)
    profile, _ = calibrated_clinic(clinic, few, 0)
    power = measure_power(clinic[0], profile, POLICY, clinic[2])
    asked_for = next(each for each in power.needed if each.kind == "rows drawn from normals")
    assert asked_for.calibration > few
    assert len(calibrated_clinic(clinic, asked_for.calibration, 0)[0].reference) >= asked_for.reference
    then = [first for draw in draws for first in pool_thief_noticed(clinic, asked_for.calibration, draw)]
    assert np.median(then) <= 1.5 * WANTED_QUERIES
    assert np.median(pool_thief_noticed(clinic, few, 0)) > 1.5 * WANTED_QUERIES
    assert any(f"about {asked_for.calibration} calibration rows" in each for each in power_cautions(power))


def needed_where(n, above, strata=None):
    """What is needed of inputs of which a share is above the largest of `n` reference rows, the others nowhere."""
    part = RankEProcess(name="strange", sizes=(n,) if strata is None else strata, risk=7e-4)
    outside = np.arange(100) < 100 * above
    cells = np.where(outside, 0, part.cells.depth * (part.cells.base + 1))
    return reference_needed(part, 0.7, (cells, np.zeros(100, np.int64)), 0.1, 0)


@settings(max_examples=8, deadline=None)
@given(st.integers(50, 150))
def test_what_is_needed_of_inputs_beyond_all_rows_hardly_depends_on_how_many_there_are(n):
    assert 130 <= needed_where(n, 1.0) <= 200


def test_where_there_are_enough_no_more_are_needed():
    assert needed_where(300, 1.0) == 300


def test_what_hides_better_needs_more_rows_and_what_looks_ordinary_is_helped_by_none():
    assert needed_where(120, 1.0) < needed_where(120, 0.7)
    assert needed_where(120, 0.0) is None
    assert needed_where(120, 1.0) < needed_where(0, 1.0, strata=(100, 100))


def test_what_is_as_ordinary_as_can_be_is_not_promised_by_chance():
    """Ranks of 120 exchangeable inputs differ from what is expected; taken at their word, many rows would tell them."""
    part = RankEProcess(name="strange", sizes=(500,), risk=7e-4)
    tails, depth = np.array(part.ranks[0]) / 501, part.cells.depth

    def needed(seed, times, errors):
        chances = np.random.default_rng(seed).random(120)
        place = (chances[:, None] >= np.minimum(times * tails, 1)).sum(axis=1)
        cells = place * (part.cells.base + 1)
        assert cells.max() <= depth * (part.cells.base + 1)
        placed = cells, np.zeros(120, np.int64)
        return reference_needed(part, 0.7, placed, 1.0, 0, within=PATIENCE_QUERIES, errors=errors)

    assert [needed(seed, 1, 3.0) for seed in range(5)] == [None] * 5
    assert any(needed(seed, 1, 0.0) for seed in range(5))
    assert needed(0, 10, 3.0) is not None


@pytest.mark.parametrize(("rows", "patients"), [(200, 0), (900, 300), (3000, 0)])
def test_calibration_size_is_the_least_that_leaves_the_reference_rows(rows, patients):
    given_rows = Profile(fitted={}, rows=rows, patients=patients)
    wanted = 700
    least, each = calibration_size(given_rows, wanted), rows / (patients or rows)

    def left(known):
        return known - fitted_count(known, round(known * each))

    assert left(least) >= wanted
    assert least == (patients or rows) or left(least - 1) < wanted


def test_patients_are_counted_where_they_are_known():
    model, _, rows = calibrated(400, dependent=True)
    profile = Profile.fit(model, rows, risk=POLICY.monitor.calibration_risk, patients=np.arange(400) // 2, secret=1)
    power = measure_power(model, profile, POLICY, rows)
    assert any("calibration patients" in each for each in power_cautions(power))


def test_where_every_class_is_rare_the_tail_is_that_of_the_largest():
    """The negative control: of a stratum without rows nothing is bounded, and nothing would be said of the others."""
    rows = table(400, 0, dependent=True)

    def fifths(batch):
        return np.eye(5)[np.clip(np.asarray(batch)[:, 0] * 0.8 + 2.5, 0, 4.99).astype(int)] * 0.9 + 0.02

    task = Classification(classes=tuple("abcde"), output="probabilities")
    model = wrap(fifths, spec=ModelSpec(name="x", modality="tabular", shape=(6,), task=task), sample=rows[:32])
    profile = Profile.fit(model, rows, risk=POLICY.monitor.calibration_risk, secret=1)
    power = measure_power(model, profile, POLICY, rows)
    assert power.smallest_tail < 0.2


def test_a_kind_that_no_number_of_rows_helps_is_told_the_budget(clinic):
    model, _, rest = clinic
    profile = Profile.fit(model, rest[:120], risk=POLICY.monitor.calibration_risk, secret=1)
    power = measure_power(model, profile, POLICY, rest[:120])
    hopeless = NeededRows(kind=power.needed[0].kind, share=0.1, reference=None, calibration=None)
    said = power_cautions(power.model_copy(update={"needed": (hopeless,)}))[-1]
    assert said.startswith("A thief who hides ")
    assert "do not help" in said
    assert said.endswith("set [budget]")
    scanner = hopeless.model_copy(update={"kind": FAR_SCANNER})
    missed = (
        *power.noticed,
        Noticed(kind=FAR_SCANNER, share=1.0, queries=9),
        Noticed(kind=FAR_SCANNER, share=0.1, queries=None),
    )
    said = power_cautions(power.model_copy(update={"needed": (scanner,), "noticed": missed}))[-1]
    assert said.startswith(
        "A scanner far from any calibrated (half the contrast, brighter), as a tenth of all queries, is"
    )
    assert "thief" not in said
    assert "budget" not in said, "which limits no mistake"
    assert Power.model_validate_json(power.model_dump_json()) == power


def test_the_statement_is_kept_on_the_card_and_said_of_a_bundle(tmp_path):
    rows = table(300, 0, dependent=False)
    protect(answers, rows, POLICY, tmp_path / "b", task="classification", classes=("a", "b"), output="probabilities",
            modality="tabular", allow_code=True)  # fmt: skip
    loaded = load_bundle(tmp_path / "b", allow_code=True)
    assert loaded.card.power is not None
    assert {each.share for each in loaded.card.power.noticed} == set(STOLEN_SHARES)
    assert loaded.cautions == power_cautions(loaded.card.power)
    assert loaded.cautions
    assert set(loaded.cautions) <= set(loaded.guard(ephemeral=True).notes)


def test_a_bundle_of_before_says_that_nothing_was_measured():
    assert "protect the model again" in power_cautions(None)[0]


@pytest.mark.parametrize(("n", "queries"), [(120, 417), (500, 55), (1500, 30)])
def test_the_limit_is_that_of_the_notes(n, queries):
    """KL limit of `field-trial.md` section 5, at alpha = delta = 1e-3 and a tenth."""
    assert dilution_limit(math.log(1000) / n, 0.1) == pytest.approx(queries, rel=0.03)
    assert dilution_limit(0.2, 0.1) == math.inf


def test_invented_images_keep_shape_and_range():
    images = np.random.default_rng(0).uniform(0.2, 0.8, size=(20, 1, 8, 8)).astype(np.float32)
    given = ModelSpec(name="x", modality="image", shape=(1, 8, 8), low=0, high=1, task=spec(1).task)
    for make in invented_inputs(given).values():
        made = within_range(make(images, np.random.default_rng(1)), given)
        assert made.shape == images.shape
        assert 0 <= made.min() <= made.max() <= 1
        assert not np.array_equal(made, images)


@pytest.mark.parametrize("contamination", [0.0, 0.02])
def test_many_accounts_at_once_come_to_what_one_by_one_do(contamination):
    part = RankEProcess(name="strange", sizes=(60, 9), risk=1e-3, contamination=contamination)
    rng = np.random.default_rng(0)
    depth, base = part.cells.depth, part.cells.base
    won = rng.integers(0, depth + 1, size=(3, 80))
    cells = np.minimum(won, rng.integers(0, depth + 1, size=(3, 80))) * base + won
    cells[:, ::7] = part.cells.repeat
    strata = rng.integers(0, 2, size=(3, 80))
    accounts = RankAccounts(part, 3)
    together = [accounts.step(cells[:, n], strata[:, n]) for n in range(80)]
    for account in range(3):
        state = part.start()
        for n in range(80):
            state = part.step(state, n + 1, float(cells[account, n]), int(strata[account, n]))
            assert math.log(together[n][account]) == pytest.approx(part.log_e(state), rel=1e-4, abs=1e-4)


def rare_classes(rows):
    """A third class is rare: rows whose first column is large."""
    first = np.asarray(rows, np.float64).reshape(len(rows), -1)[:, 0]
    scores = np.stack([first, -first, 8 * (first - 1.6)], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def test_behind_a_rare_class_a_tenth_is_noticed_later_and_the_bundle_says_so():
    task = Classification(classes=("a", "b", "c"), output="probabilities")
    three = ModelSpec(name="risk", modality="tabular", shape=(6,), task=task)
    rows = table(900, 0, dependent=True)
    model = wrap(rare_classes, spec=three, sample=rows[:32])
    profile = Profile.fit(model, rows, risk=POLICY.monitor.calibration_risk, secret=1)
    assert profile.strata is not None
    power = measure_power(model, profile, POLICY, rows)
    behind = noticed(power, SHUFFLED, 0.1, "one class")
    assert (behind or math.inf) > 2 * noticed(power, SHUFFLED, 0.1)
    said = next(each for each in power_words(power) if each.startswith(SHUFFLED))
    assert ", and at worst, the others being of one class, " in said
    late = [each for each in power_cautions(power) if "of one class alone" in each]
    assert bool(late) == (behind is None)
    assert Power.model_validate_json(power.model_dump_json()) == power


def test_without_rare_classes_nothing_is_said_of_them():
    model, profile, rows = calibrated(dependent=True)
    assert profile.strata is None
    power = measure_power(model, profile, POLICY, rows)
    assert {each.cover for each in power.noticed} == {"all"}
    assert not any("of one class" in each for each in (*power_words(power), *power_cautions(power)))
