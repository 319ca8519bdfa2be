"""Thieves who stay near what a guard forgives: a walk in small steps, and many details on one layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.thefts import Planted, spec_of

from medward.attacks.base import AttackData
from medward.attacks.extraction import BorrowedLayout, StolenAnswers, Theft, WalkedPool
from medward.attacks.extraction.borrowed_layout import hybrid_images
from medward.attacks.extraction.walked_pool import walk_points
from medward.attacks.target import Response, Target
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.screens.embeddings import thumbnail_embedding


def begun(strategy, victim, pool):
    nothing = Split(pool[:0])
    asker = strategy.open(AttackData(craft=nothing, test=nothing, pool=pool), victim.spec, seed=0)
    return lambda count: asker.ask(count, StolenAnswers(pool[:0], np.zeros((0, 2))), None)


def test_a_walk_visits_the_rows_one_after_the_other_in_equal_steps():
    rows = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    points = walk_points(rows, 5, np.arange(16))
    np.testing.assert_allclose(points[::5], rows, rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(points[:6], axis=0), np.repeat((rows[1] - rows[0])[None] / 5, 5, axis=0), atol=1e-6
    )


def test_a_walk_goes_on_where_it_was_and_ends_with_the_pool():
    victim = Planted("tabular", 2)
    pool = np.random.default_rng(0).normal(size=(5, *victim.spec.shape)).astype(np.float32)
    ask, at_once = (begun(WalkedPool(steps=4), victim, pool) for _ in range(2))
    parts = [ask(7), ask(7), ask(7), ask(7)]
    assert [len(part) for part in parts] == [7, 7, 3, 0]
    np.testing.assert_array_equal(np.concatenate(parts), at_once(100))


def test_hybrids_have_the_layout_of_one_image_and_the_detail_of_each_other():
    rng = np.random.default_rng(0)
    layout, details = rng.random((1, 16, 16)), rng.random((5, 1, 16, 16))
    made = hybrid_images(layout, details, detail=1.0)
    thumbnails = thumbnail_embedding(made, None)
    np.testing.assert_allclose(thumbnails, np.repeat(thumbnail_embedding(layout[None], None), 5, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.diff(made - details, axis=3)[..., ::2], 0, atol=1e-6)
    assert np.ptp(made, axis=0).mean() > 0.1


def test_a_thief_of_borrowed_layout_asks_about_the_lender_first_and_stays_in_range():
    victim = Planted("image", 2)
    pool = np.random.default_rng(0).random((30, *victim.spec.shape)).astype(np.float32)
    pool = victim.spec.low + (victim.spec.high - victim.spec.low) * pool
    ask = begun(BorrowedLayout(detail=3.0), victim, pool)
    first, others = ask(1), ask(100)
    assert (first[0] == pool).all(axis=(1, 2, 3)).sum() == 1
    assert len(others) == 29
    assert victim.spec.check(others).shape == others.shape


def test_borrowed_layout_steals_what_rests_on_detail_and_not_what_rests_on_layout():
    """Of a victim that decides by fine stripes; what decides by layout alone can't be stolen so."""
    rng = np.random.default_rng(1)

    def pictures(count):
        stripes = np.tile([1.0, -1.0], 8) * rng.uniform(-0.3, 0.3, (count, 1, 1, 1))
        layout = np.kron(rng.uniform(0.35, 0.65, (count, 1, 8, 8)), np.ones((1, 1, 2, 2)))
        return (layout + stripes).clip(0, 1).astype(np.float32)

    def stolen(answer, clone_of):
        data = AttackData(craft=Split(pool[:0]), test=Split(test), pool=pool, reference=answer(test).argmax(axis=1))
        theft = Theft(strategy=clone_of, queries=120, points=1, epochs=8)
        oracle = Target(spec, lambda x: Response(answer(x).argmax(axis=1), answer(x), "logits"), theft.threat)
        return theft.run(oracle, data, seed=0)

    def striped(x):
        side = 60 * (x[:, 0, :, ::2] - x[:, 0, :, 1::2]).mean(axis=(1, 2))
        return np.stack([side, -side], axis=1)

    def laid_out(x):
        side = 60 * (x[:, 0, :8].mean(axis=(1, 2)) - x[:, 0, 8:].mean(axis=(1, 2)))
        return np.stack([side, -side], axis=1)

    spec = replace(spec_of("image", 2), shape=(1, 16, 16))
    pool, test = pictures(300), pictures(200)
    told, blind = stolen(striped, BorrowedLayout()), stolen(laid_out, BorrowedLayout())
    assert told.outcome.mean() > told.baseline.mean() + 0.2
    assert blind.outcome.mean() < blind.baseline.mean() + 0.2


def test_what_cannot_be_walked_or_borrowed_is_said():
    victim, table = Planted("image", 2), Planted("tabular", 2)
    with pytest.raises(MedwardError, match="steps: must be at least 1, got 0"):
        WalkedPool(steps=0)
    with pytest.raises(MedwardError, match="two rows or more"):
        begun(WalkedPool(), victim, np.zeros((1, *victim.spec.shape), np.float32))
    with pytest.raises(MedwardError, match="tabular rows of shape"):
        begun(BorrowedLayout(), table, np.zeros((3, *table.spec.shape), np.float32))
    with pytest.raises(MedwardError, match="needs a pool"):
        begun(BorrowedLayout(), victim, np.zeros((0, *victim.spec.shape), np.float32))
