"""Both kinds of network that are guarded as report models are asked as an attacker of vision-language models does."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from support.report_networks import WORDS, encoder_decoder, llava_writer

from medward.attacks.membership.multimodal.audit import score_vision_language_model
from medward.attacks.membership.multimodal.generative_writer import GenerativeWriter
from medward.attacks.membership.multimodal.pairs import ImageTextPairs
from medward.attacks.whitebox.written_texts import token_losses
from medward.guard.data.quality import auc
from medward.guard.tasks.report_reader import CHEST_TERMS, ReportReader

WRITERS = {"encoder-decoder": encoder_decoder, "llava": llava_writer}
SLICES = {"encoder-decoder": {"description"}, "llava": {"image", "instruction", "description"}}
READ = ReportReader(CHEST_TERMS).read
LENGTH = 8
TELLS = (
    "loss-description",
    "min-k-description",
    "reference-description",
    "max-renyi-10-1-description",
    "modified-renyi-0.5-description",
    "caption-bleu",
    "caption-longest",
    "findings-right",
)
"""Of augmented KL either sign may tell."""


def drawn_reports(n, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 1, 16, 16)).astype(np.float32)
    texts = [" ".join(rng.choice(WORDS, LENGTH)) for _ in range(n)]
    return ImageTextPairs(images=images, texts=texts, included=rng.permutation(n) < n // 2)


def asked(kind, seed=0):
    return GenerativeWriter(writer=WRITERS[kind](seed), prompt="is there <image> effusion", longest=LENGTH)


def taught(kind, pairs, seed=0, steps=150):
    """A network that learned the members' reports by heart."""
    model = asked(kind, seed)
    rows = np.flatnonzero(pairs.included)
    pixels, texts = torch.as_tensor(pairs.images[rows]), [pairs.texts[row] for row in rows]
    optimiser = torch.optim.Adam(model.writer.network.parameters(), 3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        losses, counts = token_losses(model.writer, pixels, model.prompt, texts)
        (losses.sum() / counts.sum()).backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("kind", WRITERS)
def test_predictions_are_those_that_the_loss_of_a_text_is_made_of(kind):
    model, pairs = asked(kind), drawn_reports(3, 0)
    text = pairs.texts[0]
    readings = model.read(pairs.images, text)
    losses, _ = token_losses(model.writer, torch.as_tensor(pairs.images), model.prompt, [text] * 3)
    for reading, wanted in zip(readings, losses.detach().numpy(), strict=True):
        assert set(reading.slices) == SLICES[kind]
        part = reading.slices["description"]
        assert part.tokens[-1] == model.writer.tokenizer.eos_token_id
        found = -np.log(reading.probabilities[part.rows, part.tokens])
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(reading.probabilities.sum(axis=1), 1)
    alone = model.read(pairs.images[1:2], text)[0].probabilities
    np.testing.assert_allclose(readings[1].probabilities, alone, rtol=1e-3, atol=1e-6)
    assert not np.allclose(readings[0].probabilities, readings[1].probabilities)


def test_rows_of_the_image_stand_before_what_is_asked_and_that_before_the_report():
    reading = asked("llava").read(drawn_reports(2, 0).images[:1], "no effusion")[0]
    image, instruction, description = (reading.slices[name] for name in ("image", "instruction", "description"))
    assert len(image.rows) == 4  # places of an image of 16 x 16 in squares of 8
    assert len(instruction.tokens) == 3
    assert image.rows.max() < description.rows.min()
    assert len(description.tokens) == 3


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_the_same_for_a_seed_and_goes_wild_when_hot(kind):
    model, images = asked(kind), drawn_reports(6, 1).images
    cold, again, hot = (
        model.write(images, temperature=heat, seed=seed) for heat, seed in ((0.01, 0), (0.01, 5), (50.0, 0))
    )
    assert cold == again != hot
    assert model.write(images, temperature=50.0, seed=0) == hot != model.write(images, temperature=50.0, seed=1)
    assert cold[0] == "".join(model.writer.pieces(torch.as_tensor(images[:1]), model.prompt, LENGTH))


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_that_learned_reports_by_heart_is_told_and_one_that_learned_others_is_not(kind):
    pairs = drawn_reports(40, 2)
    model, other = taught(kind, pairs), taught(kind, drawn_reports(40, 3), seed=1)
    scores = score_vision_language_model(model, pairs, reference=other, set_size=2, read=READ)
    told, alone = ({name: auc(each, pairs.included) for name, each in columns.items()} for columns in scores.pairs)
    assert ("max-renyi-10-1-image" in told) == (kind == "llava")
    for name in TELLS:
        assert told[name] > 0.8, name
        assert 0.25 < alone[name] < 0.75, name
    sides = [bool(pairs.included[rows].all()) for rows in scores.divided]
    heat = [auc(each["temperature-image-only"], sides) for each in scores.sets]
    assert heat[0] > 0.8
    assert 0.2 < heat[1] < 0.8
