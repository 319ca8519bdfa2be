"""The contract of every score of vision-language models: a model that memorised is told, an untrained one is not."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

pytest.importorskip("transformers")

from support.tiny_vision_language import clips, drawn_pairs, encode, llavas

from medward.attacks.membership.multimodal.audit import audit_contrastive_model, audit_vision_language_model
from medward.attacks.membership.multimodal.columns import prediction_columns, similarity_columns
from medward.attacks.membership.multimodal.pairs import ImageTextPairs, blind_pair_scores
from medward.guard.errors import MedwardError

TELLS = (
    *(f"max-renyi-{percent}-{order}-description" for percent in (0, 10, 100) for order in ("0.5", "1", "2", "inf")),
    *(f"modified-renyi-{order}-description" for order in ("0.5", "1", "2")),
    "loss-description",
    "min-k-description",
    "reference-description",
    "caption-bleu",
    "caption-rouge",
    "caption-longest",
    "temperature-image-only",
    "cosine-similarity",
    "augmented-similarity-mean",
    "augmented-similarity-drop",
    "weakly-supervised",
)
"""Of the image and of an instruction that is the same for all, this model learned nothing of its own."""


@pytest.fixture(scope="module")
def rows():
    pairs, memorised, other, _ = llavas()
    found = audit_vision_language_model(memorised, pairs, reference=other, set_size=3)
    pairs, memorised, other, _ = clips()
    return found + audit_contrastive_model(memorised, pairs, reference=other, pool=drawn_pairs(100, 5))


@pytest.mark.parametrize("attack", TELLS)
def test_a_model_that_memorised_is_told_and_a_reference_is_not(rows, attack):
    (row,) = [each for each in rows if each.attack == attack]
    assert row.evaluation.auc.value >= 0.9
    assert row.evaluation.without_target.value < 0.75
    assert row.evaluation.flags == () or row.counts != "pairs"  # of few sets little is certain


def test_members_of_no_model_are_told_by_no_score_of_an_untrained_one():
    pairs, _, _, untrained = llavas()
    found = audit_vision_language_model(untrained, pairs, temperatures=())
    pairs, _, _, untrained = clips()
    found += audit_contrastive_model(untrained, pairs)
    assert len(found) == 49 + 3
    assert {each.counts for each in found} == {"pairs"}
    assert 0.4 <= np.mean([each.evaluation.auc.value for each in found]) <= 0.6
    assert all(each.evaluation.auc.low <= 0.5 <= each.evaluation.auc.high for each in found)


def test_sets_are_judged_as_sets(rows):
    counted = {each.attack: each.counts for each in rows}
    assert counted["temperature-target-only"] == "sets of 3"
    (row,) = [each for each in rows if each.attack == "temperature-target-only"]
    assert row.evaluation.auc.n == 20
    assert row.evaluation.auc.value > 0.7


def test_a_shift_between_members_and_others_is_flagged():
    pairs = drawn_pairs(60, 3, shifted=True)
    _, model, _, _ = clips()
    for row in audit_contrastive_model(model, pairs):
        assert any("differ without the model" in each for each in row.evaluation.flags)


def test_a_shift_in_the_words_is_seen_too():
    pairs = drawn_pairs(60, 4)
    texts = [f"w1 {text}" if inside else text for text, inside in zip(pairs.texts, pairs.included, strict=True)]
    scores = blind_pair_scores(dataclasses.replace(pairs, texts=texts), seed=0)
    assert scores[pairs.included].min() > scores[~pairs.included].max()


def test_scores_do_not_depend_on_the_order_or_the_company_of_candidates():
    pairs, model, _, _ = llavas()
    order = np.array([5, 2, 0, 9])
    some = ImageTextPairs(
        images=pairs.images[order], texts=[pairs.texts[each] for each in order], included=np.array([1, 0, 1, 0], bool)
    )
    first = ImageTextPairs(images=pairs.images[:10], texts=pairs.texts[:10], included=np.arange(10) > 4)
    whole = prediction_columns(model, first)
    for name, scores in prediction_columns(model, some).items():
        np.testing.assert_allclose(scores, whole[name][order], rtol=1e-6)


def test_padding_moves_no_similarity():
    _, model, _, _ = clips()
    pairs = drawn_pairs(4, 8)
    texts = [pairs.texts[0], " ".join(pairs.texts[1].split()[:2]), *pairs.texts[2:]]  # one is padded
    mixed = dataclasses.replace(pairs, texts=texts)
    alone = ImageTextPairs(images=pairs.images[1:3], texts=[texts[1]] * 2, included=np.array([True, False]))
    for name, scores in similarity_columns(model, mixed).items():
        np.testing.assert_allclose(scores[1], similarity_columns(model, alone)[name][0], atol=1e-5)


def test_writing_is_repeatable_and_leaves_the_random_state_alone():
    import torch

    pairs, model, _, untrained = llavas()
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    said = [untrained.write(pairs.images[:1], temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    assert torch.equal(state, torch.random.get_rng_state())
    member = int(np.flatnonzero(pairs.included)[0])
    (written,) = model.write(pairs.images[[member]], temperature=0.1, seed=0)
    assert encode(written) == encode(pairs.texts[member])


def test_nothing_here_imports_torchvision():
    llavas()
    clips()
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, 0.1), (0.0, 1.0), (0.5, 0.5)])
def test_temperatures_that_compare_nothing_are_refused(temperatures):
    pairs, _, _, untrained = llavas()
    with pytest.raises(MedwardError, match="two or more above 0, ascending"):
        audit_vision_language_model(untrained, pairs, temperatures=temperatures)


def test_pairs_that_do_not_fit_are_refused():
    good = drawn_pairs(6, 0)
    for change, says in (
        ({"texts": good.texts[:3]}, "n texts"),
        ({"included": np.ones(6, bool)}, "one side"),
        ({"patients": np.arange(3)}, "3 patients for 6"),
    ):
        with pytest.raises(MedwardError, match=says):
            dataclasses.replace(good, **change)
    pairs, model, _, _ = clips()
    with pytest.raises(MedwardError, match="are candidates"):
        audit_contrastive_model(model, pairs, pool=pairs)
