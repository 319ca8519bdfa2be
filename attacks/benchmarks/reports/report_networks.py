"""Small networks that write reports, of both kinds that are guarded: an encoder with a decoder, and LLaVA's.

Both see through one hybrid tower, a small residual network under a small transformer (`DPTModel`): from some hundred
radiographs it learns what plain vision transformers do not. All are made from configurations of transformers, so that a
trained one is saved and opened as any user's folder is. Weights are random; `report_training` trains them.

References: Ranftl, Bochkovskiy, Koltun, "Vision transformers for dense prediction", ICCV 2021 (the hybrid tower);
Li et al., "TrOCR", AAAI 2023 (encoder and decoder); Liu et al., "Visual instruction tuning", NeurIPS 2023 (LLaVA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from medward.attacks.learners.report_tokenizer import BEGIN, END, IMAGE, PAD, SPECIAL_TOKENS
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.models.greedy_decoding import PretrainedWriter

ReporterKind = Literal["encoder-decoder", "llava"]
REPORTER_KINDS: tuple[ReporterKind, ...] = get_args(ReporterKind)
PROMPT = "<image> Describe the radiograph."
"""What LLaVA's kind is asked about every image; the other kind takes no prompt."""
_STRIDE = 16  # pixels of an image's side to a place


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterSize:
    """A reporter's size is the width and depth of its tower and decoder; reports are of at most `context` tokens."""

    width: int = 128
    tower_layers: int = 2
    text_layers: int = 2
    heads: int = 4
    stages: tuple[int, ...] = (32, 64, 128)
    context: int = 192


def prompt_of(kind: ReporterKind) -> str:
    """What a network of that kind is asked about every image."""
    return PROMPT if kind == "llava" else ""


def build_reporter(
    kind: ReporterKind, shape: tuple[int, ...], tokenizer: Any, *, size: ReporterSize | None = None, seed: int = 0
) -> PretrainedWriter:
    """An untrained network for images `shape` (C, H, W), H and W alike and multiples of 16, with its tokenizer.

    Raises `MedwardError` for other images, and for another kind than `REPORTER_KINDS`.
    """
    if kind not in REPORTER_KINDS:
        raise MedwardError(f"kind: must be one of {', '.join(REPORTER_KINDS)}, got {kind!r}")
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % _STRIDE:
        raise MedwardError(f"shape: needs (channels, side, side) with a side of whole {_STRIDE}s, got {shape}")
    transformers = require_extra("transformers", "huggingface")
    size = size or ReporterSize()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _NETWORKS[kind](transformers, shape, len(tokenizer), size)
    begin, end, pad = (tokenizer.convert_tokens_to_ids(each) for each in (BEGIN, END, PAD))
    for config in (network.config, network.generation_config):
        config.eos_token_id, config.pad_token_id, config.bos_token_id = end, pad, begin
        config.decoder_start_token_id = begin
    network.generation_config.max_new_tokens = size.context - 1
    return PretrainedWriter(network=network, tokenizer=tokenizer)


def save_writer(writer: PretrainedWriter, folder: Path) -> None:
    """Save network and tokenizer as a user would, so that `open_writer` and every command read the folder."""
    writer.network.save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)


def _tower(transformers: Any, shape: tuple[int, ...], size: ReporterSize) -> Any:
    """The configuration of the hybrid tower, which sees a whole image in one place and each square of 16 in another."""
    side = shape[1] // _STRIDE
    return transformers.DPTConfig(
        is_hybrid=True,
        image_size=shape[1],
        patch_size=_STRIDE,
        num_channels=shape[0],
        hidden_size=size.width,
        num_hidden_layers=size.tower_layers,
        num_attention_heads=size.heads,
        intermediate_size=2 * size.width,
        backbone_out_indices=[0, 1],
        neck_ignore_stages=[0, 1],
        backbone_featmap_shape=[1, size.stages[-1], side, side],
        backbone_config=transformers.BitConfig(
            num_channels=shape[0],
            embedding_size=size.stages[0],
            hidden_sizes=list(size.stages),
            depths=[1] * len(size.stages),
            layer_type="preactivation",
            global_padding="same",
            num_groups=8,
            out_features=[f"stage{at + 1}" for at in range(len(size.stages))],
            embedding_dynamic_padding=True,
        ),
    )


def _encoder_decoder(transformers: Any, shape: tuple[int, ...], vocabulary: int, size: ReporterSize) -> Any:
    text = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_embd=size.width,
        n_layer=size.text_layers,
        n_head=size.heads,
        n_positions=size.context,
        add_cross_attention=True,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        is_decoder=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        _tower(transformers, shape, size), text
    )
    config.decoder_start_token_id = 0
    return transformers.VisionEncoderDecoderModel(config)


def _llava(transformers: Any, shape: tuple[int, ...], vocabulary: int, size: ReporterSize) -> Any:
    text = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context + (shape[1] // _STRIDE) ** 2 + 64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=_tower(transformers, shape, size),
            text_config=text,
            image_token_index=SPECIAL_TOKENS.index(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    )


_NETWORKS: Mapping[ReporterKind, Callable[[Any, tuple[int, ...], int, ReporterSize], Any]] = {
    "encoder-decoder": _encoder_decoder,
    "llava": _llava,
}
