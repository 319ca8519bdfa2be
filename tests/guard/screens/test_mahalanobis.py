from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.screens.embeddings import pooling_matrix, smoothing_matrix
from medward.guard.screens.mahalanobis import EMBEDDINGS, Mahalanobis
from medward.guard.screens.whitening import shrunk_covariance
from medward.guard.types import Outputs


def batch(n=60, channels=1, side=12, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.random((n, channels, side, side)).astype(np.float32)
    return images, Outputs(rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 5)).astype(np.float32))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_numpy_and_torch_compute_the_same_score_and_torch_differentiates_it(name):
    images, outputs = batch()
    screen = Mahalanobis.fit(name, images, outputs)
    x = torch.from_numpy(images[:7]).requires_grad_()
    features = torch.from_numpy(outputs.features[:7]).requires_grad_()
    score = screen.score(x, Outputs(torch.from_numpy(outputs.scores[:7]), features), torch)
    own = screen.score(images[:7], Outputs(outputs.scores[:7], outputs.features[:7]))
    assert np.allclose(score.detach().numpy(), own, atol=1e-4)
    gradient = torch.autograd.grad(score.sum(), features if name == "features" else x)[0]
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ["rows", "thumbnail", "features"])
def test_distance_is_the_fields_on_the_shrunk_covariance(name):
    images, outputs = batch(side=3)
    screen = Mahalanobis.fit(name, images, outputs)
    z = (EMBEDDINGS[name](images, outputs).astype(np.float64) - screen.center) / screen.spread
    z = np.arcsinh(z) if name == "rows" else z
    decided = outputs.scores.argmax(1)
    centred = z - screen.means[decided]
    squared = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(shrunk_covariance(centred)), centred)
    assert np.allclose(np.exp(2 * screen.score(images, outputs)) * z.shape[1], squared, rtol=1e-3)


def test_features_are_judged_against_the_decided_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    features = (rng.normal(size=(200, 2)) + 10 * labels[:, None]).astype(np.float32)
    scores = np.eye(2, dtype=np.float32)[labels]
    screen = Mahalanobis.fit("features", features, Outputs(scores, features))
    own = screen.score(features, Outputs(scores, features))
    swapped = screen.score(features, Outputs(scores[::-1].copy(), features))
    assert np.median(swapped) > own.max()


@pytest.mark.parametrize("name", ["layout", "texture", "thumbnail"])
@pytest.mark.parametrize("shape", [(12, 1, 250), (1, 250, 1), (1, 1, 64), (3, 1, 1), (16, 8, 8)])
def test_an_axis_of_length_one_is_an_axis(name, shape):
    rng = np.random.default_rng(0)
    images = rng.random((80, *shape)).astype(np.float32)
    outputs = Outputs(rng.normal(size=(80, 2)).astype(np.float32))
    screen = Mahalanobis.fit(name, images, outputs)
    own = screen.score(images, outputs)
    x = torch.from_numpy(images)
    assert np.isfinite(own).all()
    assert np.allclose(screen.score(x, Outputs(torch.from_numpy(outputs.scores)), torch).numpy(), own, atol=1e-3)


def test_a_line_is_as_rough_lying_as_standing():
    lines = np.random.default_rng(0).random((5, 2, 1, 40)).astype(np.float32)
    lying, standing = (EMBEDDINGS["texture"](each, None) for each in (lines, lines.swapaxes(2, 3)))
    assert np.allclose(lying, standing, atol=1e-5)
    rough = EMBEDDINGS["texture"](np.sort(lines, axis=3), None)
    assert (rough[:, 4:6] < lying[:, 4:6]).all()  # neighbours of a sorted line differ less


def test_a_constant_column_makes_any_departure_strange():
    rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    rows[:, 2] = 4
    outputs = Outputs(np.zeros((100, 2), np.float32))
    screen = Mahalanobis.fit("rows", rows, outputs)
    odd = rows[:1].copy()
    odd[:, 2] = 5
    assert screen.score(odd, Outputs(np.zeros((1, 2)))) > screen.score(rows, outputs).max() + 1


def test_texture_notices_grain_on_smooth_images():
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, 28), np.linspace(0, 1, 28))
    phases = rng.random((400, 3, 1, 1))
    smooth = 0.5 + 0.3 * np.sin(3 * x + 6 * phases[:, 0]) * np.cos(2 * y + 6 * phases[:, 1])
    smooth = (smooth[:, None] + 0.01 * rng.normal(size=(400, 1, 28, 28))).astype(np.float32)
    grain = smooth + np.float32(8 / 255) * rng.choice([-1, 1], size=(1, 1, 28, 28)).astype(np.float32)
    nothing = Outputs(np.zeros((200, 2), np.float32))
    screen = Mahalanobis.fit("texture", smooth[:200], nothing)
    cut = np.quantile(screen.score(smooth[:200], nothing), 0.99)
    assert (screen.score(grain[200:], nothing) > cut).mean() > 0.95
    assert (screen.score(smooth[200:], nothing) > cut).mean() < 0.1


@given(size=st.integers(1, 64), cells=st.integers(1, 64))
def test_pooling_averages(size, cells):
    matrix = pooling_matrix(size, min(cells, size))
    assert np.allclose(matrix.sum(1), 1)
    assert np.allclose(matrix.sum(0), min(cells, size) / size)


@given(size=st.integers(1, 64), radius=st.integers(1, 3))
def test_smoothing_keeps_constants(size, radius):
    assert np.allclose(smoothing_matrix(size, radius) @ np.ones(size), 1)
