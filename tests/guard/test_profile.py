from __future__ import annotations

import numpy as np
import pytest

from guard.errors import MedwardError
from guard.profile import Profile, embeddings_for, forward
from guard.types import ModelSpec, Outputs

RNG = np.random.default_rng(0)


def benign(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


def test_benign_rows_are_rarely_strange_and_odd_ones_always(linear_model, linear_profile):
    fresh, odd = benign(4000, 5), np.full((20, 3), 30, np.float32)
    p = linear_profile.p_values(fresh, forward(linear_model, fresh))
    for level in linear_profile.thresholds.levels:
        assert (p <= level).mean() <= level
    assert (linear_profile.p_values(odd, forward(linear_model, odd)) == linear_profile.thresholds.levels[0]).all()


def test_screen_p_values_are_valid_on_average_over_calibration_draws(linear_model):
    hits = []
    for seed in range(150):
        profile = Profile.fit(linear_model, benign(150, seed), risk=0.01, seed=seed)
        fresh = benign(200, 10_000 + seed)
        hits.append((profile.screen_p(profile.score(fresh, forward(linear_model, fresh))) <= 0.05).mean())
    assert np.mean(hits) == pytest.approx(0.05, abs=0.01)


def test_screen_cut_and_screen_p_agree(linear_model, linear_profile):
    rows = benign(500, 3) * 2
    scores = linear_profile.score(rows, forward(linear_model, rows))
    for rate in (0.005, 0.01, 0.1):
        assert ((linear_profile.screen_p(scores) <= rate) == (scores > linear_profile.screen_cut(rate))).all()
    assert linear_profile.screen_cut(1e-6) == np.inf


def test_round_trip_through_arrays(linear_model, linear_profile, tmp_path):
    np.savez(tmp_path / "p.npz", allow_pickle=False, **linear_profile.to_arrays())
    again = Profile.from_arrays(np.load(tmp_path / "p.npz", allow_pickle=False))
    rows = benign(50, 9)
    assert (
        again.p_values(rows, forward(linear_model, rows)) == linear_profile.p_values(rows, forward(linear_model, rows))
    ).all()
    assert again.thresholds == linear_profile.thresholds


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


def test_embeddings_follow_what_the_model_shows():
    spec = {"name": "m", "classes": ("a", "b"), "output": "logits"}
    assert embeddings_for(ModelSpec(modality="tabular", shape=(3,), **spec)) == ("rows",)
    assert embeddings_for(ModelSpec(modality="image", shape=(1, 8, 8), features=4, **spec)) == (
        "features",
        "thumbnail",
        "texture",
    )


def test_forward_batches_without_changing_anything(linear_model):
    rows = benign(17, 0)
    assert isinstance(forward(linear_model, rows, batch=4), Outputs)
    assert (forward(linear_model, rows, batch=4).scores == linear_model.predict(rows).scores).all()
