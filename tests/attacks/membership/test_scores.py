"""Every formula beside a naive loop, beside numbers worked out by hand, and in its limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from medward.attacks.intervals import auc
from medward.attacks.membership.base_attack import offline_base, online_base
from medward.attacks.membership.bavaria import (
    GammaPrior,
    fit_prior,
    offline_bavaria,
    offline_bavaria_normal,
    online_bavaria,
    online_bavaria_normal,
    student_log_tail,
)
from medward.attacks.membership.evidence import Evidence, regime_gap, side_moments
from medward.attacks.membership.lira import offline_lira, online_lira
from medward.attacks.membership.loss import negative_loss
from medward.attacks.membership.quantile import pinball_loss, quantile_places
from medward.attacks.membership.reference import calibrated_loss
from medward.attacks.membership.rmia import offline_rmia, online_rmia, probability_ratios
from medward.attacks.membership.scores import MEMBERSHIP_SCORES, score_evidence
from medward.guard.errors import MedwardError

OFFLINE = [name for name, score in MEMBERSHIP_SCORES.items() if score.shadows and not score.online]
ONLINE = [name for name, score in MEMBERSHIP_SCORES.items() if score.online]


def odds(*probabilities):
    """The signals of probabilities."""
    p = np.array(probabilities)
    return np.log(p / (1 - p))


def evidence_of(phi, shadows, included=None, population=None):
    shadows = np.array(shadows, float)
    mask = np.zeros(shadows.shape, bool) if included is None else np.array(included, bool)
    return Evidence(phi=np.array(phi, float), shadows=shadows, included=mask, population=population)


def drawn(seed, n=12, shadows=8, online=False, members=0.5):
    """Candidates of different difficulty, whose signal rises by 2 where they were learned; the population likewise."""
    rng = np.random.default_rng(seed)

    def rows(count, masked, share):
        difficulty = rng.normal(0, 2, count)
        mask = np.zeros((shadows, count), bool)
        if masked:
            mask = np.stack([rng.permutation(np.arange(shadows) < shadows // 2) for _ in range(count)], axis=1)
        seen = difficulty + 2 * mask + rng.normal(0, 0.5, (shadows, count))
        learned = rng.random(count) < share
        return evidence_of(difficulty + 2 * learned + rng.normal(0, 0.5, count), seen, mask)

    return replace(rows(n, online, members), population=rows(9, True, 0.0))


# ---- by hand


def test_the_loss_is_minus_the_log_of_the_probability():
    none = np.zeros((0, 2))
    np.testing.assert_allclose(negative_loss(evidence_of(odds(0.5, 0.8), none)), np.log([0.5, 0.8]))


def test_the_reference_takes_the_difficulty_off():
    found = calibrated_loss(evidence_of(odds(0.5), [odds(0.75), odds(0.75), odds(0.01)], [[0], [0], [1]]))
    assert found == pytest.approx(np.log(2 / 3))


def test_offline_lira_is_the_tail_above_one_standard_deviation():
    assert offline_lira(evidence_of([np.sqrt(2)], [[-1], [1]])) == pytest.approx(1.841022)


def test_online_lira_is_half_the_difference_of_squared_distances():
    found = online_lira(evidence_of([3], [[2], [4], [-1], [1]], [[1], [1], [0], [0]]))
    assert found == pytest.approx(9 / 4)


def test_rmia_counts_those_of_the_population_that_are_dominated():
    others = evidence_of(odds(0.5, 0.75), [odds(0.5, 0.15)], [[0, 0]])  # ratios 1 and 5
    x = evidence_of(odds(0.75), [odds(0.5), odds(0.25)], population=others)  # ratio 2
    own = 2 / 3 / 2  # what orders rows that dominate equally many: r / (1 + r) of one of two rows
    assert offline_rmia(x, offset=1, temperature=1) == pytest.approx(0.5 + own)
    assert offline_rmia(x, offset=1, temperature=1, gamma=0.39) == pytest.approx(1 + own)
    assert offline_rmia(x, offset=1, temperature=1, gamma=2.01) == pytest.approx(own)


def test_offline_rmia_moves_the_mean_towards_one():
    x = evidence_of(odds(0.75), [odds(0.5), odds(0.25)])
    assert probability_ratios(x, 1.0, 0.4) == pytest.approx(0.75 / (0.7 * 0.375 + 0.3))
    assert probability_ratios(x, 2.0, 1.0) == pytest.approx(
        np.sqrt(3) / (1 + np.sqrt(3)) / np.mean([0.5, 1 / (1 + np.sqrt(3))])
    )


def test_online_rmia_is_the_mean_of_both_sides():
    x = evidence_of(odds(0.75), [odds(0.9), odds(0.5), odds(0.1)], [[1], [0], [0]])
    assert probability_ratios(x, 1.0, None) == pytest.approx(0.75 / ((0.9 + 0.3) / 2))


def test_base_is_a_difference_of_logs():
    x = evidence_of(odds(0.75), [odds(0.5), odds(0.25)])
    assert offline_base(x, weight=1, temperature=1) == pytest.approx(np.log(2))
    assert offline_base(x, weight=0.5, temperature=1) == pytest.approx(np.log(0.75) - 0.5 * np.log(0.375))
    inside = evidence_of(odds(0.75), [odds(0.5), odds(0.25)], [[1], [0]])
    assert online_base(inside, temperature=1) == pytest.approx(np.log(2))
    assert offline_base(inside, weight=1, temperature=1) == pytest.approx(np.log(3))


def test_a_posterior_by_hand():
    prior = GammaPrior(*map(np.asarray, (0.0, 1.0, 2.0, 2.0)))
    found = prior.updated(*side_moments(np.array([[1.0], [3.0]]), np.ones((2, 1), bool)))
    assert (found.mu, found.kappa, found.alpha) == (pytest.approx(4 / 3), 3, 3)
    assert found.beta == pytest.approx(13 / 3)
    assert found.variance == pytest.approx(13 / 9)
    assert found.scale**2 == pytest.approx(13 / 3 * 4 / 9)
    nothing = prior.updated(*side_moments(np.array([[1.0]]), np.zeros((1, 1), bool)))
    assert (nothing.mu, nothing.kappa, nothing.alpha, nothing.beta) == (0, 1, 2, 2)


def test_the_pinball_loss_costs_what_the_level_says():
    found, levels = torch.zeros(1, 2), torch.tensor([0.9, 0.25])
    assert pinball_loss(found, torch.ones(1, 2), levels).item() == pytest.approx(0.9 + 0.25)
    assert pinball_loss(found, -torch.ones(1, 2), levels).item() == pytest.approx(0.1 + 0.75)


def test_a_place_among_quantiles():
    quantiles = np.tile([0.0, 1.0, 3.0], (5, 1))
    np.testing.assert_allclose(quantile_places(np.array([0.5, 2.0, 3.0, 4.5, -3.0]), quantiles), [0.5, 1.5, 2, 3, -2])


def test_a_gap_of_regimes_is_counted_in_interquartile_ranges():
    shadows = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    assert regime_gap(np.array([4.0, np.nan, 4.0, 4.0, 4.0]), shadows) == pytest.approx((4 - 2.5) / 1.75)
    assert regime_gap(shadows[0], shadows) == 0
    assert regime_gap(np.full(5, np.nan), shadows) == 0


# ---- beside loops


def loop(name, evidence):
    """The score of each candidate by the formula of its paper, one row at a time."""
    both = [naive(evidence, row) for row in range(len(evidence.phi))]
    sides = [[np.concatenate([each[side] - each[side].mean() for each in both]) for side in (1, 2)]][0]
    freedom = [sum(len(each[side]) - 1 for each in both) for side in (1, 2)]
    inside, outside = (np.sqrt((values**2).sum() / max(count, 1)) for values, count in zip(sides, freedom, strict=True))

    def ratio(phi, into, out, online):
        p, a = lambda value: 1 / (1 + np.exp(-value / 2)), 0.33
        mean = (p(into).mean() + p(out).mean()) / 2 if online else ((1 + a) * p(out).mean() + 1 - a) / 2
        return p(phi) / mean

    others = [ratio(*naive(evidence.population, z), online=False) for z in range(len(evidence.population.phi))]
    scores = []
    for phi, into, out in both:
        scores.append(
            {
                "reference": lambda phi=phi, out=out: np.mean(np.log1p(np.exp(-out))) - np.log1p(np.exp(-phi)),
                "lira": lambda phi=phi, out=out: -norm.logsf(phi, out.mean(), outside),
                "lira-online": lambda phi=phi, into=into, out=out: (
                    norm.logpdf(phi, into.mean(), inside) - norm.logpdf(phi, out.mean(), outside)
                ),
                "rmia": lambda *row: dominated(ratio(*row, online=False), others),
                "rmia-online": lambda *row: dominated(ratio(*row, online=True), others),
                "base": lambda phi=phi, out=out: (
                    -np.log1p(np.exp(-phi / 2)) - 0.33 * np.log(np.mean(1 / (1 + np.exp(-out / 2))))
                ),
                "base-online": lambda phi=phi, into=into, out=out: (
                    -np.log1p(np.exp(-phi / 2)) - np.log(np.mean(1 / (1 + np.exp(-np.concatenate([into, out]) / 2))))
                ),
            }[name](*((phi, into, out) if name.startswith("rmia") else ()))
        )
    return np.array(scores)


def dominated(own, others):
    """The share of `others` that a ratio exceeds, and its place between two of them."""
    return np.mean([own / z > 1 for z in others]) + own / (1 + own) / len(others)


def naive(evidence, row):
    """phi of a row, and what shadows say that did and that did not learn it."""
    column, mask = evidence.shadows[:, row], evidence.included[:, row]
    return evidence.phi[row], column[mask], column[~mask]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("name", [name for name in (*OFFLINE, *ONLINE) if not name.startswith("bavaria")])
def test_formulas_are_those_of_the_papers(name):
    evidence = drawn(3, online=MEMBERSHIP_SCORES[name].online)
    np.testing.assert_allclose(MEMBERSHIP_SCORES[name].function(evidence), loop(name, evidence), rtol=1e-9)


@pytest.mark.parametrize("online", [False, True])
def test_bavaria_is_the_papers_posterior_of_the_fitted_prior(online):
    evidence = drawn(4, online=online)
    sides = {}
    for side, mask in {"in": evidence.included, "out": ~evidence.included}.items():
        if not mask.any():
            continue
        moments = side_moments(np.arcsinh(evidence.shadows), mask)
        m, k, a, b = (float(each) for each in vars_of(fit_prior(*moments)))
        found = []
        for row in range(len(evidence.phi)):
            x = np.arcsinh(evidence.shadows[mask[:, row], row])
            n = len(x)
            kn, an = k + n, a + n / 2
            mn = (k * m + n * x.mean()) / kn
            bn = b + ((x - x.mean()) ** 2).sum() / 2 + k * n * (x.mean() - m) ** 2 / (2 * kn)
            found.append((mn, np.sqrt(bn * (kn + 1) / (an * kn)), 2 * an, np.sqrt(bn / an)))
        sides[side] = np.array(found).T
    out, phi = sides["out"], np.arcsinh(evidence.phi)
    np.testing.assert_allclose(offline_bavaria(evidence), -student.logsf(phi, out[2], out[0], out[1]))
    np.testing.assert_allclose(offline_bavaria_normal(evidence), -norm.logsf(phi, out[0], out[3]))
    if online:
        into = sides["in"]
        densities = [student.logpdf(phi, each[2], each[0], each[1]) for each in (into, out)]
        np.testing.assert_allclose(online_bavaria(evidence), densities[0] - densities[1])
        normal = [norm.logpdf(phi, each[0], each[3]) for each in (into, out)]
        np.testing.assert_allclose(online_bavaria_normal(evidence), normal[0] - normal[1])


def vars_of(prior):
    return prior.mu, prior.kappa, prior.alpha, prior.beta


# ---- limits and invariants


@pytest.mark.parametrize(
    ("bavaria", "lira", "online"),
    [
        (offline_bavaria, offline_lira, False),
        (offline_bavaria_normal, offline_lira, False),
        (online_bavaria, online_lira, True),
        (online_bavaria_normal, online_lira, True),
    ],
)
def test_with_many_shadows_bavaria_is_lira(bavaria, lira, online):
    rng = np.random.default_rng(0)
    spread, difficulty = rng.uniform(0.5, 2, 40), rng.normal(0, 3, 40)
    mask = np.arange(8000)[:, None] % 2 == np.ones((1, 40)) if online else np.zeros((8000, 40), bool)
    many = evidence_of(
        difficulty + rng.normal(0.5, 1, 40), difficulty + rng.normal(0, 1, (8000, 40)) * spread + mask, mask
    )
    np.testing.assert_allclose(bavaria(widened(many)), lira(many), atol=0.02, rtol=0.02)
    few = replace(many, shadows=many.shadows[:40], included=many.included[:40])
    assert not np.allclose(bavaria(widened(few)), lira(few), atol=0.02, rtol=0.02)


def widened(evidence):
    """Evidence that BaVarIA, which takes signals through asinh, reads as `evidence`."""
    return replace(evidence, phi=np.sinh(evidence.phi), shadows=np.sinh(evidence.shadows))


def test_with_few_shadows_of_one_variance_bavaria_pools_it_and_of_many_it_does_not():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, (6, 4000))
    alike = fit_prior(*side_moments(noise, np.ones(noise.shape, bool)))
    assert alike.alpha > 50
    assert alike.beta / (alike.alpha - 1) == pytest.approx(1, abs=0.05)
    spread = np.where(np.arange(4000) % 2, 0.2, 3.0)
    unlike = fit_prior(*side_moments(noise * spread, np.ones(noise.shape, bool)))
    assert unlike.alpha < 4


def test_a_prior_mean_is_believed_only_as_far_as_records_are_alike():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, (6, 2000))
    everyone = np.ones(noise.shape, bool)
    assert fit_prior(*side_moments(noise, everyone)).kappa > 20
    assert fit_prior(*side_moments(noise + rng.normal(0, 5, 2000), everyone)).kappa == pytest.approx(1 / 25, rel=0.2)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_shadows_that_all_agree_give_finite_scores(value):
    mask = np.arange(8)[:, None] % 2 == np.zeros((1, 3))
    same = evidence_of([-9.0, value, 30.0], np.full((8, 3), value), mask, population=drawn(0).population)
    for name, found in score_evidence(same).items():
        assert np.isfinite(found).all(), name
    for name, found in score_evidence(replace(same, included=~mask & mask)).items():
        assert np.isfinite(found).all(), name
        assert (np.diff(found) >= 0).all(), name


def test_a_tail_beyond_floats_goes_on_as_before():
    x = np.array([3.0, 30.0, 37.0, 40.0, 200.0, 1e5])
    for freedom in (4.0, 40.0, 400.0, 2e6):
        found = student_log_tail(x, np.full(6, freedom))
        assert np.isfinite(found).all()
        assert (np.diff(found) < 0).all()
        near = np.isfinite(student.logsf(x, freedom))
        np.testing.assert_allclose(found[near], student.logsf(x[near], freedom))
    assert student_log_tail(np.array([40.0]), np.array([2e8])) == pytest.approx(norm.logsf(40), rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_order_of_candidates_of_shadows_and_of_the_population_does_not_matter(seed, online):
    evidence = drawn(seed, online=online)
    rng = np.random.default_rng(seed)
    rows, others, shadows = rng.permutation(12), rng.permutation(9), rng.permutation(8)

    def shuffled(some, order):
        some = some.take(order)
        return replace(some, shadows=some.shadows[shadows], included=some.included[shadows])

    moved = replace(shuffled(evidence, rows), population=shuffled(evidence.population, others))
    first, second = score_evidence(evidence), score_evidence(moved)
    assert set(first) == set(second) == {"loss", *OFFLINE, *(ONLINE if online else [])}
    for name, scores in first.items():
        np.testing.assert_allclose(second[name], scores[rows], rtol=1e-7, atol=1e-9, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 50))
def test_a_surer_model_never_makes_a_candidate_less_of_a_member_offline(seed, more):
    evidence = drawn(seed)
    for name in OFFLINE:
        before = MEMBERSHIP_SCORES[name].function(evidence)
        after = MEMBERSHIP_SCORES[name].function(replace(evidence, phi=evidence.phi + more))
        assert (after >= before - 1e-12).all(), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_online_base_and_rmia_order_candidates_alike(seed):
    evidence = drawn(seed, online=True)
    order = np.argsort(online_base(evidence))
    assert (np.diff(online_rmia(evidence)[order]) >= 0).all()


@pytest.mark.parametrize("name", [*OFFLINE, *ONLINE])
def test_members_are_told_apart_and_no_members_are_not(name):
    online = MEMBERSHIP_SCORES[name].online
    evidence = drawn(5, n=4000, online=online)
    difficulty = evidence.shadows.mean(axis=0) - evidence.included.mean(axis=0) * 2
    learned = evidence.phi - difficulty > 1
    found = auc(MEMBERSHIP_SCORES[name].function(evidence), learned)
    alone = evidence.without_target()
    assert found > (0.9 if "lira" in name or "bavaria" in name else 0.75)
    assert auc(MEMBERSHIP_SCORES[name].function(alone), learned) == pytest.approx(0.5, abs=0.05)


def test_the_population_of_rmia_is_seen_by_shadows_that_did_not_learn_it():
    """LeakPro averages over all shadows, those that learned z among them: P(z) is then too large."""
    evidence = drawn(6)
    others = evidence.population
    spoilt = replace(others, shadows=np.where(others.included, 50.0, others.shadows))
    np.testing.assert_array_equal(offline_rmia(replace(evidence, population=spoilt)), offline_rmia(evidence))


def test_rmia_without_population_says_so():
    with pytest.raises(MedwardError, match="population of at least 1 row"):
        offline_rmia(replace(drawn(0), population=None))


def test_without_the_model_is_the_first_shadow_beside_the_others():
    evidence = drawn(0, online=True)
    alone = evidence.without_target()
    np.testing.assert_array_equal(alone.phi, evidence.shadows[0])
    np.testing.assert_array_equal(alone.included, evidence.included[1:])
    assert alone.population.included.shape[0] == 7
    assert not alone.population.included.all(axis=0).any()
    few = replace(evidence, shadows=evidence.shadows[:2], included=evidence.included[:2])
    assert few.without_target() is None
