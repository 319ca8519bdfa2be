"""What a network that writes about images makes of texts: the loss of each token, with a slope in pixels; and its own.

Whoever holds a network uses these two: thieves on their own, trainings on a victim's, evasion and membership on a
bundle's. Both know of the network what `PretrainedWriter` says, so they are of the very tokens that it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medward.guard.errors import MedwardError
from medward.guard.models.greedy_decoding import PretrainedWriter

_IGNORED = -100
_TOGETHER = 64  # images


def token_losses(
    writer: PretrainedWriter, pixels: Tensor, prompt: str, texts: Sequence[str], *, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """The cross-entropy ``(n, T)`` in nats of the tokens of each text and of its end, 0 behind it; and how many count.

    Each token is predicted from the image and the tokens before it. `pixels` ``(n, C, H, W)`` are as the network takes
    them, and the losses have a slope in them. Texts are cut so that with their end they have at most `longest` tokens.
    """
    logits, wanted = text_logits(writer, pixels, prompt, texts, longest=longest)
    losses = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=_IGNORED, reduction="none")
    return losses, (wanted != _IGNORED).sum(dim=1)


def text_logits(
    writer: PretrainedWriter, pixels: Tensor, prompt: str, texts: Sequence[str], *, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """The logits ``(n, T, V)`` from which each token of `texts` is predicted, and those tokens ``(n, T)``.

    Tokens behind the end of a text are -100, which no loss of torch counts. Settings are those of `token_losses`.
    Raises `MedwardError` unless there is one text for each image.
    """
    if len(texts) != len(pixels):
        raise MedwardError(f"texts: needs one for each of the {len(pixels)} images, got {len(texts)}")
    pixels = writer.placed(pixels)
    prefix, wanted = _prefix(writer, pixels, prompt), _tokens(writer, texts, longest)
    counted = wanted != _IGNORED
    ids = torch.cat([prefix, wanted.where(counted, padding_token(writer))[:, :-1]], dim=1)
    told = torch.cat([torch.ones_like(prefix), counted[:, :-1].long()], dim=1)
    out = writer.network(pixel_values=pixels, **_named(writer, ids, told))
    return out.logits[:, prefix.shape[1] - 1 :], wanted


@torch.no_grad()
def write_texts(
    writer: PretrainedWriter,
    pixels: Tensor,
    prompt: str,
    longest: int,
    *,
    temperature: float | None = None,
    generator: torch.Generator | None = None,
) -> list[str]:
    """The text about each of ``pixels (n, C, H, W)``, of at most `longest` tokens: greedy, or drawn at a temperature.

    Many are written at once, by transformers' own generation. Sums of a batch may differ in their last bits from those
    of a row alone, so a text may where two tokens are as good as tied; whatever must be a served model's own text comes
    from `PretrainedWriter.pieces`. Draws are `generator`'s, at `temperature` 1 where none is said.
    """
    drawn: dict[str, Any] = {"do_sample": False, "num_beams": 1}
    if temperature is not None or generator is not None:
        drawn |= {"do_sample": True, "temperature": 1.0 if temperature is None else temperature, "top_k": 0}
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for rows in torch.split(writer.placed(pixels), _TOGETHER) if len(pixels) else ():
            prefix = _prefix(writer, rows, prompt)
            ids = writer.network.generate(
                pixel_values=rows,
                **_named(writer, prefix, torch.ones_like(prefix)),
                **drawn,
                max_new_tokens=longest,
                pad_token_id=padding_token(writer),
            )
            texts += writer.tokenizer.batch_decode(
                ids[:, prefix.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
    return texts


def padding_token(writer: PretrainedWriter) -> int:
    """The token that fills rows up; the end of a text where there is none for it."""
    found = writer.tokenizer.pad_token_id
    return int(writer.tokenizer.eos_token_id if found is None else found)


def _prefix(writer: PretrainedWriter, pixels: Tensor, prompt: str) -> Tensor:
    """What stands before each text ``(n, p)``."""
    with torch.no_grad():
        places = 0 if writer.encodes else writer.vision_states(pixels[:1]).shape[1]
    return torch.tensor([writer.first_tokens(prompt, places)] * len(pixels), device=pixels.device)


def _tokens(writer: PretrainedWriter, texts: Sequence[str], longest: int | None) -> Tensor:
    """The tokens of each text and its end ``(n, T)``, filled up with -100."""
    tokenizer = writer.tokenizer
    most = None if longest is None else longest - 1
    rows = [[*ids[:most], tokenizer.eos_token_id] for ids in tokenizer(list(texts), add_special_tokens=False).input_ids]
    width = max(map(len, rows), default=1)
    return torch.tensor([row + [_IGNORED] * (width - len(row)) for row in rows], device=writer.network.device)


def _named(writer: PretrainedWriter, ids: Tensor, told: Tensor) -> dict[str, Tensor]:
    """Tokens, and which of them count, as the network calls them."""
    prefix = "decoder_" if writer.encodes else ""
    return {f"{prefix}input_ids": ids, f"{prefix}attention_mask": told}
