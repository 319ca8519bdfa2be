"""A text in pieces is redacted as the whole text is, with a bounded delay, and leaves clinical content as it was."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.release.text import KnownIdentifiers, TextFilter
from medward.guard.release.text.windows import MAXIMUM_DELAY

KNOWN = KnownIdentifiers.from_mapping({"name": "Jane Featherstone", "record_number": "MR4711223", "date": "1960-03-05"})
FRAGMENTS = st.sampled_from(
    [
        "Jane Featherstone",
        "J a n e",
        "featherstone, jane",
        "enotsrehtaef",
        "MR 4711223",
        "4 7 1 1 2 2 3",
        "March 5, 1960",
        "Dr. Alice Carter",
        "Emily Smith",
        "Mercy Hospital",
        "Chicago",
        "555-123-4567",
        "jane@example.org",
        "12 Elm Street",
        "MRN:",
        "on",
        "at",
        "\n",
        ". ",
        ", ",
        "no focal consolidation",
        "heart size is normal",
        "T8-T9",
        "Parkinson disease",
        "five four seven one one",
        "SmFuZSBGZWF0aGVyc3RvbmU=",
        "\u200b",
        "\u202e",
        "é",
        "中文",
        "x" * 300,
        " ",
        "[NAME]",
        "a" * 40,
    ]
)
TEXTS = st.lists(st.one_of(FRAGMENTS, FRAGMENTS, st.text(max_size=12)), max_size=60).map(" ".join)
FILTER = TextFilter()


def streamed(text, cuts):
    stream = FILTER.stream(KNOWN)
    pieces = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out, delays = [], []
    for piece in pieces:
        out.append(stream.push(piece))
        delays.append(stream.held)
    return "".join(out) + stream.finish(), delays, stream.spans


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.data())
def test_pieces_give_what_the_whole_text_gives(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    whole = FILTER.redact(text, KNOWN)
    redacted, delays, spans = streamed(text, cuts)
    assert redacted == whole.text
    assert tuple(spans) == whole.spans
    assert max(delays) < MAXIMUM_DELAY


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_what_is_outside_of_the_spans_is_unchanged(text):
    redacted = FILTER.redact(text, KNOWN)
    rebuilt, at = [], 0
    for span in redacted.spans:
        assert at <= span.start < span.end <= len(text)
        rebuilt += [text[at : span.start], f"[{span.kind.upper()}]"]
        at = span.end
    assert redacted.text == "".join(rebuilt) + text[at:]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FRAGMENTS.filter(lambda each: len(each) < 60), max_size=8).map(" ".join))
def test_redacting_twice_changes_nothing_more(text):
    once = FILTER.redact(text, KNOWN).text
    assert FILTER.redact(once, KNOWN).text == once


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS.map(lambda text: re.sub(r"[^\x20-\x7e]", "", text)))
def test_a_known_name_never_leaves(text):
    assert "featherstone" not in FILTER.redact(text, KNOWN).text.lower()


def test_token_by_token_nothing_of_an_identifier_leaves():
    text = "The heart is normal. " * 60 + "Patient: Jane Featherstone, MR4711223. " + "The lungs are clear. " * 60
    stream, shown = FILTER.stream(KNOWN), ""
    for token in re.findall(r"\S+|\s+", text):
        shown += stream.push(token)
        assert "Jane" not in shown
        assert "Feather" not in shown
    assert shown + stream.finish() == FILTER.redact(text, KNOWN).text


def test_a_finished_stream_takes_no_more():
    stream = FILTER.stream()
    stream.finish()
    with pytest.raises(MedwardError, match="after finish"):
        stream.push("x")


def test_nothing_is_held_of_a_text_that_has_left():
    stream = FILTER.stream(KNOWN)
    for _ in range(2_000):
        stream.push("The lungs are clear. ")
        assert stream.held < MAXIMUM_DELAY


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3000), st.integers(0, 600), st.integers(1, 700), st.sampled_from(["https://x.org/", "www.x.org/"])
)
def test_a_web_address_goes_to_its_end_however_long(length, before, size, begin):
    text = "a " * (before // 2) + f"See {begin}{'s' * length}&name=JaneRoe&kx=4711kx, which is it."
    stream = FILTER.stream()
    streamed_text = "".join(stream.push(text[at : at + size]) for at in range(0, len(text), size)) + stream.finish()
    assert streamed_text == FILTER.redact(text).text == "a " * (before // 2) + "See [URL], which is it."
    assert [each.kind for each in stream.spans] == ["url"]
