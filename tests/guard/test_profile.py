from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.sights import refitted

from medward.guard.errors import MedwardError
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.profile import Profile, fitted_count, forward_batches, idle_screen, screens_for, split_rows
from medward.guard.screens.mahalanobis import Mahalanobis
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

RNG = np.random.default_rng(0)


def benign(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


def judged(profile, model, rows):
    return profile.screening.p_values(profile.strangeness(rows, forward_batches(model, rows)))


def test_benign_rows_are_rarely_strange_and_odd_ones_always(linear_model, linear_profile):
    fresh, odd = benign(4000, 5), np.full((20, 3), 30, np.float32)
    p = judged(linear_profile, linear_model, fresh)
    known = len(linear_profile.reference)
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * (level / known) ** 0.5
    assert (judged(linear_profile, linear_model, odd) == 1 / (known + 1)).all()


def test_p_values_are_valid_on_average_over_calibration_draws_ties_or_not():
    rng, hits = np.random.default_rng(0), []
    for draw in range(4000):
        scores = rng.normal(size=20) if draw % 2 else rng.integers(3, size=20).astype(float)
        new = rng.normal(size=1) if draw % 2 else rng.integers(3, size=1).astype(float)
        hits.append(ScreenReference(screen=None, scores=np.sort(scores)).p_values(new)[0] <= np.array([0.05, 0.1, 0.5]))
    for level, own in zip((0.05, 0.1, 0.5), (np.mean(hits[1::2], axis=0), np.mean(hits[::2], axis=0)), strict=False):
        assert own[[0.05, 0.1, 0.5].index(level)] <= level + 3 * (level / 2000) ** 0.5
    assert ScreenReference(screen=None, scores=np.zeros(9)).p_values(np.array([np.nan, 1.0, 0.0])).tolist() == [
        0.1, 0.1, 1.0
    ]  # fmt: skip


def test_a_benign_input_is_refused_at_the_stated_rate_on_average_over_calibration_draws(linear_model):
    hits = []
    for seed in range(150):
        profile = Profile.fit(linear_model, benign(150, seed), risk=0.01, seed=seed)
        fresh = benign(200, 10_000 + seed)
        hits.append(
            (profile.strangeness(fresh, forward_batches(linear_model, fresh)) > profile.screen_cut(0.05)).mean()
        )
    assert np.mean(hits) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("n", "rate", "k"), [(99, 0.29, 29), (99, 0.01, 1), (98, 0.01, 0), (199, 0.29, 58)])
def test_the_screens_cut_is_the_conformal_order_statistic(linear_profile, n, rate, k):
    screen = dataclasses.replace(linear_profile.screening, scores=np.arange(float(n)), strata=None)
    profile = refitted(linear_profile, screen=screen)
    assert profile.screen_cut(rate) == (n - k if k else np.inf)


def test_screens_and_reference_share_no_row_and_no_patient():
    patients = np.random.default_rng(0).integers(0, 60, 400)
    fitted, reference = split_rows(patients, seed=3)
    assert not set(patients[fitted]) & set(patients[reference])
    assert len(set(patients[reference])) == len(reference), "rows of one patient are not independent"
    alone = split_rows(np.arange(400), seed=3)
    assert sorted(np.concatenate(alone)) == list(range(400))


def test_what_the_screens_are_fitted_on_is_not_in_the_reference(linear_model, monkeypatch):
    seen = []
    plain = Mahalanobis.fit.__func__
    monkeypatch.setattr(
        Mahalanobis,
        "fit",
        classmethod(lambda cls, name, x, outputs, marked: seen.append(x) or plain(cls, name, x, outputs)),
    )
    rows = benign(300, 0)
    profile = Profile.fit(linear_model, rows, risk=0.01)
    fitted = {row.tobytes() for row in np.concatenate(seen)}
    left = np.array([row for row in rows if row.tobytes() not in fitted])
    assert len(left) == len(profile.reference) > 150
    own = np.sort(profile.strangeness(left, forward_batches(linear_model, left)))
    assert np.allclose(own, profile.reference)


def test_an_input_is_as_strange_alone_as_in_a_batch(linear_model, linear_profile):
    rows = benign(300, 4)
    together = linear_profile.strangeness(rows, forward_batches(linear_model, rows))
    alone = [linear_profile.strangeness(row[None], forward_batches(linear_model, row[None]))[0] for row in rows]
    assert np.mean(together == alone) > 0.99


def test_round_trip_through_arrays(linear_model, linear_profile, tmp_path):
    np.savez(tmp_path / "p.npz", allow_pickle=False, **linear_profile.to_arrays())
    again = Profile.from_arrays(np.load(tmp_path / "p.npz", allow_pickle=False))
    rows = benign(50, 9)
    outputs = forward_batches(linear_model, rows)
    assert (again.strangeness(rows, outputs) == linear_profile.strangeness(rows, outputs)).all()
    assert again.screening.fingerprint == linear_profile.screening.fingerprint


def test_a_missing_array_is_named(linear_profile):
    arrays = linear_profile.to_arrays()
    del arrays["rows.means"]
    with pytest.raises(MedwardError, match=r"rows\.means"):
        Profile.from_arrays(arrays)


def test_too_few_rows_are_refused(linear_model):
    with pytest.raises(MedwardError, match="give at least"):
        Profile.fit(linear_model, benign(20, 0), risk=0.001)
    with pytest.raises(MedwardError, match="give at least"):
        Profile.fit(linear_model, benign(50, 0), risk=0.001)


def test_the_sketch_is_a_secret_unless_one_is_given(linear_model):
    rows = np.random.default_rng(0).normal(size=(100, 300)).astype(np.float32)
    model = dataclasses.replace(linear_model, weights=np.ones((300, 3), np.float32))
    orders = [
        Profile.fit(model, rows, risk=0.01, secret=s).fitted["residuals"].order.tolist() for s in (None, None, 7, 7)
    ]
    assert orders[0] != orders[1]
    assert orders[2] == orders[3]


def test_embeddings_follow_what_the_model_shows():
    spec = {"name": "m", "task": Classification(classes=("a", "b"), output="logits")}
    assert screens_for(ModelSpec(modality="tabular", shape=(3,), **spec)) == ("rows", "joint")
    assert screens_for(ModelSpec(modality="image", shape=(1, 8, 8), features=4, **spec)) == (
        "features",
        "layout",
        "texture",
    )


def test_forward_batches_without_changing_anything(linear_model):
    rows = benign(17, 0)
    assert isinstance(forward_batches(linear_model, rows, batch=4), Outputs)
    assert (forward_batches(linear_model, rows, batch=4).scores == linear_model.predict(rows).scores).all()


@pytest.mark.parametrize("rows", [100, 110, 150])
def test_an_idle_screen_says_what_was_given_and_the_least_that_would_do(linear_model, rows):
    profile = Profile.fit(linear_model, benign(rows, 0), risk=0.001)
    left = rows - int(0.4 * rows)
    assert idle_screen(profile, 0.01) == (
        f"the screen is idle: {rows} calibration rows leave {left} for comparison, and refusing a share of 0.01 "
        "needs 99; give at least 164 rows"
    )
    enough, short = (Profile.fit(linear_model, benign(n, 0), risk=0.001) for n in (164, 163))
    assert idle_screen(enough, 0.01) == ""
    assert idle_screen(short, 0.01)
    assert idle_screen(profile, 0.05) == ""


def test_where_patients_are_known_an_idle_screen_counts_those(linear_model):
    def fitted(patients):
        return Profile.fit(linear_model, benign(4 * patients, 0), risk=0.001, patients=np.arange(4 * patients) // 4)

    said = idle_screen(fitted(140), 0.01)
    assert said.startswith("the screen is idle: 140 calibration patients leave 84 for comparison")
    assert said.endswith("give at least 164 patients")
    assert idle_screen(fitted(163), 0.01)
    assert idle_screen(fitted(164), 0.01) == ""


def test_many_rows_of_few_patients_leave_more_patients_for_comparison():
    assert fitted_count(100, 100) == 40
    assert fitted_count(100, 5000) == 10


def test_strata_survive_the_round_trip_and_a_first_release_profile_is_refused_in_a_sentence(linear_model):
    rows = benign(600, 0)
    rows[:540, 0] += 4
    profile = Profile.fit(linear_model, rows, risk=0.001)
    assert profile.strata is not None
    arrays = {key: np.asarray(value) for key, value in profile.to_arrays().items()}
    again = Profile.from_arrays(arrays)
    assert (again.strata.members == profile.strata.members).all()
    assert again.screening.fingerprint == profile.screening.fingerprint
    assert again.fitted["probing"].reference.thresholds == profile.fitted["probing"].reference.thresholds
    old = {key: value for key, value in arrays.items() if not key.endswith("strata") and "stripes" not in key}
    with pytest.raises(MedwardError, match="is missing; protect the model again"):
        Profile.from_arrays(old)
