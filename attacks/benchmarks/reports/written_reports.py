"""Reports that a network writes about many images at once, greedily: those that it writes about each alone."""

from __future__ import annotations

import torch
from torch import Tensor

from medward.attacks.benchmarks.reports.report_loss import prompt_tokens
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array


@torch.inference_mode()
def written_reports(
    writer: PretrainedWriter, images: Array, prompt: str, *, longest: int | None = None, batch: int = 64
) -> list[str]:
    """The report of each of `images` ``(n, C, H, W)``, of at most `longest` tokens, by transformers' own generation.

    Sums of a batch may differ in their last bits from those of a row alone, so a text may where two tokens are as good
    as tied; whatever must be a served model's own text comes from `PretrainedWriter.pieces`.
    """
    longest = longest or writer.network.generation_config.max_new_tokens
    texts: list[str] = []
    for pixels in torch.split(torch.from_numpy(images), batch):
        given: dict[str, Tensor] = {"pixel_values": pixels}
        asked = 1
        if not writer.encodes:
            ids = torch.tensor([prompt_tokens(writer, pixels, prompt)] * len(pixels))
            given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            asked = ids.shape[1]
        found = writer.network.generate(**given, do_sample=False, num_beams=1, max_new_tokens=longest)
        texts += writer.tokenizer.batch_decode(found[:, asked:], skip_special_tokens=True)
    return texts
