"""A contrastive model, CLIP or like it, as a membership attacker asks it: features of images and of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from medward.guard.types import Array


class ContrastiveModel(Protocol):
    """A contrastive model puts images ``(n, C, H, W)`` and texts into one space of features."""

    def features(self, images: Array, texts: Sequence[str]) -> tuple[Array, Array]:
        """Features ``(n, d)`` of images and of their texts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipReader:
    """A CLIP reader asks a `network` of transformers; `encode` turns a text into ids, special ones included.

    Texts are padded to the longest of all with `padding`, and masked there; `batch` pairs are asked about at a time.
    """

    network: Any
    encode: Callable[[str], Sequence[int]]
    padding: int
    batch: int = 64

    def features(self, images: Array, texts: Sequence[str]) -> tuple[Array, Array]:
        """As `ContrastiveModel` says."""
        rows = [list(self.encode(text)) for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.padding] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        pixels, found = torch.as_tensor(np.asarray(images, np.float32)), []
        with torch.no_grad():
            for start in range(0, len(rows), self.batch):
                part = slice(start, start + self.batch)
                out = self.network(input_ids=ids[part], attention_mask=mask[part], pixel_values=pixels[part])
                found.append((out.image_embeds.double().numpy(), out.text_embeds.double().numpy()))
        image, text = zip(*found, strict=True)
        return np.concatenate(image), np.concatenate(text)
