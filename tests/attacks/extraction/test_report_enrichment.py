"""Enriched reports say other findings, and read back as meant; language models of any folder enrich, too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.report_models import FINDINGS, report_spec
from support.report_networks import word_tokenizer
from support.report_thefts import coarse_images, own_texts

from medward.attacks.extraction.reports import CausalOracle, Recombination, SameReports
from medward.attacks.extraction.reports.enrichment import (
    composed_text,
    mentioned_places,
    sentences_of,
    single_sentences,
    stated_finding,
    turned_sentence,
    with_finding,
)
from medward.guard.errors import MedwardError
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import CHEST_TERMS

TASK = report_spec().task
CHEST = WrittenReport()
SEEN = own_texts(coarse_images(40, 0))


def said(task, text):
    return np.array(task.said_in(text)) > 0


def test_recombination_changes_one_or_two_findings_of_every_report():
    written = Recombination().enrich(SEEN, SEEN, TASK, seed=0)
    changes = [int((said(TASK, new) != said(TASK, old)).sum()) for new, old in zip(written, SEEN, strict=True)]
    assert set(changes) == {1, 2}
    assert SameReports().enrich(SEEN, SEEN, TASK, seed=0) == SEEN  # the control
    assert {tuple(said(TASK, each)) for each in written} > {(True, True, True), (False, False, False)}


def test_recombination_speaks_in_the_victims_words_where_it_has_any():
    own = {sentence for text in SEEN for sentence in sentences_of(text)}
    written = Recombination().enrich(SEEN, SEEN, TASK, seed=0)
    other = {sentence for text in written for sentence in sentences_of(text)} - own
    assert other == {"No cardiomegaly."}, "it never denies one, and is silent instead"


def test_the_same_seed_enriches_alike():
    first, again, other = (Recombination().enrich(SEEN, SEEN, TASK, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_a_report_about_nothing_gains_findings_of_the_vocabulary():
    normal = ["The lungs are clear. Heart size is normal."] * 200
    written = Recombination().enrich(normal, normal, CHEST, seed=0)
    found = np.array([said(CHEST, each) for each in written])
    assert found.any(axis=0).all(), "every finding is brought in by some"
    assert set(found.sum(axis=1)) == {1, 2}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(sorted(CHEST_TERMS)), unique=True, max_size=5),
    st.integers(0, len(CHEST_TERMS) - 1),
    st.booleans(),
    st.booleans(),
)
def test_one_finding_is_said_or_denied_and_all_else_stays(names, place, wanted, spoken):
    found = np.array([name in names for name in CHEST.findings])
    text = composed_text(CHEST, found) if spoken else " ".join(stated_finding(name, True) for name in names)
    made = with_finding(text, place, wanted, [], CHEST, np.random.default_rng(0))
    aim = said(CHEST, text)
    aim[place] = wanted
    np.testing.assert_array_equal(said(CHEST, made), aim)


def test_composed_texts_read_back():
    for place in range(len(CHEST.findings)):
        found = np.arange(len(CHEST.findings)) == place
        np.testing.assert_array_equal(said(CHEST, composed_text(CHEST, found)), found)


def test_sentences_are_sorted_by_what_alone_they_say():
    found = single_sentences(["Small effusion. No effusion or mass. No pneumothorax. Small effusion."], TASK)
    place = {name: at for at, name in enumerate(FINDINGS)}
    assert found == {
        (place["effusion"], True): ["Small effusion."],
        (place["effusion"], False): ["No effusion or mass."],
        (place["pneumothorax"], False): ["No pneumothorax."],
    }
    assert mentioned_places("Possible effusion without pneumothorax.", TASK) == [0, 2]


def test_negations_are_taken_off_and_put_on():
    assert turned_sentence("No pleural effusion.", True) == "Pleural effusion."
    assert turned_sentence("There is no evidence of a mass.", True) == "Mass."
    assert turned_sentence("Small effusion.", False) == "No small effusion."
    assert turned_sentence("There is a small effusion.", False) == "No small effusion."
    assert turned_sentence("The heart is enlarged.", False) == "", "it has no place for one"


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("causal"), word_tokenizer()
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 200}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **settings))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_language_model_in_a_folder_rewrites_reports(language_model):
    oracle = CausalOracle(folder=str(language_model), longest=12)
    first, again, other = (oracle.enrich(SEEN[:5], SEEN, TASK, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert all(text and "\n" not in text for text in first)
    assert first != SEEN[:5]
    everything = composed_text(TASK, np.ones(len(FINDINGS), bool))
    assert oracle.enrich([everything], SEEN, TASK, seed=0) == [everything], "there is nothing to gain"


def test_a_folder_without_a_language_model_is_refused(tmp_path):
    with pytest.raises(MedwardError, match="is no causal language model, as transformers reads it"):
        CausalOracle(folder=str(tmp_path)).enrich(SEEN[:1], SEEN, TASK, seed=0)
