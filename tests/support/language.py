"""Tiny language models that are made on the spot, and made-up notes that follow a grammar but no two alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from medward.attacks.membership.language.training import fine_tuned_copy

ORGANS = ("heart", "lung", "liver", "spine", "aorta", "hilum", "pleura", "rib", "stomach", "kidney")
SIGNS = ("effusion", "nodule", "oedema", "fracture", "opacity", "cyst", "mass", "scar", "stent", "granuloma")
SIDES = ("left", "right", "upper", "lower", "both", "no")
SIZES = ("small", "large", "stable", "new", "old", "mild", "severe", "faint")
CONTEXT = 128


def made_notes(count: int, *, seed: int, sentences: int = 4) -> list[str]:
    """Distinct notes of random sentences, with capitals."""
    rng = np.random.default_rng(seed)
    notes: dict[str, None] = {}
    while len(notes) < count:
        words = [
            f"{rng.choice(SIZES).capitalize()} {rng.choice(SIGNS)} of the {rng.choice(SIDES)} {rng.choice(ORGANS)} ."
            for _ in range(sentences + int(rng.integers(3)))
        ]
        notes[" ".join(words)] = None
    return list(notes)


@cache
def word_tokenizer() -> Any:
    """A tokenizer whose tokens are the words of the notes, in both cases."""
    words = [*SIGNS, *SIDES, *ORGANS, *SIZES, *(each.capitalize() for each in SIZES), "of", "the", "."]
    vocabulary = {word: place for place, word in enumerate(["[UNK]", "[END]", "[MASK]", "[PAD]", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        eos_token="[END]",
        mask_token="[MASK]",
        pad_token="[PAD]",
        model_max_length=CONTEXT,
    )


def tiny_language_model(*, seed: int, width: int = 48, layers: int = 2, vocabulary: int | None = None) -> Any:
    """An untrained GPT-2 of a few thousand weights."""
    size = len(word_tokenizer()) if vocabulary is None else vocabulary
    config = GPT2Config(
        vocab_size=size,
        n_positions=CONTEXT,
        n_embd=width,
        n_layer=layers,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def tiny_masked_model(*, seed: int) -> Any:
    """An untrained BERT."""
    config = BertConfig(
        vocab_size=len(word_tokenizer()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=CONTEXT,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config).eval()


@dataclass(frozen=True, kw_only=True)
class LanguageSubject:
    """A target that knows its members by heart, what it was made from, and texts of every sort."""

    base: Any
    target: Any
    members: list[str]
    others: list[str]
    known: list[str]
    known_members: list[str]


@cache
def memorising_subject() -> LanguageSubject:
    """60 members, 60 others, 60 known non-members and 10 known members of one fine-tuned model."""
    notes = made_notes(390, seed=0)
    members, others, known, extra, public = (
        notes[:60],
        notes[60:120],
        notes[120:180],
        notes[180:190],
        notes[190:],
    )
    tokenizer = word_tokenizer()
    base = fine_tuned_copy(tiny_language_model(seed=0), tokenizer, public, epochs=6, seed=0, rate=3e-3)
    target = fine_tuned_copy(base, tokenizer, [*members, *extra], epochs=50, seed=1, rate=3e-3)
    return LanguageSubject(base=base, target=target, members=members, others=others, known=known, known_members=extra)
