"""Reports say the facts of their image and nothing else, and test's are in words that training never saw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toy_reports import toy_report_data

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.reports.facts import (
    AGE_GROUPS,
    RADIOGRAPH_VIEWS,
    ImageFacts,
    Place,
    age_group,
    box_place,
    joined_places,
    normal_parts,
    stated_findings,
)
from medward.attacks.benchmarks.reports.mined_phrases import (
    FEWEST,
    mined_phrase_bank,
    read_report_texts,
    report_sentences,
)
from medward.attacks.benchmarks.reports.own_phrases import own_phrase_bank
from medward.attacks.benchmarks.reports.phrases import (
    CHEST_READER,
    Author,
    FindingStatement,
    PhraseBank,
    reads_back,
    unlike_phrases,
    written_phrase,
)
from medward.attacks.benchmarks.reports.report_data import (
    NIH_FINDINGS,
    NIH_SPOKEN_OF,
    load_nih_reports,
    load_pneumonia_reports,
)
from medward.guard.errors import MedwardError
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention

OWN = own_phrase_bank()
needs_data = pytest.mark.skipif(
    not (data_root() / "iu_xray_reports").is_dir() or not (data_root() / "nih_cxr").is_dir(),
    reason="needs iu_xray_reports and nih_cxr under MEDWARD_DATA",
)


@st.composite
def image_facts(draw):
    present = draw(st.frozensets(st.sampled_from(NIH_FINDINGS), max_size=4))
    doubt = np.random.default_rng(draw(st.integers(0, 99)))
    places = draw(
        st.dictionaries(
            st.sampled_from(sorted(present) or [""]),
            st.sampled_from([Place("left"), Place("right", "upper"), Place("bilateral", "lower")]),
        )
    )
    return ImageFacts(
        findings=stated_findings(present, NIH_SPOKEN_OF, doubt),
        view=draw(st.sampled_from([None, *RADIOGRAPH_VIEWS])),
        age=draw(st.sampled_from([None, *AGE_GROUPS])),
        places={name: place for name, place in places.items() if name in present},
        normal=normal_parts(present, NIH_FINDINGS),
    )


@given(image_facts(), st.integers(0, 20))
def test_any_author_says_the_facts_and_nothing_else(facts, seed):
    for author in OWN.authors(3, seed):
        text = author.report(facts)
        assert CHEST_READER.read(text) == facts.findings
        for place in facts.places.values():
            assert place.side in text.lower() or "in both" in text


def test_an_author_who_would_say_something_else_is_refused():
    lying = Author({FindingStatement("effusion", Mention.ABSENT): "small effusion"})
    with pytest.raises(MedwardError, match="reads as"):
        lying.report(ImageFacts(findings={"effusion": Mention.ABSENT}))
    with pytest.raises(MedwardError, match="no phrase for"):
        lying.report(ImageFacts(findings={"mass": Mention.ABSENT}))


def test_phrases_that_say_something_else_are_refused():
    wrong = {FindingStatement("effusion", Mention.PRESENT): ("no effusion",)}
    with pytest.raises(MedwardError, match="does not read as"):
        PhraseBank(wrong).check()
    with pytest.raises(MedwardError, match="none says"):
        PhraseBank({"AP": ()}).check()
    assert reads_back("{place}effusion", FindingStatement("effusion", Mention.PRESENT))
    assert not reads_back("{place}effusion", FindingStatement("effusion", Mention.UNCERTAIN))
    assert not reads_back("effusion and mass", FindingStatement("effusion", Mention.PRESENT))
    assert not reads_back("an effusion", "AP")


def test_halves_share_no_phrase_and_leave_none_out():
    first, second = OWN.halves(3)
    for statement, phrases in OWN.phrases.items():
        assert sorted([*first.phrases[statement], *second.phrases[statement]]) == sorted(phrases)
        assert not set(first.phrases[statement]) & set(second.phrases[statement])
    assert OWN.halves(3) == (first, second) != OWN.halves(4)
    with pytest.raises(MedwardError, match="two banks need one each"):
        PhraseBank({"AP": ("portable chest",)}).halves(0)


def test_every_finding_has_words_of_its_own_in_each_meaning():
    for finding in CHEST_TERMS:
        for meant in Mention:
            assert len(OWN.phrases[FindingStatement(finding, meant)]) >= FEWEST


def test_phrases_that_differ_by_articles_are_one():
    assert unlike_phrases(["the heart, is large", "heart is a large", "heart looks large"]) == (
        "the heart, is large",
        "heart looks large",
    )


def test_places_are_the_patients_and_written_where_the_phrase_has_a_slot():
    assert box_place(0.1, 0.1, 0.2, 0.2) == Place("right", "upper")
    assert box_place(0.7, 0.4, 0.2, 0.2) == Place("left", "middle")
    assert box_place(0.2, 0.6, 0.6, 0.3) == Place("bilateral")
    assert joined_places([Place("left", "lower"), Place("right", "lower")]) == Place("bilateral", "lower")
    assert joined_places([Place("left", "lower"), Place("left", "upper")]) == Place("left")
    assert written_phrase("small {place}effusion", Place("left", "lower")) == "Small left lower effusion."
    assert written_phrase("effusion{where}", Place("bilateral")) == "Effusion in both lungs."
    assert written_phrase("effusion{where}", None) == "Effusion."
    assert [age_group(years) for years in (17, 18, 64, 65)] == ["child", "adult", "adult", "elderly"]


def test_normal_is_said_only_of_what_labels_can_tell():
    assert normal_parts(frozenset(), ("pneumonia",)) == ("lungs normal", "nothing acute")
    assert normal_parts(frozenset(), NIH_FINDINGS) == ("lungs normal", "heart normal", "nothing acute")
    assert normal_parts(frozenset({"effusion"}), NIH_FINDINGS) == ("heart normal",)
    assert normal_parts(frozenset({"cardiomegaly"}), NIH_FINDINGS) == ("lungs normal",)


def test_doubt_is_drawn_for_what_is_there_alone():
    draws = np.random.default_rng(0)
    stated = [stated_findings(frozenset({"effusion", "mass"}), ("pneumonia", "effusion"), draws) for _ in range(400)]
    assert {tuple(each) for each in stated} == {("pneumonia", "effusion", "mass")}
    assert {each["pneumonia"] for each in stated} == {Mention.ABSENT}
    assert 0.15 < np.mean([each["effusion"] == Mention.UNCERTAIN for each in stated]) < 0.35


def test_toy_references_read_back_and_test_shares_no_sentence_of_a_finding_with_training():
    data = toy_report_data()
    for split in data.splits.values():
        for facts, report in zip(split.facts, split.reports, strict=True):
            assert CHEST_READER.read(report) == facts.findings
    seen = {sentence for name in ("train", "validation") for sentence in report_sentences(data.splits[name].reports)}
    assert seen.isdisjoint(report_sentences(data.splits["test"].reports))
    assert len(seen) > 12


@needs_data
@pytest.mark.data
def test_mined_phrases_are_the_reports_own_and_say_one_thing():
    bank = mined_phrase_bank(own_phrase_bank(NIH_FINDINGS))
    source = set(report_sentences(read_report_texts()))
    own = set().union(*OWN.phrases.values())
    assert source.isdisjoint(report_sentences(written_phrase(phrase, None) for phrase in own))
    mined = [phrase for phrases in bank.phrases.values() for phrase in phrases if phrase not in own]
    assert len(mined) > 250
    assert sum(phrase in source for phrase in mined) > 0.5 * len(mined)  # others lost a place or a degree
    assert not any("xxxx" in phrase or any(map(str.isdigit, phrase)) for phrase in mined)
    assert all(len(phrases) >= FEWEST for phrases in bank.phrases.values())


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("load", [load_nih_reports, load_pneumonia_reports])
def test_real_images_have_references_that_read_back_and_patients_of_their_own(load):
    data = load(0)
    assert {"train", "validation", "test"} <= set(data.splits)
    for split in data.splits.values():
        assert len(split) == len(split.reports) == len(split.facts)
        for facts, report in zip(split.facts, split.reports, strict=True):
            assert CHEST_READER.read(report) == facts.findings
    if data.splits["train"].patients is not None:
        patients = [set(split.patients.tolist()) for split in data.splits.values()]
        assert len(set().union(*patients)) == sum(map(len, patients))
        assert sum(bool(facts.places) for split in data.splits.values() for facts in split.facts) == 44
    again = load(0)
    assert again.splits["test"].reports == data.splits["test"].reports
    assert load(1).splits["test"].reports != data.splits["test"].reports
