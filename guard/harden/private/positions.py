"""Position numbers for each row, where a transformer would share one row of them.

GPT-2 and BERT look up positions once ``(1, T)`` for a whole batch, so that their embeddings have one gradient and not
one per row. Given the same numbers as ``(B, T)`` they compute the same, row by row.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_SHARING = ("gpt2", "bert", "vit_gpt2", "gpt_neo", "openai-gpt", "distilbert", "electra")
"""Model types of `transformers` whose positions are 0, 1, ... in every row, looked up once for all of them."""


def expand_positions(module: nn.Module) -> list[RemovableHandle]:
    """Let every transformer inside `module` that shares positions have its own row of them; remove the hooks after."""
    return [
        each.register_forward_pre_hook(_with_positions, with_kwargs=True)
        for each in module.modules()
        if getattr(getattr(each, "config", None), "model_type", None) in _SHARING
        and {"input_ids", "position_ids"} <= inspect.signature(each.forward).parameters.keys()
    ]


def _with_positions(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The call of `module` with position numbers, and token types where it takes them, for every row."""
    known = inspect.signature(module.forward).parameters
    call = {**dict(zip(known, given, strict=False)), **named}
    tokens = call.get("input_ids")
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        return given, named
    if call.get("position_ids") is None:
        call["position_ids"] = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    typed = "token_type_ids" in known and getattr(module.config, "model_type", None) != "gpt2"
    if typed and call.get("token_type_ids") is None:
        call["token_type_ids"] = torch.zeros_like(tokens)
    return (), call
