"""Values of a request: found in every view and order of words, and nothing else is touched."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.release.memory.shown_values import ShownValues

SHOWN = ShownValues(["Ottilie Featherstone", "1961-04-12", "MRN 8472619", "Li"])


@pytest.mark.parametrize(
    "said",
    [
        "Ottilie Featherstone",
        "FEATHERSTONE, OTTILIE",
        "Featherstone^Ottilie",
        "o-t-t-i-l-i-e f-e-a-t-h-e-r-s-t-o-n-e",
        "eilittO enotsrehtaeF",
        "one nine six one zero four one two",
        "12 of them: 1961/4/12",
        "mrn eight four seven two six one nine",
        base64.b64encode(b"id: MRN 8472619 ok").decode(),
    ],
)
def test_a_value_is_found_however_it_is_written(said):
    spans = SHOWN.find(f"It is {said} here.")
    assert len(spans) == 1
    assert f"It is {said} here."[slice(*spans[0])].strip(".,;:") in said


@pytest.mark.parametrize("said", ["Ottilie", "Feather stones", "1961-05-12", "8472618", "Li", "The heart is normal."])
def test_what_is_no_value_or_too_short_passes(said):
    assert SHOWN.find(said) == []


def test_without_values_nothing_is_found():
    assert ShownValues([]).find("Ottilie Featherstone") == []
    assert SHOWN.find("") == []


@settings(max_examples=40)
@given(before=st.text(max_size=30), after=st.text(max_size=30), between=st.sampled_from(["", " ", "-", "\u200b", ". "]))
def test_a_value_between_any_texts_does_not_leave(before, after, between):
    text = f"{before} {between.join('Ottilie Featherstone')} {after}"
    spans = SHOWN.find(text)
    assert spans
    assert all(0 <= start < end <= len(text) for start, end in spans)
    rest = list(text)
    for start, end in reversed(spans):
        rest[start:end] = "\n"
    assert SHOWN.find("".join(rest)) == []
