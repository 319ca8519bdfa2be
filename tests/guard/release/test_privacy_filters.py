"""Filters of text as a policy says: opened for each conversation, refused where they would protect nothing, counted."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.memory import fitted_memory, made_histories

from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.privacy_policy import ALL_KINDS, PrivacyPolicy
from medward.guard.release.conversation import Conversation
from medward.guard.release.privacy_filters import PrivacyFilters
from medward.guard.release.text import KnownIdentifiers, TextFilter

NAME = "Ottilie Featherstone"
KNOWN = KnownIdentifiers.from_mapping({"name": NAME, "record_number": "MR8472619"})
ANSWER = f"{NAME}, MR 8472619, was seen by Dr. Alice Carter on March 5, 2023: the heart is normal."
HISTORIES = made_histories(3, seed=0)


@pytest.fixture
def memory():
    return fitted_memory()


def filters(given=None, /, **settings):
    return PrivacyFilters(PrivacyPolicy(**settings), memory=given)


def test_answers_leave_as_through_a_conversation_of_the_same_filters():
    said = filters().conversation(KNOWN).redact(ANSWER)
    assert said == Conversation(identifiers=TextFilter(), known=KNOWN).redact(ANSWER)
    assert said.endswith("was seen by [NAME] on [DATE]: the heart is normal.")


def test_replaced_parts_are_counted_by_kind_over_all_conversations():
    counting = filters()
    assert counting.replaced == {}
    for _ in range(2):
        counting.conversation(KNOWN).redact(ANSWER)
    assert counting.replaced == {"name": 4, "record_number": 2, "date": 2}
    counting.conversation(KNOWN).redact("The heart is normal.")
    assert sum(counting.replaced.values()) == 8, "the control: nothing was taken out"


def test_a_text_in_pieces_counts_as_a_whole_one_and_fragments_count_as_withheld():
    whole, pieces = filters(), filters()
    whole.conversation(KNOWN).redact(ANSWER)
    stream = pieces.conversation(KNOWN).answer()
    assert "".join([*map(stream.push, ANSWER), stream.finish()]).startswith("[NAME], [RECORD_NUMBER]")
    assert pieces.replaced == whole.replaced
    letters, spelled = filters(), 0
    talk = letters.conversation(KNOWN)
    for letter in NAME:
        spelled += talk.redact(letter) == "[WITHHELD]"
    assert letters.replaced == {"withheld": spelled}
    assert spelled > 10


def test_threads_that_filter_at_once_lose_no_count():
    counting = filters()

    def talk(_):
        for _ in range(5):
            counting.conversation(KNOWN).redact(ANSWER)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(talk, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert counting.replaced == {"name": 80, "record_number": 40, "date": 40}


def test_only_the_kinds_of_the_policy_are_taken_out():
    chosen = filters(kinds=("date",))
    assert f"{NAME}, MR 8472619" in chosen.conversation(KNOWN).redact(ANSWER)
    assert chosen.replaced == {"date": 1}


def test_a_language_of_the_policy_is_the_filter_s():
    said = "Fecha de nacimiento: 5 de marzo de 1960."
    assert "marzo" not in filters(language="es").conversation().redact(said)


def test_no_more_of_a_conversation_is_remembered_than_the_policy_says():
    halves = ["It is Ottilie Feather", "stone, who was seen at rest"]
    for remembered, leaves in ((512, False), (0, True)):
        talk = filters(remembered=remembered).conversation(KNOWN)
        assert ("stone" in [talk.redact(half) for half in halves][1]) is leaves


def test_training_text_is_taken_out_where_the_policy_asks_for_it(memory):
    for identifiers in (True, False):
        both = filters(memory, memory=True, identifiers=identifiers)
        assert "[MEMORISED]" in both.conversation(KNOWN).redact(HISTORIES[0])
        assert both.replaced["memorised"] >= 1
    assert "[MEMORISED]" not in filters().conversation(KNOWN).redact(HISTORIES[0])


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"memory": True}, []),
        ({}, ["privacy.memory = false"]),
        ({"memory": True, "identifiers": False}, ["privacy.identifiers = false"]),
        ({"memory": True, "kinds": ALL_KINDS[2:]}, ["privacy.kinds says: name, place"]),
        ({"kinds": ALL_KINDS[1:]}, ["privacy.kinds says: name", "privacy.memory = false"]),
    ],
)
def test_what_the_policy_leaves_in_answers_is_said(memory, settings, left):
    notes = filters(memory if "memory" in settings else None, **settings).notes
    assert len(notes) == len(left)
    assert all(note.endswith(end) for note, end in zip(notes, left, strict=True)), notes


@pytest.mark.parametrize(
    ("settings", "given", "says"),
    [
        ({"identifiers": False}, False, "nothing is taken out of answers; set one of them to true"),
        ({"memory": True}, False, "there is no memory filter; give memory=MemoryFilter.load"),
        ({}, True, "a memory filter was given that would not be used"),
        ({"identifiers": False}, True, "nothing is taken out of answers"),
    ],
)
def test_a_protection_that_is_missing_or_switched_off_is_refused(memory, settings, given, says):
    with pytest.raises(MedwardError, match=says) as refused:
        filters(memory if given else None, **settings)
    assert "\n" not in str(refused.value)


def test_a_whole_policy_and_what_is_no_memory_filter_are_refused():
    with pytest.raises(MedwardError, match=r"must be its section \[privacy\]"):
        PrivacyFilters(Policy(on_error="flag"))
    with pytest.raises(MedwardError, match="memory must be a MemoryFilter, got str"):
        filters("memory.bloom", memory=True)


def test_a_missing_extra_is_said_when_the_filters_are_built(monkeypatch):
    for name in [each for each in sys.modules if each.startswith("medward.guard.release.text") or each == "re2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(MedwardError, match=r"privacy.identifiers = true needs re2: pip install 'medward\[text\]'"):
        filters()


def test_filters_show_no_value_of_a_patient():
    counting = filters()
    counting.conversation(KNOWN).redact(ANSWER)
    for shown in (repr(counting), repr(counting.replaced), *counting.notes):
        assert not [word for word in ("Ottilie", "Featherstone", "8472619", "Carter") if word in shown]
