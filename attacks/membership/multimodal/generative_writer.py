"""A `GenerativeModel` of every network that is guarded as a report model: an encoder with a decoder, or LLaVA's kind.

An encoder with a decoder sees the image apart and is asked nothing, so it makes predictions of the description alone;
the scores of image and instruction are LLaVA's kind's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medward.attacks.membership.multimodal.generative import SequenceReading
from medward.attacks.membership.multimodal.slices import TokenSlice, find_slices
from medward.attacks.whitebox.written_texts import text_logits, write_texts
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerativeWriter:
    """A generative writer asks a `writer` what it asks itself of every image, `prompt`, for `longest` tokens at most.

    Images are pixel values as the network takes them. The end of a text is a token of its description.
    """

    writer: PretrainedWriter
    prompt: str = ""
    longest: int = 256

    def read(self, images: Array, text: str) -> list[SequenceReading]:
        """As `GenerativeModel` says; without "image" and "instruction" of an encoder with a decoder."""
        with torch.no_grad():
            logits, parts = (self._described if self.writer.encodes else self._along)(_pixels(images), text)
        return [SequenceReading(each, parts) for each in logits.double().softmax(dim=-1).cpu().numpy()]

    def write(self, images: Array, *, temperature: float, seed: int) -> list[str]:
        """As `GenerativeModel` says."""
        draws = torch.Generator().manual_seed(seed)
        pixels = _pixels(images)
        return write_texts(self.writer, pixels, self.prompt, self.longest, temperature=temperature, generator=draws)

    def _described(self, pixels: Tensor, text: str) -> tuple[Tensor, dict[str, TokenSlice]]:
        """Logits ``(n, T, V)`` of the description, which is all there is."""
        logits, tokens = text_logits(self.writer, pixels, self.prompt, [text] * len(pixels))
        return logits, {"description": TokenSlice(np.arange(tokens.shape[1]), tokens[0].cpu().numpy())}

    def _along(self, pixels: Tensor, text: str) -> tuple[Tensor, dict[str, TokenSlice]]:
        """Logits ``(n, T, V)`` along places of the image, prompt and description."""
        writer, tokenizer = self.writer, self.writer.tokenizer
        assert writer.image_token is not None
        words = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        ids = np.array([*writer.first_tokens(self.prompt, writer.vision_states(pixels[:1]).shape[1]), *words], np.int64)
        given = torch.as_tensor(ids, device=writer.network.device).expand(len(pixels), -1)
        logits = writer.network(input_ids=given, pixel_values=writer.placed(pixels)).logits
        begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
        return logits, dict(find_slices(ids, writer.image_token, len(words), special=begin))


def _pixels(images: Array) -> Tensor:
    return torch.as_tensor(np.asarray(images, np.float32))
