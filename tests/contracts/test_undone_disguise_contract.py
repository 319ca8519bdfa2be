"""Every disguise of one answer times every filter of known values: none leaves in it, and clean texts stay."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.memory import BOILERPLATE

from medward.attacks.disclosure.disguises import DISGUISES, UNSEEN_DISGUISES
from medward.attacks.disclosure.extraction_suite import Unguarded, hold_conversation
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.recovery import NEARLY, recovered_share
from medward.attacks.disclosure.victim import ExtractionTurn, Shown, WorstCaseVictim
from medward.guard.release.conversation import Conversation
from medward.guard.release.disguises.views import VIEWS, TokenReader, TokenViews
from medward.guard.release.text import IdentifierKind, KnownIdentifiers, TextFilter

Header = dict[IdentifierKind, str]
_K = IdentifierKind
PEOPLE: Sequence[Header] = (
    {
        _K.NAME: "Ottilie Featherstone",
        _K.DATE: "1961-04-12",
        _K.RECORD_NUMBER: "MRN 8472619",
        _K.PHONE: "555-123-4567",
        _K.EMAIL: "o.featherstone@example.org",
        _K.PLACE: "12 Harrow Lane, Springfield",
    },
    {
        _K.NAME: "Jane Roe",
        _K.DATE: "2000-10-20",
        _K.RECORD_NUMBER: "1000200",
        _K.PHONE: "+34 91 555 01 00",
        _K.EMAIL: "jr@example.org",
        _K.PLACE: "62704 Northport",
    },
    {
        _K.NAME: "María José Ibáñez",
        _K.DATE: "1999-12-31",
        _K.ACCOUNT: "4711-22-00",
        _K.URL: "https://ibanez.example.org/a",
    },
)
BETWEEN_TURNS = {"a letter a turn", "two letters a turn", "a word a turn"}
ONE_ANSWER = {name: disguise for name, disguise in DISGUISES.items() if name not in BETWEEN_TURNS}
UNDONE_TOO = {name: UNSEEN_DISGUISES[name] for name in ("base64 twice", "reversed rot13")}
ASCII_ONLY = {"acrostic", "spelling alphabet"}  # neither has a word for a letter with an accent


def known_text(header: Header) -> Callable[[str], str]:
    known = KnownIdentifiers(tuple(header.items()))
    return lambda answer: TextFilter().redact(answer, known).text


def streamed_text(header: Header) -> Callable[[str], str]:
    known = KnownIdentifiers(tuple(header.items()))

    def redact(answer: str) -> str:
        stream = TextFilter().stream(known)
        return "".join(map(stream.push, re.findall(r"\S+|\s+", answer))) + stream.finish()

    return redact


def conversation(header: Header) -> Callable[[str], str]:
    known = KnownIdentifiers(tuple(header.items()))
    return lambda answer: Conversation(identifiers=TextFilter(), known=known).redact(answer)


FILTERS = {"TextFilter": known_text, "TextFilter streamed": streamed_text, "Conversation": conversation}


def said(header: Header, name: str) -> list[tuple[str, str]]:
    """Each value and each answer that says it, in every framing."""
    disguise = {**DISGUISES, **UNSEEN_DISGUISES}[name]
    shown = Shown(header=header)
    turns = [
        (value, ExtractionTurn(kind=kind, framing=framing, disguise=disguise))
        for kind, value in header.items()
        for framing in FRAMINGS.values()
        if name not in ASCII_ONLY or value.isascii()
    ]
    return [(value, hold_conversation(WorstCaseVictim(), shown, turn, Unguarded())[0]) for value, turn in turns]


def recovered(value: str, name: str, answer: str) -> float:
    decode = {**DISGUISES, **UNSEEN_DISGUISES}[name].decode
    return max(recovered_share(value, decode([answer])), recovered_share(value, answer))


def test_the_disguises_left_out_are_those_of_several_turns():
    assert {name for name, each in DISGUISES.items() if len(each.encode("ab cd")) > 1} == BETWEEN_TURNS


@pytest.mark.parametrize("filtered", FILTERS)
@pytest.mark.parametrize("name", [*ONE_ANSWER, *UNDONE_TOO])
def test_no_known_value_leaves_in_it(name, filtered):
    for header in PEOPLE:
        redact = FILTERS[filtered](header)
        for value, answer in said(header, name):
            assert recovered(value, name, redact(answer)) < NEARLY, (value, redact(answer))


@pytest.mark.parametrize("name", [*ONE_ANSWER, *UNDONE_TOO])
def test_the_control_unguarded_it_leaves_and_known_of_another_it_stays_readable(name):
    header = {_K.NAME: "Ottilie Featherstone"}
    redact = known_text({_K.NAME: "Cornelius Brackenridge", _K.RECORD_NUMBER: "7300951"})
    for value, answer in said(header, name):
        assert recovered(value, name, answer) == 1
        assert recovered(value, name, redact(answer)) == recovered(value, name, TextFilter().redact(answer).text)


CLEAN = (
    *BOILERPLATE,
    " ".join(BOILERPLATE * 4),
    "an old janet type device, stone in the gall bladder, feathery opacity",
    "heart rate 123 and 456, level 12 and 34, 7 of 12 ribs",
    "one two three views were taken; T5 to T7; 3 of 5",
    "comparison with the prior examination is recommended",
    '{"findings": "no effusion", "impression": "normal", "score": 3}',
    "<findings>heart and lungs normal</findings> [1] [2] «see above»",
    "somewhat limited by motion, compared to older films",
    "November 2013: no X-ray; Golgi stain, Charcot joint, delta wave, echo normal",
    "deadbeef cafe 0x1f2e3d4c 48 52 60 72 bpm; 65, 66, 67, 68 kg; 98 %",
)


@pytest.mark.parametrize("filtered", FILTERS)
@pytest.mark.parametrize("header", PEOPLE, ids=lambda header: header[_K.NAME])
def test_clean_clinical_text_is_not_touched_by_any_view(filtered, header):
    redact = FILTERS[filtered](header)
    unknown = TextFilter()
    for text in CLEAN:
        assert redact(text) == unknown.redact(text).text


@pytest.mark.data
@pytest.mark.parametrize("filtered", ["TextFilter"])
def test_real_chest_reports_are_not_touched(filtered):
    archive = Path(os.environ["MEDWARD_DATA"]) / "iu_xray_reports" / "NLMCXR_reports.tgz"
    with tarfile.open(archive) as files:
        members = [member for member in files if member.name.endswith(".xml")][:150]
        texts = [
            "\n".join(
                each.text for each in ElementTree.parse(files.extractfile(member)).iter("AbstractText") if each.text
            )
            for member in members
        ]
    assert len(texts) == 150
    for header in PEOPLE:
        redact = FILTERS[filtered](header)
        for text in texts:
            assert redact(text) == TextFilter().redact(text).text


@pytest.mark.parametrize("zeros_kept", [False, True])
def test_each_view_says_where_in_the_text_its_letters_are_from(zeros_kept):
    text = ' Ann:\n T3R0aWxpZQ== "part1": "Roe 10" 4f74 79\nlungs J0hn'
    views = TokenViews(text, TokenReader(zeros_kept=zeros_kept))
    read = dict(zip(VIEWS, views.runs, strict=True))
    ten = b"10" if zeros_kept else b"1"
    assert b"annt3r" in read["written"]
    assert b"roe" + ten in read["outside-markup"]
    assert b"part" not in read["outside-markup"]
    assert b"john" in read["leetspeak"]
    assert read["line-initials"] == b"atl"
    assert b"ottilie" in read["base64"]
    assert b"ot" in read["hex"]
    for view, name in enumerate(VIEWS):
        letters = views.letters(view)
        assert len(letters.letters) == len(letters.starts) == len(letters.ends) == len(read[name])
        assert all(0 <= start < end <= len(text) for start, end in zip(letters.starts, letters.ends, strict=True))
        assert (letters.starts[1:] >= letters.starts[:-1]).all()
    base64 = views.letters(list(VIEWS).index("base64"))
    at = base64.letters.index(b"ottilie")
    assert text[base64.starts[at] : base64.ends[at + 6]] == "T3R0aWxpZQ=="


def test_a_reader_shows_no_token_and_remembers_so_many():
    reader = TokenReader(("written",), most=3)
    assert [reader[token] for token in ("Roe", "x-ray", "ten", "Roe", "zero 1")] == [
        (b"roe",),
        (b"x",),
        (b"1",),
        (b"roe",),
        (b"1",),
    ]
    assert len(reader) <= 3
    assert "roe" not in repr(reader).lower()
