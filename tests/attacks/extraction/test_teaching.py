"""A thief's report model is taught findings before texts, and rare sets of findings more often than they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.report_models import SHAPE, report_spec
from support.report_thefts import STUDENT

from medward.attacks.extraction.reports.clone import found_in
from medward.attacks.extraction.reports.teaching import drawing_weights, epoch_rows, teach_texts

USUAL = "The lungs are clear and well expanded. The heart is of usual size. No pleural effusion. No pneumothorax."
ROWS, EPOCHS = 80, 25


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=40))
def test_a_set_of_findings_is_drawn_by_the_root_of_how_common_it_is(sets):
    found = np.array(sets)
    weights = drawing_weights(found)
    for each in np.unique(found, axis=0):
        alike = (found == each).all(axis=1)
        np.testing.assert_allclose(weights[alike].sum(), np.sqrt(alike.sum()))


def test_an_epoch_is_every_row_once_unless_weights_say_otherwise():
    draws = torch.Generator().manual_seed(0)
    assert sorted(torch.cat(epoch_rows(50, None, 16, draws)).tolist()) == list(range(50))
    weights = torch.tensor([9.0] + [1.0] * 9)
    drawn = torch.cat(epoch_rows(10, weights, 4, draws)).tolist()
    many = [row for _ in range(100) for row in torch.cat(epoch_rows(10, weights, 4, draws)).tolist()]
    assert len(drawn) == 10
    assert 0.45 < np.mean(np.array(many) == 0) < 0.55, "half of all weight is the first row's"


@pytest.mark.slow
def test_who_is_told_of_findings_learns_what_is_rare_and_others_write_the_commonest_text():
    images = np.random.default_rng(0).random((ROWS, *SHAPE)).astype(np.float32)
    ill = np.arange(ROWS) % 8 == 0
    texts = [USUAL.replace("No pleural effusion", "Pleural effusion is seen") if each else USUAL for each in ill]
    spec = report_spec()
    found = found_in(texts, spec.task)
    assert (found[:, 0] == ill).all()
    begun = STUDENT.begin(spec, images, texts, seed=0)
    told, untold = (
        teach_texts(begun, images, texts, known, epochs=EPOCHS, seed=0).write(images) for known in (found, None)
    )
    assert np.mean([own == text for own, text in zip(told, texts, strict=True)]) > 0.95
    assert set(untold) == {USUAL}
