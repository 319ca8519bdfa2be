"""The memory filter: what it takes out, what it lets pass, that cuts change nothing, and what its file gives away."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory import BOILERPLATE, fitted_memory, made_histories, made_reports

from medward.guard.data.text_canaries import plant_texts
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.release.memory.bloom import BloomFilter
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.release.memory.memory_reader import MEMORISED
from medward.guard.release.memory.rare import RareSettings
from medward.guard.release.memory.training_runs import TrainingRuns

KNOWN = made_histories(40, seed=0)
OTHERS = made_reports(40, seed=1)


def letters(text):
    return re.sub(r"[\W_]", "", text.lower())


def test_what_one_patient_has_is_taken_out_visibly_and_the_rest_stays():
    for report, history in zip(made_reports(40, seed=0), KNOWN, strict=True):
        left = fitted_memory().redact(report)
        assert MEMORISED in left
        assert history not in left
        shared = [sentence for sentence in BOILERPLATE if sentence in report]
        kept = [sentence for sentence in shared if sentence in left]
        assert len(kept) >= len(shared) - 2  # those beside the history may lose a word
        assert all(word in report for word in left.replace(MEMORISED, " ").split())


def test_the_controls_boilerplate_and_the_histories_of_others_pass():
    assert fitted_memory().redact(" ".join(BOILERPLATE * 3)) == " ".join(BOILERPLATE * 3)
    assert [report for report in OTHERS if fitted_memory().redact(report) != report] == []


def test_what_enough_patients_have_is_boilerplate():
    story = KNOWN[0]
    texts = [f"{story} {each}" for each in made_histories(4, seed=3)]
    for allowed, taken in ((3, False), (4, True)):
        found = MemoryFilter.fit(texts, range(4), salt=bytes(16), settings=RareSettings(patients=allowed))
        assert bool(found.find(story)) is taken
    one = MemoryFilter.fit(texts, [7] * 4, salt=bytes(16))  # four texts of one patient are one patient's
    assert one.find(story)


def test_a_number_that_one_patient_has_is_taken_out_however_it_is_grouped():
    number = re.search(r"file (\d+)", KNOWN[0])[1]
    for said in (number, " ".join(number), f"{number[:3]}-{number[3:]}", f"x{number[:5]} y {number[5:]}"):
        assert fitted_memory().redact(f"It is {said}.").startswith(f"It is {MEMORISED}")
    assert fitted_memory().redact("It is 5551234567.") == "It is 5551234567."


TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*KNOWN[:6], *BOILERPLATE]),
        st.sampled_from(KNOWN[:6]).map(lambda text: " ".join(text)),
        st.sampled_from(KNOWN[:6]).map(lambda text: "\u200b".join(text.upper())),
        st.text(alphabet=' \n\t"[]<>{}:,=ab0Éж\u200b\u202e', max_size=40),
        st.just(" " * 300),
        st.just("\u200b" * 300),
        st.text(max_size=20),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(parts=TEXTS, cuts=st.lists(st.integers(0, 4000), max_size=12), stride=st.sampled_from([1, 64, 512]))
def test_a_stream_gives_what_the_whole_text_gives_however_it_is_cut(parts, cuts, stride):
    text = "".join(parts)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stream = fitted_memory().stream(stride=stride)
    left = ""
    for start, end in pairwise(places):
        left += stream.push(text[start:end])
        assert len(left) <= end + len(MEMORISED) * (1 + left.count(MEMORISED))
    left += stream.finish()
    assert left == fitted_memory().redact(text)


@settings(max_examples=40)
@given(parts=TEXTS)
def test_spans_rise_apart_and_no_known_passage_is_left_whole(parts):
    text = "".join(parts)
    spans = fitted_memory().find(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] < two[0] for one, two in pairwise(spans))
    left = letters(fitted_memory().redact(text))
    assert not any(letters(history) in left for history in KNOWN)


def test_character_by_character_a_bounded_part_is_held_back():
    stream, text = fitted_memory().stream(stride=64), " ".join(BOILERPLATE * 30)
    left = 0
    for place, character in enumerate(text):
        left += len(stream.push(character))
        assert place + 1 - left < fitted_memory().reach + 64 + 2 * 80
    assert left + len(stream.finish()) == len(text)


def test_a_passage_in_many_answers_of_one_conversation_is_known_by_its_last_letter():
    stream, said = fitted_memory().stream(), ""
    for character in KNOWN[1]:
        said += stream.push(character) + stream.finish()
    assert MEMORISED in said
    assert letters(KNOWN[1])[:100] not in letters(said)
    assert fitted_memory().redact(said) == said
    apart = "".join(fitted_memory().redact(character) for character in KNOWN[1])
    assert apart == KNOWN[1]  # the control: without a memory of the conversation it leaves


def test_memory_does_not_grow_with_the_text():
    stream = fitted_memory().stream()
    filler = " ".join(f"{place} word{place * 7919 % 997}\u200b" for place in range(500)) + " " * 5000
    stream.push(filler)
    tracemalloc.start()
    try:
        for _ in range(2):
            stream.push(filler)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            stream.push(filler)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


def test_the_file_holds_no_text_and_reads_back_equal(tmp_path):
    fitted_memory().save(tmp_path / "memory.bloom")
    stored = (tmp_path / "memory.bloom").read_bytes()
    words = {word.encode() for report in made_reports(40, seed=0) for word in report.lower().split() if len(word) > 6}
    assert [word for word in words if word in stored.lower()] == []
    loaded = MemoryFilter.load(tmp_path / "memory.bloom")
    assert [loaded.redact(each) for each in (*KNOWN, *OTHERS)] == [fitted_memory().redact(e) for e in (*KNOWN, *OTHERS)]
    assert loaded.false_positive == fitted_memory().false_positive


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b"x" + b, lambda b: b[:90] + b"9" + b[91:], lambda b: b""]
)
def test_a_file_that_was_changed_is_refused(tmp_path, change):
    fitted_memory().save(tmp_path / "memory.bloom")
    (tmp_path / "memory.bloom").write_bytes(change((tmp_path / "memory.bloom").read_bytes()))
    with pytest.raises(IntegrityError, match=r"memory\.bloom: (is no memory filter|was changed)"):
        MemoryFilter.load(tmp_path / "memory.bloom")


def test_a_secret_keeps_a_stolen_file_from_being_asked(tmp_path):
    secret = MemoryFilter.fit(KNOWN, range(40), salt=bytes(16), secret=b"kept elsewhere")
    secret.save(tmp_path / "memory.bloom")
    assert b"kept elsewhere" not in (tmp_path / "memory.bloom").read_bytes()
    with pytest.raises(IntegrityError, match="another secret"):
        MemoryFilter.load(tmp_path / "memory.bloom")
    loaded = MemoryFilter.load(tmp_path / "memory.bloom", secret=b"kept elsewhere")
    assert loaded.find(KNOWN[0])
    asked = MemoryFilter(known=loaded.known, settings=loaded.settings, salt=loaded.salt, secret=b"a guess")
    assert not any(asked.find(history) for history in KNOWN)


def test_the_false_positive_probability_is_what_is_found():
    rng = np.random.default_rng(0)
    known = BloomFilter.of(rng.integers(2**64, size=3000, dtype=np.uint64), 0.002)
    asked = rng.integers(2**64, size=400_000, dtype=np.uint64)
    assert known.false_positive == pytest.approx(0.002, rel=0.1)
    assert len(known.held_places(asked)) / len(asked) == pytest.approx(known.false_positive, rel=0.15)
    held = rng.integers(2**64, size=3000, dtype=np.uint64)
    assert len(BloomFilter.of(held, 0.002).held_places(held)) == 3000


def test_planted_canaries_are_all_kept_in_and_unplanted_ones_pass():
    texts, canaries = plant_texts(made_reports(20, seed=5), 40, seed=2)
    found = MemoryFilter.fit(texts, range(len(texts)), salt=bytes(16))
    numbers = [re.search(r"record ([\d-]+)", note)[1] for note in canaries.texts]
    kept = [number not in found.redact(note) for number, note in zip(numbers, canaries.texts, strict=True)]
    assert kept == canaries.included.tolist()


def test_rarity_is_judged_by_phrases_not_by_seams():
    sentences = made_histories(12, seed=9)
    texts = [f"{sentences[i]} {sentences[(i * 5 + j) % 12]}" for i in range(12) for j in range(1, 5)]
    found = MemoryFilter.fit(texts, range(48), salt=bytes(16))
    new_order = f"{sentences[0]} {sentences[11]} {sentences[3]}"
    assert found.redact(new_order) == new_order


def test_numbers_read_alike_as_words_and_digits():
    said = TrainingRuns.of("Seen twenty-three days after 12 May 2013, X-ray two of 3.")
    same = TrainingRuns.of("seen 23 days after twelve may two thousand thirteen x-ray 2 of three")
    assert said.written == same.written == b"seen23daysafter12may213x2of3"


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("needs texts and one patient", {"patients": []}),
        ("at least phrases \\* phrase = 60", {"settings": {"passage": 50}}),
        ("must be at least 1", {"settings": {"patients": 0}}),
        (
            "spelled must be more than the 12 letters of a short answer and no less than the 20 of a phrase, got 12",
            {"settings": {"spelled": 12}},
        ),
        ("false_positive must be in", {"false_positive": 0.5}),
        ("reach must be at least the passage", {"reach": 10}),
        ("texts must be a list, got str", {"texts": "abc" * 50, "patients": "abc" * 50}),
        ("patients must be a list, got str", {"patients": "a"}),
        ("texts must be a list, got NoneType", {"texts": None}),
        ("text 0 must be a str, got NoneType", {"texts": [None]}),
        ("patient 0 must be a text or a number, got list", {"patients": [[1]]}),
        ("patient 0 must be a text or a number, got NoneType", {"patients": [None]}),
        ("salt must be 16 bytes or more, got 1 bytes", {"salt": b"a"}),
        ("salt must be 16 bytes or more, got str", {"salt": "a" * 16}),
        ("secret must be bytes, got str", {"secret": "kept elsewhere"}),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(said, given):
    def fit(texts=("a b",), patients=(1,), settings=None, salt=bytes(16), **more):
        return MemoryFilter.fit(texts, patients, settings=RareSettings(**settings or {}), salt=salt, **more)

    with pytest.raises(MedwardError, match=said):
        fit(**given)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda known, folder: known.redact(None), "text: expected str, got NoneType"),
        (lambda known, folder: known.find(b"x"), "text: expected str, got bytes"),
        (lambda known, folder: known.stream().push(None), "text: expected str, got NoneType"),
        (
            lambda known, folder: known.save(folder / "none" / "memory.bloom"),
            r"none/memory\.bloom: cannot be written: No",
        ),
        (lambda known, folder: MemoryFilter.load(folder, secret="s"), "secret must be bytes, got str"),
    ],
)
def test_mistakes_with_a_fitted_filter_are_said_in_one_sentence(use, said, tmp_path):
    with pytest.raises(MedwardError, match=said) as error:
        use(fitted_memory(), tmp_path)
    assert ".tmp" not in str(error.value).replace(str(tmp_path), "")
