"""A language model of characters, made on the spot, that can learn digits by heart in seconds."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

CHARACTERS = " ,.-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@cache
def character_tokenizer() -> Any:
    """A tokenizer whose tokens are characters."""
    core = Tokenizer(
        models.WordLevel({each: place for place, each in enumerate(["[UNK]", "[END]", *CHARACTERS])}, "[UNK]")
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", eos_token="[END]", model_max_length=96)


def small_character_model(*, seed: int) -> Any:
    """An untrained GPT-2 of some hundred thousand weights."""
    config = GPT2Config(
        vocab_size=len(CHARACTERS) + 2, n_positions=96, n_embd=64, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()
