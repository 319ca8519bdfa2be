"""The loss of a written report: the cross-entropy of each token of a reference, given the image and those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medward.guard.models.greedy_decoding import PretrainedWriter

_IGNORED = -100  # a label that no loss counts


def tower_of(writer: PretrainedWriter) -> nn.Module:
    """The part of a network that sees."""
    tower: nn.Module = writer.network.encoder if writer.encodes else writer.network.model.vision_tower
    return tower


def written_loss(writer: PretrainedWriter, pixels: Tensor, prompt: str, reports: Sequence[str]) -> Tensor:
    """The mean cross-entropy of the tokens of `reports`, and of their ends, about `pixels` ``(n, C, H, W)``.

    It is of the very tokens that `PretrainedWriter.pieces` writes one by one, and can be differentiated.
    """
    tokenizer, end = writer.tokenizer, writer.tokenizer.eos_token_id
    told = [[*tokenizer(report, add_special_tokens=False).input_ids, end] for report in reports]
    if writer.encodes:
        loss: Tensor = writer.network(pixel_values=pixels, labels=_padded(told, _IGNORED)).loss
        return loss
    asked = prompt_tokens(writer, pixels, prompt)
    ids = [[*asked, *tokens] for tokens in told]
    labels = [[*[_IGNORED] * len(asked), *tokens] for tokens in told]
    length = torch.tensor([len(each) for each in ids])[:, None]
    padded = _padded(ids, tokenizer.pad_token_id)
    mask = (torch.arange(padded.shape[1])[None] < length).long()
    out = writer.network(pixel_values=pixels, input_ids=padded, attention_mask=mask, labels=_padded(labels, _IGNORED))
    found: Tensor = out.loss
    return found


def prompt_tokens(writer: PretrainedWriter, pixels: Tensor, prompt: str) -> list[int]:
    """What a network with tokens for places of the image is given before the report: the prompt with all of them."""
    with torch.no_grad():
        places = writer.network.get_image_features(pixel_values=pixels[:1]).pooler_output[0].shape[0]
    ids: list[int] = writer.tokenizer(prompt).input_ids
    at = ids.index(writer.network.config.image_token_id)
    return [*ids[:at], *[ids[at]] * places, *ids[at + 1 :]]


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
