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
            order = rng.permutation(len(rows))
            for start in range(0, len(rows), batch):
                optimiser.zero_grad()
                causal_loss(copy, [rows[index] for index in order[start : start + batch]]).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
    return copy.eval()


def causal_loss(model: nn.Module, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """The mean cross-entropy over all tokens that `rows` of ids predict; padding counts for nothing."""
    logits = run_causal(model, rows)
    longest = logits.shape[1]
    padded = [[*row[1:], *[-100] * (longest - len(row))] for row in rows]
    true = torch.tensor(padded, device=logits.device)
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), true.flatten())
