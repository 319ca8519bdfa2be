from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medward.guard.errors import MedwardError
from medward.guard.monitors.kernel_features import KERNEL_PARTS, KernelFeatures, k_means
from medward.guard.monitors.noise_residuals import REACH_DEVIATIONS
from medward.guard.monitors.shared_perturbation import SharedPerturbation, VectorSeen
from medward.guard.screens.mahalanobis import Mahalanobis
from medward.guard.statistics.combined_eprocess import CombinedEProcess, Observation
from medward.guard.statistics.eprocess import EProcess
from medward.guard.types import Action, Outputs

DIM = 6


def rows(n, seed, spread=1.0):
    x = np.random.default_rng(seed).normal(size=(n, DIM)) * spread
    return x.astype(np.float32)


def as_input(x):
    return x, Outputs(x)


FIT, REFERENCE = as_input(rows(300, 0)), as_input(rows(500, 1))
EMBEDDING = KernelFeatures.fit(Mahalanobis.fit("rows", *FIT), FIT, REFERENCE, seed=0)


def requests(inputs):
    """Until the alarm at alpha 0.01 of the witness alone; one more than all if there is none."""
    monitor = SharedPerturbation(reference=EMBEDDING.reference, risk=0.001, slack=0.0)
    vectors, _ = EMBEDDING.see(*as_input(inputs))
    _, p = monitor.judge(monitor.start(), [VectorSeen(vector, "") for vector in vectors])
    test = CombinedEProcess(
        parts=(EProcess(name="p", levels=monitor.levels),), weights=(1.0,), ladder=((0.01, Action.FLAG),)
    )
    state = test.start()
    for i, each in enumerate(p, 1):
        state, verdict = test.step(state, Observation({"p": each}))
        if verdict.action is Action.FLAG:
            return i
    return len(p) + 1


def test_benign_vectors_are_centred_and_bounded():
    vectors, _ = EMBEDDING.see(*as_input(rows(3000, 2)))
    assert np.abs(vectors.mean(axis=0)).max() < 0.2
    assert np.linalg.norm(vectors, axis=1).max() <= vectors.shape[1] ** 0.5 + REACH_DEVIATIONS + 1e-4
    assert 0.1 < (vectors**2).mean() < 1.1


def test_a_distribution_with_the_benign_mean_is_told_apart():
    sides = rows(300, 3) + np.resize([[3], [-3]], (300, 1)) * np.eye(1, DIM)
    assert requests(sides.astype(np.float32)) < 50
    assert requests(rows(1500, 4)) == 1501


def test_what_is_diluted_adds_up():
    away = rows(1500, 5, 0.3) + 3
    mixed = np.where(np.random.default_rng(0).random((1500, 1)) < 0.1, away, rows(1500, 6))
    assert requests(mixed) < 500


def test_cells_are_the_nearest_anchor_and_whether_it_is_far():
    _, near = EMBEDDING.see(*as_input(rows(2000, 7)))
    _, far = EMBEDDING.see(*as_input(rows(200, 8, 8.0)))
    assert 0.05 < (near % 2).mean() < 0.25
    assert (far % 2).mean() > 0.95
    assert len(np.unique(near // 2)) == len(EMBEDDING.anchors)
    assert ((near >= 0) & (near < EMBEDDING.count)).all()


def test_an_input_is_seen_alone_as_in_a_batch():
    x = rows(100, 9)
    vectors, cells = EMBEDDING.see(*as_input(x))
    alone = [EMBEDDING.see(*as_input(each[None])) for each in x]
    assert np.allclose(vectors, np.concatenate([v for v, _ in alone]), atol=1e-4)
    assert (cells == np.concatenate([c for _, c in alone])).mean() > 0.98


def test_k_means_finds_groups_and_keeps_no_empty_one():
    groups = np.concatenate([rows(50, 1, 0.1) + 5, rows(50, 2, 0.1) - 5])
    centres = k_means(groups, 2, np.random.default_rng(3))
    assert sorted(np.sign(centres[:, 0])) == [-1, 1]
    assert len(k_means(np.zeros((20, 2)), 4, np.random.default_rng(0))) == 1


def test_round_trip_and_parts_that_do_not_fit():
    again = KernelFeatures.from_arrays(EMBEDDING.arrays())
    x = as_input(rows(20, 10))
    assert again.fingerprint == EMBEDDING.fingerprint
    assert all((a == b).all() for a, b in zip(again.see(*x), EMBEDDING.see(*x), strict=True))
    for part in set(KERNEL_PARTS) - {"spread", "whitening", "frequencies", "kind", "reference_cells"}:
        broken = {**EMBEDDING.arrays(), part: EMBEDDING.arrays()[part][:-1]}
        with pytest.raises(MedwardError, match="arrays of embedding do not fit"):
            KernelFeatures.from_arrays(broken)
    with pytest.raises(MedwardError, match="arrays of embedding do not fit"):
        KernelFeatures.from_arrays({**EMBEDDING.arrays(), "reference_cells": EMBEDDING.reference_cells + 99})
    other = KernelFeatures.fit(Mahalanobis.fit("rows", *FIT), FIT, REFERENCE, seed=1)
    assert other.fingerprint != EMBEDDING.fingerprint
    assert dataclasses.replace(EMBEDDING).fingerprint == EMBEDDING.fingerprint


def test_a_value_near_the_largest_float_blinds_no_account():
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows[:, 0] *= 0.01
    outputs = Outputs(rows)
    fit, reference = (rows[:100], Outputs(rows[:100])), (rows[100:], Outputs(rows[100:]))
    embedding = KernelFeatures.fit(Mahalanobis.fit("rows", *fit), fit, reference)
    for value in (3.4e38, -3.4e38):
        vectors, cells = embedding.see(np.array([[value, 0, 0]], np.float32), outputs)
        assert np.isfinite(vectors).all()
        assert 0 <= cells[0] < embedding.count
