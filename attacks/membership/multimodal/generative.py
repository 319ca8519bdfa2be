"""A decoder that reads an image and writes text, as a membership attacker asks it: predictions, or written text.

`GenerativeModel` is all that the audit needs; `LlavaReader` is that of models of `transformers` whose input ids hold a
token for every place of the image, as LLaVA's do. Images come as the model's own pixel values, prepared by whatever
the site uses; nothing here needs torchvision.
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
    """A sequence reading holds the predictions ``(T, V)`` of one image with its text, and what rows stand for."""

    probabilities: Array
    slices: Mapping[str, TokenSlice]


class GenerativeModel(Protocol):
    """A generative model reads an image ``(C, H, W)`` with a text, and writes a text about an image."""

    def read(self, image: Array, text: str) -> SequenceReading:
        """The predictions along the image, the site's instruction and the `text` as its description."""
        ...

    def write(self, image: Array, *, temperature: float, seed: int) -> str:
        """A description sampled at `temperature`; the same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LlavaReader:
    """A LLaVA reader asks a `network` of transformers, one candidate at a time, so that no padding moves a score.

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

    def read(self, image: Array, text: str) -> SequenceReading:
        """As `GenerativeModel` says."""
        start, words = self._start(), list(self.encode(text))
        ids = np.array([*start, *words], np.int64)
        with torch.no_grad():
            outputs = self.network(input_ids=torch.as_tensor(ids)[None], pixel_values=_pixels(image))
        likely = outputs.logits[0].double().softmax(dim=-1).numpy()
        return SequenceReading(likely, find_slices(ids, self.image_token, len(words), special=self.beginning))

    def write(self, image: Array, *, temperature: float, seed: int) -> str:
        """As `GenerativeModel` says."""
        start = self._start()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            ids = self.network.generate(
                input_ids=torch.tensor([start]),
                attention_mask=torch.ones(1, len(start), dtype=torch.long),
                pixel_values=_pixels(image),
                do_sample=True,
                temperature=temperature,
                max_new_tokens=self.longest,
            )
        return self.decode(ids[0, len(start) :].tolist())

    def _start(self) -> list[int]:
        return [*self.beginning, *[self.image_token] * self.places, *self.encode(self.instruction)]


def _pixels(image: Array) -> torch.Tensor:
    return torch.as_tensor(np.asarray(image, np.float32))[None]
