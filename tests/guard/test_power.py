"""The power statement: what a calibration can notice, measured on its own rows, and what it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medward import protect
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.power import (
    QUERIES,
    STOLEN_SHARES,
    dilution_limit,
    invented_inputs,
    measure_power,
    power_cautions,
    power_words,
    within_range,
)
from medward.guard.models import wrap
from medward.guard.policy import Policy
from medward.guard.profile import Profile
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


def noticed(power, kind, share):
    return next(each.queries for each in power.noticed if (each.kind, each.share) == (kind, share))


def test_a_table_of_dependent_columns_notices_invented_rows_soon():
    power = measure_power(*calibrated(dependent=True)[:2], POLICY, table(300, 0, dependent=True))
    for kind in ("rows drawn from normals", SHUFFLED):
        assert noticed(power, kind, 1.0) <= 10
        assert noticed(power, kind, 1.0) <= (noticed(power, kind, 0.1) or QUERIES)
    assert all(SHUFFLED not in each for each in power_cautions(power))
    assert any(f"{SHUFFLED}: noticed after" in each for each in power_words(power))


def test_of_independent_columns_it_says_that_nothing_tells_shuffled_rows():
    """The negative control: shuffled rows have the law of benign ones, and no statement may claim them."""
    model, profile, rows = calibrated(dependent=False)
    power = measure_power(model, profile, POLICY, rows)
    assert noticed(power, SHUFFLED, 1.0) is None
    assert any(SHUFFLED in each and "[budget]" in each for each in power_cautions(power))


def test_more_rows_notice_a_diluted_thief_sooner():
    found = []
    for n in (150, 1500):
        model, profile, rows = calibrated(n, dependent=True)
        power = measure_power(model, profile, POLICY, rows)
        found.append((power.smallest_tail, noticed(power, SHUFFLED, 0.1) or QUERIES + 1))
    assert found[1] < found[0]


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
