"""Tiny vision-language models of random weights, made on the spot, and taught a handful of pairs by heart."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.multimodal.contrastive import ClipReader
from medward.attacks.membership.multimodal.generative import LlavaReader
from medward.attacks.membership.multimodal.pairs import ImageTextPairs

WORDS = [f"w{i}" for i in range(40)]
BEGIN, END, PAD = 40, 41, 43
IMAGE = 42
VOCABULARY = 44
PLACES = 4  # patches of an image of 16 x 16
LENGTH = 6


def encode(text):
    return [int(word[1:]) for word in text.split()]


def decode(ids):
    return " ".join(f"w{i}" for i in ids if i < len(WORDS))


def drawn_pairs(n, seed, *, shifted=False):
    """Images of noise with random texts: alike in every way but who is in; `shifted` members are brighter."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 3, 16, 16)).astype(np.float32)
    texts = [" ".join(rng.choice(WORDS, LENGTH)) for _ in range(n)]
    included = rng.permutation(n) < n // 2
    if shifted:
        images[included] += 1
    return ImageTextPairs(images=images, texts=texts, included=included)


def vision_config():
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )


def llava(seed):
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=vision_config(), text_config=text, image_token_index=IMAGE, vision_feature_layer=-1
    )
    network = LlavaForConditionalGeneration(config).eval()
    return LlavaReader(
        network=network,
        encode=encode,
        decode=decode,
        image_token=IMAGE,
        places=PLACES,
        instruction="w1 w2",
        beginning=(BEGIN,),
        longest=LENGTH,
    )


def clip(seed):
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

    text = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision_config().to_dict(), projection_dim=32)
    return ClipReader(network=CLIPModel(config).eval(), encode=lambda text: [BEGIN, *encode(text), END], padding=PAD)


def taught(reader, pairs, steps, rate=2e-3):
    """The reader, its network trained on all members at once."""
    rows = np.flatnonzero(pairs.included)
    pixels = torch.as_tensor(pairs.images[rows])
    texts = [pairs.texts[row] for row in rows]
    optimiser = torch.optim.Adam(reader.network.parameters(), rate)
    for _ in range(steps):
        loss = (
            contrastive_loss(reader, pixels, texts)
            if isinstance(reader, ClipReader)
            else word_loss(reader, pixels, texts)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return reader


def word_loss(reader, pixels, texts):
    start = [*reader.beginning, *[IMAGE] * PLACES, *encode(reader.instruction)]
    ids = torch.tensor([[*start, *encode(text)] for text in texts])
    labels = ids.clone()
    labels[:, : len(start)] = -100
    return reader.network(input_ids=ids, pixel_values=pixels, labels=labels).loss


def contrastive_loss(reader, pixels, texts):
    ids = torch.tensor([reader.encode(text) for text in texts])
    out = reader.network(input_ids=ids, pixel_values=pixels)
    logits = 20 * out.image_embeds @ out.text_embeds.T
    right = torch.arange(len(ids))
    return nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)


@cache
def llavas():
    """Pairs, a model that knows half of them by heart, one that was taught other pairs, an untrained one."""
    pairs = drawn_pairs(60, 0)
    return pairs, taught(llava(0), pairs, 100), taught(llava(1), drawn_pairs(60, 7), 100), llava(2)


@cache
def clips():
    """As `llavas`, for contrastive models."""
    pairs = drawn_pairs(60, 0)
    return pairs, taught(clip(0), pairs, 60), taught(clip(1), drawn_pairs(60, 7), 60), clip(2)
