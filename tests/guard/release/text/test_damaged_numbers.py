"""A number that is written badly is somebody's still: so little of it is missing that the rest can be guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.disclosure.recovery import NEARLY, recovered_share
from medward.guard.release.text import TextFilter

FILTERS = {language: TextFilter(language=language) for language in ("en", "es")}
LETTERS = st.text("ABCDEFGHIKLNOPQRSTUVWYZ", min_size=1, max_size=3)
FRAMES = ("{}", "class: phone number; evidence: {}", "The record number is {}.", "name{} and shows the chest", "({})")


@st.composite
def values(draw):
    """A date of birth, a number of eight digits or a telephone's, as pages show them. Round numbers are quantities."""
    digits = draw(st.text("12346789", min_size=10, max_size=10))
    year, month, day = draw(st.integers(1900, 2030)), draw(st.integers(1, 12)), draw(st.integers(1, 31))
    shapes = (f"{year}-{month:02d}-{day:02d}", digits[:8], f"{digits[:3]}-{digits[3:6]}-{digits[6:]}")
    return draw(st.sampled_from(shapes))


@st.composite
def damaged(draw):
    """The value, and the same with an end that is missing, another character in a place, or more at its end."""
    value = draw(values())
    at, cut = draw(st.integers(0, len(value) - 1)), draw(st.integers(0, 2))
    other = draw(st.one_of(LETTERS, st.integers(0, 9).map(str), st.just("")))
    forms = (
        value[: len(value) - cut],
        value[cut:],
        value[:at] + other + value[at + 1 :],
        value + other,
        value[: len(value) - cut] + other,
    )
    return value, draw(st.sampled_from(forms))


@pytest.mark.parametrize("language", FILTERS)
@given(damaged(), st.sampled_from(FRAMES))
def test_no_value_leaves_of_which_the_rest_can_be_guessed(language, pair, frame):
    value, written = pair
    left = FILTERS[language].redact(frame.format(written)).text
    assert recovered_share(value, left) < NEARLY


@pytest.mark.parametrize("language", FILTERS)
@given(st.from_regex(r"[0-9]{3}-{1,4}[0-9]{2,3}-[0-9]{4}[KU]?|[0-9]{7,9}[K]?", fullmatch=True), st.sampled_from(FRAMES))
def test_no_whole_number_leaves_whatever_its_digits(language, value, frame):
    left = FILTERS[language].redact(frame.format(value)).text
    assert recovered_share(value, left) < NEARLY


@pytest.mark.parametrize("language", FILTERS)
@given(st.integers(60, 3000), st.integers(0, 600), st.integers(1, 700), st.sampled_from(["", "-", "---"]))
def test_a_number_goes_to_its_end_however_long(language, length, before, size, between):
    text = "a " * (before // 2) + "It is " + between.join("0" * length + "2244106262") + " indeed."
    stream = FILTERS[language].stream()
    streamed = "".join(stream.push(text[at : at + size]) for at in range(0, len(text), size)) + stream.finish()
    assert streamed == FILTERS[language].redact(text).text == "a " * (before // 2) + "It is [CODE] indeed."


def test_without_a_filter_the_rest_can_be_guessed():
    assert recovered_share("224-410-6262", "class: phone number; evidence: 224-410-62K") >= NEARLY


@pytest.mark.parametrize("language", FILTERS)
@given(st.integers(1, 99), st.integers(1, 200), st.sampled_from(["mg", "ml", "mm", "cm", "kg", "%"]))
def test_quantities_and_their_ranges_stay(language, low, more, unit):
    texts = (
        f"{low * 100}-{(low + more) * 100} {unit} given" if low >= 10 else f"{low * 100} {unit} given",
        f"{low}.{more}-{low}.{more + 1} {unit} seen",
        f"{low}-{low + more} {unit}",
        f"{low * 10000}-{(low + more) * 10000} {unit} given",
    )
    for text in texts:
        assert FILTERS[language].redact(text).text == text
