"""GradNorm: training has flattened the loss at a text that was trained on.

Reference: Wang, Wang, Shu and Wallace, "Pandora's white-box: precise training data detection and extraction in large
language models", 2024; as in Duan et al., "Do membership inference attacks work on large language models?", COLM 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.language.tokens import TextTokenizer, run_causal, text_rows
from medward.guard.models.torch_model import evaluation_mode
from medward.guard.types import Array


def gradient_norm_scores(gradients: Array) -> Array:
    """Minus the norms ``(n,)``."""
    return -gradients


def gradient_norms(
    model: nn.Module, tokenizer: TextTokenizer, texts: Sequence[str], *, length: int | None = None
) -> Array:
    """The L2 norm ``(n,)`` of the gradient of each text's mean cross-entropy in all trainable weights.

    Gradients that `model` holds are left as they are.
    """
    weights = [each for each in model.parameters() if each.requires_grad]
    norms = []
    with evaluation_mode(model), torch.enable_grad():
        for row in text_rows(model, tokenizer, texts, length=length):
            logits = run_causal(model, [row])[0, :-1].float()
            loss = nn.functional.cross_entropy(logits, torch.tensor(row[1:], device=logits.device))
            parts = torch.autograd.grad(loss, weights, allow_unused=True)
            norms.append(sum(float(part.double().pow(2).sum()) for part in parts if part is not None) ** 0.5)
    return np.array(norms)
