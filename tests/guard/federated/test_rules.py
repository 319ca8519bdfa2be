"""What single rules publish of themselves, by hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import matrix_geometry, squared_distances
from medward.guard.federated.rules.base import tolerated
from medward.guard.federated.rules.bucketing import Bucketing, bucket_matrix
from medward.guard.federated.rules.bulyan import Bulyan, means_about_median
from medward.guard.federated.rules.centred_clipping import CentredClipping
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.divide_and_conquer import DivideAndConquer, spectral_scores
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.foolsgold import FoolsGold, dissimilarity
from medward.guard.federated.rules.geometric_median import GeometricMedian
from medward.guard.federated.rules.krum import Krum, MultiKrum, krum_scores
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.trimmed_mean import TrimmedMean, trimmed_means

LINE = np.array([[0.0], [1.0], [2.1], [3.3], [100.0]])


def weights_of(rule, updates, weights=None):
    clients = len(updates) - (rule.reference.name != "NONE")
    weights = np.full(clients, 1 / clients) if weights is None else np.asarray(weights)
    return rule.plan(matrix_geometry(np.asarray(updates, float)), weights).weights


def test_krum_scores_sum_the_nearest_but_two_and_the_malicious():
    products = LINE @ LINE.T
    np.testing.assert_allclose(krum_scores(squared_distances(products), 1)[:2], [1 + 2.1**2, 1 + 1.1**2])
    assert weights_of(Krum(malicious_share=0.2), LINE).tolist() == [0, 1, 0, 0, 0]
    assert weights_of(MultiKrum(malicious_share=0.2), LINE).tolist() == [0.25, 0.25, 0.25, 0.25, 0]


def test_multi_krum_keeps_the_weights_among_the_chosen():
    kept = weights_of(MultiKrum(malicious_share=0.2), LINE, [0.4, 0.1, 0.1, 0.2, 0.2])
    np.testing.assert_allclose(kept, [0.5, 0.125, 0.125, 0.25, 0])


def test_bulyan_averages_what_is_nearest_to_the_median():
    np.testing.assert_allclose(means_about_median(np.array([[0.0], [1], [2], [50]]), 2), [1.5])
    updates = np.array([[0.0], [1], [2], [3], [4], [5], [1000]])
    plan = Bulyan(malicious_share=1 / 7).plan(matrix_geometry(updates), np.full(7, 1 / 7))
    assert len(plan.mixing) == 5  # n - 2f chosen, of which n - 4f numbers are averaged
    assert not plan.mixing[:, 6].any()
    chosen = np.sort((plan.mixing @ updates)[:, 0])
    assert plan.combine(plan.mixing @ updates)[0] == pytest.approx(chosen[1:4].mean())


def test_a_trimmed_mean_leaves_out_both_ends_of_each_number():
    mixes = np.array([[0.0, 9], [1, 8], [2, 7], [3, -100]])
    np.testing.assert_allclose(trimmed_means(mixes, 1), [1.5, 7.5])
    assert TrimmedMean(malicious_share=0.25).plan(matrix_geometry(mixes), np.full(4, 0.25)).weights is None


def test_the_geometric_median_of_a_triangle_is_its_fermat_point():
    corners = np.array([[0.0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
    np.testing.assert_allclose(weights_of(GeometricMedian(), corners) @ corners, corners.mean(axis=0), atol=1e-6)
    away = np.array([[0.0], [1.0], [1e9]])
    assert (weights_of(GeometricMedian(steps=10000), away) @ away)[0] == pytest.approx(1, abs=1e-3)


def test_clipping_to_the_lower_median_bears_one_of_two_clients():
    np.testing.assert_allclose(weights_of(NormClippedMean(), [[3.0, 4], [5e6, 0]]), [0.5, 0.5e-6])
    np.testing.assert_allclose(weights_of(NormClippedMean(clip=2.0), [[1.0], [3.0], [0.5]]), [1 / 3, 2 / 9, 1 / 3])
    np.testing.assert_allclose(weights_of(NormClippedMean(), np.zeros((3, 2))), np.full(3, 1 / 3))


def test_centred_clipping_steps_from_the_last_aggregate():
    updates = [[4.0, 0], [0, 8.0], [0.0, 0]]  # the last is the reference
    np.testing.assert_allclose(weights_of(CentredClipping(radius=2.0, steps=1), updates), [0.25, 0.125, 0.625])


def test_fltrust_weighs_by_the_cosine_and_gives_the_servers_length():
    updates = [[3.0, 0], [0, 5], [-2, 0], [1, 1]]  # the last is the server's
    taken = weights_of(FLTrust(), updates) @ np.array(updates)
    np.testing.assert_allclose(taken, [np.sqrt(2) / 2, np.sqrt(2) / 2])
    assert weights_of(FLTrust(), updates)[2:].tolist() == [0, 0]
    assert not weights_of(FLTrust(), [[-1.0, 0], [1.0, 0]]).any()


def test_foolsgold_takes_nothing_of_clients_that_say_the_same():
    updates = np.vstack([np.eye(4)[:3], np.eye(4)[3:], np.eye(4)[3:]])
    kept = weights_of(FoolsGold(), updates)
    np.testing.assert_allclose(kept, [1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert weights_of(FoolsGold(), updates[:4])[3] == pytest.approx(0.25)  # a lone attacker is not noticed


def test_foolsgold_as_published_by_hand():
    cosines = np.array([[1, 0.9, 0.2], [0.9, 1, 0.1], [0.2, 0.1, 1]])
    # most alike 0.9, 0.9, 0.2; the third is pardoned to 0.2 * 0.2 / 0.9; rates 0.1, 0.1, 0.956 over the largest
    rates = np.array([0.1, 0.1, 1 - 0.04 / 0.9]) / (1 - 0.04 / 0.9)
    logits = np.log(rates[:2] / (1 - rates[:2])) + 0.5
    np.testing.assert_allclose(dissimilarity(cosines), [*np.clip(logits, 0, 1), 1])


def test_who_resembles_nobody_is_kept_by_foolsgold():
    assert dissimilarity(np.array([[1, 0.05, -0.5], [0.05, 1, -0.1], [-0.5, -0.1, 1.0]]))[2] == 1


def test_divide_and_conquer_leaves_out_who_stands_out_along_the_first_direction():
    updates = np.array([[0.0, 0.3], [0.1, -0.2], [0, 0.1], [9, 0]])
    _, _, right = np.linalg.svd(updates - updates.mean(axis=0))
    np.testing.assert_allclose(spectral_scores(updates @ updates.T), ((updates - updates.mean(axis=0)) @ right[0]) ** 2)
    kept = weights_of(DivideAndConquer(malicious_share=0.25), updates, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(kept, [1 / 6, 1 / 3, 1 / 2, 0])


def test_buckets_are_weighted_means_of_all_clients():
    groups = bucket_matrix(np.array([2, 0, 1]), 2, np.array([0.2, 0.5, 0.3]))
    np.testing.assert_allclose(groups, [[0.4, 0, 0.6], [0, 1, 0]])
    updates = np.arange(10.0)[:, None]
    whole = Bucketing(rule=CoordinateMedian(), size=10).plan(matrix_geometry(updates), np.full(10, 0.1))
    assert whole.combine(whole.mixing @ updates)[0] == pytest.approx(4.5)
    orders = {
        Bucketing(rule=CoordinateMedian(), seed=seed).plan(matrix_geometry(updates), np.full(10, 0.1)).mixing.tobytes()
        for seed in range(4)
    }
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: NormClippedMean(clip=0), "^clip: must be finite and above 0, got 0"),
        (lambda: DivideAndConquer(filtered=0), "^filtered: must be finite and above 0, got 0"),
        (lambda: Bucketing(rule=CoordinateMedian(), size=0), "^size: must be 1 or more, got 0"),
        (lambda: Bucketing(rule=FLTrust()), "^bucketing: cannot wrap fltrust, which compares with"),
        (lambda: Bucketing(rule=FoolsGold()), "^bucketing: cannot wrap foolsgold, which looks back"),
        (lambda: CentredClipping(clip=0), "^clip: must be finite and above 0, got 0"),
        (lambda: CentredClipping(radius=-1.0), "^radius: must be finite and above 0, got -1"),
        (lambda: CentredClipping(steps=0), "^steps: must be 1 or more, got 0"),
        (lambda: GeometricMedian(steps=0), "^steps: must be 1 or more, got 0"),
        (lambda: GeometricMedian(smoothing=0.0), "^smoothing: must be finite and above 0, got 0"),
    ],
)
def test_settings_are_bounded(made, said):
    with pytest.raises(MedwardError, match=said):
        made()


@pytest.mark.parametrize(
    ("clients", "share", "malicious"), [(4, 0.25, 1), (10, 0.25, 3), (10, 0.24, 2), (20, 0.25, 5), (3, 0, 0)]
)
def test_shares_are_rounded_to_the_nearest_and_halves_up(clients, share, malicious):
    assert tolerated(clients, share) == malicious


@pytest.mark.parametrize("scale", [1e3, 1e9, 1e18, 1e30])
def test_the_geometric_median_is_bounded_however_far_one_client_goes(scale):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(9, 50))
    updates = np.vstack([honest, scale * rng.normal(size=50)])
    plan = GeometricMedian().plan(matrix_geometry(updates), np.full(10, 0.1))
    assert np.linalg.norm(plan.mixing[0] @ updates) <= np.linalg.norm(honest, axis=1).max()
