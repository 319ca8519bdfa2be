"""Rows nobody asked about help a thief, and no clone sees what another was told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.thefts import Planted, spec_of

from medward.attacks.extraction import SemiSupervised
from medward.attacks.extraction.base import StolenAnswers, clone_decisions, distil_clone
from medward.attacks.extraction.semi_supervised import fix_match


def bars(n, seed):
    """A bright row or column somewhere in a noisy image; a few labels do not show that the place is irrelevant."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.normal(0.4, 0.15, (n, 1, 8, 8))
    for image, label, place in zip(images, labels, rng.integers(7, size=n), strict=True):
        (image[0] if label else image[0].T)[place] += 0.3
    return images.clip(0, 1).astype(np.float32), labels


def test_unlabelled_images_make_a_better_clone_of_few_answers():
    spec, (test, truth), (x, y) = spec_of("image", 2), bars(300, 1), bars(320, 10)
    known = StolenAnswers(x[:32], np.eye(2)[y[:32]])
    teacher = distil_clone(spec, known, epochs=60, seed=0)
    before = np.mean(clone_decisions(teacher, test) == truth)
    student = fix_match(teacher, known, x[32:], spec, sure=0.9, epochs=12, seed=0)
    assert np.mean(clone_decisions(student, test) == truth) > before + 0.05
    assert np.mean(clone_decisions(teacher, test) == truth) == before, "the first clone stays as it was"


def test_pseudo_labels_carry_what_few_answers_say_along_the_other_rows():
    """Two parallel lines, answered at one end only."""
    rng = np.random.default_rng(0)
    labels, along = np.arange(400) % 2, rng.uniform(0, 1, 400)
    rows = rng.normal(0, 0.1, (400, 6))
    rows[:, 0] += 3 * along
    rows[:, 1] += 1.5 * along + np.where(labels, 0.4, -0.4)
    x, spec, far = rows.astype(np.float32), spec_of("tabular", 2), along > 0.5
    asked = np.flatnonzero(along < 0.3)[:20]
    known, others = StolenAnswers(x[asked], np.eye(2)[labels[asked]]), np.delete(x, asked, axis=0)
    teacher = distil_clone(spec, known, epochs=60, seed=0)
    students = [fix_match(teacher, known, others, spec, sure=sure, epochs=30, seed=0) for sure in (0.8, 1.1)]
    taught, never_sure = (np.mean(clone_decisions(student, x[far]) == labels[far]) for student in students)
    assert taught > 0.98
    assert taught > never_sure + 0.02


@pytest.mark.parametrize("modality", ["tabular", "image"])
def test_a_clone_does_not_depend_on_what_was_learned_before(modality):
    victim = Planted(modality, 2)
    asked = victim.rows(20, 5)
    loot = StolenAnswers(asked, np.eye(2)[victim.logits(asked).argmax(axis=1)])
    public = StolenAnswers(asked, loot.targets[:, ::-1].copy())
    data = victim.data()
    data = type(data)(craft=data.craft.take(slice(0, 64)), test=data.test)
    fresh, used = (SemiSupervised().open(data, victim.spec, seed=0) for _ in range(2))
    used.learn(loot, epochs=2, seed=0)
    one, two = (asker.learn(public, epochs=2, seed=0) for asker in (fresh, used))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert fresh.learn(StolenAnswers(asked, np.full((20, 2), np.nan)), epochs=2, seed=0) is None


def test_rows_asked_about_are_not_also_unlabelled():
    victim = Planted("tabular", 2)
    data = victim.data()
    asker = SemiSupervised().open(data, victim.spec, seed=0)
    rows = data.craft.inputs
    loot = StolenAnswers(rows, np.eye(2)[victim.logits(rows).argmax(axis=1)])
    alone = distil_clone(victim.spec, loot, epochs=2, seed=0)
    for a, b in zip(asker.learn(loot, epochs=2, seed=0).parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
