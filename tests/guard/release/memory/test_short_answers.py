"""Short answers: boilerplate leaves in pieces, and what only one patient's text says does not."""

from __future__ import annotations

import base64
import codecs
import re
import tracemalloc
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.memory import BOILERPLATE, fitted_memory, made_histories, made_reports

from medward.guard.errors import IntegrityError
from medward.guard.release.conversation import Conversation
from medward.guard.release.fragments import FRAGMENT
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.release.memory.memory_reader import MEMORISED
from medward.guard.release.memory.rare import RareSettings

SPELLED, PHRASE = RareSettings().spelled, RareSettings().phrase
SHARED = " ".join(BOILERPLATE[:4])  # all that stands before what is rare
RARE = "Her tram driver keeps nine zebras behind an old mill near Oban and plays them violin."
ORDINARY = ["Yes.", "No.", "Normal.", "Clear.", "No effusion.", "2", "left", "T8", "Mild cardiomegaly", "unremarkable"]


@cache
def known():
    """The filter of 20 patients' boilerplate, and of one whose report is rare only at its end."""
    texts = [SHARED] * 20 + [f"{SHARED} {RARE}"]
    return MemoryFilter.fit(texts, range(21), salt=bytes(16))


@cache
def own():
    """The filter of that one report alone: no phrase of it is another patient's."""
    return MemoryFilter.fit([f"{SHARED} {RARE}"], [0], salt=bytes(16))


def letters(text):
    return re.sub(r"[\W_]", "", text.lower())


def pieces(size, text=f"{SHARED} {RARE}"):
    return [text[at : at + size] for at in range(0, len(text), size)]


def words(text=f"{SHARED} {RARE}"):
    return [f"{word} " for word in text.split()]


def streamed(answers, memory=None):
    stream = (memory or known()).stream()
    return [stream.push(answer) + stream.finish() for answer in answers]


def conversed(answers, memory=None):
    talk = Conversation(memory=memory or known())
    return [talk.redact(answer) for answer in answers]


def longest(said):
    """Letters in a row that left."""
    return max(len(letters(run)) for run in "".join(said).split(MEMORISED))


def spells_what_is_rare(said):
    """Whether so many letters in a row left as may not be spelled, with a phrase that is no boilerplate."""
    run, shared = letters(f"{SHARED} {RARE}"), letters(SHARED)
    stretches = [run[at : at + SPELLED] for at in range(len(run) - SPELLED + 1)]
    rare = [
        each for each in stretches if any(each[at : at + PHRASE] not in shared for at in range(SPELLED - PHRASE + 1))
    ]
    return any(each in letters(left) for left in "".join(said).split(MEMORISED) for each in rare)


@pytest.mark.parametrize("hold", [streamed, conversed])
@pytest.mark.parametrize(
    "answers", [*map(pieces, (1, 2, 3, 5, FRAGMENT)), words()], ids=["1", "2", "3", "5", "12", "word"]
)
def test_what_is_rare_does_not_leave_in_short_answers(hold, answers):
    said = hold(answers)
    assert not spells_what_is_rare(said)
    assert longest(said) < len(letters(SHARED)) + PHRASE
    assert longest(hold(answers, own())) < SPELLED
    apart = [hold([answer])[0] for answer in answers]
    assert apart == answers  # the control: without a memory of the conversation it leaves
    assert spells_what_is_rare(apart)


@pytest.mark.parametrize("size", [31, 32, 40, 60, 64, 65, 100, 218])
def test_a_word_of_any_length_is_judged(size):
    assert longest(streamed(pieces(size, RUN), own())) < SPELLED
    assert streamed(["q" * size] * 4, own()) == ["q" * size] * 4  # the control


@pytest.mark.parametrize("hold", [streamed, conversed])
def test_the_control_a_template_that_patients_share_leaves_line_by_line(hold):
    template = ["Heart normal.", "Lungs clear.", "No effusion.", "Bones intact.", "No mass."]
    panel = ["Negative."] * 12
    texts = [" ".join([*template, *panel, history]) for history in made_histories(20, seed=3)]
    shared = MemoryFilter.fit(texts, range(20), salt=bytes(16))
    assert hold(template * 5, shared) == template * 5
    assert hold(panel * 5, shared) == panel * 5
    alone = MemoryFilter.fit(texts[:1], [0], salt=bytes(16))
    assert hold(template, alone) != template  # what only one patient's text says


@pytest.mark.parametrize("size", [1, 2, FRAGMENT, 20, 60])
def test_an_answer_that_is_taken_out_shows_its_mark(size):
    answers = pieces(size)
    said = streamed(answers, own())
    assert all(left == answer or MEMORISED in left for answer, left in zip(answers, said, strict=True))
    assert sum(left == MEMORISED for left in said) > 1


def test_the_control_in_answers_that_are_longer_what_is_not_rare_leaves():
    assert streamed([SHARED]) == [SHARED]
    assert longest(streamed(pieces(40))) > 2 * SPELLED


RUN = letters(f"{SHARED} {RARE}")  # answers without a letter say nothing and leave
TURNED = " ".join(word[::-1] for word in f"{SHARED} {RARE}".split())


@pytest.mark.parametrize(
    "answers",
    [
        pieces(1, RUN[::-1]),
        pieces(1, codecs.encode(RUN, "rot13")),
        pieces(2, codecs.encode(RUN, "rot13")[::-1]),
        words(TURNED),
        pieces(1, RUN.translate(str.maketrans("oieast", "013457"))),
        [f'{{"part": "{letter}"}}' for letter in RUN],
        ["".join(f"\u200b{letter}\u0301" for letter in piece) for piece in pieces(2, RUN)],
    ],
    ids=["backwards", "rot13", "both", "words turned", "leetspeak", "json", "invisible"],
)
def test_simple_disguises_do_not_help(answers):
    left = [answer for answer, said in zip(answers, streamed(answers, own()), strict=True) if said == answer]
    assert len(left) < len(answers) / 4
    assert left == answers[: len(left)]


CODES = {
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "decimal": lambda text: " ".join(str(ord(character)) for character in text),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("size", [1, 3, 4])
def test_answers_that_are_each_in_another_code_do_not_help(name, size):
    parts = pieces(size, RUN)
    answers = [CODES[name](part) if place % 2 else part for place, part in enumerate(parts)]
    left = [part for part, answer, said in zip(parts, answers, streamed(answers, own()), strict=True) if said == answer]
    assert len("".join(left)) < SPELLED
    assert [own().redact(answer) for answer in answers] == answers  # the control


def test_longer_answers_between_and_padding_hide_nothing():
    filler = "There is a small effusion on the other side, I think."
    said = streamed([each for letter in pieces(1) for each in (letter, filler)], own())
    assert longest(said[::2]) < SPELLED
    assert set(said[1::2]) == {filler}
    assert longest(streamed([f"{letter}{' .' * 600}" for letter in pieces(1)], own())) < SPELLED


def test_a_long_word_is_a_short_answer():
    text = f"{SHARED} Cardiomediastinal silhouette unremarkable. {RARE}"
    memory = MemoryFilter.fit([text], [0], salt=bytes(16))
    assert longest(streamed(words(text), memory)) < SPELLED + len("cardiomediastinal")
    assert streamed(["Cardiomediastinal."], memory) == ["Cardiomediastinal."]


@pytest.mark.parametrize("hold", [streamed, conversed])
def test_the_control_unrelated_short_answers_leave(hold):
    for answers in (ORDINARY * 30, pieces(1, made_histories(1, seed=9)[0]), ["No.", "Clear."] * 200):
        assert hold(answers) == answers


def test_the_control_text_without_a_rare_passage_near_leaves():
    only_shared = MemoryFilter.fit([SHARED] * 20, range(20), salt=bytes(16))
    assert streamed(pieces(1, SHARED), only_shared) == pieces(1, SHARED)
    sentences = (
        "Lungs are clear without any focal consolidation.",
        "Pneumothorax or pleural effusion is not to be seen.",
        "Mild degenerative changes of the thoracic spine.",
        "Contours of the mediastinum are within normal limits.",
    )
    order = map(int, "0123021320310")  # no two follow each other twice: each seam is new, and far from the next
    far = " ".join(sentences[place] for place in order)
    near = MemoryFilter.fit([*sentences, *sentences, f"{far} {RARE}"], range(9), salt=bytes(16))
    said = streamed(pieces(1, f"{far} {RARE}"), near)
    left = len(letters("".join(said).split(MEMORISED)[0]))
    beyond = len(letters(far)) - near.reach
    assert beyond - SPELLED < left < beyond + 3 * SPELLED


ANSWERS = st.lists(
    st.one_of(
        st.sampled_from([*words(), *pieces(3), *ORDINARY, SHARED, RARE]),
        st.integers(0, 200).map(lambda at: f"{SHARED} {RARE}"[at : at + 15]),
        st.sampled_from([" " * 300, "a" + " " * 300 + "b", "", "\u200b" * 257, f"{' ' * 250}{SHARED}"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=st.integers(0, 100), answers=ANSWERS, data=st.data())
def test_how_answers_come_in_pieces_changes_nothing(before, answers, data):
    whole, cut = known().stream(stride=1), known().stream(stride=data.draw(st.sampled_from([1, 640])))
    for answer in [*pieces(2)[:before], *answers]:
        places = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=4)))
        parts = [answer[start:end] for start, end in pairwise([0, *places, len(answer)])]
        assert "".join(map(cut.push, parts)) + cut.finish() == whole.push(answer) + whole.finish()
    assert cut.spans == whole.spans


def test_what_short_answers_spelled_is_of_one_conversation():
    streams = [known().stream() for _ in range(10)]
    for place, piece in enumerate(pieces(2)[:100]):
        stream = streams[place % 10]
        assert stream.push(piece) + stream.finish() == piece
    assert MEMORISED in "".join(streamed(pieces(2)[:100]))


def test_memory_does_not_grow_with_short_answers():
    stream = known().stream()
    answers = [*pieces(1), *ORDINARY, "a" + " " * 300] * 2
    tracemalloc.start()
    try:
        for _ in range(2):
            [stream.push(answer) + stream.finish() for answer in answers]
        stream.spans.clear()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            [stream.push(answer) + stream.finish() for answer in answers]
            stream.spans.clear()
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()


def test_a_file_of_the_version_before_is_refused_in_one_sentence(tmp_path):
    file = tmp_path / "memory.bloom"
    known().save(file)
    assert streamed(pieces(1), MemoryFilter.load(file)) == streamed(pieces(1))
    file.write_bytes(file.read_bytes().replace(b"memory filter 3\n", b"memory filter 2\n"))
    with pytest.raises(IntegrityError, match=r"memory\.bloom: is of another version than 3, .*; fit the memory filter"):
        MemoryFilter.load(file)


def test_single_answers_lose_no_more_than_before():
    for text in [*made_reports(20, seed=1), " ".join(BOILERPLATE * 3), *BOILERPLATE, "  ".join(SHARED), *words(SHARED)]:
        assert fitted_memory().redact(text) == text
