"""A conversation: what is put together from many answers is judged as one, and ordinary answers leave as they are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.release.conversation import FRAGMENT, WITHHELD_PART, Conversation
from medward.guard.release.memory.shown_values import ShownValues

NAME = "Ottilie Featherstone"


class FindWord:
    """A filter that takes one word out."""

    def find(self, text):
        return [match.span() for match in re.finditer("secret", text)]


def left(answers, known=(NAME,), **settings):
    conversation = Conversation([ShownValues([NAME])], known=known, **settings)
    return [conversation.redact(answer) for answer in answers]


def test_one_letter_at_a_time_two_leave():
    said = left(list(NAME))
    assert "".join(said).replace(WITHHELD_PART, "") == "Ot "
    assert said.count(WITHHELD_PART) == len(NAME) - 3


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_few_letters_at_a_time_no_more_than_the_first_leave(size):
    said = left([NAME[at : at + size] for at in range(0, len(NAME), size)])
    assert "".join(said).replace(WITHHELD_PART, "").replace(" ", "") in NAME[:size]


def test_words_and_halves_that_make_up_a_value_are_known_by_the_last():
    assert left(["It is Ottilie", "Featherstone, born in May"])[1] == f"{WITHHELD_PART}, born in May"
    assert "stone" not in left(["It is Ottilie Feather", "stone, who was born in May of that year"])[1]


def test_the_control_apart_the_same_answers_leave():
    assert [left([character])[0] for character in NAME] == list(NAME)


def test_a_value_in_one_answer_is_left_to_the_filters():
    assert left([f"The name is {NAME}."]) == [f"The name is {WITHHELD_PART}."]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["Yes.", "No acute finding.", "2", "left", "T8", "The heart is normal in size."])))
def test_ordinary_answers_leave_as_they_are(answers):
    assert left(answers) == answers


def test_what_a_filter_finds_across_answers_is_taken_out_of_the_new_one_only():
    conversation = Conversation([FindWord()])
    assert [conversation.redact(each) for each in ("a sec", "ret b", "secret")] == [
        "a sec",
        f"{WITHHELD_PART} b",
        WITHHELD_PART,
    ]


def test_what_is_remembered_is_bounded():
    conversation = Conversation([FindWord()], remembered=4)
    assert [conversation.redact(each) for each in ("sec", "r", "et")] == ["sec", "r", WITHHELD_PART]
    forgetful = Conversation([FindWord()], remembered=2)
    assert [forgetful.redact(each) for each in ("sec", "r", "et")] == ["sec", "r", "et"]
    with pytest.raises(MedwardError, match="at least 0 characters, got -1"):
        Conversation([], remembered=-1)


def test_a_long_answer_is_no_fragment():
    filler = "x" * FRAGMENT
    assert left(["Ot", f"ti {filler}"])[1] == f"ti {filler}"
