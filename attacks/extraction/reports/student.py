"""A report model in a thief's hands: it writes texts about images in batches, and shows its slope in their pixels.

The network is anything that `guard.models.greedy_decoding.PretrainedWriter` reads: a vision encoder with a text
decoder, or LLaVA's kind. `teaching` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.whitebox.written_texts import token_losses, write_texts
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import open_writer
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_RATE = 2e-3
_TUNED = 2e-4  # the rate of weights that are trained already


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextStudent:
    """A text student is a `writer` with what its images are moved and scaled by, and what it is asked about them.

    A text is of at most `longest` tokens. `rate` is the learning rate that suits its weights. `side` is that of the
    square images its network takes, to which others are resized between their pixels; None for images as they are.
    """

    writer: PretrainedWriter
    mean: float
    spread: float
    longest: int
    prompt: str = ""
    rate: float = _RATE
    side: int | None = None

    def text_losses(self, images: Tensor, texts: list[str]) -> Tensor:
        """The mean cross-entropy ``(n,)`` of the tokens of `texts`, their end among them, in nats; it has a slope in
        `images (n, *shape)`.
        """
        losses, counts = token_losses(self.writer, self.pixels(images), self.prompt, texts, longest=self.longest)
        return losses.sum(dim=1) / counts

    def write(self, images: Array, *, generator: torch.Generator | None = None) -> list[str]:
        """The texts about ``(n, *shape)``: greedy, or drawn at temperature 1 with a `generator`."""
        x = self.pixels(torch.as_tensor(np.asarray(images, np.float32)))
        return write_texts(self.writer, x, self.prompt, self.longest, generator=generator)

    def pixels(self, images: Tensor) -> Tensor:
        """``images (n, *shape)`` as the network takes them."""
        scaled = (images - self.mean) / self.spread
        if self.side is None:
            return scaled
        return F.interpolate(scaled, size=(self.side, self.side), mode="bilinear")


class StudentMaker(Protocol):
    """A student maker begins the report model that a thief trains. Settings only: a frozen dataclass, with a field that
    tells it from all others, for kept runs. Another network is another maker.
    """

    def begin(self, spec: ModelSpec, images: Array, texts: list[str], *, seed: int) -> TextStudent:
        """A student of the victim of `spec` before its first lesson; `texts` and ``images (n, *shape)`` are what the
        thief has seen, and nothing is learned of them but tokens and brightness.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallStudent:
    """A small student is made from configurations of transformers, of random weights: nothing but answers teaches it.

    `width` and `layers` are those of its decoder, `vocabulary` counts its tokens, `longest` those of a text.
    """

    width: int = 128
    layers: int = 2
    vocabulary: int = 800
    longest: int = 160

    def begin(self, spec: ModelSpec, images: Array, texts: list[str], *, seed: int) -> TextStudent:
        """An untrained one in the words of `texts`."""
        require_extra("transformers", "huggingface")
        from medward.attacks.extraction.reports.student_network import small_writer

        writer = small_writer(
            spec.shape,
            texts,
            width=self.width,
            layers=self.layers,
            vocabulary=self.vocabulary,
            longest=self.longest,
            seed=seed,
        )
        longest = int(writer.network.config.decoder.n_positions) - 1
        return TextStudent(
            writer=writer, mean=float(images.mean()), spread=max(float(images.std()), 1e-6), longest=longest
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStudent:
    """A folder student starts from the weights in a local Hugging Face `folder`; the whole network is trained on.

    Images are moved and scaled as `mean` and `spread` say, and resized to `side` pixels where one is said; `prompt` is
    for LLaVA's kind. Raises `MedwardError` for a folder that holds no network that writes about such images.
    """

    folder: str
    mean: float = 0.5
    spread: float = 0.5
    prompt: str = ""
    longest: int = 160
    side: int | None = None

    def begin(self, spec: ModelSpec, images: Array, texts: list[str], *, seed: int) -> TextStudent:
        """As the folder has it."""
        student = TextStudent(
            writer=open_writer(Path(self.folder)),
            mean=self.mean,
            spread=self.spread,
            longest=self.longest,
            prompt=self.prompt,
            rate=_TUNED,
            side=self.side,
        )
        try:
            student.text_losses(torch.zeros(1, *spec.shape), ["."])
        except Exception as error:  # transformers raises what its many parts raise
            raise MedwardError(
                f"{self.folder}: does not write about images of shape {spec.shape} ({type(error).__name__}); give a "
                "network for such images, or the side of those that it takes"
            ) from error
        return student
