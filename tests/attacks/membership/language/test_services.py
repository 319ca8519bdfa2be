"""Attacks on what a service writes: one that has the texts at hand, and one that has not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.language import made_notes, tiny_language_model, word_tokenizer

from medward.attacks.membership.language.generations import (
    sample_continuations,
    split_words,
    word_recall,
    yes_or_no,
)
from medward.attacks.membership.language.in_context import (
    brainwash_scores,
    gap_scores,
    inquiry_scores,
    repeat_scores,
    says_label,
)
from medward.attacks.membership.language.masked_words import MASK_QUESTION, mask_words, masked_word_scores
from medward.attacks.membership.language.retrieval import retrieval_scores
from medward.guard.data.quality import auc
from medward.guard.errors import MedwardError

NOTES = made_notes(60, seed=11)
BACKGROUND = NOTES[40:]
STORED, FRESH = NOTES[:20], NOTES[20:40]
CANDIDATES, TRUTH = [*STORED, *FRESH], np.arange(40) < 20
LABELS = ["positive", "negative"] * 20
WRONG = ["negative", "positive"] * 20
RULES = dict(zip(CANDIDATES, LABELS, strict=True))


def service(kept):
    """A fake service that knows the texts it has `kept` by heart and guesses on all others."""

    def answer(question):
        if question.startswith(("Does this", "Have you seen")):
            return "Yes, it does." if any(text in question for text in kept) else "No."
        if question.startswith("Fill in"):
            return filled(question.removeprefix(MASK_QUESTION.format(text="")), kept)
        if question.startswith("Input:"):
            text = re.findall(r"Input: (.*)\nLabel:$", question)[0]
            told = question.count("Label:") - 1
            stubborn = 3 if text in kept else 1
            if told >= stubborn or text not in RULES:
                return WRONG[CANDIDATES.index(text)]
            return RULES[text] if text in kept or len(text) % 2 else "unsure"
        return next((text[len(question) :] for text in kept if text.startswith(question)), "nothing of note")

    return lambda questions: [answer(each) for each in questions]


def filled(masked, kept):
    for text in kept:
        pattern = re.escape(masked)
        numbers = list(dict.fromkeys(re.findall(r"\[Mask_(\d+)\]", masked)))
        for number in numbers:
            mark = re.escape(f"[Mask_{number}]")
            pattern = pattern.replace(mark, f"(?P<m{number}>[A-Za-z]+)", 1).replace(mark, "[A-Za-z]+")
        if found := re.fullmatch(pattern, text):
            return "\n".join(f"[Mask_{number}]: {found[f'm{number}']}" for number in numbers)
    return "[Mask_1]: unknown"


ATTACKS = {
    "retrieval": lambda ask: retrieval_scores(ask, CANDIDATES),
    "masked words": lambda ask: masked_word_scores(ask, CANDIDATES, BACKGROUND),
    "inquiry": lambda ask: inquiry_scores(ask, CANDIDATES),
    "repeat": lambda ask: repeat_scores(ask, CANDIDATES),
    "gap": lambda ask: gap_scores(ask, CANDIDATES, LABELS),
    "brainwash": lambda ask: brainwash_scores(ask, CANDIDATES, LABELS, WRONG),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_service_keeps_is_told(name):
    assert auc(ATTACKS[name](service(STORED)), TRUTH) >= (0.7 if name == "gap" else 0.95)


@pytest.mark.parametrize("name", ATTACKS)
def test_of_a_service_that_keeps_other_texts_nothing_is_told(name):
    assert 0.3 <= auc(ATTACKS[name](service(BACKGROUND)), TRUTH) <= 0.7


def test_brainwashing_counts_the_rounds_until_the_service_gives_in():
    ask = service(STORED)
    odd = next(text for text in FRESH if len(text) % 2)
    texts = [STORED[0], odd]
    labels, wrong = zip(*((RULES[text], WRONG[CANDIDATES.index(text)]) for text in texts), strict=True)
    assert brainwash_scores(ask, texts, labels, wrong).tolist() == [3, 1]
    assert brainwash_scores(lambda asked: list(labels[: len(asked)]), texts, labels, wrong, rounds=2).tolist() == [3, 3]
    with pytest.raises(MedwardError, match="is its true one, 'positive'"):
        brainwash_scores(ask, ["a"], ["positive"], ["positive"])


def test_hard_words_are_the_rarest_and_masked_wherever_they_stand():
    counts = {"the": 9, "lung": 4, "stent": 0, "rare": 0}
    masked, words = mask_words("The stent, the lung; rare Stent", counts, 2)
    assert masked == "The [Mask_1], the lung; [Mask_2] [Mask_1]"
    assert words == ["stent", "rare"]
    with pytest.raises(MedwardError, match="no word of three letters"):
        mask_words("1 2 of", counts, 2)


def test_yes_and_no_are_read_from_the_first_word():
    answers = ["Yes", "no, never", " NO.", "perhaps", "", "**Yes**", "Nothing"]
    assert yes_or_no(answers).tolist() == [1, 0, 0, 0.5, 0.5, 1, 0.5]


def test_recall_counts_words_as_often_as_they_are_there():
    assert word_recall("a a b", "A a c b") == 0.75
    assert word_recall("a", "") == 0
    assert split_words("a b c d", 0.5) == ("a b", "c d")
    assert split_words("a b", 0.1) == ("a", "b")


def test_continuations_repeat_with_the_seed_and_leave_the_prompt_out():
    model, prompts = tiny_language_model(seed=0), ["Small cyst", "Old", "Large scar of the"]
    first, again, other = (
        sample_continuations(model, word_tokenizer(), prompts, 2, new_tokens=5, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert all(len(some) == 2 and all(len(each.split()) <= 5 for each in some) for some in first)
    sure = sample_continuations(model, word_tokenizer(), prompts, 2, new_tokens=5, seed=0, top_k=1)
    assert all(some[0] == some[1] for some in sure)


def test_a_prompt_longer_than_the_context_loses_its_oldest_words():
    model, long = tiny_language_model(seed=0), " ".join(made_notes(12, seed=0))
    found = sample_continuations(model, word_tokenizer(), [long], 1, new_tokens=5, seed=0, top_k=1)
    short = word_tokenizer().decode(word_tokenizer()(long, verbose=False)["input_ids"][-123:])
    assert found == sample_continuations(model, word_tokenizer(), [short], 1, new_tokens=5, seed=0, top_k=1)


@pytest.mark.parametrize(
    ("answer", "label", "said"),
    [(" Yes.", "yes", True), ("no finding\n", "No finding", True), ("10", "1", False), ("Normality", "normal", False)],
)
def test_a_label_is_said_as_a_whole_word(answer, label, said):
    assert says_label(answer, label) is said
