"""A conversation: what is put together from many answers is judged as one, and ordinary answers leave as they are."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.memory import fitted_memory, made_histories

from medward.guard.errors import MedwardError
from medward.guard.release.conversation import Conversation
from medward.guard.release.fragments import FRAGMENT
from medward.guard.release.text import KnownIdentifiers, TextFilter

NAME = "Ottilie Featherstone"
KNOWN = KnownIdentifiers.from_mapping({"name": NAME, "record_number": "MR8472619"})
HISTORY = made_histories(3, seed=0)[0]
WITHHELD, NAMED, MEMORISED = "[WITHHELD]", "[NAME]", "[MEMORISED]"


def conversation(**settings):
    return Conversation(**{"identifiers": TextFilter(), "known": KNOWN} | settings)


def left(answers, **settings):
    talk = conversation(**settings)
    return [talk.redact(answer) for answer in answers]


def test_one_letter_at_a_time_two_leave():
    said = left(list(NAME))
    assert "".join(said).replace(WITHHELD, "") == "Ot "
    assert said.count(WITHHELD) == len(NAME) - 3


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_few_letters_at_a_time_no_more_than_the_first_leave(size):
    said = left([NAME[at : at + size] for at in range(0, len(NAME), size)])
    assert re.sub(r"\[[A-Z]+\]| ", "", "".join(said)) in NAME[:size]


def test_words_and_halves_that_make_up_a_value_are_known_by_the_last():
    assert left(["It is Ottilie", "Featherstone, of Ward 3"])[1].startswith(f"{NAMED}, of ")
    assert "stone" not in left(["It is Ottilie Feather", "stone, who was seen at rest"])[1]


def test_the_control_apart_the_same_answers_leave():
    assert [left([character])[0] for character in NAME] == list(NAME)
    assert left(["stone, who was seen at rest"])[0].startswith("stone")


def test_a_value_in_one_answer_is_taken_out_by_its_kind():
    assert left([f"The name is {NAME}, number MR 8472619."]) == [f"The name is {NAMED}, number [RECORD_NUMBER]."]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["Yes.", "No acute finding.", "2", "left", "T8", "The heart is normal in size."])))
def test_ordinary_answers_leave_as_they_are(answers):
    assert left(answers) == answers


def test_what_is_remembered_is_bounded():
    halves = ["It is Ottilie Feather" + " and so on" * 20, "stone, who was seen at rest"]
    assert "stone" not in left([halves[0][:21], halves[1]])[1]
    assert left([halves[0][:21], halves[1]], remembered=0)[1] == halves[1]
    with pytest.raises(MedwardError, match="at least 0 characters, got -1"):
        conversation(remembered=-1)


def test_known_values_without_a_filter_that_searches_for_them_are_refused():
    with pytest.raises(MedwardError, match="are searched for by a text filter; give identifiers"):
        Conversation(known=KNOWN)


def test_a_long_answer_is_no_fragment():
    filler = "x" * FRAGMENT
    assert left(["Ot", f"ti {filler}"])[1] == f"ti {filler}"


def test_training_text_is_taken_out_beside_identifiers_and_over_answers():
    talk = conversation(memory=fitted_memory())
    said = talk.redact(f"Seen with {NAME}. {HISTORY}")
    assert said.startswith(f"Seen with {NAMED}.")
    assert MEMORISED in said
    apart = conversation(memory=fitted_memory())
    words = [apart.redact(f"{word} ") for word in HISTORY.split()]
    assert any(MEMORISED in each for each in words)
    assert MEMORISED not in "".join(conversation().redact(f"{word} ") for word in HISTORY.split())


PARTS = st.sampled_from(
    [
        NAME,
        "Ottilie",
        "Feather",
        "stone",
        HISTORY,
        HISTORY[:90],
        "MR 8472619",
        "The lungs are clear. ",
        "\n",
        " ",
        "O",
        "t",
    ]
)
ANSWERS = st.lists(st.lists(PARTS, max_size=5).map("".join), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANSWERS, st.data())
def test_answers_in_pieces_leave_as_whole_answers_do(answers, data):
    whole, streamed = (conversation(memory=fitted_memory()) for _ in range(2))
    for answer in answers:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
        stream = streamed.answer()
        pieces = [answer[first:last] for first, last in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
        assert "".join(map(stream.push, pieces)) + stream.finish() == whole.redact(answer)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANSWERS)
def test_what_is_outside_of_the_spans_is_unchanged(answers):
    talk = conversation(memory=fitted_memory())
    for answer in answers:
        redacted, rebuilt, at = talk.answer().redact(answer), [], 0
        for span in redacted.spans:
            assert at <= span.start < span.end <= len(answer)
            rebuilt += [answer[at : span.start], f"[{span.kind.upper()}]"]
            at = span.end
        assert redacted.text == "".join(rebuilt) + answer[at:]


@pytest.mark.parametrize("padding", [" ", ".", "\n- "])
def test_padding_does_not_make_a_fragment_a_text(padding):
    talk = conversation()
    for letter in NAME[:3]:
        stream = talk.answer()
        said = "".join(stream.push(each) for each in [*[padding] * 5_000, letter]) + stream.finish()
    assert NAME[2] not in said
    assert said == WITHHELD


def test_words_that_are_letters_are_a_fragment_however_they_are_cut():
    spelled = "oscar tango tango india lima india echo foxtrot echo alfa tango november"
    for cut in range(len(spelled)):
        whole, pieces = conversation(), conversation()
        stream = pieces.answer()
        in_pieces = stream.push(spelled[:cut]) + stream.push(spelled[cut:]) + stream.finish()
        assert in_pieces == whole.redact(spelled)
        assert pieces.redact("h") == whole.redact("h")


def test_an_answer_that_was_broken_off_counts_as_said():
    talk = conversation()
    for letter in NAME[:2]:
        talk.answer().push(letter)
    assert talk.redact(NAME[2]) == WITHHELD
    talk = conversation()
    talk.answer().push("It is Ottilie Feather")
    assert "stone" not in talk.redact("stone, who was seen at rest")


def test_surrogates_stand_for_identifiers_and_marks_for_the_rest():
    made_up = TextFilter(surrogate_key=bytes(32))
    talk = Conversation(identifiers=made_up, memory=fitted_memory(), known=KNOWN, patient="p1")
    said = talk.redact(f"Seen with {NAME}. {HISTORY}")
    assert MEMORISED in said
    assert NAMED not in said
    assert "Featherstone" not in said
    assert [talk.redact(letter) for letter in NAME[:3]][-1] == WITHHELD


@pytest.mark.parametrize("length", [0, 100, 255, 256, 300, 900])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_web_address_that_goes_on_in_the_next_answer_is_taken_out_to_its_end(length, size):
    talk = conversation()
    talk.redact("It is at https://example.org/view")
    answer, stream = "s" * length + "/jane&roe=kx47, and so on. It is so.", talk.answer()
    out = "".join(stream.push(answer[at : at + size]) for at in range(0, len(answer), size)) + stream.finish()
    assert out == "[URL], and so on. It is so."


@pytest.mark.parametrize("length", [60, 100, 255, 256, 300, 900])
@pytest.mark.parametrize("between", ["", "-", "---"])
def test_a_number_that_goes_on_in_the_next_answer_is_taken_out_to_its_end(length, between):
    talk = conversation()
    talk.redact("It is 12345678")
    answer, stream = between.join("7" * length + "2244106262") + ", and so on. It is so.", talk.answer()
    assert "".join(map(stream.push, answer)) + stream.finish() == "[CODE], and so on. It is so."


PADDED = ["The next digit is {}, and the lungs are clear.", "It goes on with {}. There is a small effusion, I think."]


@pytest.mark.parametrize("padding", PADDED)
@pytest.mark.parametrize("value", ["8472619", "Featherstone"])
def test_a_letter_a_turn_within_a_sentence_three_leave(padding, value):
    said = left([padding.format(letter) for letter in value])
    assert sum(WITHHELD in each for each in said) >= len(value) - 4
    plain = [padding.format(letter) for letter in "35172"]
    assert left(plain) == plain


def test_lone_characters_count_the_same_however_an_answer_comes():
    whole, pieces = conversation(), conversation()
    for letter in "8472619":
        answer, stream = PADDED[0].format(letter), pieces.answer()
        assert "".join(map(stream.push, answer)) + stream.finish() == whole.redact(answer)


def test_halves_of_a_number_within_one_answer_are_put_together():
    assert "2619" not in left(["First half 847, second half 2619."])[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "got no filter, so everything would leave; give identifiers="),
        ({"identifiers": fitted_memory()}, "identifiers must be a TextFilter, got MemoryFilter"),
        ({"memory": TextFilter()}, "memory must be a MemoryFilter, got TextFilter"),
        ({"identifiers": TextFilter(), "known": {"name": "Jane Roe"}}, "expected KnownIdentifiers, got dict"),
        ({"memory": fitted_memory(), "known": {"name": "Jane Roe"}}, "are searched for by a text filter"),
        ({"identifiers": TextFilter(), "remembered": "9"}, "at least 0 characters, got '9'"),
        ({"identifiers": TextFilter(surrogate_key=bytes(16)), "patient": 3}, "patient must be a text, got int"),
    ],
)
def test_a_conversation_that_could_not_work_is_refused_when_it_is_made(settings, said):
    with pytest.raises(MedwardError, match=said) as error:
        Conversation(**settings)
    assert "Jane" not in str(error.value)


def test_an_answer_that_is_no_text_is_refused():
    with pytest.raises(MedwardError, match="text: expected str, got NoneType"):
        conversation().redact(None)


def test_behind_a_spelled_name_an_ordinary_answer_leaves():
    said = left([*"JaneRoe", "ok, heart normal"], known=KnownIdentifiers.from_mapping({"name": "Jane Roe"}))
    assert said[-1] == "ok, heart normal"
    assert "".join(said[2:7]) == WITHHELD * 5
