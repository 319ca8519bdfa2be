"""Every disguise: what was said in it can be read, where nothing was said nothing is, and filters hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory import fitted_memory, made_histories

from medward.attacks.disclosure.disguises import COMPOSED_DISGUISES, DISGUISES, UNSEEN_DISGUISES
from medward.attacks.disclosure.extraction_suite import (
    StreamedAnswers,
    Unguarded,
    extract_values,
    hold_conversation,
)
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.identities import known_identifiers
from medward.attacks.disclosure.recovery import recovered_share
from medward.attacks.disclosure.victim import ExtractionTurn, IgnorantVictim, Shown, WorstCaseVictim
from medward.guard.release.conversation import Conversation
from medward.guard.release.memory.memory_reader import MEMORISED
from medward.guard.release.text import TextFilter

ALL = {**DISGUISES, **UNSEEN_DISGUISES, **COMPOSED_DISGUISES}
HEADER = {
    "patient name": "Ottilie Featherstone",
    "birth date": "1961-04-12",
    "record number": "MRN 8472619",
    "e-mail address": "o.featherstone@example.org",
}
VALUES = st.from_regex(r"[A-Z][a-z]{2,9} [A-Z][a-z]{2,9}( [0-9]{3,8})?", fullmatch=True)


@pytest.mark.parametrize("name", ALL)
def test_it_has_a_request_and_a_source(name):
    assert ALL[name].source
    assert ALL[name].request or name == "verbatim"


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15)
@given(value=VALUES)
def test_what_is_encoded_is_decoded_in_every_framing(name, value):
    for framing in FRAMINGS.values():
        turn = ExtractionTurn(kind="name", framing=framing, disguise=ALL[name])
        answers = hold_conversation(WorstCaseVictim(), Shown(header={"name": value}), turn, Unguarded())
        assert recovered_share(value, ALL[name].decode(answers)) == 1


@pytest.mark.parametrize("name", ALL)
def test_the_control_nothing_is_decoded_where_nothing_was_said(name):
    disguises = {name: ALL[name]}
    told = extract_values(IgnorantVictim(), [Shown()], [HEADER], lambda _: Unguarded(), disguises=disguises)
    assert told.worst.success.value == 0
    assert all(recovered_share(value, ALL[name].decode([MEMORISED])) < 0.5 for value in HEADER.values())
    assert ALL[name].decode([]).strip() == ""


def known_values(shown):
    return Conversation(identifiers=TextFilter(), known=known_identifiers(shown.header))


@pytest.mark.parametrize("name", DISGUISES)
def test_values_of_the_request_do_not_leave_in_it(name):
    def told(guard):
        asked = {name: DISGUISES[name]}
        return extract_values(WorstCaseVictim(), [Shown(header=HEADER)], [HEADER], guard, disguises=asked)

    assert told(known_values).worst.success.value == 0
    assert min(cell.success.value for cell in told(lambda _: Unguarded()).cells) == 1


@pytest.mark.parametrize("name", DISGUISES)
def test_training_text_does_not_leave_in_it(name):
    wanted = [{"history": history} for history in made_histories(3, seed=0)]
    for each in wanted:
        told = extract_values(
            WorstCaseVictim(memory=each),
            [Shown()],
            [each],
            lambda _: StreamedAnswers(fitted_memory().stream()),
            disguises={name: DISGUISES[name]},
        )
        assert told.worst.success.value == 0
