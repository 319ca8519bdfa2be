"""Fine-tuning counts each token once and padding never."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.language import made_notes, tiny_language_model, word_tokenizer

from medward.attacks.membership.language.tokens import read_tokens, text_rows
from medward.attacks.membership.language.training import causal_loss, fine_tuned_copy, shuffled_batches
from medward.guard.errors import MedwardError

TEXTS = [*made_notes(4, seed=6), "Small cyst ."]


def test_the_loss_of_a_padded_batch_is_the_mean_over_its_tokens():
    model = tiny_language_model(seed=0)
    losses = np.concatenate([each.losses for each in read_tokens(model, word_tokenizer(), TEXTS)])
    found = causal_loss(model, text_rows(model, word_tokenizer(), TEXTS))
    assert float(found.detach()) == pytest.approx(losses.mean(), rel=1e-5)


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(1, 9), st.integers(0, 9))
def test_an_epoch_has_every_row_once(lengths, batch, seed):
    batches = shuffled_batches(lengths, batch, np.random.default_rng(seed))
    assert sorted(index for some in batches for index in some) == list(range(len(lengths)))
    assert all(len(some) <= batch for some in batches)


def test_a_copy_learns_repeats_with_the_seed_and_leaves_the_model_alone():
    model = tiny_language_model(seed=0)
    before = [weight.clone() for weight in model.parameters()]
    first, again = (fine_tuned_copy(model, word_tokenizer(), TEXTS, epochs=3, seed=1) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    rows = text_rows(model, word_tokenizer(), TEXTS)
    assert causal_loss(first, rows).item() < causal_loss(model, rows).item()
    with pytest.raises(MedwardError, match="needs texts to train on"):
        fine_tuned_copy(model, word_tokenizer(), [], epochs=1, seed=0)
