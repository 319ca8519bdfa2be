"""Fine-tuning of a language model on texts: for references, shadows and targets of an attack's own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.language.tokens import TextTokenizer, run_causal, text_rows
from medward.guard.errors import MedwardError

_NEAR = 16  # batches that are sorted by length together


def fine_tuned_copy(
    model: Any,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    epochs: int,
    seed: int,
    rate: float = 1e-3,
    batch: int = 16,
    length: int | None = None,
) -> Any:
    """Return a copy of `model` that was trained on `texts` for `epochs` by AdamW; `model` stays as it is.

    Each token that a text predicts counts once, padding never. Raises `MedwardError` without texts.
    """
    if not texts:
        raise MedwardError("language membership: needs texts to train on, got none")
    copy: nn.Module = deepcopy(model)
    rows = text_rows(copy, tokenizer, texts, length=length)
    weights = [each for each in copy.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy.train()
        for _ in range(epochs):
            for some in shuffled_batches([len(row) for row in rows], batch, rng):
                optimiser.zero_grad()
                causal_loss(copy, [rows[index] for index in some]).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
    return copy.eval()


def shuffled_batches(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[list[int]]:
    """Places of rows in random batches of `batch`, each of about one length, so that little is padded."""
    order = rng.permutation(len(lengths))
    near = [
        place
        for start in range(0, len(order), _NEAR * batch)
        for place in sorted(order[start : start + _NEAR * batch].tolist(), key=lambda index: lengths[index])
    ]
    batches = [near[start : start + batch] for start in range(0, len(near), batch)]
    return [batches[index] for index in rng.permutation(len(batches))]


def causal_loss(model: nn.Module, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """The mean cross-entropy over all tokens that `rows` of ids predict; padding counts for nothing."""
    logits = run_causal(model, rows)
    longest = logits.shape[1]
    padded = [[*row[1:], *[-100] * (longest - len(row))] for row in rows]
    true = torch.tensor(padded, device=logits.device)
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), true.flatten())
