"""Thieves without data draw valid inputs, and learn to draw where the clone is wrong or the clones disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.thefts import Planted, spec_of

from medward.attacks.base import AttackData
from medward.attacks.extraction import DFME, Disagreement
from medward.attacks.extraction.base import StolenAnswers, clone_probabilities
from medward.attacks.extraction.generator import LATENT, Block, Generator
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


def softmaxed(victim, inputs):
    powers = np.exp(victim.logits(inputs) - victim.logits(inputs).max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def draw(asker, n=200, seed=1):
    return asker.draw(torch.randn(n, LATENT, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("shape", [(5,), (1, 28, 28), (3, 9, 7)])
def test_a_generator_draws_different_inputs_within_the_range(shape):
    net = Generator(shape, torch.tensor(-1.0), torch.tensor(2.0))
    x = net.squash(net(torch.randn(16, LATENT))).detach()
    assert x.shape == (16, *shape)
    assert -1 <= float(x.min()) < 0
    assert 1 < float(x.max()) <= 2
    assert float(x.std(dim=0).mean()) > 0.1


def gap(victim, asker):
    x = draw(asker)
    theirs, mine = (np.log(p.clip(1e-6)) for p in (softmaxed(victim, x), clone_probabilities(asker.clones[0], x)))
    return np.abs((theirs - theirs.mean(1, keepdims=True)) - (mine - mine.mean(1, keepdims=True))).mean()


@pytest.mark.parametrize(("modality", "directions"), [("tabular", 3), ("image", 3)])
def test_the_generator_climbs_the_gap_that_probes_measure(modality, directions):
    victim = Planted(modality, 3)
    asker = DFME(batch=30, probed=30, directions=directions).open(victim.data(), victim.spec, seed=0)
    before = gap(victim, asker)
    for _ in range(60):
        latent, probes = torch.randn(30, LATENT, generator=asker.noise), asker.probes()
        rows = asker.draw(latent, probes)
        asker.improve(Block(0, latent, probes, len(rows)), StolenAnswers(rows, softmaxed(victim, rows)))
    assert gap(victim, asker) > 1.05 * before


def test_withheld_probes_teach_nothing_and_break_nothing():
    victim = Planted("tabular", 3)
    asker = DFME(batch=10, probed=10).open(victim.data(), victim.spec, seed=0)
    before = draw(asker)
    latent, probes = torch.randn(10, LATENT, generator=asker.noise), asker.probes()
    rows = asker.draw(latent, probes)
    asker.improve(Block(0, latent, probes, 20), StolenAnswers(rows, np.full((20, 3), np.nan)))
    np.testing.assert_array_equal(draw(asker), before)


@pytest.mark.parametrize("modality", ["tabular", "image"])
def test_the_generator_climbs_the_disagreement_of_the_clones(modality):
    victim = Planted(modality, 3)
    asker = Disagreement(climbs=40, diversity=0.0).open(victim.data(), victim.spec, seed=0)

    def apart():
        first, second = (clone_probabilities(clone, draw(asker)) for clone in asker.clones)
        return np.abs(first - second).mean()

    before = apart()
    asker.improve(
        Block(0, torch.zeros(0, LATENT), torch.zeros(0), 0), StolenAnswers(victim.rows(0, 0), np.zeros((0, 3)))
    )
    assert apart() > 1.1 * before


def test_blocks_cut_anywhere_are_asked_in_full_and_probes_belong_to_their_rows():
    victim = Planted("tabular", 2)
    asker = DFME(batch=8, probed=4, directions=2).open(victim.data(), victim.spec, seed=0)
    inputs = victim.rows(0, 0)
    for count in (5, 16, 1, 26):
        new = asker.ask(count, StolenAnswers(inputs, softmaxed(victim, inputs)), None)
        assert len(new) == count
        inputs = np.concatenate([inputs, new])
    for block in inputs.reshape(3, 16, 6):
        for probed in (block[8:12], block[12:]):
            moved = np.abs(probed - block[:4]).max(axis=1)
            assert moved.min() > 0
            assert moved.max() < 0.2
            assert moved.max() < np.abs(probed - block[4:8]).max(axis=1).min()


def test_inputs_without_bounds_need_a_pool_that_shows_them():
    victim = Planted("tabular", 2)
    data = AttackData(craft=Split(victim.rows(0, 0)), test=Split(victim.rows(0, 0)))
    with pytest.raises(MedwardError, match="no bounds"):
        Disagreement().open(data, victim.spec, seed=0)
    pool = victim.rows(500, 0) + np.float32(50)
    drawn = draw(Disagreement().open(replace(data, pool=pool), spec_of("tabular", 2), seed=0))
    assert 45 < drawn.min() < 49
    assert 51 < drawn.max() < 55
