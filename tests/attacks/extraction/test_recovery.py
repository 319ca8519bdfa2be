"""What a coarse release leaves says more to a thief who knows how it is made coarse."""

from __future__ import annotations

import numpy as np
import pytest
from support.release import ReleaseLevels

from medward.attacks.extraction import Recovery
from medward.guard.errors import MedwardError
from medward.guard.release.quantise import Prototypes
from medward.guard.release.topk import spread_rest
from medward.guard.types import Level


def confident(n, classes, seed):
    """Answers as a trained classifier gives them: most are sure, and each class has its own runners-up."""
    rng = np.random.default_rng(seed)
    own = rng.integers(classes, size=n)
    logits = rng.normal(0, 0.3, (n, classes))
    logits[np.arange(n), own] += rng.uniform(0, 6, n)
    logits[np.arange(n), (own + 1) % classes] += rng.uniform(0, 3, n)
    logits[np.arange(n), (own + 3) % classes] += rng.uniform(0, 2, n)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def released(clean, recovery):
    book = Prototypes.fit(clean, 3) if recovery.level is Level.CODES else None
    release = ReleaseLevels(
        output="probabilities",
        decimals=recovery.decimals,
        top=recovery.top,
        temperature=recovery.temperature,
        codebook=book,
    )
    return release.release(clean, recovery.level)


def error(guess, clean):
    return float(np.abs(guess - clean).sum(axis=1).mean())


@pytest.mark.parametrize("method", ["bayes", "denoise"])
@pytest.mark.parametrize(
    "settings",
    [
        {"level": Level.ROUNDED, "decimals": 1},
        {"level": Level.TOP, "decimals": 2, "top": 1},
        {"level": Level.TOP, "decimals": 2, "top": 2},
        {"level": Level.ROUNDED, "decimals": 2, "temperature": 3.0},
    ],
    ids=lambda settings: "-".join(f"{key}{value}" for key, value in settings.items()),
)
def test_recovered_answers_are_nearer_to_the_models_own_than_the_released_ones(settings, method):
    recovery = Recovery(method=method, **settings)
    clean, shadow = confident(600, 7, 0), confident(600, 7, 1)
    seen = released(clean, recovery)
    raw = spread_rest(seen)
    found = recovery.recover(seen, raw, shadow, seed=0)
    assert error(found, clean) < 0.95 * error(raw, clean)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found.argmax(axis=1), clean.argmax(axis=1))


@pytest.mark.parametrize("method", ["bayes", "denoise"])
def test_a_shadow_that_has_nothing_to_do_with_the_model_helps_less(method):
    recovery = Recovery(method=method, level=Level.TOP, top=1)
    clean = confident(400, 7, 0)
    seen = released(clean, recovery)
    shadows = confident(400, 7, 1), np.roll(confident(400, 7, 1)[:, ::-1], 3, axis=1)
    good, bad = (error(recovery.recover(seen, spread_rest(seen), shadow, seed=0), clean) for shadow in shadows)
    assert good < bad


@pytest.mark.parametrize("method", ["bayes", "denoise"])
def test_codes_which_are_means_already_hold_nothing_more_to_recover(method):
    recovery = Recovery(method=method, level=Level.CODES)
    clean, shadow = confident(600, 7, 0), confident(600, 7, 1)
    seen = released(clean, recovery)
    found = recovery.recover(seen, seen, shadow, seed=0)
    assert error(found, clean) == pytest.approx(error(seen, clean), rel=0.1)


def test_labels_and_withheld_rows_stay_as_they_are():
    recovery = Recovery(level=Level.ROUNDED, decimals=1)
    shadow = confident(50, 3, 0)
    seen = released(confident(4, 3, 1), recovery)
    seen[:2] = np.nan
    targets = np.array([[0, 1, 0], [np.nan] * 3, *seen[2:]])
    found = recovery.recover(seen, targets, shadow, seed=0)
    np.testing.assert_array_equal(found[:2], targets[:2])
    assert not np.array_equal(found[2:], targets[2:])
    np.testing.assert_array_equal(recovery.recover(np.full((4, 3), np.nan), targets, shadow, seed=0), targets)


def test_one_shadow_row_is_enough_not_to_fail():
    recovery = Recovery(level=Level.TOP, top=1)
    seen = released(confident(5, 3, 1), recovery)
    for method in ("bayes", "denoise"):
        found = Recovery(method=method, level=Level.TOP, top=1).recover(
            seen, spread_rest(seen), confident(1, 3, 0), seed=0
        )
        assert np.isfinite(found).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(MedwardError, match="one of bayes, denoise"):
        Recovery(method="magic")
    with pytest.raises(MedwardError, match="a label holds no scores"):
        Recovery(level=Level.LABEL)
