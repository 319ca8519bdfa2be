"""What one forward pass says of a text does not depend on the texts beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.language import CONTEXT, made_notes, tiny_language_model, word_tokenizer

from medward.attacks.membership.language.noise_neighbour import noisy_losses
from medward.attacks.membership.language.tokens import context_length, mean_losses, read_tokens
from medward.guard.errors import MedwardError

MODEL = tiny_language_model(seed=4)
NOTES = [*made_notes(6, seed=1), "Small cyst .", *made_notes(3, seed=2, sentences=12)]


def naive(text, prefix=""):
    """Each number by its definition, one place after the other."""
    tokenizer = word_tokenizer()
    before = tokenizer(prefix)["input_ids"] if prefix else []
    ids = before + tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = MODEL(input_ids=torch.tensor([ids])).logits[0].double()
    rows = []
    for place in range(len(before) or 1, len(ids)):
        likely = torch.softmax(logits[place - 1], 0).numpy()
        log = np.log(likely)
        mean = (likely * log).sum()
        own = log[ids[place]]
        deviation = np.sqrt((likely * (log - mean) ** 2).sum())
        rows.append((ids[place], own, mean, deviation, (log > own).sum(), log.argmax()))
    return [np.array(column) for column in zip(*rows, strict=True)]


NAMES = ("tokens", "log_probabilities", "mean", "deviation", "ranks", "predicted")


@pytest.mark.parametrize("prefix", ["", "Old scar of the left lung ."])
def test_every_number_is_that_of_a_loop_over_the_places(prefix):
    read = read_tokens(MODEL, word_tokenizer(), NOTES, prefixes=[prefix] * len(NOTES) if prefix else None)
    for text, found in zip(NOTES, read, strict=True):
        for name, value in zip(NAMES, naive(text, prefix), strict=True):
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found.entropy, -found.mean)
        assert found.loss == pytest.approx(found.losses.mean())


@settings(max_examples=15)
@given(st.integers(1, 11), st.permutations(range(len(NOTES))))
def test_neither_the_batch_nor_the_order_changes_a_text(batch, order):
    alone = [read_tokens(MODEL, word_tokenizer(), [text])[0] for text in NOTES]
    mixed = read_tokens(MODEL, word_tokenizer(), [NOTES[index] for index in order], batch=batch)
    for index, found in zip(order, mixed, strict=True):
        np.testing.assert_allclose(found.log_probabilities, alone[index].log_probabilities, atol=1e-5)
        np.testing.assert_allclose(found.deviation, alone[index].deviation, atol=1e-5)


def test_the_noise_on_embeddings_does_not_depend_on_the_batch():
    many = noisy_losses(MODEL, word_tokenizer(), NOTES, copies=2, scale=0.5, seed=0)
    alone = [noisy_losses(MODEL, word_tokenizer(), [text], copies=2, scale=0.5, seed=0)[:, 0] for text in NOTES]
    np.testing.assert_allclose(many, np.stack(alone, axis=1), atol=1e-5)
    assert np.abs(many - mean_losses(read_tokens(MODEL, word_tokenizer(), NOTES))).max() > 1e-3


def test_a_long_text_is_cut_and_says_so():
    long = " ".join(made_notes(12, seed=3))
    found, short = read_tokens(MODEL, word_tokenizer(), [long, NOTES[0]])
    assert (len(found.tokens), found.truncated) == (CONTEXT - 1, True)
    assert not short.truncated
    cut = read_tokens(MODEL, word_tokenizer(), [long], length=10)[0]
    np.testing.assert_allclose(cut.log_probabilities, found.log_probabilities[:9], atol=1e-5)


def test_of_a_long_prefix_the_oldest_tokens_fall_away_and_the_text_stays_whole():
    long = " ".join(made_notes(12, seed=3))
    found = read_tokens(MODEL, word_tokenizer(), [NOTES[0]], prefixes=[long])[0]
    own = word_tokenizer()(NOTES[0])["input_ids"]
    kept = word_tokenizer().decode(word_tokenizer()(long, verbose=False)["input_ids"][-(CONTEXT - len(own)) :])
    assert found.tokens.tolist() == own
    np.testing.assert_allclose(found.log_probabilities, naive(NOTES[0], kept)[1], atol=1e-4)
    with pytest.raises(MedwardError, match="leaves no room for a prefix; give a smaller length"):
        read_tokens(MODEL, word_tokenizer(), [long], prefixes=[NOTES[0]])


def test_a_token_that_begins_every_text_is_not_repeated_after_a_prefix():
    class Begun:
        bos_token_id = 1
        model_max_length = CONTEXT

        def __call__(self, text, *, verbose):
            return {"input_ids": [[1, *ids] for ids in word_tokenizer()(text)["input_ids"]]}

    alone, after = (read_tokens(MODEL, Begun(), NOTES[:1], prefixes=each)[0] for each in (None, [NOTES[1]]))
    assert alone.tokens.tolist() == after.tokens.tolist() == word_tokenizer()(NOTES[0])["input_ids"]


def test_first_occurrences_are_marked_once():
    text = read_tokens(MODEL, word_tokenizer(), ["Small cyst of the left cyst of lung"])[0]
    assert text.first_occurrences.tolist() == [True, True, True, True, False, False, True]


def test_reading_changes_nothing_in_the_model():
    model = tiny_language_model(seed=4).train()
    read_tokens(model, word_tokenizer(), NOTES[:1])
    assert model.training


def test_texts_that_cannot_be_read_are_refused():
    with pytest.raises(MedwardError, match=r"text 1 has 1 token\(s\) and needs 2"):
        read_tokens(MODEL, word_tokenizer(), ["Small cyst", "cyst"])
    with pytest.raises(MedwardError, match="at least 1 text, got 0"):
        read_tokens(MODEL, word_tokenizer(), NOTES, batch=0)
    assert read_tokens(MODEL, word_tokenizer(), []) == []


def test_a_model_that_does_not_say_its_context_must_be_given_one():
    class Silent(torch.nn.Module):
        config = None

    endless = dataclasses.make_dataclass("Endless", [("model_max_length", int, 10**30)])()
    with pytest.raises(MedwardError, match="give length"):
        context_length(Silent(), endless)
    assert context_length(MODEL, endless) == CONTEXT
