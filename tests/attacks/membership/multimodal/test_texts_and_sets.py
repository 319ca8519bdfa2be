"""Overlap of texts, sets of answers at several temperatures, features of pairs: values by hand, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medward.attacks.membership.multimodal.augmentations import augmented_images
from medward.attacks.membership.multimodal.augmented_similarity import augmented_drop_scores, augmented_mean_scores
from medward.attacks.membership.multimodal.caption_overlap import caption_bleu, caption_longest, caption_rouge
from medward.attacks.membership.multimodal.cosine_similarity import cosine_similarity_scores
from medward.attacks.membership.multimodal.temperature_sets import (
    divide_sets,
    image_only_score,
    reference_set_score,
    shadow_set_scores,
    target_only_score,
)
from medward.attacks.membership.multimodal.weak_supervision import weakly_supervised_scores
from medward.guard.errors import MedwardError

TRUTH = "no acute cardiopulmonary process is seen"


def test_overlap_by_hand():
    assert caption_rouge("no acute process", TRUTH) == pytest.approx(3 / 6)
    assert caption_rouge("no acute process", TRUTH, n=2) == pytest.approx(1 / 5)
    assert caption_longest("no acute process", TRUTH) == pytest.approx(2 * 3 / 9)
    assert caption_longest("seen is process", TRUTH) == pytest.approx(2 * 1 / 9)
    # 3 of 3 words, then (1 + 1) / (2 + 1) and (0 + 1) / (1 + 1) and 1 / 1 of longer runs; half as short: e^(1 - 2)
    assert caption_bleu("no acute process", TRUTH) == pytest.approx((1 * 2 / 3 * 1 / 2) ** 0.25 * np.exp(-1))


@pytest.mark.parametrize("metric", [caption_bleu, caption_rouge, caption_longest])
def test_overlap_is_all_for_the_same_text_and_none_for_another(metric):
    assert metric(TRUTH.upper() + ".", TRUTH) == pytest.approx(1)
    assert metric("fracture of left rib", TRUTH) == 0
    assert metric("", TRUTH) == metric(TRUTH, "") == 0


def members(rng, m, *, leaks=True):
    """Similarities ``(m, 3)`` of cold, warm and hot answers with the truth."""
    return np.column_stack(
        [rng.normal(0.8 if leaks else 0.3, 0.1, m), rng.normal(0.5, 0.1, m), rng.normal(0.28, 0.1, m)]
    )


@pytest.mark.parametrize("leaks", [True, False])
def test_sets_of_members_stand_apart_where_a_model_leaks(leaks):
    rng = np.random.default_rng(0)
    sets = [members(rng, 5, leaks=leaks and side) for side in [True, False] * 20]
    shadows = [members(rng, 5, leaks=leaks and side) for side in [True, False] * 10]
    reference = members(rng, 20, leaks=False)
    truth = [True, False] * 20
    for scores in (
        [target_only_score(each) for each in sets],
        [reference_set_score(each, reference) for each in sets],
        shadow_set_scores(sets, shadows, [True, False] * 10),
    ):
        found = roc_auc_score(truth, scores)
        assert found >= 0.95 if leaks else 0.3 <= found <= 0.7


def test_target_only_is_the_t_of_the_fall():
    values = np.array([[0.9, 0.1], [0.8, 0.3], [0.7, 0.3]])
    fall = np.array([0.8, 0.5, 0.4])
    assert target_only_score(values) == pytest.approx(fall.mean() / (fall.std(ddof=1) / np.sqrt(3)))
    assert target_only_score(values[[2, 0, 1]]) == pytest.approx(target_only_score(values))
    assert target_only_score(np.full((4, 2), 0.5)) == 0  # nothing falls, and nothing varies
    assert target_only_score(np.tile([0.9, 0.1], (4, 1))) > 100


def test_repeated_answers_that_are_alike_score_high():
    alike, apart = [["a b c", "a b c"]] * 3, [["a b c", "d e f"]] * 3
    assert image_only_score(alike, caption_longest) == 1
    assert image_only_score(apart, caption_longest) == 0


def test_sets_hold_one_side_and_whole_patients():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 60, 200)
    truth = groups % 2 == 0
    found = divide_sets(groups, truth, 5, seed=0)
    rows = np.concatenate(found)
    assert len(np.unique(rows)) == len(rows)
    for each in found:
        assert len(np.unique(truth[each])) == 1
        assert len(np.unique(groups[each])) == 5
        assert np.isin(groups, groups[each]).sum() == len(each)


def test_similarity_by_hand_and_what_changes_cost():
    x = np.array([[1.0, 0.0], [3.0, 4.0]])
    own = cosine_similarity_scores(x, np.array([[5.0, 0.0], [4.0, 3.0]]))
    np.testing.assert_allclose(own, [1, 24 / 25])
    moved = np.array([[0.5, 0.96], [0.0, 0.96]])
    np.testing.assert_allclose(augmented_mean_scores(own, moved), [0.5, 0.96])
    np.testing.assert_allclose(augmented_drop_scores(own, moved), [2.5, 0.96])


def test_changes_keep_shape_span_and_what_is_constant():
    images = np.random.default_rng(0).random((3, 2, 9, 11)).astype(np.float32)
    changed = augmented_images(images)
    assert changed.shape == (4, *images.shape)
    assert changed.dtype == images.dtype
    assert all(not np.array_equal(each, images) for each in changed)
    assert (changed.min() >= images.min()) & (changed.max() <= images.max() + 1e-6)
    np.testing.assert_allclose(augmented_images(np.full((1, 1, 5, 5), 0.3)), 0.3)
    np.testing.assert_array_equal(augmented_images(images[1:2])[:, 0], changed[:, 1])  # whatever stands beside it


def pairs_of(rng, n, closeness):
    x = rng.normal(size=(n, 16))
    return x, closeness * x + rng.normal(size=(n, 16))


def test_weak_supervision_learns_from_pairs_that_look_like_members():
    rng = np.random.default_rng(0)
    outside, inside = pairs_of(rng, 100, 0.2), pairs_of(rng, 100, 2.0)
    pool = tuple(np.concatenate(each) for each in zip(pairs_of(rng, 100, 2.0), pairs_of(rng, 100, 0.2), strict=True))
    known = pairs_of(rng, 100, 0.2)
    candidates = tuple(np.concatenate(each) for each in zip(inside, outside, strict=True))
    scores = weakly_supervised_scores(candidates, pool, known)
    assert roc_auc_score(np.arange(200) < 100, scores) >= 0.9
    with pytest.raises(MedwardError, match="look like members"):
        weakly_supervised_scores(candidates, pairs_of(rng, 20, -5.0), known)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: target_only_score(np.ones((5, 1))), "2 or more rows and temperatures"),
        (lambda: target_only_score(np.full((5, 2), np.nan)), "finite"),
        (lambda: image_only_score([["a"]], caption_longest), "two answers"),
        (lambda: shadow_set_scores([np.ones((3, 2))], [np.ones((3, 2))], [True]), "both|non-members"),
        (lambda: divide_sets(np.arange(9), np.arange(9) > 7, 5, seed=0), "2 or more patients"),
        (lambda: cosine_similarity_scores(np.zeros((2, 3)), np.ones((2, 3))), "zero or NaN"),
        (lambda: cosine_similarity_scores(np.ones((2, 3)), np.ones((2, 4))), "pairs of features"),
        (lambda: augmented_images(np.ones((3, 4, 4))), "channels, height, width"),
    ],
)
def test_what_cannot_be_scored_is_refused(ask, says):
    with pytest.raises(MedwardError, match=says):
        ask()
