"""What every rule of aggregation promises, checked over the table of rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import medward.guard.federated.geometry as geometry_module
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregation import aggregated
from medward.guard.federated.geometry import matrix_geometry, round_geometry
from medward.guard.federated.rules import RULES
from medward.guard.federated.rules.base import Reference
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.rules.centred_clipping import CentredClipping
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.foolsgold import FoolsGold
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.trimmed_mean import TrimmedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean

CLIENTS, SIZE = 12, 30
LEAST = {"trimmed-mean": 3, "krum": 4, "multi-krum": 4, "bulyan": 7, "divide-and-conquer": 3}
"""The clients that a rule needs to bear a malicious one; the others serve a single client too."""
TRANSLATES = set(RULES) - {"norm-clipped-mean", "centred-clipping", "foolsgold", "fltrust", "bucketing"}
"""Rules whose aggregate moves with all updates; the others look at the length or direction of an update itself."""
BOUNDED = set(RULES) - {"weighted-mean"}
"""Rules that bear two of twelve clients."""
ALIKE = {"foolsgold", "divide-and-conquer"}
"""Those of them that bear only clients who send the same."""

every_rule = pytest.mark.parametrize("name", RULES)


def made(name, **settings):
    if name == "bucketing":
        return Bucketing(rule=TrimmedMean(malicious_share=0.34), size=2)
    return RULES[name](**({"malicious_share": 0.1} if name == "bulyan" else {}) | settings)


def plan_of(rule, updates, weights=None, reference=None):
    weights = np.full(len(updates), 1 / len(updates)) if weights is None else weights
    rows = updates if rule.reference is Reference.NONE else np.vstack([updates, reference])
    return rule.plan(matrix_geometry(rows), weights), rows


def aggregate(rule, updates, weights=None, reference=None):
    reference = updates.mean(axis=0) if reference is None else reference
    plan, rows = plan_of(rule, updates, weights, reference)
    return plan.combine(plan.mixing @ rows)


def drawn(seed, clients=CLIENTS, size=SIZE):
    generator = np.random.default_rng(seed)
    updates = generator.normal(0.3, 1, (clients, size)) * generator.lognormal(0, 0.3, (clients, 1))
    return updates, generator.dirichlet(np.full(clients, 5.0))


@every_rule
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_order_of_clients_does_not_matter(name, seed):
    updates, weights = drawn(seed)
    order = np.random.default_rng(seed + 1).permutation(CLIENTS)
    reference = updates.mean(axis=0)
    first = aggregate(made(name), updates, weights, reference)
    np.testing.assert_allclose(aggregate(made(name), updates[order], weights[order], reference), first, atol=1e-9)


@every_rule
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6))
@settings(max_examples=15)
def test_longer_updates_make_a_longer_aggregate(name, seed, scale):
    updates, weights = drawn(seed)
    first = aggregate(made(name), updates, weights)
    np.testing.assert_allclose(
        aggregate(made(name), scale * updates, weights), scale * first, rtol=1e-7, atol=scale * 1e-9
    )


@pytest.mark.parametrize("name", sorted(TRANSLATES))
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_aggregate_moves_with_all_updates(name, seed):
    updates, weights = drawn(seed)
    shift = np.random.default_rng(seed + 1).normal(0, 2, SIZE)
    first = aggregate(made(name), updates, weights)
    np.testing.assert_allclose(aggregate(made(name), updates + shift, weights), first + shift, atol=1e-5)


@pytest.mark.parametrize(
    "rule", [NormClippedMean(), CentredClipping(radius=1.0), FoolsGold(), FLTrust()], ids=lambda rule: rule.name
)
def test_the_other_rules_do_not(rule):
    updates, weights = drawn(5)
    moved = aggregate(rule, updates + 3, weights, updates[0]) - 3
    assert not np.allclose(moved, aggregate(rule, updates, weights, updates[0]), atol=1e-2)


@every_rule
@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(7, 20))
@settings(max_examples=15)
def test_who_all_say_the_same_are_believed(name, seed, copies):
    update = np.random.default_rng(seed).normal(size=SIZE)
    updates = np.tile(update, (copies, 1))
    np.testing.assert_allclose(aggregate(made(name), updates, reference=update), update, atol=1e-9)


@every_rule
@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(7, 20))
@settings(max_examples=15)
def test_weights_of_a_plan_are_shares(name, seed, clients):
    updates, weights = drawn(seed, clients)
    plan, _ = plan_of(made(name), updates, weights, updates.mean(axis=0))
    assert plan.mixing.min() >= 0
    if plan.weights is None:
        np.testing.assert_allclose(plan.mixing.sum(axis=1), 1)
    elif name == "norm-clipped-mean":  # what is cut stays with the model before
        assert 0 < plan.weights.sum() <= 1 + 1e-12
    elif name == "fltrust":  # its length is the server's, not the clients'
        assert np.linalg.norm(plan.weights[:-1] @ updates) <= np.linalg.norm(updates.mean(axis=0)) + 1e-9
    else:
        assert plan.weights.sum() == pytest.approx(1)


def influence(name, factor, seed, *, alike):
    """How far two clients of twelve move the aggregate, in lengths of an honest update."""
    honest, _ = drawn(seed)
    server = honest[2:].mean(axis=0)
    generator = np.random.default_rng(seed + 1)
    spoilt = honest.copy()
    spoilt[:2] = factor * generator.normal(size=(1 if alike else 2, SIZE))
    away = aggregate(made(name), spoilt, reference=server) - aggregate(made(name), honest, reference=server)
    return np.linalg.norm(away) / np.median(np.linalg.norm(honest, axis=1))


@pytest.mark.parametrize("name", sorted(BOUNDED))
@given(seed=st.integers(0, 2**32 - 1), alike=st.booleans())
@settings(max_examples=15)
def test_two_of_twelve_clients_move_the_model_by_less_than_an_update(name, seed, alike):
    assert influence(name, 1e6, seed, alike=alike or name in ALIKE) < 1.5


@pytest.mark.parametrize(("name", "seed"), [("weighted-mean", 3), ("foolsgold", 3), ("divide-and-conquer", 1952)])
def test_without_a_bound_they_move_it_anywhere(name, seed):
    assert influence(name, 1e6, seed, alike=False) > 1e3


@pytest.mark.parametrize("name", sorted(LEAST))
def test_too_few_clients_are_refused(name):
    least = LEAST[name]
    updates, _ = drawn(1)
    rule = made(name, malicious_share=1 / least)
    assert np.isfinite(aggregate(rule, updates[:least])).all()
    with pytest.raises(
        MedwardError, match=rf"^{name}: needs {least} clients to bear 1 malicious ones, .* has {least - 1};"
    ):
        aggregate(rule, updates[: least - 1])


@pytest.mark.parametrize("name", sorted(LEAST))
@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0, float("nan")])
def test_a_share_of_half_or_more_is_refused(name, share):
    with pytest.raises(MedwardError, match=r"^malicious share: must be at least 0 and below 0.5"):
        RULES[name](malicious_share=share)


@pytest.mark.parametrize("name", sorted(set(RULES) - set(LEAST) - {"bucketing"}))
def test_a_single_client_is_served_by_the_others(name):
    update = drawn(2)[0][:1]
    np.testing.assert_allclose(aggregate(made(name), update, reference=update[0]), update[0])


@every_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_give_what_a_matrix_gives(name, dtype, monkeypatch):
    """The model in several arrays, read a few columns at a time, beside the rule on one dense matrix."""
    monkeypatch.setattr(geometry_module, "block_columns", lambda rows, size: 7)
    monkeypatch.setattr("medward.guard.federated.aggregation.block_columns", lambda rows, size: 5)
    generator = np.random.default_rng(4)
    start = [generator.normal(size=(4, 5)).astype(dtype), np.array(7), generator.normal(size=33).astype(dtype)]
    steps = [[generator.normal(0.2, 1, array.shape).astype(dtype) for array in start] for _ in range(CLIENTS + 1)]
    models = [[start[0] + step[0], np.array(7 + place), start[2] + step[2]] for place, step in enumerate(steps)]
    weights = generator.dirichlet(np.full(CLIENTS, 5.0))
    rule = made(name)
    if rule.reference is Reference.NONE:
        models = models[:CLIENTS]
    changes = [[model[place].astype(np.float64) - start[place] for place in (0, 2)] for model in models]
    dense = np.stack([np.concatenate([np.ravel(array) for array in change]) for change in changes])
    plan = rule.plan(matrix_geometry(dense), weights)
    expected = plan.combine(plan.mixing @ dense)
    blocked = aggregated(start, models, rule.plan(round_geometry(start, models), weights))
    got = np.concatenate([np.ravel(blocked[place].astype(np.float64) - start[place]) for place in (0, 2)])
    np.testing.assert_allclose(got, expected, atol=1e-12 if dtype is np.float64 else 1e-5)
    assert [array.dtype for array in blocked] == [array.dtype for array in start]
    assert [array.shape for array in blocked] == [array.shape for array in start]
    assert int(blocked[1]) in {7 + place for place in range(len(models))}  # a counter is one that was sent


def test_the_default_rule_keeps_the_weights_of_unequal_hospitals():
    updates = np.vstack([np.eye(3), np.eye(3)])
    weights = np.array([0.5, 0.3, 0.2, 0, 0, 0])
    np.testing.assert_allclose(aggregate(NormClippedMean(), updates, weights), weights[:3])
    np.testing.assert_allclose(aggregate(WeightedMean(), updates, weights), weights[:3])
    assert not np.allclose(aggregate(CoordinateMedian(), updates, weights), weights[:3])
