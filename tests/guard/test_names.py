"""Names that print alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import MedwardError
from guard.names import alike, by_folded, folded, hides


@given(name=st.text())
def test_folding_is_done_once_and_forgets_case_and_outer_space(name):
    once = folded(name)
    assert folded(once) == once
    assert folded(f"  {name} ") == once
    assert once == once.casefold()


@pytest.mark.parametrize(
    ("one", "other"),
    [("Müller", "Mu\u0308ller"), ("ﬁbrosis", "fibrosis"), ("no  finding", "No finding "), ("STRASSE", "straße")],
)
def test_two_spellings_are_found_alike(one, other):
    assert alike(("effusion", one, other)) == (one, other)
    with pytest.raises(MedwardError, match="print alike"):
        by_folded({one: 1, other: 2}, "sites")


def test_different_names_stay_different():
    names = ("benign", "malignant", "benign 2", "benign2", "bénign", "良性")
    assert alike(names) is None
    assert by_folded(dict.fromkeys(names, 1), "sites").keys() == set(names)
    assert alike(("a", "b", "a")) == ("a", "a")


@pytest.mark.parametrize(
    "name", ["a\u200bb", "a\u200d", "\ufeffa", "a\u034f", "a\u3164", "a\ufe0f", "a\tb", "a\x00", "a\u202eb"]
)
def test_what_cannot_be_seen_is_told(name):
    assert hides(name)
    assert not hides(folded("Ärzte 名前"))
