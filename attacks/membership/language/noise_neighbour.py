"""Noisy neighbour: a text that was trained on is likelier as it is than with noise on its embeddings.

Reference: Galli, Melis and Cucinotta, "Noisy neighbors: efficient membership inference attacks against LLMs", 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.language.tokens import (
    TextTokenizer,
    TokenStatistics,
    context_length,
    mean_losses,
    read_tokens,
)
from medward.guard.types import Array


def noise_neighbour_scores(target: Sequence[TokenStatistics], noisy: Array) -> Array:
    """The mean over copies of the losses `noisy (copies, n)` less that of the text as it is ``(n,)``."""
    return np.asarray(noisy.mean(axis=0) - mean_losses(target))


def noisy_losses(
    model: Any,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    copies: int,
    scale: float,
    seed: int,
    length: int | None = None,
) -> Array:
    """Mean cross-entropies ``(copies, n)`` with Gaussian noise on the input embeddings.

    The noise is `scale` times as wide as the embeddings are over the vocabulary. One draw of it serves all texts of a
    copy, place by place, so that the batch a text comes in makes no difference.
    """
    losses, places = [], context_length(model, tokenizer)
    for copy in range(copies):
        with _noise_on(model.get_input_embeddings(), places, scale, seed + copy):
            losses.append(mean_losses(read_tokens(model, tokenizer, texts, length=length)))
    return np.stack(losses)


@contextmanager
def _noise_on(embeddings: Any, places: int, scale: float, seed: int) -> Iterator[None]:
    weight: torch.Tensor = embeddings.weight.detach()
    noise = torch.randn((places, weight.shape[1]), generator=torch.Generator().manual_seed(seed))
    noise = noise.to(weight) * scale * weight.std()

    def moved(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output + noise[: output.shape[1]]

    handle = embeddings.register_forward_hook(moved)
    try:
        yield
    finally:
        handle.remove()
