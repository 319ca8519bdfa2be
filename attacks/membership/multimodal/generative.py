"""A decoder that reads an image and writes text, as a membership attacker asks it: predictions, or written text.

`GenerativeModel` is all that the audit needs; `LlavaReader` is that of models of `transformers` whose input ids hold a
token for every place of the image, as LLaVA's do, with whatever turns text into ids; `generative_writer` has that of
every network that is guarded as a report model. Images come as the model's own pixel values, prepared by whatever the
site uses; nothing here needs torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from medward.attacks.membership.multimodal.slices import TokenSlice, find_slices
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, eq=False)
class SequenceReading:
    """A sequence reading holds the predictions ``(T, V)`` of one image with its text, and what rows stand for.

    `slices` has the parts that the model makes predictions of, by the names of `slices.SLICE_NAMES`: an encoder with a
    decoder makes none along the image.
    """

    probabilities: Array
    slices: Mapping[str, TokenSlice]


class GenerativeModel(Protocol):
    """A generative model reads images ``(n, C, H, W)`` with a text, and writes texts about images."""

    def read(self, images: Array, text: str) -> list[SequenceReading]:
        """The predictions along each image, the site's instruction and the one `text` as its description."""
        ...

    def write(self, images: Array, *, temperature: float, seed: int) -> list[str]:
        """A description of each image, sampled at `temperature`; the same for the same images and seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LlavaReader:
    """A LLaVA reader asks a `network` of transformers about one text at a time, so that no padding moves a score.

    The sequence is `beginning`, `places` times the `image_token`, then `instruction` and text, which `encode` turns
    into ids. `decode` turns written ids into text; at most `longest` tokens are written.
    """

    network: Any
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    image_token: int
    places: int
    instruction: str = ""
    beginning: tuple[int, ...] = ()
    longest: int = 64

    def read(self, images: Array, text: str) -> list[SequenceReading]:
        """As `GenerativeModel` says."""
        start, words = self._start(), list(self.encode(text))
        ids = np.array([*start, *words], np.int64)
        pixels = torch.as_tensor(np.asarray(images, np.float32))
        with torch.no_grad():
            outputs = self.network(input_ids=torch.as_tensor(ids).expand(len(pixels), -1), pixel_values=pixels)
        slices = find_slices(ids, self.image_token, len(words), special=self.beginning)
        return [SequenceReading(each, slices) for each in outputs.logits.double().softmax(dim=-1).numpy()]

    def write(self, images: Array, *, temperature: float, seed: int) -> list[str]:
        """As `GenerativeModel` says."""
        start, pixels = self._start(), torch.as_tensor(np.asarray(images, np.float32))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            ids = self.network.generate(
                input_ids=torch.tensor([start] * len(pixels)),
                attention_mask=torch.ones(len(pixels), len(start), dtype=torch.long),
                pixel_values=pixels,
                do_sample=True,
                temperature=temperature,
                max_new_tokens=self.longest,
            )
        return [self.decode(row) for row in ids[:, len(start) :].tolist()]

    def _start(self) -> list[int]:
        return [*self.beginning, *[self.image_token] * self.places, *self.encode(self.instruction)]
