from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medward.guard.monitors.boundary_probing import closeness


def test_a_tie_is_closest_and_the_third_class_does_not_count():
    scores = np.array([[1.0, 1.0, 0.0], [0.2, 0.7, 0.1], [5.0, -5.0, 4.0]])
    assert closeness(scores).tolist() == [0.0, -0.5, -1.0]


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50)))
def test_it_is_the_same_for_any_order_of_the_classes_and_never_positive(scores):
    assert (closeness(scores) <= 0).all()
    assert (closeness(scores) == closeness(scores[:, ::-1])).all()
