"""MoPe: a text that was trained on lies in a sharp minimum, which small changes of the weights leave.

The mean rise of the loss under Gaussian noise on the weights estimates the trace of its Hessian.

Reference: Li, Wang, Wang and Neel, "MoPe: model perturbation-based privacy attacks on language models", EMNLP 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.language.tokens import TextTokenizer, TokenStatistics, mean_losses, read_tokens
from medward.guard.types import Array


def mope_scores(target: Sequence[TokenStatistics], perturbed: Array) -> Array:
    """The mean over models of the losses `perturbed (models, n)` less that of the target ``(n,)``."""
    return np.asarray(perturbed.mean(axis=0) - mean_losses(target))


def perturbed_losses(
    model: nn.Module,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    models: int,
    scale: float,
    seed: int,
    length: int | None = None,
) -> Array:
    """Mean cross-entropies ``(models, n)`` under Gaussian noise of deviation `scale` on every weight.

    The weights of `model` are put back bit by bit.
    """
    losses = []
    for number in range(models):
        with _perturbed(model, scale, seed + number):
            losses.append(mean_losses(read_tokens(model, tokenizer, texts, length=length)))
    return np.stack(losses)


@contextmanager
def _perturbed(model: nn.Module, scale: float, seed: int) -> Iterator[None]:
    generator = torch.Generator().manual_seed(seed)
    kept = [each.detach().clone() for each in model.parameters()]
    try:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_((scale * torch.randn(weight.shape, generator=generator)).to(weight))
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(model.parameters(), kept, strict=True):
                weight.copy_(before)
