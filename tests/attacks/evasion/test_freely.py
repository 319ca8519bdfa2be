"""What the bare model loses where the radius is taken row by row, before anyone says that it needs no defense."""

import numpy as np

from medward.attacks.base import Attempt
from medward.attacks.evasion.fooled_share import fooled_interval, freely_fooled


def attempt(radius, fooled, decided):
    rows = np.isin(np.arange(len(decided)), fooled)
    return Attempt(radius=radius, fooled=rows, noisy=np.zeros(len(decided), bool), decided=np.asarray(decided))


def test_rows_that_any_radius_fools_count_together():
    tries = [attempt(0.1, [0, 1], [0] * 10), attempt(0.2, [2, 3, 4], [0] * 10)]
    assert freely_fooled(tries).value == 0.5
    assert fooled_interval(tries).value == 0.3, "one radius for all"


def test_attempts_on_other_rows_are_not_mixed():
    tries = [attempt(0.1, [0, 1], [0] * 10), attempt(0.2, [2, 3, 4], [1] * 10)]
    assert freely_fooled(tries).value == 0.3
    assert freely_fooled([]) is None
