"""Which inputs are chosen: those where clones follow and references do not, of every class; errors as a control."""

from __future__ import annotations

import numpy as np
import pytest

from medward.attacks.ownership.agreement import balanced_agreement
from medward.attacks.ownership.candidates import (
    IMAGE_ALTERATIONS,
    SAME_LABEL,
    TABLE_ALTERATIONS,
    candidate_inputs,
    grey_levels,
)
from medward.attacks.ownership.choosing import FEWEST_OF_CLASS, conferrable_inputs, own_errors
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

CLASSES = Classification(classes=("no", "yes"), output="logits")
IMAGES = ModelSpec(name="i", modality="image", shape=(3, 16, 16), task=CLASSES, low=-1.0, high=1.0)
TABLE = ModelSpec(name="t", modality="tabular", shape=(4,), task=CLASSES)


def people(rng, n, mistaken, own_quirks):
    """Truth, the model's decisions, 30 models of the same data and 8 clones of the model.

    All make the same mistakes on the rows in `mistaken`, each its own on a tenth; clones share the model's quirks.
    """
    truth = rng.integers(2, size=n)
    shared = np.where(mistaken, 1 - truth, truth)

    def one(base, share):
        return np.where(rng.random(n) < share, 1 - base, base)

    model = np.where(own_quirks, 1 - shared, shared)
    return truth, model, np.stack([one(shared, 0.1) for _ in range(30)]), np.stack([one(model, 0.2) for _ in range(8)])


def area(own, null, clones):
    first, second = balanced_agreement(own, clones)[:, None], balanced_agreement(own, null)[None]
    return float(np.mean(first > second) + np.mean(first == second) / 2)


def test_disagreement_tells_clones_and_own_errors_do_not():
    rng = np.random.default_rng(0)
    mistaken, quirks = rng.random(4000) < 0.15, rng.random(4000) < 0.02
    truth, model, others, clones = people(rng, 4000, mistaken, quirks)
    chosen = conferrable_inputs(model, others[:10], clones[:2], 60, seed=0)
    assert area(model[chosen], others[10:, chosen], clones[2:, chosen]) > 0.99
    errors = own_errors(model, truth, 60, seed=0)
    assert (model[errors] != truth[errors]).all()
    assert area(model[errors], others[10:, errors], clones[2:, errors]) < 0.7


def test_every_class_has_a_share_and_too_rare_a_class_none():
    own = np.array([0] * 500 + [1] * 30 + [2] * (FEWEST_OF_CLASS - 1))
    references, clones = np.stack([(own + 1) % 3] * 3), np.stack([own])
    chosen = conferrable_inputs(own, references, clones, 60, seed=0)
    assert np.bincount(own[chosen]).tolist() == [20, 20]
    assert len(conferrable_inputs(own, np.stack([own] * 3), clones, 60, seed=0)) == 0  # all agree: nothing is told


def test_unknown_labels_are_no_errors():
    own = np.zeros(100, int)
    assert len(own_errors(own, np.full(100, -1), 40, seed=0)) == 0
    assert len(own_errors(own, np.ones(100, int), 40, seed=0)) == 40


@pytest.mark.parametrize(("spec", "kinds"), [(IMAGES, IMAGE_ALTERATIONS), (TABLE, TABLE_ALTERATIONS)])
def test_candidates_are_of_every_kind_and_what_the_model_takes(spec, kinds):
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, size=(30, *spec.shape)).astype(np.float32)
    found = candidate_inputs(spec, rows, 300, seed=0)
    assert len(found.inputs) >= 300
    assert found.names == ("held-out rows", *kinds)
    assert set(found.kinds) == set(range(1 + len(kinds)))
    np.testing.assert_array_equal(spec.check(found.inputs), found.inputs)
    same = np.isin(found.kinds, [0, *(1 + list(kinds).index(kind) for kind in SAME_LABEL if kind in kinds)])
    assert (same == (found.rows >= 0)).all()
    again = candidate_inputs(spec, rows, 300, seed=0)
    np.testing.assert_array_equal(again.inputs, found.inputs)
    for number in range(1, 1 + len(kinds)):  # every alteration alters
        assert (
            not (found.inputs[found.kinds == number][:, None] == rows[None]).reshape(-1, 30, rows[0].size).all(2).all()
        )


def test_images_are_exactly_what_a_file_of_8_bits_holds():
    rows = np.random.default_rng(0).uniform(-1, 1, size=(20, *IMAGES.shape)).astype(np.float32)
    inputs = candidate_inputs(IMAGES, rows, 200, seed=0).inputs
    back = np.asarray(-1 + grey_levels(IMAGES, inputs) / 255 * 2, np.float32)
    np.testing.assert_array_equal(back, inputs)


def test_codes_of_a_table_stay_codes():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(3, size=50), rng.normal(size=(50, 3))]).astype(np.float32)
    inputs = candidate_inputs(TABLE, rows, 400, seed=0).inputs
    assert set(np.unique(inputs[:, 0])) <= {0.0, 1.0, 2.0}
