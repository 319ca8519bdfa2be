"""Every score is what its paper says, text by text."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.language import made_notes, tiny_language_model, tiny_masked_model, word_tokenizer

from medward.attacks.membership.language.con_recall import con_recall_scores
from medward.attacks.membership.language.dc_pdd import dc_pdd_scores, token_frequencies
from medward.attacks.membership.language.gradient_norm import gradient_norm_scores, gradient_norms
from medward.attacks.membership.language.likelihood import likelihood_scores
from medward.attacks.membership.language.lowercase_ratio import lowercase_scores
from medward.attacks.membership.language.min_k import min_k_scores
from medward.attacks.membership.language.min_k_plus_plus import min_k_plus_plus_scores
from medward.attacks.membership.language.mope import mope_scores, perturbed_losses
from medward.attacks.membership.language.neighbourhood import fill_words, neighbourhood_scores, swap_words
from medward.attacks.membership.language.noise_neighbour import noise_neighbour_scores
from medward.attacks.membership.language.petal import fitted_line, input_embedder, petal_scores
from medward.attacks.membership.language.premia import Preference, premia_scores
from medward.attacks.membership.language.recall import recall_scores
from medward.attacks.membership.language.reference_ratio import reference_scores
from medward.attacks.membership.language.samia import samia_scores
from medward.attacks.membership.language.spv import spv_scores
from medward.attacks.membership.language.tokens import TokenStatistics, read_tokens
from medward.attacks.membership.language.user_level import user_scores
from medward.attacks.membership.language.wbc import WINDOWS, wbc_scores, window_votes
from medward.attacks.membership.language.zlib_ratio import zlib_scores
from medward.guard.errors import MedwardError

TEXTS = made_notes(7, seed=5)
MODEL, OTHER = tiny_language_model(seed=1), tiny_language_model(seed=2)
OWN = read_tokens(MODEL, word_tokenizer(), TEXTS)
REFERENCE = read_tokens(OTHER, word_tokenizer(), TEXTS)
NEIGHBOURS = [read_tokens(MODEL, word_tokenizer(), made_notes(3, seed=index)) for index in range(7)]
BESIDE = [read_tokens(OTHER, word_tokenizer(), made_notes(3, seed=index)) for index in range(7)]
AFTER = read_tokens(MODEL, word_tokenizer(), TEXTS, prefixes=["Old cyst ."] * 7)
AFTER_MEMBERS = read_tokens(MODEL, word_tokenizer(), TEXTS, prefixes=["New scar ."] * 7)


def statistics(*losses, tokens=None):
    """Hand-made statistics of which only losses and tokens count."""
    values = -np.array(losses, float)
    ids = np.arange(len(values)) if tokens is None else np.array(tokens)
    return TokenStatistics(
        tokens=ids, log_probabilities=values, mean=values, deviation=values, ranks=ids, predicted=ids
    )


def loss(read):
    return -sum(read.log_probabilities) / len(read.log_probabilities)


def lowest(values, share=0.2):
    count = max(1, int(share * len(values)))
    return sum(sorted(values)[:count]) / count


def after(own, prefixed):
    kept = list(prefixed.log_probabilities)[len(prefixed.tokens) - len(own.tokens) :]
    return -sum(kept) / len(kept)


def divergence(own, frequencies):
    seen, gains = set(), []
    for token, log in zip(own.tokens, own.log_probabilities, strict=True):
        if token not in seen:
            seen.add(token)
            gains.append(min(np.exp(log) * np.log(1 / frequencies[token]), 0.01))
    return sum(gains) / len(gains)


def windows(own, other):
    shares = []
    for width in WINDOWS:
        width = min(width, len(own.tokens))
        votes = []
        for start in range(len(own.tokens) - width + 1):
            part = slice(start, start + width)
            difference = other.losses[part].sum() - own.losses[part].sum()
            votes.append(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0)
        shares.append(sum(votes) / len(votes))
    return sum(shares) / len(shares)


def variation(own, near):
    return np.exp(-loss(own)) - sum(np.exp(-loss(each)) for each in near) / len(near)


FREQUENCIES = token_frequencies(word_tokenizer(), made_notes(20, seed=9), len(word_tokenizer()))
NOISY = np.random.default_rng(0).uniform(2, 4, (4, 7))

SCORES = {
    "loss": (likelihood_scores(OWN), lambda i: -loss(OWN[i])),
    "zlib": (zlib_scores(OWN, TEXTS), lambda i: -loss(OWN[i]) / len(zlib.compress(TEXTS[i].encode()))),
    "lowercase": (lowercase_scores(OWN, AFTER), lambda i: -loss(OWN[i]) / loss(AFTER[i])),
    "reference": (reference_scores(OWN, REFERENCE), lambda i: loss(REFERENCE[i]) - loss(OWN[i])),
    "min-k": (min_k_scores(OWN), lambda i: lowest(OWN[i].log_probabilities)),
    "min-k++": (
        min_k_plus_plus_scores(OWN),
        lambda i: lowest((OWN[i].log_probabilities - OWN[i].mean) / OWN[i].deviation),
    ),
    "neighbourhood": (
        neighbourhood_scores(OWN, NEIGHBOURS),
        lambda i: sum(map(loss, NEIGHBOURS[i])) / 3 - loss(OWN[i]),
    ),
    "noise": (noise_neighbour_scores(OWN, NOISY), lambda i: sum(NOISY[:, i]) / 4 - loss(OWN[i])),
    "mope": (mope_scores(OWN, NOISY), lambda i: sum(NOISY[:, i]) / 4 - loss(OWN[i])),
    "recall": (recall_scores(OWN, AFTER), lambda i: after(OWN[i], AFTER[i]) / loss(OWN[i])),
    "con-recall": (
        con_recall_scores(OWN, AFTER, AFTER_MEMBERS, weight=0.3),
        lambda i: (after(OWN[i], AFTER[i]) - 0.3 * after(OWN[i], AFTER_MEMBERS[i])) / loss(OWN[i]),
    ),
    "dc-pdd": (dc_pdd_scores(OWN, FREQUENCIES), lambda i: divergence(OWN[i], FREQUENCIES)),
    "wbc": (wbc_scores(OWN, REFERENCE), lambda i: windows(OWN[i], REFERENCE[i])),
    "spv": (
        spv_scores(OWN, NEIGHBOURS, REFERENCE, BESIDE),
        lambda i: variation(OWN[i], NEIGHBOURS[i]) - variation(REFERENCE[i], BESIDE[i]),
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_that_of_a_loop_over_texts_and_tokens(name):
    scores, naive = SCORES[name]
    np.testing.assert_allclose(scores, [naive(index) for index in range(len(TEXTS))], rtol=1e-9)


def test_the_least_likely_tokens_are_at_least_one():
    assert min_k_scores([statistics(1, 5)], share=0.2) == [-5]
    with pytest.raises(MedwardError, match=r"must be in \(0, 1\], got 0"):
        min_k_scores(OWN, share=0)


def test_a_target_that_is_its_own_reference_wins_half_of_the_windows():
    assert wbc_scores(OWN, OWN).tolist() == [0.5] * 7
    with pytest.raises(MedwardError, match="other tokens for the reference"):
        wbc_scores([statistics(1, 2)], [statistics(1, 2, tokens=[5, 6])])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_window_votes_swap_with_the_models(gains, width):
    gains = np.round(gains, 3)
    assert 0 <= window_votes(gains, width) <= 1
    assert window_votes(gains, width) + window_votes(-gains, width) == pytest.approx(1)


def test_token_frequencies_are_smoothed_shares():
    shares = token_frequencies(word_tokenizer(), ["cyst cyst lung"], len(word_tokenizer()))
    ids = word_tokenizer()("cyst lung heart")["input_ids"]
    total = 3 + len(word_tokenizer())
    np.testing.assert_allclose(shares[ids], [3 / total, 2 / total, 1 / total])
    assert shares.sum() == pytest.approx(1)
    with pytest.raises(MedwardError, match="needs texts to count tokens on"):
        token_frequencies(word_tokenizer(), [], 10)


def test_gradient_norms_are_those_of_backward_and_leave_gradients_alone():
    found = gradient_norms(MODEL, word_tokenizer(), TEXTS[:2])
    assert all(weight.grad is None for weight in MODEL.parameters())
    for text, norm in zip(TEXTS, found, strict=False):
        copy = tiny_language_model(seed=1)
        ids = torch.tensor([word_tokenizer()(text)["input_ids"]])
        copy(input_ids=ids, labels=ids).loss.backward()
        assert norm == pytest.approx(sum(float((w.grad**2).sum()) for w in copy.parameters()) ** 0.5, rel=1e-4)
    assert gradient_norm_scores(found).tolist() == (-found).tolist()


def test_perturbation_puts_every_weight_back_bit_by_bit():
    before = [weight.clone() for weight in MODEL.parameters()]
    losses = perturbed_losses(MODEL, word_tokenizer(), TEXTS, models=2, scale=0.1, seed=0)
    assert losses.shape == (2, 7)
    assert not np.allclose(losses[0], losses[1])
    assert all(torch.equal(one, other) for one, other in zip(before, MODEL.parameters(), strict=True))


def test_neighbours_differ_from_the_text_in_few_words():
    for text, near in zip(TEXTS, swap_words(TEXTS, count=4, share=0.15, seed=0), strict=True):
        assert len(near) == 4
        assert all(each != text or len(set(each.split())) < 3 for each in near)
        assert all(set(each.split()) <= set(text.split()) for each in near)
    masked = tiny_masked_model(seed=0)
    for text, near in zip(TEXTS, fill_words(masked, word_tokenizer(), TEXTS, count=4, share=0.15, seed=0), strict=True):
        for each in near:
            changed = sum(one != other for one, other in zip(text.split(), each.split(), strict=True))
            assert changed == max(1, round(0.15 * len(text.split())))


def test_filling_needs_a_mask_and_a_word():
    class Maskless:
        mask_token_id = None

    with pytest.raises(MedwardError, match="has no mask token"):
        fill_words(tiny_masked_model(seed=0), Maskless(), TEXTS, count=1, share=0.1, seed=0)
    with pytest.raises(MedwardError, match="no word that could be masked"):
        fill_words(tiny_masked_model(seed=0), word_tokenizer(), [""], count=1, share=0.1, seed=0)


def test_samia_is_the_mean_recall_of_the_unseen_half():
    text = "one two three four"
    assert samia_scores([text], [["three four", "four five", "Three"]]).tolist() == [(1 + 0.5 + 0.5) / 3]
    zipped = [len(zlib.compress(each.encode())) for each in ("three four", "five")]
    assert samia_scores([text], [["three four", "five"]], weighted=True).tolist() == [zipped[0] / 2]


def test_petal_fits_a_line_on_the_surrogate_and_reads_only_labels_of_the_target():
    embed = input_embedder(OTHER)
    scores = petal_scores(OWN, REFERENCE, embed)
    for score, own, other in zip(scores, OWN, REFERENCE, strict=True):

        def near(read):
            rows = []
            for guess, true in zip(embed(read.predicted), embed(read.tokens), strict=True):
                cosine = guess @ true / np.linalg.norm(guess) / np.linalg.norm(true)
                rows.append(np.log(max(cosine, 1e-16)))
            return np.array(rows)

        slope, offset = np.polyfit(near(other), other.log_probabilities, 1)
        assert score == pytest.approx((slope * near(own) + offset).mean(), abs=1e-6)
    blank = [TokenStatistics(**{**vars_of(own), "log_probabilities": own.log_probabilities * 9}) for own in OWN]
    np.testing.assert_array_equal(petal_scores(blank, REFERENCE, embed), scores)
    assert fitted_line(np.ones(3), np.array([1.0, 2, 3])) == (0.0, 2.0)


def vars_of(read):
    return {name: getattr(read, name) for name in TokenStatistics.__dataclass_fields__}


def test_users_are_judged_by_the_mean_log_ratio_of_whole_texts():
    users = np.array([3, 1, 3, 1, 1, 3, 7])
    who, scores = user_scores(OWN, REFERENCE, users)
    ratios = [sum(a.log_probabilities) - sum(b.log_probabilities) for a, b in zip(OWN, REFERENCE, strict=True)]
    assert who.tolist() == [1, 3, 7]
    np.testing.assert_allclose(
        scores, [np.mean([r for r, u in zip(ratios, users, strict=True) if u == w]) for w in who]
    )
    with pytest.raises(MedwardError, match="one user per text, got 1 for 7"):
        user_scores(OWN, REFERENCE, users[:1])


def test_a_preference_counts_only_the_answers():
    rows = [
        Preference(prompt="Old cyst of the left lung .", chosen="Small scar", rejected="Large mass ."),
        Preference(prompt="Old scar .", chosen="No mass of the heart", rejected="New stent"),
    ]

    def naive(model, prompt, answer):
        before, ids = word_tokenizer()(prompt)["input_ids"], word_tokenizer()(answer)["input_ids"]
        with torch.no_grad():
            log = torch.log_softmax(model(input_ids=torch.tensor([before + ids])).logits[0], -1)
        return sum(float(log[len(before) + place - 1, token]) for place, token in enumerate(ids))

    expected = [
        naive(MODEL, row.prompt, row.chosen)
        - naive(OTHER, row.prompt, row.chosen)
        - naive(MODEL, row.prompt, row.rejected)
        + naive(OTHER, row.prompt, row.rejected)
        for row in rows
    ]
    np.testing.assert_allclose(premia_scores(MODEL, OTHER, word_tokenizer(), rows), expected, atol=1e-4)
