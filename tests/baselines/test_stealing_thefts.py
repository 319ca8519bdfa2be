"""The moment a thief is flagged, and what is left of a gain."""

from dataclasses import dataclass

import numpy as np
import pytest
from stealing.thefts import Watched, share
from support.models import LinearModel

from medward.attacks.base import Access
from medward.guard.types import Answer, Level, Query, Verdict


@dataclass
class Rising:
    """Answers class 1 with certainty .75; the wealth of whoever is at the top of the path grows by 1 a query."""

    wealth: float = 0.0

    def answer(self, query):
        self.wealth += 1
        top = Verdict(part="e-process", account=query.principal[0], action=0, evidence={"peak": self.wealth})
        return Answer(
            id="",
            labels=np.array([1]),
            scores=np.array([[0.25, 0.75]]),
            levels=(Level.ROUNDED,),
            output="probabilities",
            spec=LinearModel().spec,
            verdicts=(Verdict(part="screen", action=0), top),
        )


def asked(count, *path):
    watched = Watched(Rising())
    for i in range(count):
        watched.answer(Query(principal=path, inputs=np.full((1, 1), i, np.float32)))
    return watched


def test_flagged_is_the_first_query_whose_wealth_reaches_one_over_alpha():
    watched = asked(9, "key")
    assert watched.reached(1e-3) == 7  # log 1000 is 6.9
    assert watched.reached(1e-2) == 5
    assert asked(6, "key").reached(1e-3) is None


def test_alpha_is_split_over_the_path():
    assert asked(9, "org", "key").reached(1e-3) == 8  # log 2000 is 7.6


@pytest.mark.parametrize(("access", "target"), [(Access.SCORES, [0.25, 0.75]), (Access.LABELS, [0, 1])])
def test_loot_is_what_the_thief_may_see_of_the_first_queries(access, target):
    loot = asked(5, "key").loot(3, access)
    assert loot.inputs.ravel().tolist() == [0, 1, 2]
    assert loot.targets.tolist() == [target] * 3


def test_a_share_is_of_what_was_gained_and_none_where_nothing_was():
    free = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    some = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])
    found = share(some, free)
    assert found["seeds"] == [0.5, 0.0]
    assert found["mean"] == pytest.approx(1 / 3)
    assert found["interval"][0] <= found["mean"] <= found["interval"][1]
    assert share(some, -free) == {"gains": [0.25, 0.0], "seeds": [None, None], "mean": None, "interval": None}
