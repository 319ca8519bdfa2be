"""The bound that everything rests on, draws by independent coins, and noise of the size that is claimed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.harden.private import mechanism
from medward.guard.harden.private.mechanism import clipped_sum, largest_contribution, unit_gradients
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.sampling import PoissonSampler

SHAPES = ((3, 2), (4,))


def gradients(rows, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, *shape, generator=generator) * scale for shape in SHAPES]


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-6, 0.1, 1.0, 1e4, 1e30]),
    clip=st.sampled_from([0.1, 1.0, 7.0]),
)
def test_one_unit_more_changes_the_sum_by_at_most_the_clip(counts, seed, scale, clip):
    rows = sum(counts)
    found = gradients(rows, seed, scale)
    owners = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    whole = clipped_sum(found, owners, len(counts), clip)
    rest = rows - counts[-1]
    without = clipped_sum([each[:rest] for each in found], owners[:rest], len(counts) - 1, clip)
    assert float((whole - without).norm()) <= clip * (1 + 1e-5)


def test_a_unit_is_clipped_by_the_mean_of_its_rows_over_all_parameters():
    found, owners = gradients(5, 0, 3.0), torch.tensor([0, 0, 1, 2, 2])
    flat = torch.cat([each.reshape(5, -1) for each in found], dim=1)
    naive = torch.zeros(flat.shape[1])
    for unit in range(3):
        mean = flat[owners == unit].mean(dim=0)
        naive += mean * min(1.0, 0.8 / float(mean.norm()))
    assert torch.allclose(clipped_sum(found, owners, 3, 0.8), naive, atol=1e-4)
    means = unit_gradients(found[0], owners, 3)
    assert torch.allclose(means[2], found[0][3:].mean(dim=0))


def test_small_gradients_are_not_clipped_and_broken_ones_count_as_nothing():
    found, owners = gradients(3, 1, 0.01), torch.arange(3)
    plain = torch.cat([each.sum(dim=0).reshape(-1) for each in found])
    assert torch.allclose(clipped_sum(found, owners, 3, 1.0), plain, rtol=1e-4)
    for bad in (torch.nan, torch.inf):
        broken = [each.clone() for each in found]
        broken[0][1] = bad
        kept = [each[[0, 2]] for each in found]
        assert torch.allclose(clipped_sum(broken, owners, 3, 1.0), clipped_sum(kept, torch.arange(2), 2, 1.0))


@pytest.mark.parametrize("numbers", [10**6, 10**7])
def test_a_unit_of_many_parameters_is_clipped_as_one_of_few(numbers):
    for found in (torch.full((1, numbers), 0.1), gradients(1, 0)[0].repeat(1, numbers // 3, 1)):
        whole = clipped_sum([found], torch.zeros(1, dtype=torch.int64), 1, 1.0)
        assert 1 - 1e-4 < float(whole.double().norm()) <= 1  # in single precision torch's own norm is a hundredth off


def test_row_level_sums_are_those_of_opacus():
    from opacus.optimizers import DPOptimizer

    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    found = gradients(6, 2, 0.7)
    other = DPOptimizer(
        torch.optim.SGD(weights, lr=1.0), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=6
    )
    for weight, each in zip(weights, found, strict=True):
        weight.grad_sample = each
    other.clip_and_accumulate()
    theirs = torch.cat([each.summed_grad.reshape(-1) for each in weights])
    assert torch.allclose(clipped_sum(found, torch.arange(6), 6, 1.0), theirs, atol=1e-4)


def test_units_are_drawn_by_independent_coins_and_some_draws_are_empty():
    owners = np.repeat(np.arange(30), 2)
    sampler = PoissonSampler(owners, 0.05, 5, Randomness.secret())
    draws = [sampler.draw(step) for step in range(2000)]
    sizes = np.array([len(each.units) for each in draws])
    assert abs(sizes.mean() - 1.5) < 0.15
    assert abs(sizes.var() - 30 * 0.05 * 0.95) < 0.25
    assert (sizes == 0).mean() == pytest.approx(0.95**30, abs=0.05)
    for each in draws:
        assert np.array_equal(np.repeat(each.units, 2), owners[each.rows])
        assert np.array_equal(each.units[each.owners], owners[each.rows])
    assert not list(draws[int(sizes.argmin())].parts(8))


def test_rows_of_a_unit_are_capped_by_chance_and_a_draw_is_the_same_when_asked_again():
    owners = np.array([0] * 9 + [1] + [2] * 3)[np.random.default_rng(0).permutation(13)]
    sampler = PoissonSampler(owners, 1.0, 3, Randomness.seeded(3))
    first, again, next_one = sampler.draw(0), sampler.draw(0), sampler.draw(1)
    assert np.array_equal(np.bincount(owners[first.rows]), [3, 1, 3])
    assert len(set(first.rows)) == 7
    assert np.array_equal(first.rows, again.rows)
    seen = {row for step in range(30) for row in sampler.draw(step).rows}
    assert seen == set(range(13))
    assert not np.array_equal(first.rows, next_one.rows)
    parts = list(first.parts(4))
    assert np.array_equal(np.concatenate([each.rows for each in parts]), first.rows)
    assert all(len(each.rows) <= 4 and each.owners.min() == 0 for each in parts)
    assert [len(each.units) for each in sampler.draw(0).parts(1)] == [1, 1, 1]


def test_normal_numbers_have_the_moments_of_normal_numbers_and_keys_matter():
    found = Randomness.secret().normals(0, "noise", 200_001)
    assert found.shape == (200_001,)
    assert float(found.mean().abs()) < 0.02
    assert float(found.std()) == pytest.approx(1, abs=0.02)
    assert float((found.abs() > 1.959964).double().mean()) == pytest.approx(0.05, abs=0.004)
    assert float((found**4).mean()) == pytest.approx(3, abs=0.15)
    one = Randomness.seeded(1)
    assert torch.equal(one.normals(4, "noise", 9), Randomness.seeded(1).normals(4, "noise", 9))
    assert not torch.equal(one.normals(4, "noise", 9), one.normals(5, "noise", 9))
    assert not torch.equal(one.normals(4, "noise", 9), Randomness.seeded(2).normals(4, "noise", 9))
    assert not np.array_equal(one.uniforms(4, "units", 9), one.uniforms(4, "rows", 9))
    assert "key" not in repr(one)


def test_a_sampler_that_cannot_be_is_refused():
    for rate, rows, owners in ((0.0, 1, [0]), (1.1, 1, [0]), (0.5, 0, [0]), (0.5, 1, [0, 2])):
        with pytest.raises(MedwardError, match="must be"):
            PoissonSampler(np.array(owners), rate, rows, Randomness.secret())


def test_the_largest_gradient_alone_shows_whether_it_is_clipped(monkeypatch):
    found = [torch.tensor([[0.1, 0.0], [30.0, 40.0], [0.0, 0.2]])]
    owners = torch.arange(3)
    assert largest_contribution(found, owners, 3, 1.0) == pytest.approx(1.0, abs=1e-4)
    monkeypatch.setattr(mechanism, "clipped_sum", lambda gradients, owners, units, clip: gradients[0].sum(dim=0))
    assert largest_contribution(found, owners, 3, 1.0) == pytest.approx(50.0)


def test_importing_opacus_leaves_the_log_as_its_owner_set_it_up():
    code = (
        "import logging; from medward.guard.models.base import require_extra; "
        "require_extra('opacus.grad_sample.grad_sample_module', 'private'); assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
