from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medward.guard.errors import MedwardError
from medward.guard.monitors.boundary_probing import PROBING
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs


def doubt(scores):
    names = tuple(map(str, range(scores.shape[1])))
    return Classification(classes=names, output="logits").doubt(scores)


def test_a_tie_is_closest_and_the_third_class_does_not_count():
    scores = np.array([[1.0, 1.0, 0.0], [0.2, 0.7, 0.1], [5.0, -5.0, 4.0]])
    assert doubt(scores).tolist() == [0.0, -0.5, -1.0]


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50)))
def test_it_is_the_same_for_any_order_of_the_classes_and_never_positive(scores):
    assert (doubt(scores) <= 0).all()
    assert (doubt(scores) == doubt(scores[:, ::-1])).all()


def test_outputs_that_nobody_judged_are_refused(linear_profile):
    with pytest.raises(MedwardError, match="judge them first"):
        linear_profile.fitted[PROBING.source].see(np.zeros((1, 3)), Outputs(np.zeros((1, 3))))
