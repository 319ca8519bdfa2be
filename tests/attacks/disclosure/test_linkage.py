"""Linkage of records without names to a register: by hand, with its baseline, and what coarser columns leave."""

from __future__ import annotations

import numpy as np
import pytest

from medward.attacks.disclosure.linkage import link_records
from medward.guard.errors import MedwardError

REGISTER = [{"age": 40, "sex": "F"}, {"age": 40, "sex": "M"}, {"age": 41, "sex": "M"}, {"age": 41, "sex": "M"}]


def test_only_who_alone_fits_is_named():
    told = link_records(REGISTER, "abcd", REGISTER, "abcd", ["age", "sex"])
    assert (told.named.value, told.rightly.value) == (0.5, 0.5)
    assert link_records(REGISTER, "abcd", REGISTER, "abcd", ["sex"]).rightly.value == 0.25
    same = link_records(REGISTER, "abcc", REGISTER, "abcc", ["age", "sex"])  # two entries of one person are no doubt
    assert same.rightly.value == 1


def test_who_is_named_wrongly_counts_as_named_only():
    told = link_records([{"age": 40, "sex": "F"}], "z", REGISTER, "abcd", ["age", "sex"])
    assert (told.named.value, told.rightly.value) == (1, 0)


def test_on_many_records_more_columns_name_more_and_the_baseline_names_hardly_any():
    rng = np.random.default_rng(0)
    people = [{"age": int(a), "born": int(b), "site": int(s)} for a, b, s in rng.integers((90, 365, 4), size=(600, 3))]
    names = list(range(600))
    told = [link_records(people, names, people, names, by).rightly.value for by in (["age"], ["age", "born", "site"])]
    assert told[0] < 0.05
    assert told[1] > 0.95
    assert link_records(people, names, people, names, ["age", "born", "site"]).baseline.high < 0.02
    coarse = [{**each, "born": each["born"] // 91, "age": each["age"] // 10} for each in people]
    assert link_records(coarse, names, coarse, names, ["age", "born", "site"]).rightly.value < 0.2


@pytest.mark.parametrize("by", [[], ["height"]])
def test_what_cannot_be_compared_is_refused(by):
    with pytest.raises(MedwardError, match="needs quasi-identifiers"):
        link_records(REGISTER, "abcd", REGISTER, "abcd", by)


def test_records_without_owners_are_refused():
    with pytest.raises(MedwardError, match="owners on both sides"):
        link_records(REGISTER, "abc", REGISTER, "abcd", ["age"])
